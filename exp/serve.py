"""Start a model's server, run a command with it, and stop the server, however the command ends.

    python exp/serve.py smollm2 -- python exp/gen_ins.py --model_path smollm2 --total_prompts 64

The command finds the server in `MAGPIE_BASE_URL` and `MAGPIE_API_KEY`. Without a command the server runs until Ctrl-C. A server
that dies is started again, on the same address. Exit code: the command's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from magpie import flags
from magpie.configs import PROJECT, load_model
from magpie.console import AGAIN, MagpieError, log, run_program
from magpie.machine import layout, this_machine
from magpie.server import Server
from magpie.templates import ChatTemplate

GRACE_SECONDS = 30.0


def parse_args() -> argparse.Namespace:
    """Return the checked command line; what stands behind `--` is the command."""
    parser = flags.Parser(__doc__)
    parser.add_argument("model", help="a file's name in configs/models (smollm2), a hub id or a folder")
    parser.add_argument("--log_dir", type=Path, help="where the engine's logs go (default: data/serve_logs/MODEL)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run; every start hashes its own (default 0)")
    parser.add_argument(
        "--max_restarts", type=flags.not_negative, default=3, help="starts again in a row if it dies (default 3)"
    )
    parser.add_argument(
        "--start_timeout", type=flags.positive, default=3600, help="seconds that a start may take (default 3600)"
    )
    parser.add_argument("--tensor_parallel", type=flags.positive, help="GPUs to split the model over (default: as few as fit)")
    parser.add_argument("--quantization", help="the engine's quantisation, like fp8 (default: the model's own)")
    parser.add_argument("--max_model_len", type=flags.positive, help="tokens of context (default: the preset's)")
    parser.add_argument("--engine_flags", default="", help="more flags for the engine, in one quoted text")
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:split])
    args.command = arguments[split + 1 :]
    try:
        args.engine_flags = shlex.split(args.engine_flags)
    except ValueError as error:
        parser.error(f"--engine_flags: {error}")
    if split < len(arguments) and not args.command:
        parser.error("nothing stands behind --: give the command to run")
    return args


def run_command(command: list[str], server: Server) -> int:
    """Run a command with the server's address in its environment and return its exit code.

    Raises:
        MagpieError: it cannot be started, or the server is gone for good (the command is stopped then).
    """
    try:
        child = subprocess.Popen(command, env=os.environ | server.environment)  # noqa: S603
    except OSError as error:
        raise MagpieError(f"cannot run {command[0]} ({error.strerror}). Check what stands behind --") from error
    try:
        while child.poll() is None:
            if server.failed.wait(0.2):
                raise MagpieError(f"{server.failure}\nTo go on, {AGAIN}")
    finally:
        end_tree(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def end_tree(child: subprocess.Popen[bytes]) -> None:
    """End a command and everything that it started, gently first. (Ctrl-C on a terminal has reached them already.)"""
    import psutil

    if child.poll() is not None:
        return
    parent = psutil.Process(child.pid)
    family = [*parent.children(recursive=True), parent]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def main() -> int:
    """Run the program."""
    args = parse_args()
    preset = load_model(args.model)
    log_dir = args.log_dir or PROJECT / "data" / "serve_logs" / preset.name
    place = layout(preset, this_machine(), tensor_parallel=args.tensor_parallel, quantization=args.quantization)
    if args.max_model_len:
        place["max-model-len"] = args.max_model_len
    ChatTemplate(preset)  # a model without a usable one is refused before it is loaded
    settings = {"seed": args.seed, "max_restarts": args.max_restarts, "start_timeout": args.start_timeout}
    with Server(preset, log_dir=log_dir, place=place, extra_flags=args.engine_flags, **settings) as server:
        if args.command:
            return run_command(args.command, server)
        sys.stdout.write("".join(f"export {name}={value}\n" for name, value in server.environment.items() if "PID" not in name))
        sys.stdout.flush()
        log.info("serving until Ctrl-C; the two lines above are for another shell")
        server.failed.wait()
        raise MagpieError(server.failure)


if __name__ == "__main__":
    run_program("serve", main)

"""Start a model's server, run a command with it, and stop the server, however the command ends.

    python exp/serve.py smollm2 -- python exp/gen_ins.py --model_path smollm2 --total_prompts 64
    python exp/serve.py deepseek-r1 --dry_run --gpus 8 --gpu_memory 80 --nodes 2

The command finds the server in `MAGPIE_BASE_URL` and `MAGPIE_API_KEY`. Without a command the server runs until Ctrl-C. A
server that dies is restarted at the same address. Exit code: the command's. With --dry_run nothing is started: the commands
are printed, for this machine or a described one, one per node.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from magpie.cli import flags
from magpie.common.console import run_program
from magpie.config.load import PROJECT
from magpie.config.model_presets import ModelPreset, load_model
from magpie.models.chat_template import ChatTemplate
from magpie.models.hardware import Machine, this_machine
from magpie.serving.cli import add_layout, layout_of, machine_of, printed, wanted_of
from magpie.serving.parallelism import Layout, layout
from magpie.serving.replicas import Replicas, new_key
from magpie.serving.run_command import serve
from magpie.serving.server import TOLD, Server, announced


def parse_args() -> argparse.Namespace:
    """Return the checked command line; the command follows `--`."""
    parser = flags.Parser(__doc__)
    parser.add_argument("model", help="a name in configs/models (smollm2), a hub id or a folder")
    parser.add_argument("--log_dir", type=Path, help="folder for the engine's logs (default: data/serve_logs/MODEL)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the run, from which every start derives its own (default 0)"
    )
    parser.add_argument("--max_restarts", type=flags.not_negative, default=3, help="restarts in a row if it dies (default 3)")
    parser.add_argument("--start_timeout", type=flags.positive, default=3600, help="maximum seconds per start (default 3600)")
    parser.add_argument(
        "--engine_flags", default="", help="extra flags for the engine, like --engine_flags='--max-num-seqs 64'"
    )
    parser.add_argument("--replica", type=flags.not_negative, default=0, help="number of this server among several (default 0)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=flags.number(int, least=1, most=65535), help="port to listen on (default: any free one)")
    parser.add_argument("--url_file", type=Path, help="file that holds the server's URL while it is up")
    add_replicas(parser)
    add_layout(parser)
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:split])
    args.command = arguments[split + 1 :]
    try:
        args.engine_flags = shlex.split(args.engine_flags)
    except ValueError as error:
        parser.error(f"--engine_flags: {error}")
    if any(flag.split("=")[0] in ("--api-key", "--api_key") for flag in args.engine_flags):
        parser.error("--engine_flags would show the key to everybody on this machine: put it into MAGPIE_API_KEY")
    if args.replicas > 1 and (args.nodes > 1 or args.backend or args.port or args.replica):
        parser.error("--replicas excludes --nodes, --backend, --port and --replica: Ray finds the machines")
    if split < len(arguments) and not args.command:
        parser.error("nothing follows --: give the command to run")
    return args


def add_replicas(parser: flags.Parser) -> None:
    """Add the flags of several servers."""
    group = parser.add_argument_group("replicas")
    group.add_argument(
        "--replicas",
        type=flags.positive,
        default=1,
        help="servers of the model on a Ray cluster, each on as few GPUs of a node as it needs (default 1, without Ray)",
    )
    flags.add_ray(parser)


def with_replicas(preset: ModelPreset, args: argparse.Namespace) -> int:
    """Run the command with several servers on a Ray cluster, or serve until Ctrl-C."""
    log_dir = (args.log_dir or PROJECT / "data" / "serve_logs" / preset.name).resolve()
    key, wanted = new_key(), wanted_of(args)
    settings = {"seed": args.seed, "max_restarts": args.max_restarts, "start_timeout": args.start_timeout, "api_key": key}

    def make(number: int, host: str, found: Layout | None) -> Server:
        found = found or layout(preset, this_machine(), wanted)
        own = {"layout_flags": found.flags(), "extra_flags": args.engine_flags, "replica": number, "host": host}
        return Server(preset, log_dir=log_dir, **own, **settings)

    def decide(machine: Machine) -> Layout:
        return layout(preset, machine, wanted)

    cluster = {"choose_layout": decide, "ray": args.ray, "max_restarts": args.max_restarts, "told": log_dir / TOLD.format(0)}
    with Replicas(
        args.replicas, make, list_file=args.url_file or log_dir / f"servers-{os.getpid()}.txt", api_key=key, **cluster
    ) as servers:
        return serve(servers, args.command)


def main() -> int:
    """Run the program."""
    args = parse_args()
    preset = load_model(args.model)
    if args.replicas > 1 and not args.dry_run:
        machine_of(args)  # a description is only for --dry_run
        ChatTemplate(preset)
        return with_replicas(preset, args)
    found = layout_of(preset, args)
    if args.dry_run:
        print("\n".join(printed(preset, found, args)))
        return 0
    ChatTemplate(preset)  # a model without a usable one is refused before it is loaded
    with (
        Server(
            preset,
            log_dir=args.log_dir or PROJECT / "data" / "serve_logs" / preset.name,
            layout_flags=found.flags(args.node_rank, args.master_addr or "127.0.0.1"),
            extra_flags=args.engine_flags,
            seed=args.seed,
            replica=args.replica,
            max_restarts=args.max_restarts if found.commands == 1 else 0,  # the other nodes would not know of it
            start_timeout=args.start_timeout,
            host=args.host,
            port=args.port,
            api_key=os.environ.get("MAGPIE_API_KEY", "").strip(),
        ) as server,
        announced(server, args.url_file),
    ):
        return serve(server, args.command)


if __name__ == "__main__":
    run_program("serve", main)

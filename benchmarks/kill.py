"""Kill -9 a stage or its server in the middle, repeatedly; at the end every record must be there exactly once.

    python benchmarks/kill.py gen_ins --kills 10
    python benchmarks/kill.py gen_res --kills 10
    python benchmarks/kill.py server --kills 10
    python benchmarks/kill.py waves --kills 1000

gen_ins and gen_res are killed once some new records are on disk and started again with the same command, against one server.
`server` kills the engine's two processes in turn while exp/serve.py runs them and gen_res.py continues. `waves` kills
gen_res.py --stop_when settled at random moments, between and within waves, against the tests' scripted server; each run is
forked from this process, so that nothing is loaded again, and killed with its workers (half a second per kill).
About 3 minutes each for the stages, 10 for the server, on two cores. Exit code 1 if anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]

from magpie.common.console import run_program  # noqa: E402
from magpie.common.seeds import hashed_seed  # noqa: E402
from magpie.config.model_presets import load_model  # noqa: E402
from magpie.records.rows import encode  # noqa: E402
from magpie.serving.server import Server  # noqa: E402
from magpie.verification.pool import Verifier  # noqa: E402

PATIENCE = 1500.0
VOTES = 8


def stage_command(stage: str, folder: Path, records: int, max_tokens: int = 96) -> tuple[list[str], Path]:
    """Return a stage's command on small data in `folder`, and its output file; the input of gen_res.py is created here."""
    output = folder / f"{stage}_out.jsonl"
    command = [sys.executable, str(PROJECT / "exp" / f"{stage}.py"), "--model_path", "smollm2", "--output_file", str(output)]
    if stage == "gen_ins":
        command += ["--total_prompts", str(records), "--max_tokens", "256", "--preflight", "0"]
        return command, output
    problems = folder / "problems.jsonl"
    rows = [{"id": f"p{i}", "instruction": f"What is {i} plus {i * 7 % 11}? Explain."} for i in range(records)]
    problems.write_bytes(b"".join(encode(row) + b"\n" for row in rows))
    return [*command, "--input_file", str(problems), "--max_tokens", str(max_tokens), "--temperature", "1"], output


def _lines(part: Path) -> int:
    return part.read_bytes().count(b"\n") if part.exists() else 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> bool:
    """Wait until a condition holds (True) or the process ends by itself (False)."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {PATIENCE:.0f} s")
        time.sleep(0.02)
    return True


def kill_stage(
    command: list[str],
    output: Path,
    kills: int,
    environment: dict[str, str],
    step: int = 2,
    pause: Callable[[], float] = lambda: 0.0,
    start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
) -> int:
    """Kill a stage `kills` times, each after `step` new lines in its .part file and a pause, then let it finish.

    Return the kills done.
    """
    part, done = output.with_suffix(".part"), 0
    while True:
        before = _lines(part)
        process = start(command, env=os.environ | environment)
        if done < kills and wait_for(lambda at=before + step: _lines(part) >= at, process, "a new record"):  # type: ignore[misc]
            time.sleep(pause())
            process.send_signal(signal.SIGKILL)
            done += process.wait() != 0
            continue
        if process.wait() != 0:
            raise RuntimeError(f"{command[1]} ended with exit code {process.returncode}")
        return done


def engine_processes(root: int) -> list[int]:
    """Return the process ids below `root` that belong to an engine: its server first, then its engine core."""
    import psutil

    def words(process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            return "tracker"  # one that has ended meanwhile does not count

    children = psutil.Process(root).children(recursive=True)
    servers = [child for child in children if "vllm.entrypoints." in words(child)]
    family = (p for server in servers for p in (server, *server.children(recursive=True)))
    return [process.pid for process in family if "tracker" not in words(process)]


def kill_server(command: list[str], output: Path, kills: int, folder: Path, step: int = 2) -> int:
    """Run a stage under exp/serve.py and kill the server or its engine core `kills` times; return the kills done."""
    serve = [sys.executable, str(PROJECT / "exp" / "serve.py"), "smollm2", "--log_dir", str(folder / "logs")]
    process = subprocess.Popen([*serve, "--max_restarts", str(kills), "--", *command])
    part, done = output.with_suffix(".part"), 0
    while done < kills:
        before = _lines(part)
        if not wait_for(lambda at=before + step: _lines(part) >= at, process, "a new record"):  # type: ignore[misc]
            break
        engine = engine_processes(process.pid)
        os.kill(engine[min(done % 2, len(engine) - 1)], signal.SIGKILL)
        done += 1
    if process.wait() != 0:
        raise RuntimeError(f"exp/serve.py ended with exit code {process.returncode}")
    return done


def problems_of(output: Path, records: int) -> list[str]:
    """Return what is wrong with a finished output: missing, doubled or empty records, or files left over."""
    rows = [json.loads(line) for line in output.read_bytes().splitlines()]
    dropped = output.with_name(f"{output.stem}_dropped.jsonl").read_bytes().splitlines()
    run = json.loads(output.with_suffix(".run.json").read_text())
    ids = [row["id"] for row in rows]
    checks = {
        f"{len(ids)} records instead of {records}": len(ids) != records,
        f"{len(ids) - len(set(ids))} ids twice": len(ids) != len(set(ids)),
        "an empty record": not all(row["instruction"].strip() and row.get("response", "x").strip() for row in rows),
        "a .part file is left": output.with_suffix(".part").exists(),
        "the run file is not complete": run["status"] != "complete",
        "the run file miscounts": run["counts"]["written"] != len(rows)
        or sum(run["counts"]["dropped"].values()) != len(dropped),
    }
    return [problem for problem, found in checks.items() if found]


def vote_of(index: int, slot: int) -> int:
    """Return a problem's vote: some agree at once, some late, some never."""
    return random.Random(f"{index} {slot}").choice([1] * (1 + index % 7) + [2, 3])


def votes_of(index: int, votes: int) -> list[str]:
    """Return the responses that a problem has when it is settled."""
    needed = votes // 2 + 1
    said = [vote_of(index, slot) for slot in range(votes)]
    enough = (n for n in range(needed, votes) if max(Counter(said[:n]).values()) >= needed)
    return [f"Vote {slot}: \\boxed{{{said[slot]}}}" for slot in range(next(enough, votes))]


class Forked:
    """A stage in a process forked from this one, with the needed interface of `subprocess.Popen`."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        import gen_res

        self.returncode: int | None = None
        self._pid = os.fork()
        if self._pid:
            return
        os.setpgid(0, 0)
        os.environ.update(env)
        sys.argv[:] = command[1:]
        vars(gen_res)["Verifier"] = functools.partial(Verifier, start_method="fork")
        try:
            run_program("gen_res", gen_res.main)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        finally:
            os._exit(99)

    def poll(self) -> int | None:
        """Return the exit code, if the process has ended."""
        return self.wait(os.WNOHANG)

    def wait(self, options: int = 0) -> int | None:
        """Wait for the process to end and return its exit code."""
        if self.returncode is None:
            found, status = os.waitpid(self._pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process and its workers."""
        os.killpg(self._pid, number)


@contextlib.contextmanager
def forked_server(server: Any) -> Iterator[str]:
    """Run a server in a separate process, because threads and forks do not mix; yield its URL."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        with server:
            os.write(writer, server.url.encode() + b"\n")
            signal.pause()
    with os.fdopen(reader) as told:
        yield told.readline().strip()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def kill_waves(kills: int, folder: Path, records: int, seed: int = 0, *, fork: bool = False) -> tuple[int, list[str]]:
    """Kill gen_res.py at random moments while it requests waves; return the kills done, and the problems at the end."""
    sys.path.append(str(PROJECT / "tests"))
    from scripted_server import MODEL, Call, Reply, ScriptedServer, completion

    slots = {hashed_seed(0, index, slot): (index, slot) for index in range(records) for slot in range(VOTES)}
    rng, (command, output) = random.Random(seed), stage_command("gen_res", folder, records)
    command += ["--served_model", MODEL, "--num_responses", str(VOTES), "--stop_when", "settled", "--request_seeds"]
    command += ["--preflight", "0", "--max_in_flight", "4"]

    def reply(call: Call) -> Reply:
        index, slot = slots[call.body["seed"]]
        return Reply(body=completion(f"Vote {slot}: \\boxed{{{vote_of(index, slot)}}}"), delay=rng.uniform(0, 0.05))

    with contextlib.ExitStack() as stack:
        scripted = ScriptedServer(by=reply)
        url = stack.enter_context(forked_server(scripted)) if fork else stack.enter_context(scripted).url
        how: dict[str, Any] = {"start": Forked} if fork else {}
        environment = {"MAGPIE_BASE_URL": url}
        done = kill_stage(command, output, kills, environment, step=1, pause=lambda: rng.uniform(0, 0.2), **how)
    rows = [json.loads(line) for line in output.read_bytes().splitlines()]
    wrong = [f"{row['id']}: {row['responses']}" for i, row in enumerate(rows) if row["responses"] != votes_of(i, VOTES)]
    return done, problems_of(output, records) + wrong


def main() -> int:
    """Run one kind of kill and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gen_ins", "gen_res", "server", "waves"])
    parser.add_argument("--kills", type=int, default=10, help="(default 10)")
    parser.add_argument("--records", type=int, default=64, help="(default 64)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        if args.what == "waves":
            sys.path.append(str(PROJECT / "exp"))
            for heavy in ("gen_res", "math_verify", "latex2sympy2_extended", "aiohttp", "tokenizers", "jinja2", "rich.table"):
                importlib.import_module(heavy)
            done, problems = kill_waves(args.kills, folder, max(args.records, args.kills), fork=True)
        elif args.what == "server":
            command, output = stage_command("gen_res", folder, args.records * 4, max_tokens=256)
            done = kill_server([*command, "--max_in_flight", "16"], output, args.kills, folder)
            problems = problems_of(output, args.records * 4)
        else:
            command, output = stage_command(args.what, folder, args.records)
            with Server(load_model("smollm2"), log_dir=folder / "logs") as server:
                done = kill_stage(command, output, args.kills, server.environment)
            problems = problems_of(output, args.records)
        seconds = time.monotonic() - started
    sys.stdout.write(f"{args.what}: {done} kills in {seconds:.0f} s; {'; '.join(problems) or 'every record is there once'}\n")
    return 1 if problems or done < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())

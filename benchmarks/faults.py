"""Kill every stage that writes, damage its files, fill its disk, set its clock back, and let servers answer nonsense.

    python benchmarks/faults.py --kills 1000 --limits 200 --bits 1500 --clocks 40 --servers 40

A kill is a SIGKILL at a random moment of a run, in a process forked from this one, so that nothing is loaded again; stages with
a model use a scripted server. After some kills the run is resumed to its end, and its files must equal, byte for byte, those of
an undisturbed run (for gen_ins.py, which samples, every id must be there once); no process of a killed run may be left. A full
disk is simulated by a file-size limit. benchmarks/kill.py does the same, a few times, with a real engine. Exit code 1 if
anything was lost, doubled or changed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import fuzz
import fuzz_cases
from fault_servers import Served

STAGES = (
    "export",
    "filter",
    "concat",
    "clean_ins",
    "gen_po_pairs",
    "unitag",
    "gen_res",
    "gen_po_rewards",
    "gen_dis",
    "decontaminate",
    "gen_ins",
    "verify",
    "check_code",
)
OWN_CALLS = {
    "gen_ins": (*fuzz_cases.OUT, *fuzz_cases.SERVED[:4], "--total_prompts", "40", "--preflight", "0", "--max_in_flight", "2"),
    "verify": (*fuzz_cases.IN, *fuzz_cases.OUT, "--workers", "1"),
    "check_code": (*fuzz_cases.IN, *fuzz_cases.OUT, *fuzz_cases.SERVED),
}
ROWS = 40
OTHER_ROWS = {"verify": 400, "check_code": 12}
SECONDS = 1200
NOTHING: dict[str, Any] = {"written": 0, "dropped": {}}
COMPARED = ("out.jsonl", "out_dropped.jsonl")


def call(stage: str) -> list[str]:
    """Return a stage's command line."""
    return [*OWN_CALLS.get(stage, fuzz_cases.CALLS[stage][0])]


def inputs(folder: Path, stage: str = "") -> None:
    """Write a stage's inputs."""
    records = [
        fuzz_cases.RECORDS[i % 4] | {"id": f"r{i}", "instruction": f"What is {i} + {i * 7}?", "majority_answer": str(i * 8)}
        for i in range(OTHER_ROWS.get(stage, ROWS))
    ]
    (folder / "in.jsonl").write_bytes(fuzz_cases.as_lines(records))
    (folder / "more.jsonl").write_bytes(fuzz_cases.as_lines([{"id": "m", "instruction": "Name a prime of three digits."}]))


def start(stage: str, folder: Path, urls: dict[str, str], before: Callable[[], object] = lambda: None) -> int:
    """Fork a process that runs a stage, after `before`; return its id."""
    from conftest import program

    if pid := os.fork():
        return pid
    code = 99
    try:
        before()
        words = [urls["rewards"] if word == "URL" else word for word in call(stage)]
        model = urls["engine" if stage == "gen_ins" else "model"]
        environment = {"MAGPIE_BASE_URL": model, "MAGPIE_API_KEY": fuzz_cases.KEY}
        with fuzz.without_embedding_model():
            done = program(stage, *words, cwd=folder, env=environment)
        code = 98 if "Traceback" in done.stderr else done.returncode
    finally:
        os._exit(code)


def ended(pid: int, kill_after: float = SECONDS, ripe: Callable[[], bool] = lambda: False) -> int | None:
    """Wait for a process and return its exit code; None if it was killed first: after a time, or as soon as it is `ripe`."""
    deadline = time.monotonic() + kill_after
    while time.monotonic() < deadline and not ripe():
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    return None if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) < 0 else 0


def size_of(path: Path) -> int:
    """Return a file's size; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def made(folder: Path, stage: str = "") -> dict[str, Any]:
    """Return a run's output and any other files; for sampled problems, the ids."""
    names = {path.name for path in folder.iterdir()} - {"in.jsonl", "more.jsonl", "out.run.json"}
    names = {name for name in names if not name.startswith("embeddings.sqlite")}  # a cache, whose bytes depend on its history
    found = {name: (folder / name).read_bytes() for name in names}
    if stage == "gen_ins":
        return {name: sorted(json.loads(line)["id"] for line in data.splitlines()) for name, data in found.items()}
    return found


def whole(stage: str, folder: Path, urls: dict[str, str]) -> tuple[dict[str, Any], float]:
    """Run a stage undisturbed; return its output and its seconds."""
    inputs(folder, stage)
    began = time.monotonic()
    code = ended(start(stage, folder, urls))
    if code != 0:
        raise RuntimeError(f"{stage} ended with {code} undisturbed")
    return made(folder, stage), time.monotonic() - began


def disturbed(
    stage: str, count: int, urls: dict[str, str], luck: random.Random, once: Callable[[str, Path, float], bool]
) -> tuple[int, list[str]]:
    """Disturb a stage by `once` until that has happened `count` times; return how often, and what was wrong in the end."""
    with tempfile.TemporaryDirectory() as name:
        expected, seconds = whole(stage, Path(name), urls)
    before = children()
    happened, problems, rounds = 0, [], 0
    while happened < count and rounds < 10 * count:
        rounds += 1
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            inputs(folder, stage)
            for _ in range(min(luck.randint(1, 8), count - happened)):
                happened += once(stage, folder, seconds)
            code = ended(start(stage, folder, urls))
            found = made(folder, stage)
            if code != 0:
                problems.append(f"{stage}: exit code {code} after a fault")
            problems += [f"{stage}: {name} differs" for name in expected | found if expected.get(name) != found.get(name)]
            run = folder / "out.run.json"
            counts: dict[str, Any] = json.loads(run.read_bytes())["counts"] if run.exists() else {"read": -1, **NOTHING}
            if counts["read"] != counts["written"] + sum(counts["dropped"].values()):
                problems.append(f"{stage}: {counts}")
    return happened, problems + left_behind(stage, before)


def children() -> set[int]:
    """Return this process's children; those of a killed run are its own (`Served`)."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def left_behind(stage: str, before: set[int]) -> list[str]:
    """Wait for leftover processes of killed runs to end; return those that do not within a minute."""
    deadline = time.monotonic() + 60
    while (left := [pid for pid in children() - before if not os.waitpid(pid, os.WNOHANG)[0]]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"{stage}: a process is left: {Path(f'/proc/{pid}/cmdline').read_text()[:80]!r}" for pid in left]


def kills(stage: str, count: int, urls: dict[str, str], luck: random.Random) -> tuple[int, list[str]]:
    """Kill a stage at random moments: of its running time, or once its log has reached some size."""

    def once(stage: str, folder: Path, seconds: float) -> bool:
        part, bytes_then = folder / "out.part", luck.randrange(10_000)
        if luck.random() < 0.5 or bytes_then <= size_of(part):
            return ended(start(stage, folder, urls), luck.uniform(0, seconds)) is None
        return ended(start(stage, folder, urls), ripe=lambda: size_of(part) > bytes_then) is None

    return disturbed(stage, count, urls, luck, once)


def limits(stage: str, count: int, urls: dict[str, str], luck: random.Random) -> tuple[int, list[str]]:
    """Simulate a full disk at a random byte."""
    problems = []

    def once(stage: str, folder: Path, seconds: float) -> bool:
        size = luck.choice((luck.randrange(2000), luck.randrange(30_000)))
        code = ended(start(stage, folder, urls, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))))
        if code not in (0, 2):
            problems.append(f"{stage}: exit code {code} with a full disk")
        return code == 2

    happened, more = disturbed(stage, count, urls, luck, once)
    return happened, problems + more


def clocks(stage: str, count: int, urls: dict[str, str], luck: random.Random) -> tuple[int, list[str]]:
    """Let the clock jump by up to a year while a stage is killed; seconds are never negative."""
    problems = []

    def once(stage: str, folder: Path, seconds: float) -> bool:
        real, turned = time.time, luck.uniform(-3e7, 3e7)
        jump = mock.patch("time.time", lambda: real() + turned * (luck.random() < 0.5))
        ended(start(stage, folder, urls, jump.start), luck.uniform(seconds / 2, seconds))
        run = folder / "out.run.json"
        if run.exists() and json.loads(run.read_bytes())["seconds"] < 0:
            problems.append(f"{stage}: negative seconds")
        return True

    happened, more = disturbed(stage, count, urls, luck, once)
    return happened, problems + more


def bits(count: int, luck: random.Random) -> tuple[int, list[str]]:
    """Flip bits in the log of a stopped run, and resume: damaged records are redone, and the output is as if undamaged."""
    from magpie.runs.run import Run

    def go_on(output: Path, until: int) -> bytes:
        run = Run("stage.py", output, rows=ROWS, arguments={})
        run.check()
        with run.session():
            for index in range(until):
                if not run.is_closed(index):
                    run.keep(index, fuzz_cases.RECORDS[index % 4] | {"id": index})
            if until == ROWS:
                run.finish()
        return output.read_bytes() if output.exists() else b""

    problems = []
    with tempfile.TemporaryDirectory() as name, mock.patch("os.fsync", lambda _: None):
        expected = go_on(Path(name) / "whole.jsonl", ROWS)
        output = Path(name) / "out.jsonl"
        go_on(output, ROWS // 2)
        part, run_file = output.with_suffix(".part").read_bytes(), output.with_suffix(".run.json").read_bytes()
        for _ in range(count):
            damaged, at = bytearray(part), luck.randrange(len(part) * 8)
            damaged[at // 8] ^= 1 << at % 8
            output.unlink(missing_ok=True)
            output.with_name("out_dropped.jsonl").unlink(missing_ok=True)
            output.with_suffix(".part").write_bytes(damaged)
            output.with_suffix(".run.json").write_bytes(run_file)
            if go_on(output, ROWS) != expected:
                problems.append(f"bit {at} changed the output")
    return count, problems


def servers(count: int, luck: random.Random) -> tuple[int, list[str]]:
    """Let a server answer nonsense in half of its answers; every row is written or dropped once, and our key is nowhere."""
    from conftest import program
    from hostile_server import HostileServer, Request
    from scripted_server import chat

    def nonsense(request: Request) -> None:
        good = json.dumps(chat("It is 3.")).encode()
        key = request.headers.get("authorization", "")
        broken: list[Callable[[], object]] = [
            lambda: request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"),
            lambda: request.send(luck.randbytes(40)),
            lambda: request.reply(good[: luck.randrange(len(good))]),
            lambda: request.reply({"error": key}, luck.choice(("400 Bad", "404 No", "429 Slow", "500 Broken", "503 Down"))),
            lambda: request.reply({"choices": luck.choice(fuzz_cases.VALUES[:10])}),
            lambda: request.reply(b"[" * 9000),
            lambda: request.reply(chat(key) | {"usage": luck.choice(fuzz_cases.VALUES[:10]), "model": key}),
        ]
        luck.choice(broken)() if luck.random() < 0.5 else request.reply(good)

    problems = []
    quick = mock.patch("magpie.client.client.LONGEST_PAUSE", 0.01)
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name, HostileServer(nonsense) as server, quick:
            folder = Path(name)
            inputs(folder)
            environment = {"MAGPIE_BASE_URL": server.url, "MAGPIE_API_KEY": fuzz_cases.KEY}
            done = program("gen_res", *call("gen_res"), "--outage", "1", cwd=folder, env=environment)
            files = made(folder)
            rows = [json.loads(line)["id"] for name in COMPARED for line in files.get(name, b"").splitlines()]
        if done.returncode not in (0, 2) or "Traceback" in done.stderr:
            problems.append(f"exit code {done.returncode}: {done.stderr[-300:]}")
        if done.returncode == 0 and sorted(rows) != sorted(f"r{i}" for i in range(ROWS)):
            problems.append(f"{len(rows)} rows of {ROWS}")
        if fuzz_cases.KEY in done.stderr + done.stdout or any(fuzz_cases.KEY.encode() in data for data in files.values()):
            problems.append("our key is shown")
    return count, problems


def report(what: str, count: int, problems: list[str], began: float) -> bool:
    """Print one line, and the problems by kind."""
    sys.stdout.write(f"{what}: {count} in {time.monotonic() - began:.0f} s; {len(problems)} problems\n")
    for problem, times in collections.Counter(problems).most_common(10):
        sys.stdout.write(f"  {times} x {problem}\n")
    sys.stdout.flush()
    return bool(problems)


def main() -> int:
    """Do what is requested, each kind spread over the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 1000), ("limits", 200), ("clocks", 40), ("bits", 1500), ("servers", 40), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    args = parser.parse_args()
    luck = random.Random(args.seed)
    bad = [
        report("flipped bits", *bits(args.bits, luck), time.monotonic()),
        *by_stage({"kills": args.kills, "limits": args.limits, "clocks": args.clocks}, luck),
        report("hostile servers", *servers(args.servers, luck), time.monotonic()),
    ]
    return 1 if any(bad) else 0


def by_stage(counts: dict[str, int], luck: random.Random) -> list[bool]:
    """Disturb every stage in the requested ways, that often in total."""
    ways = {"kills": kills, "limits": limits, "clocks": clocks}
    bad = []
    with Served(STAGES) as urls:
        for what, count in counts.items():
            for place, stage in enumerate(STAGES):
                share = count // len(STAGES) + (place < count % len(STAGES))
                began = time.monotonic()
                if share:
                    happened, problems = ways[what](stage, share, urls, luck)
                    bad.append(report(f"{what} of {stage}", happened, problems, began))
    return bad


if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))  # after exp: both have a verify.py
    sys.exit(main())

"""Feed every program broken files, flags and values, thousands per minute, and check the results.

    python benchmarks/fuzz.py --cases 10000 --seed 1

A case is a program's proper call with one to three mutations: of its input (bytes, keys, values), of its flags, of the files
where it reads or writes, of the environment. It runs in this process, through the program's own `main`. A violation
is a traceback, more than 30 seconds, a row that is neither written nor dropped, a changed input, a replaced user file,
a leftover temporary file, our key in anything shown or written. Violations are counted by kind; of each kind the
smallest is shown. Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from fuzz_cases import KEY, MUTATIONS, Case, Hang, proper

PROJECT = Path(__file__).resolve().parents[1]
sys.path.append(str(PROJECT / "tests"))  # how programs run in this process

LIMIT = 30
SHARED = Path("/dev/shm")  # noqa: S108 (folders of a private name in it; a disk would take most of the time)
DIMENSION = 8
SMALLER = 60
"""Attempts to shrink a violation."""


# --- a case --------------------------------------------------------------------------------------------------------------


def make(case: Case, folder: Path) -> None:
    """Put the case's files in place."""
    for name, data in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    for name, kind in case.special.items():
        path = folder / name
        path.unlink(missing_ok=True)
        {
            "folder": path.mkdir,
            "link": lambda path=path: path.symlink_to(folder / "mine"),
            "hard link": lambda path=path: os.link(folder / "mine", path),
            "loop": lambda path=path: path.symlink_to(path),
            "pipe": lambda path=path: os.mkfifo(path),
            "zero": lambda path=path: path.symlink_to("/dev/zero"),
            "mine": lambda path=path: path.write_bytes(b"mine\n"),
            "dangling": lambda path=path: path.symlink_to(folder / "nowhere"),
        }[kind]()


def content(folder: Path) -> dict[str, bytes]:
    """Return the regular files in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `Hang` after some seconds."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def violations(case: Case, urls: dict[str, str], *, again: bool = True) -> set[str]:
    """Run a case and return its violations; a hang counts if it happens twice: a busy machine may hang once."""
    from conftest import program

    environment = {"MAGPIE_BASE_URL": urls["model"], "MAGPIE_API_KEY": KEY} | case.environment
    words = [urls["rewards"] if word == "URL" else word for word in case.words]
    with tempfile.TemporaryDirectory(dir=SHARED if SHARED.is_dir() else None) as name:
        folder = Path(name)
        make(case, folder)
        before = content(folder)
        try:
            with limited(LIMIT):
                done = program(case.program, *words, cwd=folder, env=environment)
        except Hang as hang:
            if again:
                return violations(case, urls, again=False)
            where = traceback.extract_tb(hang.__traceback__)[-2]  # the last one is the alarm
            return {f"hangs in {Path(where.filename).name}, {where.name}"}
        except Exception as error:  # noqa: BLE001 (whatever escapes a program is a finding)
            return {f"{type(error).__name__} escapes"}
        after = content(folder)
        return set(judged(case, done, before, after))


def judged(case: Case, done: Any, before: dict[str, bytes], after: dict[str, bytes]) -> Iterator[str]:
    """Yield the violations of a case that has ended."""
    if "Traceback" in done.stderr:
        yield f"traceback: {done.stderr.strip().splitlines()[-1][:80]}"
    elif done.returncode not in (0, 2):
        yield f"exit code {done.returncode}"
    made_by_run = {"out.jsonl", "out_dropped.jsonl", "out.run.json", "out.part", "job/report.html"}
    runs_own = made_by_run if any("overwrite" in word for word in case.words) or "out.run.json" in case.files else set()
    for name, data in before.items():
        if after.get(name) != data and name not in runs_own and not name.startswith("set/"):
            yield "a file of the user's is changed" if name.startswith("out") else f"the input {name.split('.')[0]} is changed"
    if any(name.endswith(".tmp") for name in after):
        yield "a temporary file is left"
    if KEY in done.stderr + done.stdout or any(KEY.encode() in data for name, data in after.items() if name not in before):
        yield "our key is shown"
    if done.returncode == 0 and "out.run.json" in after and after["out.run.json"] != before.get("out.run.json"):
        yield from miscounted(case, after)


def miscounted(case: Case, after: dict[str, bytes]) -> Iterator[str]:
    """Yield what does not add up in a successful run."""
    run = json.loads(after["out.run.json"])
    counts, dropped = run["counts"], after.get("out_dropped.jsonl", b"").count(b"\n")
    if run["status"] != "complete" or counts["read"] != counts["written"] + sum(counts["dropped"].values()):
        yield "the run file does not add up"
    if after.get("out.jsonl", b"").count(b"\n") != counts.get("rows", counts["written"]):
        yield "rows of the output are not counted"
    if dropped != sum(counts["dropped"].values()):
        yield "dropped rows are not counted"
    lines = [line for line in case.files["in.jsonl"].split(b"\n") if line.strip(b" \t\r\n")]
    plain = not case.special and not any(word.startswith(("--input_file=", "--shard")) for word in case.words)
    one_input = case.program not in ("concat", "gen_ins") and not case.files["in.jsonl"].lstrip(
        b"\xef\xbb\xbf \n\r"
    ).startswith(b"[")
    if plain and one_input and case.words.count("in.jsonl") == 1 and counts["read"] != len(lines):
        yield "rows of the input are not counted"


@contextmanager
def without_embedding_model() -> Iterator[None]:
    """Replace the embedding model, which would take most of the time, by a stand-in."""
    from magpie.compute.embedding import Encoder

    with mock.patch.object(Encoder, "__call__", vectors), mock.patch.object(Encoder, "dimension", DIMENSION):
        yield


def vectors(_: Any, texts: list[str]) -> Any:
    """Return a vector of length 1 for each text, the same one for the same text."""
    import numpy as np

    found = np.stack([np.random.default_rng(zlib.crc32(repr(text).encode())).standard_normal(DIMENSION) for text in texts])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype("float32")


def smaller(case: Case, kind: str, urls: dict[str, str], luck: random.Random) -> Case:
    """Return a smaller case with the same violation."""
    for _ in range(SMALLER):
        less = Case(case.program, [*case.words], {**case.files}, {**case.special}, {**case.environment})
        pool = luck.choice([part for part in (less.files, less.special, less.environment) if part] or [less.files])
        if luck.random() < 0.5 and less.files:
            name = luck.choice(list(less.files))
            lines = less.files[name].splitlines(keepends=True)
            less.files[name] = b"".join(line for line in lines if luck.random() < 0.6)
        elif pool is not less.files:
            del pool[luck.choice(list(pool))]
        if kind in violations(less, urls):
            case = less
    return case


def main() -> int:
    """Run the cases and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="(default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--seconds", type=float, default=0, help="end after these, whatever was done (default: no limit)")
    args = parser.parse_args()
    found = fuzz(args.cases, args.seed, args.seconds)
    return 1 if found else 0


def fuzz(cases: int, seed: int, seconds: float = 0) -> dict[str, Case]:
    """Run cases, print the counts, and return the smallest case of every kind of violation."""
    from hostile_server import HostileServer
    from magpie.config.load import read_yaml
    from scripted_server import Reply, ScriptedServer, chat

    luck, kinds, programs = random.Random(seed), collections.Counter[str](), collections.Counter[str]()
    found: dict[str, Case] = {}
    started = time.monotonic()
    with (
        ScriptedServer(default=Reply(body=chat("It is 3.")), owned_by="x", routes=("chat/completions", "completions")) as model,
        HostileServer(lambda request: request.reply({"data": [{"probs": [1.0]}]})) as scorer,
        mock.patch("os.fsync", lambda _: None),
        without_embedding_model(),
        mock.patch("magpie.config.model_presets.read_yaml", functools.cache(read_yaml)),
        mock.patch("magpie.client.client.LONGEST_PAUSE", 0.01),
        mock.patch("magpie.rewards.remote.LONGEST_PAUSE", 0.01),
    ):
        urls = {"model": model.url, "rewards": scorer.url}
        for _ in range(cases):
            if seconds and time.monotonic() - started > seconds:
                break
            case = proper(luck)
            for mutation in luck.sample(MUTATIONS, luck.randint(1, 3)):
                mutation(case, luck)
            programs[case.program] += 1
            for kind in violations(case, urls):
                name = f"{case.program}: {kind}"
                kinds[name] += 1
                if name not in found:
                    found[name] = smaller(case, kind, urls, luck) if "hangs" not in kind else case
                    print(f"NEW {name}\n    {found[name].shown()}", file=sys.stderr, flush=True)
    took = time.monotonic() - started
    print(f"{programs.total()} cases in {took:.0f} s, seed {seed}: {dict(sorted(programs.items()))}")
    print("\n".join(f"{count:6} {name}" for name, count in kinds.most_common()) or "no violation")
    return found


if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))  # after exp: both have a verify.py
    sys.exit(main())

"""gen_dis.py on a Ray cluster of two machines against one process: the same records, the same bytes, and workers killed.

    python benchmarks/ray_scale.py [--records 100000] [--kill_every 120] [--embed_every 1] [--work FOLDER]

The problems are written here from patterns, words and numbers; one in twenty is an earlier one in another layout, one in twenty
an earlier one with other numbers. The two machines are two of Ray's own nodes on this one, a core each. While the cluster
works, a worker is killed (-9) every --kill_every seconds; then everything except the embeddings is repeated, with a worker
killed every 8 seconds. The one process embeds every --embed_every-th chunk of texts itself and takes the other vectors from the
cluster; with 1, all are its own. Targets: the vectors and the outputs of both are equal, byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]

STORE = 300 * 2**20
KILL_OFTEN = 8.0
OUTPUT = "made_distance.jsonl"
NAMES = """
    Ada Ben Carla Dmitri Elena Farid Grace Hiro Ines Jonas Kavya Leo Mina Nadia Omar Petra Quinn Rosa Sven Tara Uma Viktor
    Wanda Xenia Yusuf Zoe
""".split()  # noqa: SIM905
THINGS = """
    apples bricks candles dolls eggs flags grapes hats inks jars kites lemons marbles notebooks oranges pencils quilts ropes
    stamps tiles umbrellas vases whistles yams zippers coins stones books boxes shells ribbons buttons plates tickets
""".split()  # noqa: SIM905
PLACES = """
    market school harbour bakery library garden museum station farm theatre village castle workshop island bridge tower
    stadium hospital kitchen forest airport camp factory hotel mill orchard port quarry ranch studio tavern vineyard
""".split()  # noqa: SIM905
PATTERNS = (
    "{name} loses {b} of {a} {things} at the {place}. How many stay?",
    "Find the cost of {a} {things} at {b} dollars in the {place}.",
    "Find the ways to put {a} {things} into {b} boxes.",
    "{name} walks {a} miles to the {place} in {b} hours. How fast?",
    "The {place} sells {a} {things} in {b} days. How many a day?",
    "Find the remainder of {a} {things} in rows of {b}.",
    "A {place} has {a} rows of {b} {things}. How many in all?",
    "Solve ${a}x + {b} = 0$ for {name}.",
    "Find the chance that {name} draws one of {b} red {things} among {a}.",
    "Find the area of a {place} of {a} by {b} metres.",
    "What is {b} percent of {a} {things}?",
    "{name} shares {a} {things} $1:{b}$ with the {place}.",
)


def problems(count: int) -> list[dict[str, object]]:
    """Return made records; `planted` is the kind: new, copy or renumbered, and `planted_of` the source."""
    chance = random.Random(11)
    records: list[dict[str, object]] = []
    for number in range(count):
        kind = "new" if number < 20 else chance.choices(["new", "copy", "renumbered"], [18, 1, 1])[0]
        slots = {"name": chance.choice(NAMES), "things": chance.choice(THINGS), "place": chance.choice(PLACES)}
        pattern, source = chance.choice(PATTERNS), None
        numbers = {"a": chance.randint(100, 9999), "b": chance.randint(5, 99)}
        if kind != "new":
            source = chance.choice(records)
            slots, pattern = source["slots"], source["pattern"]  # type: ignore[assignment]
            numbers = source["numbers"] if kind == "copy" else {key: n + 3 for key, n in source["numbers"].items()}  # type: ignore[attr-defined, assignment]
        text = pattern.format(**slots, **numbers)
        if kind == "copy":
            text = text.replace("Find", "Determine").replace("  ", " ") + " Show all your steps."
        records.append(
            {"id": number, "instruction": text, "planted": kind, "planted_of": source and source["id"], "slots": slots}
            | {"pattern": pattern, "numbers": numbers}
        )
    return [{key: record[key] for key in ("id", "instruction", "planted", "planted_of")} for record in records]


class Killer(threading.Thread):
    """Kills a working worker from time to time."""

    def __init__(self, every: float) -> None:
        super().__init__(daemon=True)
        self.killed: list[int] = []
        self._every, self._over = every, threading.Event()

    def run(self) -> None:
        """Kill until told to stop."""
        while not self._over.wait(self._every):
            at_work: list[psutil.Process] = []
            while not at_work and not self._over.wait(0.05):
                at_work = [each for each in psutil.process_iter(["cmdline"]) if is_worker(each)]
            if not at_work:
                return
            victim = random.choice(at_work)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
                self.killed.append(victim.pid)

    def end(self) -> None:
        """Stop killing."""
        self._over.set()


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is one of our workers, working on a part."""
    return bool(process.info["cmdline"]) and process.info["cmdline"][0].startswith("ray::_Worker.do")


def run(folder: Path, records: list[dict[str, object]], *more: str) -> float:
    """Run gen_dis.py in its own folder and return the seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "made.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    command = [sys.executable, str(PROJECT / "exp" / "gen_dis.py"), "--input_file", str(source), "--overwrite", *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAGPIE_", "RAY_"))}
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    return time.perf_counter() - started


def lend(source: Path, folder: Path, records: list[dict[str, object]], every: int) -> int:
    """Copy a run's vectors except every `every`-th chunk of texts; return how many are left to compute."""
    from magpie.compute.embedding import CHUNK, Embedder

    if every == 1:
        return len({record["instruction"] for record in records})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "embeddings.sqlite").write_bytes((source / "embeddings.sqlite").read_bytes())
    texts = sorted(dict.fromkeys(str(record["instruction"]) for record in records), key=len, reverse=True)
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)][::every]
    embedder = Embedder()
    with sqlite3.connect(folder / "embeddings.sqlite") as base:
        keys = [(embedder._key(text),) for chunk in chunks for text in chunk]
        base.executemany("DELETE FROM vectors WHERE key = ?", keys)
    return len(keys)


def vectors(folder: Path) -> list[tuple[bytes, bytes]]:
    """Return the vectors in a run's cache."""
    with sqlite3.connect(folder / "embeddings.sqlite") as base:
        return list(base.execute("SELECT key, vector FROM vectors ORDER BY key"))


def on_cluster(folder: Path, records: list[dict[str, object]], kill_every: float) -> list[tuple[float, list[int], bytes]]:
    """Run gen_dis.py twice on a cluster of two nodes, the second time with the first one's vectors, while workers are killed.

    Returns for each run the seconds, the killed workers, and the output.
    """
    from ray.cluster_utils import Cluster

    found = []
    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
        for seconds in (kill_every, KILL_OFTEN):
            killer = Killer(seconds)
            killer.start()
            taken = run(folder, records, "--ray", cluster.address)
            killer.end()
            found.append((taken, killer.killed, (folder / OUTPUT).read_bytes()))
    finally:
        cluster.shutdown()
    return found


def main() -> None:
    """Run both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="problems to make (default 100,000)")
    parser.add_argument("--kill_every", type=float, default=120.0, help="seconds between two killed workers (default 120)")
    parser.add_argument(
        "--work", type=Path, help="folder to keep the files; existing vectors are not recomputed (default: none)"
    )
    parser.add_argument("--embed_every", type=int, default=1, help="chunks that the one process embeds itself (default: each)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        records = problems(args.records)
        (whole, killed, output), (again, killed_again, second) = on_cluster(work / "cluster", records, args.kill_every)
        own = lend(work / "cluster", work / "alone", records, args.embed_every)
        alone = run(work / "alone", records)
        expected = (work / "alone" / OUTPUT).read_bytes()
        same_vectors = vectors(work / "alone") == vectors(work / "cluster")
    found = [json.loads(line) for line in expected.splitlines()]
    kept = {row["id"]: row["duplicate_of"] if row["duplicate_of"] is not None else row["id"] for row in found}
    print(f"{'records':28}{len(found):>12,}")
    print(f"{'duplicates':28}{sum(row['duplicate_of'] is not None for row in found):>12,}")
    for kind in ("copy", "renumbered"):
        planted = [row for row in found if row["planted"] == kind]
        together = sum(kept[row["id"]] == kept[row["planted_of"]] for row in planted)
        print(f"{kind + ' with its source':28}{together:>12,} of {len(planted):,}")
    print(f"{'vectors of its own':28}{own:>12,} of {len({record['instruction'] for record in records}):,}")
    print(f"{'seconds, one process':28}{alone:>12,.0f}")
    print(f"{'seconds, cluster':28}{whole:>12,.0f}    workers killed: {len(killed)}")
    print(f"{'seconds, without embedding':28}{again:>12,.0f}    workers killed: {len(killed_again)}")
    print(f"{'vectors equal':28}{'yes' if same_vectors else 'NO':>12}")
    print(f"{'outputs equal, byte for byte':28}{'yes' if expected == output == second else 'NO':>12}")


if __name__ == "__main__":
    main()

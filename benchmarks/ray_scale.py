"""gen_dis.py on a Ray cluster of two machines against one process: the same records, the same bytes, and workers killed.

    python benchmarks/ray_scale.py [--records 100000] [--kills 3] [--embed_every 1] [--work FOLDER]

The problems are written here from patterns, words and numbers; one in twenty is an earlier one in another layout, one in twenty
an earlier one with other numbers. The two machines are two of Ray's own nodes on this one, a core each. While the cluster
works, a worker is killed (-9): one that embeds, then one of each later part of the run. The one process embeds every
--embed_every-th chunk of texts itself and takes the other vectors from the cluster; with 1, all are its own. Targets: the outputs and the vectors of both are equal, byte for byte.
"""

from __future__ import annotations

import argparse
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
    """Return made records; `planted` says what a record is: new, copy or renumbered, and `source` of what."""
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
            {"id": number, "instruction": text, "planted": kind, "source": source and source["id"], "slots": slots}
            | {"pattern": pattern, "numbers": numbers}
        )
    return [{key: record[key] for key in ("id", "instruction", "planted", "source")} for record in records]


class Killer(threading.Thread):
    """Kills a worker at work each time: first among those that embed, then among those of later parts of the run."""

    def __init__(self, kills: int) -> None:
        super().__init__(daemon=True)
        self.kills, self.killed, self.over = kills, list[str](), False

    def run(self) -> None:
        """Wait for a new group of workers, let it work for some seconds, and kill one of it."""
        known: set[int] = set()
        while len(self.killed) < self.kills and not self.over:
            time.sleep(0.1)
            at_work = [each for each in psutil.process_iter(["cmdline"]) if is_worker(each) and each.pid not in known]
            if at_work:
                time.sleep(20.0 if not known else 0.5)
                started = time.strftime("%H:%M:%S")
                known |= {each.pid for each in psutil.process_iter(["cmdline"]) if is_worker(each)}
                try:
                    at_work[0].kill()
                    self.killed.append(f"{at_work[0].pid} at {started}")
                except psutil.NoSuchProcess:
                    continue


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is a worker of ours, at work on a part."""
    return bool(process.info["cmdline"]) and process.info["cmdline"][0].startswith("ray::_Worker.do")


def run(folder: Path, records: list[dict[str, object]], *more: str) -> float:
    """Run gen_dis.py in a folder of its own and return the seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "made.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    command = [sys.executable, str(PROJECT / "exp" / "gen_dis.py"), "--input_file", str(source), "--overwrite", *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAGPIE_", "RAY_"))}
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    return time.perf_counter() - started


def lend(source: Path, folder: Path, records: list[dict[str, object]], every: int) -> int:
    """Copy a run's vectors but for every `every`-th chunk of texts; return how many are left to compute."""
    from magpie.embedding import CHUNK, Embedder

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
    """Return what a run's cache holds."""
    with sqlite3.connect(folder / "embeddings.sqlite") as base:
        return list(base.execute("SELECT key, vector FROM vectors ORDER BY key"))


def on_cluster(folder: Path, records: list[dict[str, object]], kills: int) -> tuple[float, list[str]]:
    """Run gen_dis.py on a cluster of two nodes while workers are killed; return the seconds and who was killed."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
        killer = Killer(kills)
        killer.start()
        seconds = run(folder, records, "--ray", cluster.address)
        killer.over = True
    finally:
        cluster.shutdown()
    return seconds, killer.killed


def main() -> None:
    """Run both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="problems to make (default 100,000)")
    parser.add_argument("--kills", type=int, default=3, help="workers to kill (default 3)")
    parser.add_argument(
        "--work", type=Path, help="folder that keeps the files, and a cluster's run that is over (default: none)"
    )
    parser.add_argument("--embed_every", type=int, default=1, help="chunks that the one process embeds itself (default: each)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        records = problems(args.records)
        if (work / "cluster" / "figures.json").exists():
            many, killed = json.loads((work / "cluster" / "figures.json").read_text())
        else:
            many, killed = on_cluster(work / "cluster", records, args.kills)
            (work / "cluster" / "figures.json").write_text(json.dumps([many, killed]))
        print(f"cluster: {many:,.0f} s, workers killed: {'; '.join(killed) or 'none'}", flush=True)
        own = lend(work / "cluster", work / "alone", records, args.embed_every)
        alone = run(work / "alone", records)
        outputs = [(work / name / "made_distance.jsonl").read_bytes() for name in ("alone", "cluster")]
        found = [json.loads(line) for line in outputs[1].splitlines()]
        same_vectors = vectors(work / "alone") == vectors(work / "cluster")
    kept = {row["id"]: row["duplicate_of"] if row["duplicate_of"] is not None else row["id"] for row in found}
    print(f"{'records':28}{len(found):>12,}")
    print(f"{'duplicates':28}{sum(row['duplicate_of'] is not None for row in found):>12,}")
    for kind in ("copy", "renumbered"):
        planted = [row for row in found if row["planted"] == kind]
        together = sum(kept[row["id"]] == kept[row["source"]] for row in planted)
        print(f"{kind + ' with its source':28}{together:>12,} of {len(planted):,}")
    print(f"{'seconds, one process':28}{alone:>12,.0f}")
    print(f"{'seconds, cluster':28}{many:>12,.0f}")
    print(f"{'vectors of its own':28}{own:>12,} of {len({record['instruction'] for record in records}):,}")
    print(f"{'vectors equal':28}{'yes' if same_vectors else 'NO':>12}")
    print(f"{'outputs equal, byte for byte':28}{'yes' if outputs[0] == outputs[1] else 'NO':>12}")


if __name__ == "__main__":
    main()

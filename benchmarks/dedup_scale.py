"""How deduplication scales: 384-dimensional vectors with planted copies; compared with raw FAISS, the original and SemHash.

    python benchmarks/dedup_scale.py [--sizes 20000 200000 1000000] [--kind clustered|random] [--full_below 50000]

Embeddings are given, so the times include no language model. One in twenty vectors is a copy of another at a cosine from 0.975
to 0.999; `clustered` vectors lie around centres as sentences do, `random` ones have no structure (the hardest case for lists).
Methods that compare every pair are measured in full up to --full_below vectors, and beyond on a sample of the queries and
extrapolated (marked ~). Recall: planted copies in the group of their source. Memory: the process's peak, each in its own
process. Targets: at a million at most 10 minutes and 8 GB on two cores, recall 0.98, time clearly below N².
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

import numpy as np  # noqa: E402

DIMENSION, COPIES, THRESHOLD = 384, 20, 0.97
SAMPLE = 2000
"""Queries of a method that compares every pair, if it is not measured in full."""
ORIGINAL_SEARCH_SPACE = 500
Found = tuple[np.ndarray, float, bool]


def planted(count: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors, the places of the copies and of their sources."""
    rng = np.random.default_rng(7)
    copies = count // COPIES
    vectors = np.empty((count, DIMENSION), dtype=np.float32)
    centres = rng.standard_normal((max(1, count // 100), DIMENSION), dtype=np.float32)
    for start in range(0, count, 50_000):  # in parts: two copies of a million vectors would count as memory of the method
        part = rng.standard_normal((min(50_000, count - start), DIMENSION), dtype=np.float32)
        if kind == "clustered":
            part = centres[rng.integers(0, len(centres), len(part))] + 0.8 * part
        vectors[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    source = rng.choice(count - copies, copies, replace=False)
    cosine = rng.uniform(0.975, 0.999, (copies, 1)).astype(np.float32)
    noise = rng.standard_normal((copies, DIMENSION), dtype=np.float32)
    noise -= (noise * vectors[source]).sum(axis=1, keepdims=True) * vectors[source]
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    place = rng.permutation(count)
    vectors[count - copies :] = cosine * vectors[source] + np.sqrt(1 - cosine**2) * noise
    vectors = vectors[place]
    at = np.argsort(place)
    return vectors, at[count - copies :], at[source]


def ours(vectors: np.ndarray, sample: np.ndarray | None) -> np.ndarray:
    """This project's search, and its choice of the kept ones; the first vector ranks best."""
    from magpie.compute.vector_index import Partitions
    from magpie.similarity.dedup import NEIGHBOURS, keep_best, neighbour_pairs, pair_cosines

    everyone = np.arange(len(vectors))
    cosines, rows = Partitions(vectors).search(vectors, NEIGHBOURS)
    pairs = neighbour_pairs(everyone, cosines, rows, least=THRESHOLD)
    del cosines, rows
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    better, worse = pairs[:, 0], pairs[:, 1]
    return keep_best(len(vectors), better, worse, pair_cosines(vectors, better, worse), everyone)[0]


def raw_faiss(vectors: np.ndarray, sample: np.ndarray | None, neighbours: int = 2) -> np.ndarray:
    """FAISS's flat index: the first other vector among the neighbours above the threshold."""
    import faiss

    index = faiss.IndexFlatL2(DIMENSION)
    index.add(vectors)
    queries = np.arange(len(vectors)) if sample is None else sample
    kept = np.arange(len(vectors))
    for start in range(0, len(queries), 1024):
        part = queries[start : start + 1024]
        distances, rows = index.search(vectors[part], neighbours)
        others = (distances < 2 - 2 * THRESHOLD) & (rows != part[:, None])
        near = np.where(others, rows, len(vectors)).min(axis=1)
        kept[part] = np.where(near < len(vectors), near, part)
    return kept


def original(vectors: np.ndarray, sample: np.ndarray | None) -> np.ndarray:
    """The original program's search: flat, 500 neighbours, in batches of 1,024."""
    return raw_faiss(vectors, sample, ORIGINAL_SEARCH_SPACE)


def semhash(vectors: np.ndarray, sample: np.ndarray | None) -> np.ndarray:
    """SemHash from given embeddings."""
    from semhash import SemHash

    records = [str(place) for place in range(len(vectors))]
    result = SemHash.from_embeddings(vectors, records, model=None).self_deduplicate(threshold=THRESHOLD)  # type: ignore[arg-type]
    kept = np.arange(len(vectors))
    for duplicate in result.filtered:
        if duplicate.duplicate_of is not None:
            kept[int(duplicate.record)] = int(duplicate.duplicate_of)
    return kept


METHODS: dict[str, Callable[[np.ndarray, np.ndarray | None], np.ndarray]] = {
    "this project": ours,
    "SemHash": semhash,
    "raw FAISS (flat)": raw_faiss,
    "original program": original,
}
EVERY_PAIR = ("raw FAISS (flat)", "original program")


def measure(method: str, count: int, kind: str, *, whole: bool) -> None:
    """Run one method in this process and print its figures as JSON."""
    vectors, copies, sources = planted(count, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sample = None if whole or method not in EVERY_PAIR else copies[:SAMPLE]
    started = time.perf_counter()
    kept = METHODS[method](vectors, sample)
    seconds = time.perf_counter() - started
    if sample is not None:
        seconds *= count / len(sample)
        copies, sources = sample, sources[: len(sample)]
    # the copy and its source are in one group: one is kept for the other, or a third for both
    together = (kept[copies] == sources) | (kept[sources] == copies) | (kept[copies] == kept[sources])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"seconds": seconds, "recall": float(together.mean()), "gigabytes": max(peak, before) / 2**20}
    print(json.dumps(figures | {"estimated": sample is not None}))


def main() -> None:
    """Measure every method at every size, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000, 1_000_000], help="numbers of vectors")
    parser.add_argument("--kind", choices=["clustered", "random"], default="clustered", help="(default clustered)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="(default all)")
    parser.add_argument(
        "--full_below", type=int, default=50_000, help="vectors up to which every pair is compared (default 50,000)"
    )
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], int(args.measure[1]), args.kind, whole=int(args.measure[1]) <= args.full_below)
        return
    print(f"{'':20}{'vectors':>12}{'seconds':>12}{'recall':>10}{'GB':>8}{'exponent':>10}")
    for method in args.methods:
        earlier: tuple[int, float] | None = None
        for count in args.sizes:
            command = [sys.executable, __file__, "--measure", method, str(count), "--kind", args.kind]
            command += ["--full_below", str(args.full_below)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(output.strip().splitlines()[-1])
            seconds = f"{'~' if found['estimated'] else ''}{found['seconds']:,.1f}"
            growth = f"{math.log(found['seconds'] / earlier[1]) / math.log(count / earlier[0]):.2f}" if earlier else ""
            print(
                f"{method:20}{count:>12,}{seconds:>12}{found['recall']:>10.4f}{found['gigabytes']:>8.2f}{growth:>10}",
                flush=True,
            )
            earlier = (count, found["seconds"])


if __name__ == "__main__":
    main()

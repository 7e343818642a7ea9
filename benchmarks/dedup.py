"""Quality of deduplication: pairs in a group, renumbered problems that were merged, paraphrases that were found.

    python benchmarks/dedup.py [--data ../shared/data] [--gold FILE] [--half even|odd|all] [--show]
    python benchmarks/dedup.py --pairs ../shared/data/gold/same_problem_dev.jsonl tests/data/same_problem.jsonl

The gold file's rows have `instruction`, `group` (one problem) and `kind`; a `renumbered` row has the words of an original with
other numbers, and its group differs from the original's only in the last letter. It is compared with the rule of the original
program: two problems are the same if the cosine of their embeddings is above 0.975. `--half` takes every second group: the
lists of words were made from the even ones of the open file. Targets: precision 0.99, recall 0.95, at most 1% of the
renumbered merged, half of the paraphrases.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]

import numpy as np  # noqa: E402

from magpie.compute.embedding import DEFAULT_EMBEDDING_MODEL, Embedder  # noqa: E402
from magpie.records.reading import read_rows  # noqa: E402
from magpie.similarity.dedup import find_duplicates  # noqa: E402
from magpie.similarity.normalize import normalize  # noqa: E402

ORIGINAL_COSINE = 0.975
Pair = tuple[int, int]


def rows_of(path: Path, half: str) -> list[dict[str, Any]]:
    """Return the gold rows of a half; a renumbered problem stays with its original."""
    if not path.exists():
        sys.exit(f"{path}: no such file. Name the folder with --data, or the file with --gold")
    rows = [row.record for row in read_rows(path) if row.record]
    wanted = {"even": {0}, "odd": {1}, "all": {0, 1}}[half]
    return [row for row in rows if int((re.findall(r"\d+", row["group"]) or ["0"])[0]) % 2 in wanted]


def pairs_of(groups: list[Hashable]) -> set[Pair]:
    """Return all pairs of places with the same group."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    return {pair for places in members.values() for pair in itertools.combinations(places, 2)}


def figures(found: set[Pair], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return precision, recall, and the shares of renumbered and of paraphrased problems that were merged with an original."""
    true = pairs_of([row["group"] for row in rows])
    merged = Counter[str]()
    for kind in ("renumbered", "paraphrase"):
        places = {place for place, row in enumerate(rows) if row["kind"] == kind}
        hits = found - true if kind == "renumbered" else found & true
        merged[kind] = len({place for pair in hits for place in pair} & places)
    kinds = Counter(row["kind"] for row in rows)
    return {
        "pairs": len(found),
        "precision": len(found & true) / max(len(found), 1),
        "recall": len(found & true) / max(len(true), 1),
        "renumbered merged": merged["renumbered"] / max(kinds["renumbered"], 1),
        "paraphrases found": merged["paraphrase"] / max(kinds["paraphrase"], 1),
    }


def report_pairs(path: Path, embedder: Embedder) -> None:
    """Print how many pairs of each kind are called the same problem, for a file of pairs (`a`, `b`, `same`, `kind`)."""
    rows = [row.record for row in read_rows(path, None) if row.record]
    texts = [text for row in rows for text in (row["a"], row["b"])]
    vectors, table = embedder.encode(texts), defaultdict[str, list[bool]](list)
    for at, row in enumerate(rows):
        pair = slice(2 * at, 2 * at + 2)
        kept = find_duplicates(texts[pair], np.arange(2), vectors[pair]).kept
        for kind in ("all the same" if row["same"] else "all others", row["kind"]):
            table[kind].append(bool(kept[0] == kept[1]))
    for kind, merged in sorted(table.items()):
        print(f"{kind:30}{sum(merged):5} of {len(merged):5} merged  {sum(merged) / len(merged):.3f}")


def show_misses(found: set[Pair], rows: list[dict[str, Any]]) -> None:
    """Print the missed pairs and the wrong ones."""
    true = pairs_of([row["group"] for row in rows])
    for what, pairs in (("missed", true - found), ("wrong", found - true)):
        for pair in sorted(pairs):
            print(f"\n{what}: {rows[pair[0]]['group']} {rows[pair[1]]['group']}")
            for place in pair:
                print(
                    f"  {rows[place]['kind']}: {rows[place]['instruction']}\n    {normalize(rows[place]['instruction']).text}"
                )


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data", help="folder of the data")
    parser.add_argument("--gold", type=Path, help="the gold file (default: gold/dedup_dev.jsonl in the data folder)")
    parser.add_argument("--half", choices=["even", "odd", "all"], default="all", help="groups to take (default all)")
    parser.add_argument("--embedding_model", default=DEFAULT_EMBEDDING_MODEL, help=f"(default {DEFAULT_EMBEDDING_MODEL})")
    parser.add_argument("--cache", type=Path, help="file that keeps the embeddings (default: none)")
    parser.add_argument("--show", action="store_true", help="print missed and wrong pairs")
    parser.add_argument("--pairs", type=Path, nargs="+", default=[], help="measure files of pairs instead")
    args = parser.parse_args()
    for path in args.pairs:
        report_pairs(path, Embedder(args.embedding_model, cache=args.cache))
    if args.pairs:
        return
    rows = rows_of(args.gold or args.data / "gold" / "dedup_dev.jsonl", args.half)
    texts = [row["instruction"] for row in rows]
    vectors = Embedder(args.embedding_model, cache=args.cache).encode(texts)
    kept = find_duplicates(texts, np.arange(len(texts)), vectors).kept
    ours = pairs_of(kept.tolist())
    near = np.argwhere(np.triu(vectors @ vectors.T > ORIGINAL_COSINE, 1))
    table = {
        "this project": figures(ours, rows),
        f"cosine > {ORIGINAL_COSINE}": figures({(a, b) for a, b in near.tolist()}, rows),
    }
    print(f"{len(rows)} problems, {len(pairs_of([row['group'] for row in rows]))} pairs in a group")
    print(f"{'':22}" + "".join(f"{name:>20}" for name in next(iter(table.values()))))
    for name, values in table.items():
        print(f"{name:22}" + "".join(f"{value:>20,.3f}" if value <= 1 else f"{value:>20,.0f}" for value in values.values()))
    if args.show:
        show_misses(ours, rows)


if __name__ == "__main__":
    main()

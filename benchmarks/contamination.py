"""Quality of decontamination, on texts labelled by hand.

    python benchmarks/contamination.py [--data ../shared/data] [--gold FILE] [--show] [--fit]

Prints the share of contaminated texts that was found, by how they were changed (targets: 0.98 of all, 0.85 of the paraphrased),
and the share of clean ones that was dropped (target: at most 0.005); `--show` adds the misses. A text with its numbers changed
may be kept or dropped. `--fit` fits the weights of `configs/contamination.yaml` to the gold file instead, on each half of it,
and prints both and those of the whole. About two minutes on two cores; the vectors are kept in `--cache`.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

PROJECT = Path(__file__).resolve().parents[1]

from magpie.compute.embedding import Embedder  # noqa: E402
from magpie.similarity.config import load_benchmark_list, load_contamination  # noqa: E402
from magpie.similarity.contamination import Detector, Hit, nearest_indices, similarities  # noqa: E402
from magpie.similarity.normalize import normalize  # noqa: E402
from magpie.similarity.same_problem import compare  # noqa: E402
from magpie.similarity.test_sets import load_benchmarks  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

STRENGTH = 10.0
"""scikit-learn's C: the inverse of the regularisation strength."""
RELATED_WORDS, RELATED_COSINE = 0.8, 0.85
"""Two benchmark problems above both share a long introduction and ask different things: not an example of others."""


def kind_of(row: dict[str, Any]) -> str:
    """Return how a labelled text was made."""
    if row["contaminated"] is None:
        return "other numbers (either)"
    if not row["contaminated"]:
        return "clean"
    return f"paraphrased, {row['strength']}" if row.get("strength") else "other layout"


def report(rows: list[dict[str, Any]], hits: list[Hit | None], *, show: bool) -> None:
    """Print the share of each kind that was dropped, with the mistakes."""
    table: dict[str, list[bool]] = defaultdict(list)
    misnamed = 0
    for row, hit in zip(rows, hits, strict=True):
        kind = kind_of(row)
        for name in (kind, "all paraphrased" if row.get("strength") else "", "all contaminated" if row["contaminated"] else ""):
            table[name].append(hit is not None)
        misnamed += bool(row["contaminated"] and hit and (hit.benchmark, hit.row) != (row["benchmark"], row["index"]))
        if show and row["contaminated"] is not None and (hit is not None) != row["contaminated"]:
            print(
                f"{'MISSED' if row['contaminated'] else 'DROPPED'} {row['id']} {kind}: {row['instruction'][:300]!r} {hit or ''}"
            )
    table.pop("")
    for kind, dropped in sorted(table.items()):
        print(f"{kind:24} {sum(dropped):5} of {len(dropped):5}  {sum(dropped) / len(dropped):.3f}")
    print(f"{'another row named':24} {misnamed:5}")


def labelled_pairs(
    rows: list[dict[str, Any]], vectors: np.ndarray, detector: Detector
) -> Iterator[tuple[str, dict[str, float], int]]:
    """Yield (text's id, similarities, 1 or 0) for texts and their nearest problems: 1 if they are paraphrased from it."""
    rule = load_contamination().neighbours
    index_of = {(benchmark.name, row): index for index, (benchmark, row) in enumerate(detector.rows)}
    for row, vector in zip(rows, vectors, strict=True):
        cosines, problem = detector.vectors @ vector, normalize(row["instruction"])
        if row.get("strength"):
            index = index_of[row["benchmark"], row["index"]]
            yield row["id"], similarities(problem, detector.problems[index], float(cosines[index]), detector.idf), 1
        elif not row["contaminated"]:
            for index in nearest_indices(cosines, rule):
                yield row["id"], similarities(problem, detector.problems[index], float(cosines[index]), detector.idf), 0
    for own, problem in enumerate(detector.problems):
        cosines = detector.vectors @ detector.vectors[own]
        cosines[own] = -1
        for index in nearest_indices(cosines, rule):
            other, cosine = detector.problems[index], float(cosines[index])
            found = similarities(problem, other, cosine, detector.idf)
            related = found["words"] > RELATED_WORDS and cosine > RELATED_COSINE
            if not related and not compare(problem, other, cosine)[0]:
                yield f"benchmark {own}", found, 0


def fit(rows: list[dict[str, Any]], detector: Detector, embedder: Embedder) -> None:
    """Fit the weights on each half and on all, and print them with the scores of the held-out half."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    pairs = list(labelled_pairs(rows, embedder.encode([row["instruction"] for row in rows]), detector))
    names = list(pairs[0][1])
    values = np.array([[found[name] for name in names] for _, found, _ in pairs])
    same = np.array([label for _, _, label in pairs])
    half = np.array([zlib.crc32(identity.encode()) % 2 for identity, _, _ in pairs])
    for name, chosen in (("half 0", half == 0), ("half 1", half == 1), ("all", half >= 0)):
        model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=10_000).fit(values[chosen], same[chosen])
        weights = ", ".join(f"{one}: {weight:.1f}" for one, weight in zip(names, model.coef_[0], strict=True))
        print(f"{name}: intercept: {model.intercept_[0]:.1f}  weights: {{{weights}}}")
        held = ~chosen if name != "all" else chosen
        scores = model.predict_proba(values[held])[:, 1]
        like, unlike = np.sort(scores[same[held] == 1]), np.sort(scores[same[held] == 0])[::-1]
        print(f"  scores of {'the other half' if name != 'all' else 'all'}: least of {len(like)} same {np.round(like[:6], 3)}")
        print(f"  most of {len(unlike)} others {np.round(unlike[:12], 3)}")


def main() -> None:
    """Measure, or fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=PROJECT.parent / "shared" / "data", help="the folder with benchmarks/ and gold/"
    )
    parser.add_argument("--gold", type=Path, help="labelled texts (default: gold/contamination_dev.jsonl in --data)")
    parser.add_argument("--cache", type=Path, default=PROJECT / "data" / "embeddings.sqlite", help="file to cache the vectors")
    parser.add_argument("--show", action="store_true", help="print the mistakes")
    parser.add_argument("--fit", action="store_true", help="fit the weights instead of measuring")
    args = parser.parse_args()
    gold = args.gold or args.data / "gold" / "contamination_dev.jsonl"
    files = sorted((args.data / "benchmarks").glob("*.jsonl"))
    if not files or not gold.exists():
        sys.exit(f"no labelled texts: {gold} or {args.data / 'benchmarks'} is missing. Name them with --data and --gold")
    rows = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    embedder = Embedder(cache=args.cache)
    benchmarks = load_benchmarks([str(file) for file in files], load_benchmark_list())
    detector = Detector(benchmarks, load_contamination(), embedder.encode)
    if args.fit:
        fit(rows, detector, embedder)
    else:
        report(rows, detector.find([row["instruction"] for row in rows]), show=args.show)


if __name__ == "__main__":
    main()

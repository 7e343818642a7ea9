"""The share of preference pairs that are right versus wrong.

    python benchmarks/pairs.py [DATA] [--gold FILE …] [--show] [--samples 3 5 7 8] [--settings FILE]

DATA is the folder with `gold/votes_dev.jsonl` and `gold/answers_dev.jsonl` (default ../shared/data); --gold names other files
of the same kinds instead. The program sees the problems, the responses and the rewards; the graders' flags judge its pairs. For
each strategy and for the original rule (best versus worst reward): the pairs, the shares of them that are right versus wrong,
the reverse, both right and both wrong, and the share of the problems with right and wrong responses that have a pair. For
strong_weak every second response counts as the weak model's, the others as the strong one's, and vice versa. Then the
same with fewer samples per problem, over all choices of that many responses (at most 60 of them, drawn at random).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]

from magpie.preferences.config import PairSettings, load_pair_settings  # noqa: E402
from magpie.preferences.pairs import NoPair, PairMaker, Strategy  # noqa: E402
from magpie.verification.annotate import verified  # noqa: E402
from magpie.verification.pool import Job, Limits, Verifier  # noqa: E402

FILES = ("votes_dev.jsonl", "answers_dev.jsonl")
LISTS = ("responses", "rewards", "answers", "answer_states", "answer_groups", "is_correct", "response_models")
MODELS = ("every second", "the others")
KINDS = ("right versus wrong", "wrong versus right", "both right", "both wrong", "not gradable")
MOST_CHOICES = 60
Rule = Callable[[dict[str, Any]], tuple[int, int] | str]
Problem = tuple[dict[str, Any], list[bool | None]]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a gold file, with an id and the right answer under `reference_answer`."""
    if not path.exists():
        sys.exit(f"{path}: no such file. Name the data folder, or a file with --gold")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        row
        | {
            "id": f"{path.stem} {row.get('id', row.get('idx'))}",
            "reference_answer": row.get("reference_answer") or row.get("correct_answer"),
        }
        for row in rows
    ]


def problems(rows: list[dict[str, Any]], verifier: Verifier, *, hidden: bool) -> list[Problem]:
    """Return the rows verified by verify.py, each with the graders' flags; `hidden`: without the reference answer.

    Rows without one are left out unless it is hidden.
    """
    known = [row for row in rows if hidden or row["reference_answer"]]
    jobs = ((row, Job(row["responses"], None if hidden else row["reference_answer"])) for row in known)
    out = []
    for row, judgement in verifier.judge_all(jobs):
        record = {key: row[key] for key in ("id", "instruction", "responses", "rewards")}
        record["response_models"] = [MODELS[n % 2] for n in range(len(row["responses"]))]
        reference = {} if hidden else {"reference_answer": row["reference_answer"]}
        out.append((verified(record | reference, judgement), row["is_correct"]))
    return out


def rule_of(strategy: Strategy, settings: PairSettings | None = None, models: tuple[str, str] = MODELS) -> Rule:
    """Return a strategy as a function of a record: the two indices, or why there is no pair."""
    maker = PairMaker(strategy, settings or load_pair_settings(strategy), models=models)

    def rule(record: dict[str, Any]) -> tuple[int, int] | str:
        try:
            [pair] = maker.pairs(record)
        except NoPair as refusal:
            return refusal.reason
        return pair.chosen.index, pair.rejected.index

    return rule


def original(record: dict[str, Any]) -> tuple[int, int] | str:
    """Return the best and the worst rewarded."""
    order = sorted(range(len(record["rewards"])), key=lambda i: record["rewards"][i])
    return order[-1], order[0]


def kind(flags: list[bool | None], chosen: int, rejected: int) -> str:
    """Return which of KINDS a pair is."""
    one, other = flags[chosen], flags[rejected]
    if one is None or other is None:
        return KINDS[4]
    return KINDS[(0 if not other else 2) if one else (1 if other else 3)]


def choices(problem: Problem, samples: int | None) -> Iterator[tuple[Problem, float]]:
    """Yield a problem with only so many of its responses, for all choices of them, with their weights (summing to 1)."""
    record, flags = problem
    count = len(flags)
    if samples is None or samples >= count:
        yield problem, 1.0
        return
    chosen = list(itertools.combinations(range(count), samples))
    chosen = random.Random(0).sample(chosen, min(MOST_CHOICES, len(chosen)))
    for places in chosen:
        part = {key: [record[key][i] for i in places] for key in LISTS}
        yield (record | part, [flags[i] for i in places]), 1 / len(chosen)


def measure(found: list[Problem], rule: Rule, samples: int | None = None, *, show: bool = False) -> str:
    """Return a row of the table; prints the pairs that are not right versus wrong, and the problems without a pair."""
    kinds: dict[str, float] = {}
    mixed = covered = 0.0
    for record, flags in found:
        for (part, known), weight in choices((record, flags), samples):
            both = True in known and False in known
            mixed += weight * both
            result = rule(part)
            if isinstance(result, str):
                if show and both:
                    print(f"    {record['id']}: no pair ({result}) {part['answer_groups']} {known}")
                continue
            kinds[kind(known, *result)] = kinds.get(kind(known, *result), 0.0) + weight
            covered += weight * both
            if show and kind(known, *result) != KINDS[0]:
                print(f"    {record['id']}: {kind(known, *result)} {result} {part['answer_groups']} {known}")
    pairs = sum(kinds.values())
    shares = "".join(f"{kinds.get(name, 0.0) / pairs if pairs else 0:>12.1%}" for name in KINDS)
    return f"{pairs:8.1f}{shares}{covered / mixed if mixed else 0:>12.1%} of {mixed:.1f}"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=PROJECT / ".." / "shared" / "data")
    parser.add_argument("--gold", type=Path, action="append", help="a file of either kind instead of the folder's two")
    parser.add_argument("--show", action="store_true", help="show the pairs that are not right versus wrong, and refusals")
    parser.add_argument("--samples", type=int, nargs="*", default=[3, 5, 7, 8], help="responses per problem (default 3 5 7 8)")
    parser.add_argument("--settings", type=Path, help="other settings for the strategy `verified`")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # Math-Verify's warnings
    settings = load_pair_settings("verified", args.settings)
    files = args.gold or [args.data / "gold" / name for name in FILES]
    rows = {path.name: read(path) for path in files}
    everything = [row for part in rows.values() for row in part]
    columns = ("right/wrong", "reverse", "both right", "both wrong", "ungraded", "covered")
    head = f"{'':34}{'pairs':>8}{''.join(f'{column:>12}' for column in columns)}"
    with Verifier(Limits(workers=1)) as verifier:
        by_reference = problems(everything, verifier, hidden=False)
        by_vote = problems(everything, verifier, hidden=True)
    named: list[tuple[str, list[Problem], Rule]] = [
        ("original rule", by_vote, original),
        ("reward", by_vote, rule_of("reward")),
        ("consensus", by_vote, rule_of("consensus")),
        ("verified, without the reference", by_vote, rule_of("verified", settings)),
        ("verified, with the reference", by_reference, rule_of("verified", settings)),
        ("strong_weak, without", by_vote, rule_of("strong_weak")),
        ("strong_weak, without, exchanged", by_vote, rule_of("strong_weak", models=MODELS[::-1])),
        ("strong_weak, with the reference", by_reference, rule_of("strong_weak")),
    ]
    print(f"{', '.join(rows)}: {len(everything)} problems\n{head}")
    for name, found, rule in named:
        print(f"{name:<34}{measure(found, rule, show=args.show and rule is not original)}", flush=True)
    for name, part in rows.items():
        mine = {row["id"] for row in part}
        print(f"{name} alone: {len(part)} problems")
        for title, found, rule in (named[0], named[3], named[4]):
            print(f"{title:<34}{measure([p for p in found if p[0]['id'] in mine], rule)}")
    for samples in args.samples:
        print(f"at most {samples} responses per problem")
        for name, found, rule in (named[0], named[2], named[3]):
            print(f"{name:<34}{measure(found, rule, samples)}", flush=True)


if __name__ == "__main__":
    main()

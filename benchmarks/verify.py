"""Quality and speed of verification.

    python benchmarks/verify.py [DATA] [--gold FILE …] [--show] [--ablation] [--responses 12000] [--rounds 1]

DATA is the folder with `gold/` (default ../shared/data): pairs of answers (equality_dev.jsonl), other projects' own test cases
(answers_peers.jsonl), graded responses (votes_dev.jsonl, answers_dev.jsonl); --gold names other files of these kinds instead.
For pairs: how many wrong ones are called right, how many right ones are found, how many are called wrong. For the peers' cases,
suite by suite: how many verdicts match the suite's, compared with bare Math-Verify. For responses: how many of the graders'
flags `is_correct` and bare Math-Verify give, and how often the majority of the responses, found without the reference, is
right. --ablation leaves out one named rule at a time and prints what changes (4 minutes). Then responses per second, with one
worker and its limits, against bare Math-Verify in one process on the same responses, each with an answer and a comparison of
its own (3 minutes on two free cores).
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]

from magpie.verification import equality, normalize, pool, rules  # noqa: E402
from magpie.verification.extract import final_answer  # noqa: E402
from magpie.verification.pool import Job, Judgement, Limits, Verifier  # noqa: E402
from magpie.verification.votes import vote  # noqa: E402

FILES = ("equality_dev.jsonl", "answers_peers.jsonl", "votes_dev.jsonl", "answers_dev.jsonl")
WORKERS = 2


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a gold file: pairs that count, or responses with the right answer under `reference_answer`."""
    if not path.exists():
        sys.exit(f"{path}: no such file. Name the data folder, or a file with --gold")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    if "same" in rows[0]:
        return [row for row in rows if not row.get("convention")]
    return [row | {"reference_answer": row.get("reference_answer") or row["correct_answer"]} for row in rows]


def verdicts(rows: Iterable[dict[str, Any]], off: str = "") -> list[str]:
    """Return the verdict on every pair, within the limits, without the named rule; `none`: a response without answer."""
    table = rules.RULES if off in rules.RULES else normalize.SPELLINGS
    table.pop(off, None)  # in its own worker: nothing to restore
    equality.spelling.cache_clear()
    found = []
    for row in rows:
        answer = final_answer(row["answer"]) if row.get("is_response") else row["answer"]
        found.append(str(pool.compared(row["gold"], answer)) if answer else "none")
    return found


def judged(rows: list[dict[str, Any]], off: str = "") -> list[str]:
    """Return `verdicts` from a worker process."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1, initializer=pool._start_worker, initargs=(Limits(),)) as workers:
        return workers.apply(verdicts, (rows, off))


def pairs(path: Path, *, show: bool) -> None:
    """Print how many pairs of a gold file have the right verdict."""
    rows = read(path)
    found = judged(rows)
    ours = [(verdict == "right") == row["same"] for verdict, row in zip(found, rows, strict=True)]
    if show:
        for row, verdict, right in zip(rows, found, ours, strict=True):
            if not right:
                print(f"  {row['id']} {row['gold'][:90]!r} ~ {row['answer'][-90:]!r}: {verdict}, same: {row['same']}")
    if "suite" not in rows[0]:
        counts = Counter((row["same"], verdict) for row, verdict in zip(rows, found, strict=True))
        same = max(1, sum(row["same"] for row in rows))
        print(f"{path.name}: {len(rows)} pairs, {same} of them the same")
        print(f"  wrong called right {counts[False, 'right'] / max(1, len(rows) - same):6.1%}   (at most 2%)")
        print(f"  right found        {counts[True, 'right'] / same:6.1%}   (at least 85%)")
        print(f"  right called wrong {counts[True, 'wrong'] / same:6.1%}   (at most 6%)")
        return
    theirs = [(row["math_verify"] == "right") == row["same"] for row in rows]
    print(f"{path.name}: {len(rows)} cases of other projects' own tests")
    for suite in (*dict.fromkeys(row["suite"] for row in rows), ""):
        chosen = [i for i, row in enumerate(rows) if not suite or row["suite"] == suite]
        mine, bare_right = (sum(right[i] for i in chosen) / len(chosen) for right in (ours, theirs))
        behind = "behind" * (mine < bare_right)
        print(f"  {suite or 'all':54.54} {len(chosen):4} {mine:7.1%}   bare Math-Verify {bare_right:6.1%} {behind}")


def ablation(paths: list[Path]) -> None:
    """Print what changes if one named rule is left out: verdicts lost, and verdicts won."""
    rows = [row for path in paths for row in read(path)]
    whole = judged(rows)
    names = (*rules.RULES, *normalize.SPELLINGS)
    print(f"ablation: {len(rows)} pairs and cases, {len(names)} rules")
    for name in names:
        found = judged(rows, name)
        lost: list[str] = []
        won: list[str] = []
        for row, with_it, without in zip(rows, whole, found, strict=True):
            if (with_it == "right") != (without == "right"):
                (lost if (with_it == "right") == row["same"] else won).append(row["id"])
        print(f"  without {name:20} {len(lost):3} lost, {len(won):2} won   {' '.join((*lost[:3], *won[:3]))}")


def name_of(row: dict[str, Any]) -> str:
    """Return the name of a problem in a gold file."""
    return str(row.get("id", row.get("idx")))


def bare(reference: str, response: str) -> bool:
    """Return Math-Verify's own verdict on a whole response."""
    from math_verify import parse, verify

    return bool(verify(parse(f"\\boxed{{{reference}}}"), parse(response)))


def accuracy(path: Path, verifier: Verifier, *, show: bool) -> None:
    """Print how many flags and majorities of a gold file are right."""
    rows = read(path)
    flags = right = bare_right = 0
    ends = {"right": 0, "wrong": 0, "tie": 0, "too few answers": 0, "not gradable": 0}
    for row, judgement in verifier.judge_all((row, Job(row["responses"], row["reference_answer"])) for row in rows):
        for i, flag in enumerate(row["is_correct"]):
            if flag is None:
                continue
            flags += 1
            right += judgement.correct[i] == flag
            bare_right += bare(row["reference_answer"], row["responses"][i]) == flag
            if show and judgement.correct[i] != flag:
                print(f"  {name_of(row)}[{i}] {judgement.answers[i]!r} against {row['reference_answer']!r}: {flag}")
    for row, judgement in verifier.judge_all((row, Job(row["responses"])) for row in rows):
        ends[end := majority(row, judgement)] += 1
        if show and end != "right":
            print(f"  majority of {name_of(row)} {end}: {judgement.answers} against {row['reference_answer']!r}")
    print(f"{path.name}: {len(rows)} problems, {flags} flags")
    print(f"  flags as the graders'   {right / flags:7.1%}   bare Math-Verify {bare_right / flags:.1%}")
    print(f"  majority                {', '.join(f'{count} {end}' for end, count in ends.items() if count)}")


def majority(row: dict[str, Any], judgement: Judgement) -> str:
    """Return the outcome of a vote, by the graders' flags."""
    result = vote(judgement, has_reference=False)
    if result.agreement is None:
        return "too few answers"
    if result.winner is None:
        return "tie"
    flag = row["is_correct"][judgement.groups.index(result.winner)]
    return "not gradable" if flag is None else "right" if flag else "wrong"


MAKERS: tuple[Callable[[int, int], tuple[str, str]], ...] = (
    lambda n, d: (str(n), str(n + d)),
    lambda n, d: (f"\\frac{{{n}}}{{{n + 7}}}", f"\\dfrac{{{2 * n}}}{{{2 * n + 14 + d}}}"),
    lambda n, d: (f"{n}.5", f"\\frac{{{2 * n + 1 + d}}}{{2}}"),
    lambda n, d: (f"{n}\\sqrt{{3}}", f"\\sqrt{{{3 * n * n + d}}}"),
    lambda n, d: (f"x^2+{n}x+{n}", f"x(x+{n})+{n + d}"),
    lambda n, d: (f"({n}, {n + 1}]", f"({n}, {n + 1 + d}]"),
    lambda n, d: (f"\\left({n}, \\frac{{\\pi}}{{{n + 2}}}\\right)", f"({n}, \\frac{{2\\pi}}{{{2 * n + 4 + d}}})"),
    lambda n, d: (f"{n}, {n + 2}, {n + 5}", f"{n + 5}, {n}, {n + 2 + d}"),
    lambda n, d: (f"{n} + {n + 1}i", f"{n + 1 + d}i + {n}"),
    lambda n, d: (f"\\frac{{{n}\\pi}}{{6}}", f"{n + d}\\cdot\\frac{{\\pi}}{{6}}"),
    lambda n, d: (
        f"\\begin{{pmatrix}} {n} \\\\ {n + 1} \\end{{pmatrix}}",
        f"\\begin{{pmatrix}} {n} \\\\ {n + 1 + d} \\end{{pmatrix}}",
    ),
    lambda n, d: (f"{n}e^{{{n}}}", f"e^{{{n + d}}} \\cdot {n}"),
)
"""Pairs of answers to compare, some equal, some not: what answers to MATH and olympiad problems look like."""


def distinct(rows: list[dict[str, Any]], number: int) -> list[tuple[str, str]]:
    """Return (reference, response) pairs: real responses whose boxed answer is one of its own."""
    texts = [text for row in rows for text in row["responses"] if "\\boxed{" in text and final_answer(text)]
    order, out = random.Random(0), []
    for n in range(1, number + 1):
        reference, answer = MAKERS[n % len(MAKERS)](n, order.choice((0, 0, 1)))
        text = order.choice(texts)
        head, _, _ = text.rpartition("\\boxed{")
        out.append((reference, f"{head}\\boxed{{{answer}}}." + ("$" if re.search(r"\$\s*$", head) else "")))
    return out


def speed(rows: list[dict[str, Any]], number: int, rounds: int, verifier: Verifier) -> None:
    """Print responses per second of both, in turns, and their ratio."""
    pairs = distinct(rows, number)
    list(verifier.judge_all((None, Job([text] * 8, reference)) for reference, text in distinct(rows, 200)))  # workers are warm
    for reference, text in distinct(rows, 200):
        bare(reference, text)
    for _ in range(rounds):
        started = time.perf_counter()
        ours = [judgement.correct[0] for _, judgement in verifier.judge_all((None, Job([t], r)) for r, t in pairs)]
        ours_rate = number / (time.perf_counter() - started)
        started = time.perf_counter()
        theirs = [bare(reference, text) for reference, text in pairs]
        rate = number / (time.perf_counter() - started)
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        print(
            f"  {ours_rate:,.0f} responses/s with one worker, bare Math-Verify {rate:,.0f}: "
            f"{ours_rate / rate:.2f} times (target 2); {same / number:.1%} of the verdicts alike"
        )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=PROJECT / ".." / "shared" / "data")
    parser.add_argument("--gold", type=Path, action="append", help="a file of these kinds instead of the folder's four")
    parser.add_argument("--show", action="store_true", help="show the misses")
    parser.add_argument("--ablation", action="store_true", help="leave out one rule at a time")
    parser.add_argument(
        "--responses", type=int, default=12_000, help="distinct responses for the speed; 0: none (default 12000)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="rounds of the speed (default 1)")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # Math-Verify's warnings
    files = args.gold or [args.data / "gold" / name for name in FILES]
    compared = [path for path in files if "same" in read(path)[0]]
    for path in compared:
        pairs(path, show=args.show)
    if args.ablation:
        ablation(compared)
    voted = [path for path in files if path not in compared]
    with Verifier(Limits(workers=WORKERS)) as verifier:
        for path in voted:
            accuracy(path, verifier, show=args.show)
    if args.responses and voted:
        print(f"speed, {args.responses:,} distinct comparisons")
        with Verifier(Limits(workers=1)) as verifier:
            speed([row for path in voted for row in read(path)], args.responses, args.rounds, verifier)


if __name__ == "__main__":
    main()

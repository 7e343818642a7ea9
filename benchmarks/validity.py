"""How well a model judges whether problems are valid, on ValiMath's problems, whose checks were labelled by hand.

    python benchmarks/validity.py --model_path smollm2 [--base_url http://127.0.0.1:8000/v1] [--rows 200] [--votes 3]

Runs exp/unitag.py --tag_mission validity on the problems of raw/valimath.jsonl (--rows: that many of them, by --seed) and
prints precision and recall of `invalid`, by the check of ValiMath that a problem fails, and the cost of the votes. A problem
is invalid there if one of its five checks fails, and valid if all hold; one with neither is not counted. (The file's own
`valid` is false in every row.) A problem that the model did not decide is neither found nor wrongly dropped, and
is counted separately.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
CHECKS = ("question_format", "language", "conditions", "contradiction", "complete")


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """Return the command line, and the flags passed on to unitag.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PROJECT / "../shared/data")
    parser.add_argument("--rows", type=int, help="this many of them at random (default: all 2,147)")
    parser.add_argument("--seed", type=int, default=0, help="of that choice (default 0)")
    return parser.parse_known_args()


def failed_check(row: dict[str, Any]) -> str | None:
    """Return the first check that a problem fails, an empty text for a valid one, None if unknown."""
    failed = next((name for name in CHECKS if row[name] is False), None)
    return failed or ("" if all(row[name] for name in CHECKS) else None)


def judged(rows: list[dict[str, Any]], flags: list[str]) -> tuple[list[dict[str, Any]], dict[str, int], float]:
    """Return the problems as tagged by unitag.py, the tokens, and the seconds."""
    with tempfile.TemporaryDirectory(prefix="validity-") as folder:
        path = Path(folder) / "valimath.jsonl"
        problems = [{"id": row["id"], "instruction": row["instruction"]} for row in rows]
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems), encoding="utf-8")
        command = [sys.executable, str(PROJECT / "exp" / "unitag.py"), "--tag_mission", "validity", f"--input_file={path}"]
        started = time.monotonic()
        subprocess.run([*command, *flags], check=True)
        seconds = time.monotonic() - started
        lines = path.with_name("valimath_tagged.jsonl").read_text(encoding="utf-8").splitlines()
        tokens = json.loads(path.with_name("valimath_tagged.run.json").read_text(encoding="utf-8"))["tokens"]
    return [json.loads(line) for line in lines], tokens, seconds


def share(part: int, whole: int) -> str:
    """Return a share as percent with its counts."""
    return f"{100 * part / whole:5.1f}%  ({part:,} of {whole:,})" if whole else "    –"


def main() -> None:
    """Measure."""
    args, flags = parse_args()
    lines = (args.data / "raw" / "valimath.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if failed_check(row) is not None]
    if args.rows:
        rows = random.Random(args.seed).sample(rows, min(args.rows, len(rows)))
    tagged, tokens, seconds = judged(rows, flags)
    verdicts = [(failed_check(row), record["validity"]) for row, record in zip(rows, tagged, strict=True)]
    bad = sum(bool(check) for check, _ in verdicts)
    called = sum(verdict == "invalid" for _, verdict in verdicts)
    found = sum(bool(check) and verdict == "invalid" for check, verdict in verdicts)
    print(f"{len(rows):,} problems, {bad:,} of them invalid; not decided {sum(verdict is None for _, verdict in verdicts):,}")
    print(f"precision of `invalid` {share(found, called)}   (all called invalid: {100 * bad / len(rows):.1f}%)")
    print(f"recall of `invalid`    {share(found, bad)}")
    print(f"valid ones kept        {share(sum(not c and v != 'invalid' for c, v in verdicts), len(rows) - bad)}")
    for name in CHECKS:
        some = [verdict for check, verdict in verdicts if check == name]
        print(f"  fails {name:<16} found {share(some.count('invalid'), len(some))}")
    reasons = Counter(reason for record in tagged for reason in record["validity_reasons"] or [])
    print("failed questions:", ", ".join(f"{name} {count:,}" for name, count in reasons.most_common()) or "none")
    read, written = (tokens[kind] / len(rows) for kind in ("prompt", "completion"))
    print(f"tokens per problem: {read:,.0f} read, {written:,.0f} written; {seconds:,.0f} s")


if __name__ == "__main__":
    main()

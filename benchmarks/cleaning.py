"""How well problems are cleaned, on problems labelled by hand and on real problems that must pass as they are.

    python benchmarks/cleaning.py [--data ../shared/data] [--gold FILE] [--show]

Of the labelled problems: how many that should be kept are kept, how many that are kept should be, how many of the kept texts
equal the problem cut by hand (white space and a heading aside), beside a rule that cuts at the first sentence that opens with
"To" or an interjection. Of the benchmarks: how many pass uncut and undropped. --show prints the misses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

PROJECT = Path(__file__).resolve().parents[1]

from magpie.cleaning.clean import Cleaned, clean, strip_heading  # noqa: E402
from magpie.common.console import MagpieError, printable, run_program  # noqa: E402
from magpie.records.reading import open_input  # noqa: E402

LOST = ("truncated", "not_math")


def parse_args() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PROJECT / "../shared/data")
    parser.add_argument("--gold", type=Path, help="labelled problems (default: gold/cleaning_dev.jsonl of the data)")
    parser.add_argument("--show", action=argparse.BooleanOptionalAction, default=False, help="print the misses")
    return parser.parse_args()


def same(text: str, gold: str) -> bool:
    """Whether two texts are equal, white space and a heading aside."""
    return "".join(strip_heading(text.strip()).split()) == "".join(strip_heading(gold.strip()).split())


def show_miss(what: str, row: dict[str, Any], cleaned: Cleaned) -> None:
    """Print a miss: what it is, the whole text and what was made of it."""
    print(f"\n[{what}] {row.get('id')} {cleaned.defects} {row.get('labels', '')}\n{printable(row['instruction'])}")
    print(f"  => {printable(cleaned.text[-200:])!r}")


def share(part: int, whole: int) -> str:
    """Return `part of whole (percent)`."""
    return f"{part:5d} of {whole:5d} ({100 * part / max(whole, 1):5.1f}%)"


def labelled(path: Path, *, show: bool) -> None:
    """Print the figures on problems labelled by hand."""
    counts = dict.fromkeys(
        ("good", "good_kept", "kept", "leaks", "leaks_equal", "rest", "rest_equal", "typed", "type_right"), 0
    )
    for row in records(path):
        cleaned = clean(row["instruction"])
        good, kept = not set(row["labels"]) & set(LOST), not cleaned.drop_reason
        counts["good"] += good
        counts["kept"] += kept
        counts["good_kept"] += good and kept
        if good != kept and show:
            show_miss("kept though broken" if kept else f"dropped: {cleaned.drop_reason}", row, cleaned)
        if not good:
            continue
        kind = "leaks" if "leak" in row["labels"] else "rest"
        equal = kept and same(cleaned.text, row.get("problem_prefix") or row["clean_problem"])
        counts[kind] += 1
        counts[f"{kind}_equal"] += equal
        if kept and not equal and show:
            show_miss(kind, row, cleaned)
        counts["typed"] += kept
        counts["type_right"] += kept and cleaned.answer_type == row["answer_type"]
        if kept and cleaned.answer_type != row["answer_type"] and show:
            print(f"[type {cleaned.answer_type}, not {row['answer_type']}] {printable(cleaned.text[-160:])!r}")
    print(f"\n{path.name}")
    print(f"  should be kept, and are          {share(counts['good_kept'], counts['good'])}   target 95%")
    print(f"  kept, and should be              {share(counts['good_kept'], counts['kept'])}   target 95%")
    print(f"  leaks cut as by hand             {share(counts['leaks_equal'], counts['leaks'])}   target 90%")
    print(f"  the rest as by hand              {share(counts['rest_equal'], counts['rest'])}   target 97%")
    print(f"  answer_type as by hand           {share(counts['type_right'], counts['typed'])}")


def untouched(path: Path, key: str, *, show: bool) -> None:
    """Print how many real problems pass as they are."""
    rows = passed = 0
    for row in records(path):
        cleaned = clean(row[key])
        fine = not cleaned.drop_reason and same(cleaned.text, row[key])
        rows += 1
        passed += fine
        if not fine and show:
            show_miss("real", row | {"instruction": row[key]}, cleaned)
    print(f"  {path.name:32s} {share(passed, rows)}   target 99%")


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a JSON Lines file's records; a benchmark's own keys are of other types than a stage's."""
    with open_input(path) as lines:
        yield from map(msgspec.json.decode, lines)


def main() -> None:
    """Print the table."""
    args = parse_args()
    if not args.data.is_dir():
        raise MagpieError(f"{args.data}: no such folder. Name the folder of the data with --data")
    started = time.perf_counter()
    labelled(args.gold or args.data / "gold/cleaning_dev.jsonl", show=args.show)
    print("real problems that pass as they are")
    for path in sorted((args.data / "benchmarks").glob("*.jsonl")):
        untouched(path, "problem", show=args.show)
    untouched(args.data / "gold/domains_dev.jsonl", "instruction", show=args.show)
    print(f"{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    run_program("cleaning", main)

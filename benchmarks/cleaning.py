"""Quality of cleaning, on problems labelled by hand and on real problems that must pass unchanged.

    python benchmarks/cleaning.py [--data ../shared/data] [--gold FILE ...] [--domains] [--show]

For the labelled problems, by source: precision and recall of kept problems, and how many kept texts equal the problem as
cut by hand (ignoring white space and a heading). Two kinds of files are read: with `labels` (truncated, leak, not_math) or with
`valid`, `ill_posed` and `borderline`; an ill-posed problem counts as a problem, a borderline one does not count. For the
benchmarks: how many pass uncut and undropped. --domains uses the domain classifier if the rules are in doubt; its calls
and time are printed separately. --show prints the misses.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

PROJECT = Path(__file__).resolve().parents[1]

from magpie.cleaning.clean import Cleaned, clean, other_sign, strip_heading  # noqa: E402
from magpie.common.console import MagpieError, printable, run_program  # noqa: E402
from magpie.records.rows import open_input  # noqa: E402

LOST = {"truncated", "not_math"}
TARGETS = {
    "valid": {"all": (90, 93, 95), "smollm2": (80, 90, 0), "llama31": (92, 95, 0)},
    "labels": {"all": (95, 95, 0), "leak": (0, 0, 90), "rest": (0, 0, 97)},
}
"""Percent of precision, recall and texts cut as by hand, by kind of file and source."""
Sign = Callable[[str], bool]


def parse_args() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PROJECT / "../shared/data")
    parser.add_argument(
        "--gold", type=Path, nargs="+", help="labelled problems (default: gold/cleaning*_dev.jsonl of the data)"
    )
    parser.add_argument("--domains", action=argparse.BooleanOptionalAction, default=False, help="use the domain classifier too")
    parser.add_argument("--show", action=argparse.BooleanOptionalAction, default=False, help="print the misses")
    return parser.parse_args()


def same(text: str, gold: str) -> bool:
    """Return whether two texts are equal, ignoring white space and a heading."""
    return "".join(strip_heading(text.strip()).split()) == "".join(strip_heading(gold.strip()).split())


def is_problem(row: dict[str, Any]) -> bool:
    """Return whether a labelled row should be kept."""
    return bool(row["valid"] or row["ill_posed"]) if "valid" in row else not set(row["labels"]) & LOST


def texts_of(row: dict[str, Any]) -> list[str]:
    """Return the texts that may be kept of a labelled problem."""
    return [row.get("problem_prefix") or row["clean_problem"] or row["instruction"], *(row.get("also_ok") or [])]


def groups_of(row: dict[str, Any]) -> list[str]:
    """Return the lines of the table in which a row counts."""
    if "valid" not in row:
        return ["all", "leak" if "leak" in row["labels"] else "rest"]
    source, _, part = str(row.get("source", "")).partition("_")
    return ["all", "valid" if row["valid"] else "not valid", source, *([f"{source} {part}"] if part == "step" else [])]


def labelled(path: Path, *, show: bool, is_other: Sign | None = None) -> None:
    """Print the figures on problems labelled by hand."""
    counts: dict[str, Counter[str]] = {}
    for row in records(path):
        if row.get("borderline"):
            continue
        cleaned = clean(row["instruction"], is_other=is_other)
        good, kept = is_problem(row), not cleaned.drop_reason
        equal = good and kept and any(same(cleaned.text, text) for text in texts_of(row))
        types = {row["answer_type"], *(row.get("answer_type_also") or [])}
        found = {"rows": True, "good": good, "kept": kept, "both": good and kept, "equal": equal}
        found["typed"] = good and kept and cleaned.answer_type in types
        for group in groups_of(row):
            counts.setdefault(group, Counter()).update({name: int(value) for name, value in found.items()})
        if show and not (equal if good else not kept):
            what = f"dropped: {cleaned.drop_reason}" if good and not kept else "cut elsewhere" if good else "kept"
            show_miss(what, row, cleaned)
    print(f"\n{path.name}: precision, recall, kept texts as by hand; the same of all problems; type of answer as by hand")
    targets = TARGETS["valid" if "valid" in counts else "labels"]
    for group, of in sorted(counts.items()):
        shares = ("both", "kept"), ("both", "good"), ("equal", "both"), ("equal", "good"), ("typed", "both")
        figures = " ".join(share(of[part], of[whole]) for part, whole in shares)
        wanted = "/".join(str(target) if target else "-" for target in targets.get(group, ()))
        print(f"  {group:14s} {of['rows']:4d} rows {figures}" + (f"   targets {wanted}%" if wanted else ""))


def show_miss(what: str, row: dict[str, Any], cleaned: Cleaned) -> None:
    """Print a miss: its kind, the whole text and the result."""
    labels = row.get("labels") or row.get("reason", "")
    print(f"\n[{what}] {row.get('id')} {cleaned.defects} {labels}\n{printable(row['instruction'])}")
    print(f"  => {printable(cleaned.text[-200:])!r}")


def share(part: int, whole: int) -> str:
    """Return `part of whole (percent)`."""
    return f"{part:4d} of {whole:4d} ({100 * part / whole:5.1f}%)" if whole else f"{'-':>21s}"


def untouched(path: Path, key: str, *, show: bool, is_other: Sign | None = None) -> None:
    """Print how many real problems pass unchanged."""
    rows = passed = 0
    for row in records(path):
        cleaned = clean(row[key], is_other=is_other)
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


class TimedSign:
    """The domain classifier as a sign, with its number of calls and time."""

    def __init__(self) -> None:
        from magpie.domains.classifier import DomainTagger

        self._sign = other_sign(DomainTagger(device="cpu"))
        self._sign("What is 1 + 1?")  # the model is loaded
        self.asked = self.said_other = 0
        self.seconds = 0.0

    def __call__(self, text: str) -> bool:
        """Return whether the classifier says `other`."""
        started = time.perf_counter()
        other = self._sign(text)
        self.seconds += time.perf_counter() - started
        self.asked += 1
        self.said_other += other
        return other


def main() -> None:
    """Print the tables."""
    args = parse_args()
    if not args.data.is_dir():
        raise MagpieError(f"{args.data}: no such folder. Name the folder of the data with --data")
    sign = TimedSign() if args.domains else None
    started = time.perf_counter()
    for path in args.gold or sorted((args.data / "gold").glob("cleaning*_dev.jsonl")):
        labelled(path, show=args.show, is_other=sign)
    print("\nreal problems that pass unchanged")
    for path in sorted((args.data / "benchmarks").glob("*.jsonl")):
        untouched(path, "problem", show=args.show, is_other=sign)
    seconds = time.perf_counter() - started
    print(f"rules: {seconds - (sign.seconds if sign else 0):.1f} s")
    if sign:
        print(f"domain classifier: called for {sign.asked}, {sign.said_other} of them `other`, {sign.seconds:.1f} s")


if __name__ == "__main__":
    run_program("cleaning", main)

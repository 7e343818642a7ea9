"""The effect of opening words on a model's problems (gen_ins.py --openings): samples with and without them.

    python exp/serve.py smollm2 -- python benchmarks/openings.py [--model_path smollm2] [--samples 200] [--seed 1]

For both: how many of the samples ended and passed cleaning, how many of those are distinct (ignoring case and layout),
their median length, how they begin, and why the rest was dropped; with openings the same by opening. Passing cleaning means
that a text states and asks something mathematical, not that it can be solved: read some. MAGPIE_BASE_URL names
the server; without it one is started for each of the two.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

PROJECT = Path(__file__).resolve().parents[1]

from magpie.cleaning.clean import clean, raw_text  # noqa: E402

MOST_BEGINNINGS = 6


def parse_args() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_path", default="smollm2")
    parser.add_argument("--samples", type=int, default=200, help="samples of each kind (default 200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="folder to keep the samples (default: none)")
    parser.add_argument("flags", nargs="*", help="more flags of gen_ins.py, after --")
    return parser.parse_args()


def sample(args: argparse.Namespace, folder: Path, switch: str) -> list[dict[str, Any]]:
    """Return the first samples of a run, and those that did not end, each with its drop reason ("" if it passed)."""
    out = folder / f"{switch.strip('-')}_{args.seed}_ins.jsonl"
    command = [sys.executable, str(PROJECT / "exp/gen_ins.py"), "--model_path", args.model_path, "--no-clean", switch]
    command += ["--total_prompts", str(args.samples), "--seed", str(args.seed), "--output_file", str(out), *args.flags]
    subprocess.run([*command, "--preflight", "0"], check=True)
    dropped = out.with_name(f"{out.stem}_dropped.jsonl")
    rows = [msgspec.json.decode(line) for path in (out, dropped) if path.exists() for line in path.open("rb")]
    for row in rows:
        cleaned = clean(raw_text(row))
        row["raw_instruction"], row["instruction"] = raw_text(row), cleaned.text
        row["drop_reason"] = row.get("drop_reason") or cleaned.drop_reason
    return rows


def line(name: str, rows: Iterable[dict[str, Any]]) -> str:
    """Return the figures on some samples."""
    rows = list(rows)
    passed = [row["instruction"] for row in rows if not row["drop_reason"]]
    distinct = {" ".join(text.lower().split()) for text in passed}
    begins = Counter(" ".join(text.split()[:2]) for text in passed).most_common(MOST_BEGINNINGS)
    length = statistics.median(map(len, passed)) if passed else 0
    return (
        f"{name:24} samples {len(rows):4}  passed {len(passed):4} ({len(passed) / len(rows):6.1%})  distinct {len(distinct):4} "
        f"({len(distinct) / max(1, len(passed)):6.1%})  median {length:4.0f} characters  "
        f"begin: {', '.join(f'{words} {count}' for words, count in begins)}"
    )


def main() -> None:
    """Sample both ways and print."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = {switch: sample(args, args.folder or Path(scratch), switch) for switch in ("--no-openings", "--openings")}
    for switch, rows in found.items():
        print(line(switch, rows))
        dropped = Counter(row["drop_reason"] for row in rows if row["drop_reason"])
        print(f"{'':24} dropped: {', '.join(f'{reason} {count}' for reason, count in dropped.most_common())}")
    by_opening: dict[str, list[dict[str, Any]]] = {}
    for row in found["--openings"]:
        by_opening.setdefault(row["opening"], []).append(row)
    for opening in sorted(by_opening, key=lambda name: -len(by_opening[name])):
        print(line(opening, by_opening[opening]))


if __name__ == "__main__":
    main()

"""Clean problems: cut what leaked after them, drop broken ones with a reason.

    python exp/clean_ins.py --input_file data/job/job_ins.jsonl

`instruction` becomes the bare problem, `raw_instruction` is the model's own text, `defects` lists the defects found and
`answer_type` the type of answer that the problem asks for (closed, proof, open). A problem that cannot be repaired goes into
the dropped file with `drop_reason`: empty, too_long, not_english, solution (in the place of a problem), needs_picture (or a
table, or a page), truncated, not_math, no_task (mathematics, but nothing is given to work on), unbalanced or too_short. The
words and limits that decide are in configs/cleaning.yaml.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from magpie.cleaning.clean import as_record, clean, raw_text
from magpie.cli import flags
from magpie.common.console import run_program, say_next
from magpie.runs.one_pass import Stream
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, stream

STAGE, SUFFIX = "clean_ins.py", "_clean"


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _clean)")
    flags.add_language(parser)
    flags.add_run(parser)
    return parser.parse_args()


def cleaned(options: StageOptions, language: str) -> Run | None:
    """Make the one quick pass."""

    def work(out: Stream, index: int, record: dict[str, Any]) -> None:
        found = clean(raw_text(record), language=language)
        row = as_record(record, found)
        out.drop(row, found.drop_reason) if found.drop_reason else out.keep(row)

    return stream(STAGE, options, SUFFIX, {"language": language}, work)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    options = flags.options_from(args, StageOptions)
    if (run := cleaned(options, args.language)) and run.totals.written:
        say_next("gen_res.py --model_path MODEL --input_file %s", run.paths.output)


if __name__ == "__main__":
    run_program("clean_ins", main)

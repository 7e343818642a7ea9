"""Clean problems: cut what leaked after them, drop what is broken, give the reason.

    python exp/clean_ins.py --input_file data/job/job_ins.jsonl

`instruction` becomes the problem alone, `raw_instruction` is the model's own text, `defects` lists the defects found and
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
from magpie.common.console import log, run_program
from magpie.config.model_presets import load_model
from magpie.generation.session import ModelOptions, generate
from magpie.runs.one_pass import Stream
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, open_rows, open_run, stream
from magpie.tagging.problem_judge import ProblemJudge, agreement_rows

STAGE, SUFFIX = "clean_ins.py", "_clean"


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _clean)")
    flags.add_language(parser)
    flags.switch(
        parser,
        "--judge",
        "also ask the model of --model_path whether each problem is complete, self-contained and has one definite answer; its "
        "verdict is recorded beside that of the rules, which decide",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of a server that is started for --judge (default 0)")
    flags.add_model(parser, default="none is needed without --judge")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.judge and not args.model_path:
        parser.error("--judge needs --model_path: the model that is to judge")
    return args


def clean_only(options: StageOptions, language: str) -> Run | None:
    """Clean by rules, in one quick pass."""

    def work(out: Stream, index: int, record: dict[str, Any]) -> None:
        cleaned = clean(raw_text(record), language=language)
        row = as_record(record, cleaned)
        out.drop(row, cleaned.drop_reason) if cleaned.drop_reason else out.keep(row)

    return stream(STAGE, options, SUFFIX, {"language": language}, work)


def clean_and_judge(options: StageOptions, language: str, model_path: str, model: ModelOptions) -> Run | None:
    """Clean by rules, and ask the model too."""
    preset = load_model(model_path)
    run = open_run(STAGE, options, SUFFIX, {"language": language, "judge": preset.model})
    judge = ProblemJudge(preset, language)
    items = open_rows(run, options.input_file)
    if not generate(run, preset, model, options, items, judge.work, try_template=judge.try_template):
        return None
    for name, counts in agreement_rows(run.paths):
        log.info("%s: %s", name, counts)
    return run


def main() -> None:
    """Run the stage."""
    args = parse_args()
    options = flags.options_from(args, StageOptions)
    if args.judge:
        run = clean_and_judge(options, args.language, args.model_path, flags.options_from(args, ModelOptions))
    else:
        run = clean_only(options, args.language)
    if run:
        log.info("next: python exp/gen_res.py --model_path MODEL --input_file %s", run.paths.output)


if __name__ == "__main__":
    run_program("clean_ins", main)

"""Make preference pairs from several verified responses to one problem.

    python exp/gen_po_pairs.py --input_file data/job/job_ins_5res_verified.jsonl

Reads the output of verify.py, with or without the `rewards` of gen_po_rewards.py, and writes one row per pair in TRL's
explicit-prompt conversational preference format: `prompt`, `chosen`, `rejected` (messages; the chain of thought inside
<think>…</think>), with the problem's `id` and `pair` (from 0), `chosen_index` and `rejected_index` (indices into `responses`),
final answers, scores, votes, `vote_margin`, `pair_weight` and `why`. The record's other keys about the problem stay.

--strategy: `verified` (right versus wrong, by `reference_answer` or a clear majority; why: `reference`, `majority`),
`consensus` (most versus least self-consistent answer, weighted by the vote margin), `reward` (best versus worst reward),
`strong_weak` (a right one of the strong model versus a wrong one of the weak model, from a file with both: gen_res.py
--append), `concise` (the shortest right one versus the longest right one of the same model). Thresholds are in
configs/pairs/STRATEGY.yaml. Never in a pair: the same final answer on both sides, lengths too far apart (neither applies to
`concise`), responses that are cut, loop or are empty. A problem without a pair goes into the dropped file with its reason.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import log, run_program, say_next
from magpie.preferences.config import PairSettings, load_pair_settings
from magpie.preferences.pairs import STRATEGIES, NoPair, PairMaker, row_of
from magpie.preferences.statistics import Statistics
from magpie.runs.one_pass import Stream
from magpie.runs.stage import StageOptions, refuse_control, require_input, stream
from magpie.verification.models import two_models


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _pairs)")
    group = parser.add_argument_group("pairs")
    group.add_argument(
        "--strategy", choices=STRATEGIES, default="verified", help="what makes a response chosen or rejected (default verified)"
    )
    flags.add_two_models(group, "one, for strong_weak (default: measured by pass rates on this file)")
    group.add_argument("--settings", type=Path, help="a YAML file to use instead of configs/pairs/STRATEGY.yaml")
    group.add_argument("--pairs_per_problem", type=flags.positive, default=1, help="maximum pairs per problem (default 1)")
    flags.switch(
        group,
        "--rejected_without_answer",
        "let a response without a final answer be the rejected one (default: as in the settings, where it is off)",
        default=None,
    )
    flags.add_keep_controls(group)
    flags.switch(group, "--reasoning", "put the chain of thought before the solution", default=True)
    group.add_argument("--seed", type=int, default=0, help="breaks ties between responses that are equally good (default 0)")
    flags.add_run(parser)
    return parser.parse_args()


def settings_of(strategy: str, file: Path | None, *, rejected_without_answer: bool | None) -> PairSettings:
    """Return the strategy's settings; the command line overrides the file."""
    settings = load_pair_settings(strategy, file)
    if rejected_without_answer is None:
        return settings
    return settings.rejecting(without_answer=rejected_without_answer)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    settings = settings_of(args.strategy, args.settings, rejected_without_answer=args.rejected_without_answer)
    options, statistics = flags.options_from(args, StageOptions), Statistics()
    arguments = {name: getattr(args, name) for name in ("strategy", "pairs_per_problem", "reasoning", "seed")}
    arguments |= {name: value for name in ("weak_model", "strong_model") if (value := getattr(args, name))}
    require_input(options, "_pairs")
    models = two_models(args.input_file, args.weak_model, args.strong_model) if args.strategy == "strong_weak" else ("", "")
    maker = PairMaker(
        args.strategy, settings, wanted=args.pairs_per_problem, seed=args.seed, reasoning=args.reasoning, models=models
    )

    def work(out: Stream, index: int, record: dict[str, Any]) -> None:
        refuse_control(record, keep=args.keep_controls)
        try:
            pairs = maker.pairs(record)
        except NoPair as refusal:
            out.drop(record, refusal.reason, refusal.detail)
            return
        for pair in pairs:
            statistics.add(pair)
        out.keep_several([row_of(record, pair, number) for number, pair in enumerate(pairs)])

    run = stream(
        "gen_po_pairs.py",
        options,
        "_pairs",
        arguments | settings.arguments,
        work,
        at_end=lambda out: out.note(statistics.figures()),
    )
    if run and (warning := statistics.length_bias(settings.longer_wins_limit)):
        log.warning("%s", warning)
    if run and statistics.pairs:
        say_next("export.py --format dpo --input_file %s", run.paths.output)
    elif run and run.totals.dropped["no_responses"]:
        log.warning("no pair: no record has several responses. verify.py without --choose leaves them in `responses`")


if __name__ == "__main__":
    run_program("gen_po_pairs", main)

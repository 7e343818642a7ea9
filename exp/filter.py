"""Keep the records that a data set should have.

    python exp/filter.py --config configs/filters/sft.yaml --input_file data/job/job_ins_res_verified.jsonl

Writes `X_filtered.jsonl`, each kept record unchanged (but for `not_judged`, where a rule marks what nobody judged), and
`X_filtered_dropped.jsonl` with `drop_reason` and `drop_detail`. The rules are data: see the presets in configs/filters.
`--balance domain` balances the domains, `--top 1000 --by instruct_reward` keeps the best (the same number per domain, if both
are given), `--shuffle` randomizes the order.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.records.reading import checked_rows, known_keys
from magpie.runs.one_pass import Stream
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, begins, stream_rows, stream_run
from magpie.selection.config import FilterPreset, Rule, load_filter
from magpie.selection.rules import Filter, key_of
from magpie.selection.sampling import Selection


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _filtered)")
    parser.add_argument(
        "--config", required=True, help="a file of rules, or a name in configs/filters: magpie, hle, sft, rlvr, finished, valid"
    )
    parser.add_argument(
        "--enable", nargs="+", default=[], metavar="REASON", help="rules that are off by themselves: program_disagrees"
    )
    parser.add_argument(
        "--target_precision",
        type=flags.number(float, above=0.0, most=1.0),
        metavar="SHARE",
        help="the least agreement, beside the rules, from which on at least this share of the controls' labels is right "
        "(one-sided, 95%%); an error where no agreement is supported",
    )
    group = parser.add_argument_group("selection from what passes")
    group.add_argument(
        "--balance", metavar="FIELD", help="the same number of records per value of this key (domain, difficulty, …)"
    )
    group.add_argument("--top", type=flags.positive, metavar="N", help="at most N records (needs --by or --shuffle)")
    group.add_argument("--by", metavar="FIELD", help="the key whose number ranks them (default: random)")
    flags.switch(group, "--ascending", "rank the lowest --by first")
    flags.switch(group, "--shuffle", "write them in a random order")
    group.add_argument("--seed", type=flags.not_negative, default=0, help="seed of the random choices (default 0)")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.top is not None and not (args.by or args.shuffle):
        parser.error("--top needs --by FIELD (the best) or --shuffle (at random)")
    if args.by and args.top is None and not args.balance:
        parser.error("--by ranks for --top or --balance, and neither is given")
    return args


def with_least_agreement(preset: FilterPreset, args: argparse.Namespace, run: Run) -> FilterPreset:
    """Return the rules, with that of the least agreement that the controls support where it is asked for."""
    if args.target_precision is None:
        return preset
    from magpie.controls.judging import Verdicts, seen
    from magpie.controls.measures import least_agreement
    from magpie.records.schema import is_control

    rules, rows = Filter(preset, f"--config {args.config}"), checked_rows(args.input_file, skip_malformed=args.skip_malformed)
    records = (row.record for row in rows if row.record and is_control(row.record))
    controls = [seen(record) for record in records if not rules.drop_reason(record)[0]]
    verdicts = Verdicts()
    verdicts.add(controls)
    found = least_agreement(controls, verdicts, args.target_precision)
    run.totals.statistics.update(
        {"least_agreement": found["agreement"], "controls": found["controls"], "right_controls": found["right"]}
    )
    log.info(
        "from an agreement of %g on %d of %d controls have a right label: at least %.1f%%",
        *(found["agreement"], found["right"], found["controls"], 100 * found["lower"]),
    )
    rule = Rule("agreement", "at_least", "below_target_precision", "drop", found["agreement"], made_by="verify.py")
    return FilterPreset([*preset.rules, rule])


def main() -> None:
    """Run the stage."""
    args = parse_args()
    options = flags.options_from(args, StageOptions)
    preset = load_filter(args.config, args.enable)
    rules = Filter(preset, f"--config {args.config}")
    choice: dict[str, Any] = {name: getattr(args, name) for name in ("balance", "by", "top", "ascending", "shuffle", "seed")}
    chooses = args.balance or args.top is not None or args.shuffle
    with contextlib.ExitStack() as stack:
        selection: Selection | None = None

        def work(out: Stream, index: int, record: dict[str, Any]) -> None:
            nonlocal selection
            reason, detail = rules.drop_reason(record)
            if reason:
                out.drop_unchanged(reason, detail)
                return
            if unjudged := rules.not_judged(record):
                out.mark({"not_judged": unjudged})
            if not chooses:
                out.keep_unchanged()
            else:
                folder = options.output("_filtered").parent
                selection = selection or stack.enter_context(Selection(folder, **choice))
                selection.add(out, record)

        def at_end(out: Stream) -> None:
            if selection:
                selection.write(out)
            if not out.written:
                log.warning("no record passed: see the reasons below, and the rules in %s", args.config)

        chosen_by = tuple(key_of(field) for field in (args.balance, args.by) if field)
        arguments = {"rules": msgspec.to_builtins(preset.rules), **choice}
        arguments |= {"target_precision": args.target_precision} if args.target_precision else {}
        run = stream_run("filter.py", options, "_filtered", arguments)
        if run.paths.output.stem.endswith(f"_filtered_{args.config}"):  # named after a preset of ours, as chains do it
            run.presets = frozenset({"rules"})
        if begins(run, overwrite=options.overwrite, check=options.check):
            rules = Filter(with_least_agreement(preset, args, run), f"--config {args.config}")
            stream_rows(run, options, work, known=known_keys((*rules.keys, *chosen_by)), at_end=at_end)


if __name__ == "__main__":
    run_program("filter", main)

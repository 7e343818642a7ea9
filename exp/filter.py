"""Keep the records that a dataset should have.

    python exp/filter.py --config configs/filters/sft.yaml --input_file data/job/job_ins_res_verified.jsonl
    python exp/filter.py --where 'pass_rate < 0.7' --input_file mine.parquet

Writes `X_filtered.jsonl`, each kept record unchanged (except `not_judged`, where a rule marks what was not judged), and
`X_filtered_dropped.jsonl` with `drop_reason` and `drop_detail`. The rules are data: see the presets in configs/filters.
Conditions, `--where 'pass_rate < 0.7'`, work with rules or alone. A field that a record lacks makes a condition unknown, which
drops the record.
`--balance domain` balances the domains, `--top 1000 --by instruct_reward` keeps the best (the same number per domain, if both
are given), `--shuffle` randomizes the order.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.records.rows import known_keys
from magpie.runs.one_pass import Stream
from magpie.runs.stage import StageOptions, begins, stream_rows, stream_run
from magpie.selection.config import FilterPreset, Rule, load_filter
from magpie.selection.rules import Filter, field_reader, key_of
from magpie.selection.sampling import Selection
from magpie.selection.where import Where
from magpie.verification.models import RATES, rates_of, two_models

CHOICE = ("balance", "by", "top", "ascending", "shuffle", "seed")


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _filtered)")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="a condition that must be true: 'pass_rate < 0.7', 'domain in [\"algebra\"] and not response|length > 9000'",
    )
    parser.add_argument(
        "--config", help="a file of rules, or a name in configs/filters: magpie, hle, sft, rlvr, finished, valid, hle_gap"
    )
    parser.add_argument(
        "--enable", nargs="+", default=[], metavar="REASON", help="rules that are off by default: program_disagrees"
    )
    parser.add_argument(
        "--target_precision",
        type=flags.number(float, above=0.0, most=1.0),
        metavar="SHARE",
        help="besides the rules, require the lowest agreement above which at least this share of the controls' labels is right "
        "(one-sided, 95%%); an error if no agreement is supported",
    )
    flags.add_two_models(parser, "one of several models, for rules on their pass rates (default: measured on this file)")
    group = parser.add_argument_group("selection from what passes")
    group.add_argument(
        "--balance",
        type=field,
        metavar="FIELD",
        help="the same number of records per value of this key (domain, difficulty, …)",
    )
    group.add_argument("--top", type=flags.positive, metavar="N", help="at most N records (needs --by or --shuffle)")
    group.add_argument("--by", type=field, metavar="FIELD", help="the key whose number ranks them (default: random)")
    flags.switch(group, "--ascending", "rank the lowest --by first")
    flags.switch(group, "--shuffle", "write them in a random order")
    group.add_argument("--seed", type=flags.not_negative, default=0, help="seed of the random choices (default 0)")
    flags.add_run(parser)
    args = parser.parse_args()
    chooses = args.balance or args.top is not None or args.shuffle
    if not args.config and not args.where and (not chooses or args.target_precision is not None):
        parser.error("--config or --where is needed, or one of --balance, --top and --shuffle, to say what to keep")
    if args.top is not None and not (args.by or args.shuffle):
        parser.error("--top needs --by FIELD (the best) or --shuffle (at random)")
    if args.by and args.top is None and not args.balance:
        parser.error("--by ranks for --top or --balance, and neither is given")
    return args


def field(text: str) -> str:
    """Check the name of a record's field."""
    try:
        field_reader(text or "none")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


class Work:
    """What is done with a record: kept, dropped for a rule or a condition, or taken into the selection."""

    def __init__(self, args: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
        preset = load_filter(args.config, args.enable) if args.config else FilterPreset([])
        self._rules = Filter(preset, f"--config {args.config}") if args.config else None
        self._conditions = [Where(text) for text in args.where]
        self._rulers: list[Filter | Where] = [*([self._rules] if self._rules else []), *self._conditions]
        self._choice: dict[str, Any] = {name: getattr(args, name) for name in CHOICE}
        self._chooses = args.balance or args.top is not None or args.shuffle
        self._selection: Selection | None = None
        self._lacking: Counter[tuple[str, str]] = Counter()
        self._makers = {f"no_{rule.field.partition('|')[0]}": (key_of(rule.field), rule.made_by) for rule in preset.rules}
        self._folder, self._stack, self._where = folder, stack, f"the rules in {args.config}" if args.config else "--where"
        named = {"weak_model": args.weak_model, "strong_model": args.strong_model}
        self.arguments = {"rules": preset.arguments, **self._choice, **{key: name for key, name in named.items() if name}}
        self.models: tuple[str, str] | tuple[()] = ()
        if args.target_precision is not None:
            self.arguments["target_precision"] = args.target_precision
        if args.where:  # files made before this flag existed stay valid
            self.arguments["where"] = args.where
        chosen_by = tuple(key_of(field) for field in (args.balance, args.by) if field)
        self.keys = tuple(key for each in self._rulers for key in each.keys) + chosen_by

    def __call__(self, out: Stream, index: int, record: dict[str, Any]) -> None:
        """Do it."""
        record = record | rates_of(record, *self.models) if self.models else record
        reason, detail = self._drop_reason(record)
        if reason:
            if (lacking := self._makers.get(reason)) and lacking[0] not in record:
                self._lacking[lacking] += 1
            out.drop_unchanged(reason, detail)
            return
        if self._rules and (unjudged := self._rules.not_judged(record)):
            out.mark({"not_judged": unjudged})
        if not self._chooses:
            out.keep_unchanged()
        else:
            self._selection = self._selection or self._stack.enter_context(Selection(self._folder, **self._choice))
            self._selection.add(out, record)

    def _drop_reason(self, record: dict[str, Any]) -> tuple[str, str]:
        for ruler in self._rulers:
            reason, detail = ruler.drop_reason(record)
            if reason:
                return reason, detail
        return "", ""

    def add_least_agreement(self, args: argparse.Namespace) -> dict[str, Any]:
        """Add a rule with the least agreement that the controls passing the other rules support, and return it."""
        from magpie.controls.measures import least_agreement_of

        def passes(record: dict[str, Any]) -> bool:
            return not self._drop_reason(record | rates_of(record, *self.models) if self.models else record)[0]

        found = least_agreement_of(args.input_file, passes, args.target_precision)
        least, count, right = found["agreement"], found["controls"], found["right"]
        log.info("at an agreement of %g or more, %d of %d controls have a right label", least, right, count)
        rule = Rule("agreement", "at_least", "below_target_precision", "drop", least, made_by="verify.py")
        self._rulers.append(Filter(FilterPreset([rule]), "--target_precision"))
        return {"least_agreement": least, "controls": count, "right_controls": right}

    def at_end(self, out: Stream) -> None:
        """Write the selection, and warn if something looks wrong."""
        for condition in self._conditions:
            condition.refuse_unknown_fields()
        if self._selection:
            self._selection.write(out)
        if not out.written:
            log.warning("no record passed: see the reasons below, and %s", self._where)
            for (key, maker), count in self._lacking.items():
                log.warning("records without `%s`, which %s adds: %d", key, maker or "another stage", count)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    options = flags.options_from(args, StageOptions)
    with contextlib.ExitStack() as stack:
        work = Work(args, options.output("_filtered").parent, stack)
        run = stream_run("filter.py", options, "_filtered", work.arguments)
        if run.paths.output.stem.endswith(f"_filtered_{args.config}"):  # named after a preset of ours, as chains do it
            run.presets = frozenset({"rules"})
        if begins(run, overwrite=options.overwrite, check=options.check):
            if set(RATES).intersection(work.keys):
                work.models = two_models(args.input_file, args.weak_model, args.strong_model)
            if args.target_precision is not None:
                run.totals.statistics.update(work.add_least_agreement(args))
            stream_rows(run, options, work, known=known_keys((*work.keys, "model_votes")), at_end=work.at_end)


if __name__ == "__main__":
    run_program("filter", main)

r"""Verify responses: extract their final answers, group equal ones, and mark the right ones.

    python exp/verify.py --input_file data/job/job_ins_4res.jsonl --choose

Reads records with `response` or `responses` and adds, with one value per response, `answers` (the final answer as written, or
null), `answer_states` (`parsed`, `unparsed`, `timed_out`), `answer_groups` (equal answers share a number) and `is_correct`
(against `reference_answer`; false without an answer, null if the two could not be compared or there is no reference); for the
record `majority_answer` (its most frequent spelling, null on a tie), `agreement` (the largest group's share), `answered` (the
share with a final answer), `pass_rate` (the share that is right, without a reference answer that of the majority), its 95%
interval (its ends count what could not be compared as wrong, or as right), `difficulty_measured`, and `doubts`: the shares of
responses that say that the problem cannot be solved (`unsolvable`) and without a final answer (`unparsed`), and whether no
answer has more votes than every other one (`no_majority`). Where several models responded (gen_res.py --append) `model_votes`
has the votes of each (`asked`, `answered`, `majority_answer`, `agreement`, and `pass_rate`, without a reference answer the
share that agrees with the majority of all), `models_agree` whether their majorities are equal (null: not both have one).
Shares are of all requested responses (`votes_asked`, else `responses` and `lost_responses`). A single answer has no
`agreement`, and a single response has a `pass_rate` only with a reference answer. --reference_key names the key with the
right answers, which are copied to `reference_answer`. At the end: how many are right, pass@k, agreement, answered. Answers
are compared by Math-Verify in worker processes with limits. --judge asks the server's model about those that rules cannot
compare; `answer_judgements` has its verdicts. --choose makes a member of the majority (with a reference answer: a right one)
the `response`: the best rewarded, else the shortest complete one; the lists go into `previous`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.common.progress import StageBar
from magpie.records.reading import read_rows
from magpie.runs.run import Run
from magpie.runs.stage import StageOptions, begins, open_run
from magpie.runs.summary import show_summary
from magpie.verification.annotate import OWN_KEYS, REFERENCE
from magpie.verification.pool import Limits, Verifier
from magpie.verification.scores import Scores
from magpie.verification.work import Item, Verification

if TYPE_CHECKING:
    from magpie.generation.session import Session, Template


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _verified)")
    group = parser.add_argument_group("verifying")
    group.add_argument(
        "--reference_key",
        metavar="KEY",
        default=REFERENCE,
        help=f"the key with the right answer, for is_correct and pass_rate (default {REFERENCE})",
    )
    flags.switch(group, "--choose", "make one of the `responses` the `response`")
    flags.switch(
        group,
        "--keep_unverified",
        "with --choose: if there is no majority, choose from all responses instead of dropping the record",
    )
    flags.switch(group, "--judge", "ask the model of --model_path about answers that rules cannot compare")
    group.add_argument("--workers", type=flags.positive, default=2, help="worker processes (default 2)")
    group.add_argument(
        "--time_limit", type=flags.number(float, above=0, most=3600), default=5.0, help="CPU seconds per comparison (default 5)"
    )
    group.add_argument(
        "--memory_limit",
        type=flags.number(int, least=512),
        default=2048,
        help="megabytes of address space per worker (default 2048)",
    )
    flags.add_shard(parser)
    flags.add_model(parser, default="")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run's server, with --judge (default 0)")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.judge and not args.model_path:
        parser.error("--judge needs --model_path: the model to ask")
    if args.reference_key in OWN_KEYS:
        parser.error(f"--reference_key {args.reference_key}: verify.py writes that itself. Name the key with the right answers")
    return args


def by_rules(run: Run, work: Verification, verifier: Verifier, *, overwrite: bool) -> None:
    """Verify without a language model."""
    with run.session(overwrite=overwrite):
        with StageBar("verify", run.rows, run.closed) as bar:
            for index, record, judgement in work.items(verifier):
                record, reason = work.finished(record, judgement)
                run.drop(index, record, reason) if reason else run.keep(index, record)
                bar.update(closed=1, dropped=run.totals.dropped.total())
        run.finish()
    show_summary(run.stage, run.paths, run.totals)


def with_judge(run: Run, work: Verification, verifier: Verifier, args: argparse.Namespace) -> None:
    """Verify, and ask the model about answers that rules cannot compare."""
    from magpie.config.model_presets import load_model
    from magpie.generation.session import ModelOptions, generate
    from magpie.tagging.answer_judge import AnswerJudge

    preset = load_model(args.model_path)
    model, options = flags.options_from(args, ModelOptions), flags.options_from(args, StageOptions)
    judge = AnswerJudge(preset.model)

    async def settle(session: Session, item: Item) -> None:
        index, record, judgement = item
        opinions, completions = await judge.settle(session, record, judgement)
        record, reason = work.finished(record, judgement)
        record |= {"answer_judgements": opinions} if opinions else {}
        if reason:
            session.drop(index, record, reason, completions=completions)
        else:
            session.keep(index, record, completions)

    def try_template(template: Template) -> None:
        template.prompt(judge.question(template, "1 + 1?", "2", "two"), thinking=False)

    generate(run, preset, model, options, work.items(verifier), settle, try_template=try_template)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    names = [
        "choose",
        "keep_unverified",
        "judge",
        "time_limit",
        "memory_limit",
        *(["model_path", "tokenizer"] if args.judge else []),
    ]
    options = flags.options_from(args, StageOptions)
    arguments = {name: getattr(args, name) for name in names}
    if args.judge and args.template_variables:
        arguments["template_variables"] = args.template_variables
    if args.reference_key != REFERENCE:  # files verified before this flag existed can be resumed
        arguments["reference_key"] = args.reference_key
    run = open_run("verify.py", options, "_verified", arguments)
    if not args.judge and not begins(run, overwrite=args.overwrite, check=args.check):
        return
    options_of_work = {name: getattr(args, name) for name in ("reference_key", "choose", "keep_unverified")}
    work = Verification(run, args.input_file, **options_of_work)
    with Verifier(Limits(args.time_limit, args.memory_limit, args.workers)) as verifier:
        if args.judge:
            with_judge(run, work, verifier, args)
        else:
            by_rules(run, work, verifier, overwrite=args.overwrite)
        counts = ", ".join(f"{count:,} {state}" for state, count in work.states.most_common())
        if advice := work.advice():
            log.warning("%s", advice)
        if words := work.rates.text():
            log.info("%s", words)
        scores = Scores()
        for path in filter(Path.exists, (run.paths.output, run.paths.dropped)):  # what --choose drops was judged too
            for row in read_rows(path, ()):
                scores.add(row.record or {})
        for name, value in scores.rows():
            log.info("%s: %s", name, value)
        log.info("answers of this session: %s; %d workers killed at their limits", counts or "none", verifier.killed)


if __name__ == "__main__":
    run_program("verify", main)

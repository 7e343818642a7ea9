"""Check answers with programs: a model writes one per problem, a sandbox runs it, its answer is compared with the votes.

    python exp/check_code.py --model_path smollm2 --input_file data/job/job_ins_4res_verified.jsonl

Reads records that verify.py has seen (`majority_answer`) and writes X_coded.jsonl, with `code` (the program), `code_answer`
(the last line that it printed), `code_state` (`ran`; `failed`, `timed_out`, `too_much_output`, `killed`, `no_output`;
`no_code`: the response has no program; or why there is no response) and `code_agrees` (whether the answer equals the
majority's by the rules of verify.py; null where one of them is missing or they could not be compared). A majority of one
model shares its mistakes; a program is an independent check. --num_programs N asks for several, which vote: `code_votes`. No
record is dropped; filter.py has rules for that.

Programs run in bubblewrap or kernel namespaces (`code_sandbox` says which) without a network, with no files but an empty
folder of their own, with limits on time, memory and output, and cannot start processes or threads; the standard library,
SymPy and NumPy are available. If neither is available the stage refuses to run; --weak_sandbox continues with limits alone.
Rerun the same command to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from magpie.cli import flags
from magpie.code_check.checker import CodeChecker, require_votes, trial
from magpie.common.console import log, run_program
from magpie.config.load import plain
from magpie.config.model_presets import load_model
from magpie.generation.session import ModelOptions, SamplingOptions, generate
from magpie.records.reading import read_rows
from magpie.runs.stage import StageOptions, open_run
from magpie.sandbox.sandbox import ProgramLimits, Sandbox
from magpie.verification.pool import Limits, Verifier

SUFFIX = "_coded"


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help=f"(default: the input's stem with {SUFFIX})")
    group = parser.add_argument_group("programs")
    group.add_argument("--num_programs", type=flags.positive, default=1, help="programs per problem, which vote (default 1)")
    group.add_argument(
        "--time_limit", type=flags.number(float, least=1, most=3600), default=10.0, help="CPU seconds per program (default 10)"
    )
    group.add_argument(
        "--memory_limit", type=flags.number(int, least=64), default=1024, help="megabytes per program (default 1024)"
    )
    group.add_argument("--workers", type=flags.positive, default=2, help="programs that run in parallel (default 2)")
    flags.switch(
        group, "--weak_sandbox", "if no strong sandbox is available, run programs with limits alone: they can read your files"
    )
    flags.add_shard(parser)
    flags.add_model(parser)
    flags.add_sampling(parser, "answers, or for samples with --num_programs above 1")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.num_programs > 1 and args.temperature == 0:
        parser.error("--temperature 0 gives the same program every time: with --num_programs above 1 raise it (0.8)")
    return args


def main() -> None:
    """Run the stage."""
    args = parse_args()
    preset = load_model(args.model_path)
    sampling = flags.options_from(args, SamplingOptions).over(preset.answers if args.num_programs == 1 else preset.samples)
    arguments = {"model_path": preset.model, **plain(sampling)}
    arguments |= {name: getattr(args, name) for name in ("num_programs", "time_limit", "memory_limit", "seed", "tokenizer")}
    if args.template_variables:
        arguments["template_variables"] = args.template_variables
    options = flags.options_from(args, StageOptions)
    run = open_run("check_code.py", options, SUFFIX, arguments)
    first = next((row.record for row in read_rows(args.input_file) if row.record is not None), None)
    if first is not None:
        require_votes(first)
    limits = ProgramLimits(seconds=args.time_limit, memory=args.memory_limit << 20)
    with (
        Sandbox(limits, workers=args.workers, weak=args.weak_sandbox) as sandbox,
        Verifier(Limits(workers=args.workers)) as verifier,
    ):
        log.info("programs run in: %s", sandbox.walls)
        checker = CodeChecker(sandbox, verifier, sampling, programs=args.num_programs, seconds=args.time_limit, seed=args.seed)
        items = checker.items(run, args.input_file)
        model = flags.options_from(args, ModelOptions)
        if not generate(run, preset, model, options, items, checker.check, try_template=lambda each: trial(checker, each)):
            return
        told = [f"{count:,} {state}" for state, count in checker.states.most_common()]
        log.info("programs in this session: %s", ", ".join(told) or "none")
        log.info("they agree with the majority in %d, differ in %d", checker.agreement[True], checker.agreement[False])


if __name__ == "__main__":
    run_program("check_code", main)

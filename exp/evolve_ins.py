"""Rewrite problems into harder ones, and keep those that votes show to be harder.

    python exp/evolve_ins.py --model_path deepseek-r1 --input_file data/job/job_ins_clean.jsonl --rounds 3

A problem is rewritten in one of the ways of configs/evolution/ways.yaml. A child that carries a solution, is broken, is its
parent reworded, or (with --judge) is invalid is dropped with the reason. The others and their parents get responses in waves
of 8 votes, at most 32 each: a child is kept if its pass rate (the share of the leading answer) is significantly lower than
each parent's. A child above --band is the parent of the next round, and is kept if none harder comes of it; after a failure
another way is tried. Adds `parent_ids` and `evolution` (way, round, the votes on parents and child, the test and its error,
the lineage, `in_band`); the child's votes are its `responses`, for verify.py. With --total the run ends once that many
problems are in the band. Rerun the same command to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.config.load import plain
from magpie.config.model_presets import load_model
from magpie.evolution.config import load_ways
from magpie.evolution.evolver import MOST, EvolveOptions, Evolver
from magpie.generation.responses import ResponseGenerator, ResponseOptions
from magpie.generation.session import ModelOptions, SamplingOptions, Template, generate
from magpie.runs.stage import StageOptions, open_run
from magpie.tagging.validity import Judging, ValidityJudge
from magpie.verification.pool import Verifier


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    ways = list(load_ways().ways)
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _evolved)")
    group = parser.add_argument_group("evolution")
    group.add_argument("--ways", nargs="+", choices=ways, default=ways, help="ways to rewrite a problem (default: all)")
    group.add_argument("--rounds", type=flags.positive, default=3, help="maximum tries per input problem (default 3)")
    group.add_argument(
        "--band",
        nargs=2,
        type=flags.number(float, least=0.0, most=1.0),
        default=[0.1, 0.7],
        metavar=("LOW", "HIGH"),
        help="wanted pass rates: a child above them is rewritten further (default 0.1 0.7)",
    )
    group.add_argument("--total", type=flags.positive, help="stop when this many are in the band (default: use all)")
    flags.switch(group, "--judge", "ask the model whether a child is valid (default: `judges` in its preset)", default=None)
    flags.add_language(parser)
    flags.add_shard(parser)
    flags.add_model(parser)
    flags.add_sampling(parser, "samples")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.band[0] >= args.band[1]:
        parser.error("--band: LOW must be below HIGH")
    if args.temperature == 0:
        parser.error("--temperature 0 gives the same vote every time: raise it (0.6)")
    return args


def main() -> None:
    """Run the stage."""
    args = parse_args()
    preset = load_model(args.model_path)
    args.judge = preset.judges if args.judge is None else args.judge
    sampling = flags.options_from(args, SamplingOptions).over(preset.samples)
    names = ("ways", "rounds", "band", "total", "judge", "language", "seed", "tokenizer")
    arguments: dict[str, Any] = {"model_path": preset.model, **plain(sampling)}
    arguments |= {name: getattr(args, name) for name in names}
    if args.template_variables:
        arguments["template_variables"] = args.template_variables
    run = open_run("evolve_ins.py", flags.options_from(args, StageOptions), "_evolved", arguments)
    responses = ResponseOptions(
        args.input_file,
        MOST,
        append=False,
        response_style="boxed",
        system_prompt=None,
        retry_length=None,
        thinking_budget=None,
        preflight=0,
        request_seeds=False,
        template_variables=args.template_variables,
        seed=args.seed,
    )
    generator = ResponseGenerator(responses, preset, sampling)

    def try_template(template: Template) -> None:
        template.prompt(load_ways().ask(args.ways[0], ["1 + 1?"] * load_ways().ways[args.ways[0]].parents), None)

    with Verifier() as verifier:
        judge = ValidityJudge(Judging()) if args.judge else None
        evolver = Evolver(flags.options_from(args, EvolveOptions), generator, verifier, judge)
        model, options = flags.options_from(args, ModelOptions), flags.options_from(args, StageOptions)
        rows, work, most = evolver.rows(run), evolver.work, MOST * (args.rounds + 1)  # at most
        made = generate(run, preset, model, options, rows, work, try_template=try_template, responses=most)
    if made:
        if not run.totals.written:
            log.warning("no child is harder: choose easier parents, more --rounds, or another model")
        log.info("next: python exp/verify.py --input_file %s", run.paths.output)


if __name__ == "__main__":
    run_program("evolve_ins", main)

"""Estimate a job before it starts: tokens, GPU hours, hours per stage, disk, memory, nodes for a deadline, cost.

    python exp/plan.py --model_path deepseek-r1 --problems 1000000 --hours 24 --gpu_price 3
    python exp/plan.py --job data/job --problems 1000000

Its assumptions are in configs/planning.yaml, each with its source; --assumptions prints them, --set changes one, and --job uses
the measurements of a finished job instead: tokens per problem and response, shares kept, tokens/s of its servers (counted as
one replica). The stages are those of a main job and of scripts/sft.sh, one after the other; --pairs adds those of
scripts/align.sh. Reward models are not included: they have not been measured on a GPU. docs/SCALING.md describes what breaks
first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from magpie.cli import flags
from magpie.common.console import MagpieError, printable, run_program
from magpie.config.model_presets import load_model
from magpie.planning.assumptions import Known, figures_of, model_of
from magpie.planning.formulas import Plan, Workload, as_json, plan
from magpie.planning.tables import figures_markdown, markdown, show, show_figures

MOST_PROBLEMS = 10**12


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    add_order(parser)
    add_machine(parser)
    group = parser.add_argument_group("assumptions")
    group.add_argument("--job", type=Path, help="a job's folder: its measurements instead of the assumptions")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another value for one assumption; may be repeated"
    )
    group.add_argument(
        "--assumptions",
        nargs="*",
        metavar="NAME",
        help="print the assumptions (all, or those named) with their sources instead of a plan",
    )
    group.add_argument("--brief", action="store_true", help="only the totals: no line per stage and kind of file")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON: the plans and the assumptions")
    shape.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    args = parser.parse_args(arguments)
    if not args.model_path and not args.job:
        parser.error("--model_path is needed, or --job with the model's own job")
    if not args.problems and args.assumptions is None:
        parser.error("--problems is needed: how many clean problems are to get responses")
    return args


def add_order(parser: flags.Parser) -> None:
    """Add the flags of the workload."""
    group = parser.add_argument_group("what is made")
    group.add_argument("--model_path", help="a name in configs/models (deepseek-r1), or a hub id (default: the job's)")
    group.add_argument(
        "--problems",
        type=flags.number(int, least=1, most=MOST_PROBLEMS),
        nargs="+",
        help="clean problems that get responses; several numbers: one column each",
    )
    group.add_argument(
        "--num_responses", type=flags.positive, default=1, help="responses per problem of the main job (default 1)"
    )
    group.add_argument(
        "--votes", type=flags.not_negative, default=4, help="further responses per problem to compare, 0: none (default 4)"
    )
    group.add_argument(
        "--pairs",
        type=flags.not_negative,
        default=0,
        help="further responses per problem for preference pairs (default 0: none)",
    )
    group.add_argument(
        "--missions",
        type=flags.not_negative,
        default=2,
        help="tags per problem by the model, 0: none (default 2: difficulty and quality; the language needs no model)",
    )


def add_machine(parser: flags.Parser) -> None:
    """Add the flags of the machine and the deadline."""
    group = parser.add_argument_group("machine")
    group.add_argument("--gpus", type=flags.positive, default=8, help="GPUs per node (default 8)")
    flags.add_gpu_memory(group, "default: that of the measured replica")
    group.add_argument("--nodes", type=flags.positive, help="nodes (default: as many as one replica needs)")
    group.add_argument(
        "--cores", type=flags.positive, default=32, help="cores of the machine that runs the stages (default 32)"
    )
    group.add_argument(
        "--parts",
        type=flags.positive,
        default=1,
        help="files that the job is split into, done in parallel by stages of one process, at most --cores (default 1)",
    )
    group.add_argument(
        "--gpu_price", type=flags.number(float, least=0.0), help="price per GPU hour, in any currency (default: no cost)"
    )
    group.add_argument(
        "--hours",
        type=flags.number(float, above=0.0),
        help="deadline in hours, for which the nodes are estimated (default: none)",
    )


def plans_of(args: argparse.Namespace) -> tuple[str, list[Plan], Known]:
    """Return the model's name, a plan per number of problems, and the assumptions."""
    preset = load_model(args.model_path or model_of(args.job))
    machine = {"gpus": args.gpus, "nodes": args.nodes, "gpu_memory": args.gpu_memory}
    figures = figures_of(preset, **machine, job=args.job, chosen=args.set)
    values = {name: figure.value for name, figure in figures.items()}
    names = ("num_responses", "votes", "pairs", "missions", "gpus", "nodes", "cores", "parts", "gpu_price")
    settings = {name: getattr(args, name) for name in names} | {"deadline": args.hours}
    return preset.name, [plan(Workload(problems, **settings), values) for problems in args.problems or ()], figures


def named(figures: Known, names: list[str]) -> Known:
    """Return the assumptions of these names, all of them if no name is given."""
    if unknown := [name for name in names if name not in figures]:
        raise MagpieError(f"--assumptions {printable(unknown[0], 60)}: no such figure. There are: {', '.join(sorted(figures))}")
    return {name: figures[name] for name in names or figures}


def page(arguments: list[str]) -> str:
    """Return the output of --markdown for a command line, which docs/SCALING.md contains."""
    args = parse_args(arguments)
    _, plans, figures = plans_of(args)
    return (
        figures_markdown(named(figures, args.assumptions))
        if args.assumptions is not None
        else markdown(plans, brief=args.brief)
    )


def main() -> None:
    """Run the program."""
    args = parse_args()
    name, plans, figures = plans_of(args)
    if args.json:
        content = {"model": name, "plans": [as_json(one) for one in plans], "figures": figures}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n")
    elif args.markdown:
        sys.stdout.write(page(sys.argv[1:]) + "\n")
    elif args.assumptions is not None:
        show_figures(named(figures, args.assumptions))
    else:
        show(plans, name, brief=args.brief)


if __name__ == "__main__":
    run_program("plan", main)

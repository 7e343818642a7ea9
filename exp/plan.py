"""Estimate a job before it starts: tokens, GPU hours, cost, nodes, disk.

    python exp/plan.py --model_path deepseek-r1 --problems 1000000 --hours 24 --gpu_price 3
    python exp/plan.py --job data/job --problems 1000000

Below the plan are the assumptions behind it, with their sources: configs/planning.yaml. --job uses the measurements of a
finished job instead (the tokens/s of all its servers count as one replica's), and --set changes one. The stages are
those of a main job and of scripts/sft.sh; --pairs adds those of scripts/align.sh. Reward models are not included. Published
speeds of one model differ by up to a factor of a hundred: measure a few hundred problems, then use --job.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from magpie.cli import flags
from magpie.common.console import run_program
from magpie.config.load import plain
from magpie.config.model_presets import load_model
from magpie.planning.assumptions import Assumption, figures_of, gpus_of_replica, load_planning, model_of
from magpie.planning.formulas import Workload, plan
from magpie.verification.early_stop import NEVER, RULES, SETTLED


def setting(text: str) -> tuple[str, float]:
    """Return the name and value of NAME=VALUE."""
    name, _, value = text.partition("=")
    return name, flags.number(float, least=1e-12, most=1e18)(value)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    group = parser.add_argument_group("what to make")
    group.add_argument("--model_path", help="a name in configs/models (deepseek-r1), or a hub id (default: the job's)")
    count = flags.number(int, least=1, most=10**12)
    group.add_argument("--problems", type=count, required=True, help="clean problems that get responses")
    group.add_argument("--num_responses", type=flags.positive, default=1, help="responses per problem, main job (default 1)")
    for flag, default, text in (
        ("--votes", 4, "further responses per problem to compare, 0: none"),
        ("--pairs", 0, "further responses per problem for preference pairs"),
        ("--missions", 2, "tags per problem by the model, 0: none"),
    ):
        group.add_argument(flag, type=flags.not_negative, default=default, help=f"{text} (default {default})")
    group.add_argument(
        "--stop_when",
        choices=RULES,
        default=SETTLED,
        help="how votes are stopped early (default settled, as in chains; never for a filter that reads pass rates: hle, rlvr)",
    )
    group = parser.add_argument_group("machines")
    group.add_argument("--gpus", type=flags.positive, default=8, help="GPUs per node (default 8)")
    flags.add_gpu_memory(group, "default: that of the measured replica")
    group.add_argument("--nodes", type=flags.positive, help="nodes (default: as many as one replica needs)")
    price, above = flags.number(float, least=0.0), flags.number(float, above=1e-6)
    group.add_argument("--gpu_price", type=price, help="price per GPU hour, in any currency (default: no cost)")
    group.add_argument("--hours", type=above, help="deadline in hours of model time, for which to estimate the nodes")
    group = parser.add_argument_group("figures")
    group.add_argument("--job", type=Path, help="a job's folder: its measurements instead of the assumptions")
    group.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="another value for an assumption; repeatable",
    )
    group.add_argument("--json", action="store_true", help="print JSON: the plan and its figures")
    args = parser.parse_args(arguments)
    if not args.model_path and not args.job:
        parser.error("--model_path is needed, or --job with the model's own job")
    return args


def planned(args: argparse.Namespace) -> tuple[str, dict[str, float], dict[str, Assumption]]:
    """Return the model's name, the plan and its figures."""
    preset, chosen, replica_gpus = load_model(args.model_path or model_of(args.job)), dict(args.set), None
    if args.gpu_memory and "replica_gpus" not in chosen:
        replica_gpus = gpus_of_replica(preset, args.gpus, args.nodes, args.gpu_memory)
    figures = figures_of(preset, replica_gpus, args.job, chosen)
    values = {name: figure.value for name, figure in figures.items()}
    args.first_votes = int(args.stop_when != NEVER and args.num_responses == 1 and preset.answers == preset.samples)
    return preset.name, plan(flags.options_from(args, Workload), values), figures


def amount(number: float) -> str:
    """Return a number for people: 30000000000 → `30.0 billion`, 12345 → `12,345`, 0.5 → `0.5`."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:,.1f} {word}"
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def table(found: dict[str, float]) -> str:
    """Return a plan in lines of text."""
    labels = {name: name.replace("_", " ").replace("gpu", "GPU").replace("gb", "(GB)") for name in found}
    return "\n".join(f"{labels[name]:<24}{amount(value):>16}" for name, value in found.items())


def page(arguments: list[str]) -> str:
    """Return the plan of a command line in Markdown, which docs/SCALING.md contains."""
    return f"```text\n{table(planned(parse_args(arguments))[1])}\n```"


def main() -> None:
    """Run the program."""
    args = parse_args()
    model, found, figures = planned(args)
    if args.json:
        content = {"model": model, "plan": found, "figures": figures}
        sys.stdout.write(json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n")
        return
    units = load_planning().units
    used = [f"{name:<24}{amount(each.value):>8} {units[name]} ({each.source})\n" for name, each in figures.items()]
    sys.stdout.write(f"{model}, {args.problems:,} problems\n\n{table(found)}\n\n{''.join(used)}")


if __name__ == "__main__":
    run_program("plan", main)

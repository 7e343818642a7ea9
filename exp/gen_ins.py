"""Generate problems: given its chat template up to the user's turn, the model writes them by itself.

    python exp/gen_ins.py --model_path smollm2 --total_prompts 64 --output_file data/job/job_ins.jsonl

Ends with exactly --total_prompts problems that passed cleaning: a sample that is empty, cut off at --max_tokens, refused by the
server or dropped by cleaning (as in clean_ins.py) is replaced and counted. Writes `id`, `instruction` (the bare problem),
`raw_instruction` (what the model wrote), `opening`, `defects`, `answer_type`, `pre_query_template`, `target_domain`,
`concepts` and `rationale` (with --concepts), `template_id`, `gen_input_configs` and `created`. With --no-clean samples are
written unchanged. Rerun the same command to resume.
"""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from magpie.cli import flags
from magpie.common.console import log, run_program, say_next
from magpie.config.load import PROJECT, plain
from magpie.config.model_presets import load_model
from magpie.controls.gym import LEVELS, load_families
from magpie.generation.preflight import by_reason
from magpie.generation.problems import ProblemGenerator, ProblemOptions
from magpie.generation.session import ModelOptions, SamplingOptions, generate
from magpie.records.reading import stem_of
from magpie.records.schema import DOMAINS
from magpie.runs.run import Run
from magpie.runs.stage import RunOptions


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    parser.add_argument("--total_prompts", type=flags.positive, required=True, help="problems to generate")
    parser.add_argument("--output_file", type=Path, help="(default: data/MODEL_TIME/MODEL_TIME_ins.jsonl)")
    add_steering(parser)
    add_samples(parser)
    flags.add_shard(parser)
    flags.add_model(parser)
    flags.add_sampling(parser, "problems")
    flags.add_run(parser)
    args = parser.parse_args()
    if (args.task_templates or args.concepts > 1) and not args.domain:
        args.domain = list(DOMAINS)
    if len(set(args.domain)) != len(args.domain):
        parser.error("--domain names one domain twice")
    if args.domain_weights and len(args.domain_weights) != len(args.domain):
        parser.error(f"--domain_weights has {len(args.domain_weights)} numbers for {len(args.domain)} domains")
    return args


def add_steering(parser: flags.Parser) -> None:
    """Add the steering flags: which problems to request, and how they begin."""
    group = parser.add_argument_group("steering")
    group.add_argument(
        "--control_tasks", choices=["math", "none"], default="math", help="what the system prompt asks for (default math)"
    )
    group.add_argument("--domain", nargs="+", choices=DOMAINS, default=[], help="domains of mathematics instead")
    group.add_argument(
        "--domain_weights",
        nargs="+",
        type=flags.number(float, above=0.0),
        help="one weight per domain of --domain (default: equal)",
    )
    flags.switch(
        group, "--task_templates", "steer with the domains' task templates too, with all domains if no --domain is given"
    )
    group.add_argument(
        "--concepts",
        type=int,
        choices=(1, 2, 3),
        default=1,
        help="topics per problem, from one domain or neighbouring ones (configs/prompts/steering.yaml); above 1 they are "
        "recorded and used equally often, from all domains if no --domain is given (default 1)",
    )
    flags.switch(
        group,
        "--rationale",
        "with --concepts above 1, ask the model first how the topics go together (default: `judges` in its preset)",
        default=None,
    )
    flags.switch(
        group,
        "--openings",
        "open every problem with words drawn from configs/openings.yaml, which the model continues (default: the model's "
        "preset; on for smollm2, off for large models)",
        default=None,
    )
    group.add_argument(
        "--first_token_temperature",
        type=flags.number(float, above=0.0, most=2.0),
        help="temperature of the first token alone, for more variety ('flaming tokens'; needs a vLLM server; default off)",
    )
    flags.switch(
        group,
        "--ban_markdown",
        "forbid problems that open with markdown; needs a vLLM server (default: the model's preset; on for Llama "
        "3.1 and 3.3, off elsewhere)",
        default=None,
    )


def add_samples(parser: flags.Parser) -> None:
    """Add the sampling flags: how many samples are drawn, and which of them count."""
    group = parser.add_argument_group("samples")
    group.add_argument("--preflight", type=flags.not_negative, default=20, help="samples to check first, 0: none (default 20)")
    group.add_argument("--max_attempts", type=flags.positive, help="maximum samples (default: 10 per problem, at least 200)")
    flags.switch(
        group,
        "--clean",
        "clean every sample as clean_ins.py does, and continue until --total_prompts of them passed, within --max_attempts",
        default=True,
    )
    group.add_argument(
        "--planted",
        type=flags.not_negative,
        default=0,
        metavar="N",
        help="controls: N additional problems with known answers, which measure.py removes again (default 0)",
    )
    families = sorted(load_families())
    group.add_argument(
        "--planted_families",
        nargs="+",
        choices=families,
        default=[],
        metavar="FAMILY",
        help="of configs/controls.yaml (default: all, with fewer than 400 controls those whose answers are numbers)",
    )
    group.add_argument("--planted_levels", nargs="+", choices=LEVELS, default=LEVELS, help="their difficulties (default: all)")
    flags.add_language(parser)
    flags.switch(group, "--request_seeds", "send a seed with every request; slows vLLM's sampler")


def tell(run: Run, *, cleaned: bool) -> None:
    """Log how many samples can be used, and the next command."""
    dropped, written = run.totals.dropped, run.totals.written
    samples = written + dropped.total()
    share = f"{written} of {samples} samples ({100 * written // samples}%)"
    if cleaned:
        log.info("%s passed cleaning%s", share, f" ({by_reason(dropped)})" if dropped else "")
        say_next("gen_res.py --model_path MODEL --input_file %s", run.paths.output)
    else:
        log.info("%s are written as sampled; clean_ins.py finds out which are problems", share)
        say_next("clean_ins.py --input_file %s", run.paths.output)


def main() -> None:
    """Run the stage."""
    args = parse_args()
    preset = load_model(args.model_path)
    args.rationale = args.concepts > 1 and (preset.judges if args.rationale is None else args.rationale)
    for name in ("openings", "ban_markdown"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(preset, name))
    job = f"{preset.name}_{datetime.now():%Y%m%d_%H%M%S}"
    output = args.output_file or PROJECT / "data" / job / f"{job}_ins.jsonl"
    sampling = flags.options_from(args, SamplingOptions).over(preset.problems)
    problems = flags.options_from(args, ProblemOptions)
    generator = ProblemGenerator(problems, preset, sampling, stem_of(output).removesuffix("_ins"))
    arguments = {
        "model_path": preset.model,
        "total_prompts": args.total_prompts,
        **plain(sampling),
        **{
            name: getattr(args, name)
            for name in (
                "control_tasks",
                "domain",
                "domain_weights",
                "task_templates",
                "openings",
                "first_token_temperature",
                "ban_markdown",
                "clean",
                "language",
                "request_seeds",
                "seed",
                "tokenizer",
            )
        },
    }
    if args.planted:
        arguments |= {name: getattr(args, name) for name in ("planted", "planted_families", "planted_levels")}
    if args.concepts > 1:  # runs begun before this flag existed can be resumed
        arguments |= {"concepts": args.concepts, "rationale": args.rationale}
    if args.template_variables:
        arguments["template_variables"] = args.template_variables
    model, options = flags.options_from(args, ModelOptions), flags.options_from(args, RunOptions)
    ours = args.shard.path(output) if args.shard else output
    run = Run("gen_ins.py", ours, rows=args.total_prompts + args.planted, arguments=arguments, shard=args.shard)
    if generate(run, preset, model, options, generator.rows(run), generator.work, try_template=generator.try_template):
        tell(run, cleaned=args.clean)


if __name__ == "__main__":
    run_program("gen_ins", main)

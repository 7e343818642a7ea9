"""Answer problems with a chain of thought.

    python exp/gen_res.py --model_path smollm2 --input_file data/job/job_ins.jsonl

Reads records with `instruction` (one without `id` gets its line as one) and adds `response`, `reasoning`, `finish_reason`,
`prompt_tokens`, `completion_tokens` and `gen_response_configs`; with --num_responses N the first becomes `responses`, and it,
`reasoning`, `finish_reason` and `completion_tokens` are lists. `finish_reason` is `stop`, `length` (cut at the limit) or
`repetition` (ends in a loop). What a record had under these names before goes into `previous`. A chain of thought that never
ended has no solution: such a row is dropped as `truncated_reasoning`. Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from magpie.cli import flags
from magpie.common.console import log, run_program
from magpie.config.model_presets import load_model
from magpie.generation.config import load_response_styles
from magpie.generation.responses import Answerer
from magpie.generation.session import Template, generate
from magpie.runs.stage import open_run


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument("--output_file", type=Path, help="(default: the input's stem with _res, or _Nres)")
    group = parser.add_argument_group("answers")
    group.add_argument("--num_responses", type=flags.positive, default=1, help="answers for each problem (default 1)")
    group.add_argument(
        "--response_style",
        choices=list(load_response_styles()),
        default="boxed",
        help="what asks for the answer: configs/prompts/responses.yaml (default boxed)",
    )
    group.add_argument("--system_prompt", help="system prompt (default: the template's own)")
    group.add_argument(
        "--retry_length",
        type=flags.positive,
        help="an answer cut at --max_tokens goes on, once, up to so many tokens in all (default: it stays cut)",
    )
    group.add_argument(
        "--request_seeds",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="a seed for each request; slows vLLM's sampler (default off)",
    )
    flags.add_shard(parser)
    flags.add_model(parser)
    flags.add_sampling(parser, "answers, or for samples with --num_responses above 1")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.num_responses > 1 and args.temperature == 0:
        parser.error("--temperature 0 gives the same answer every time: with --num_responses above 1 raise it (0.8)")
    return args


def main() -> None:
    """Run the stage."""
    args = parse_args()
    preset = load_model(args.model_path)
    sampling = flags.sampling_of(args, preset.answers if args.num_responses == 1 else preset.samples)
    if sampling.temperature < preset.least_temperature:
        log.warning(
            "temperature %g is below what %s was made for (%s); expect endless repetition",
            sampling.temperature,
            preset.model,
            preset.answers_source,
        )
    if args.check and not args.input_file.exists():
        log.info("the arguments are fine; there is no input yet")
        return
    suffix = "_res" if args.num_responses == 1 else f"_{args.num_responses}res"
    arguments = {
        "model_path": preset.model,
        **msgspec.structs.asdict(sampling),
        **{
            name: getattr(args, name)
            for name in (
                "num_responses",
                "response_style",
                "system_prompt",
                "retry_length",
                "request_seeds",
                "seed",
                "tokenizer",
            )
        },
    }
    run = open_run("gen_res.py", args, suffix, arguments)
    answerer = Answerer(args, preset.model, sampling)

    def try_template(template: Template) -> None:
        template.prompt("1 + 1?", args.system_prompt)

    if generate(run, preset, args, answerer.rows(run), answerer.answer, try_template=try_template):
        then = "export.py --format sharegpt" if args.num_responses == 1 else "verify.py"
        log.info("next: python exp/%s --input_file %s", then, run.paths.output)


if __name__ == "__main__":
    run_program("gen_res", main)

"""Generate responses to problems, with a chain of thought.

    python exp/gen_res.py --model_path smollm2 --input_file data/job/job_ins.jsonl

Reads records with `instruction` (one without `id` gets its line number as one) and adds `response`, `reasoning`,
`finish_reason`, `prompt_tokens`, `completion_tokens` and `gen_response_configs`; with --num_responses N `response` becomes
`responses`, and it, `reasoning`, `finish_reason` and `completion_tokens` are lists. With --stop_when fewer are requested if
the first ones agree: `votes_asked` says how many, `stop_reason` why (`settled`, `posterior`, `all`); for records with a
`reference_answer` all are requested. `finish_reason` is `stop`, `length` (cut at the limit) or `repetition` (a loop, which is
cut off while it runs). Earlier values of these keys go into `previous`. With --append existing responses of any model are
kept and this model's are appended; `response_models` names the model of each, `asked_by_model` how many were requested from
each. A chain of thought that never ends has no solution: such a row is dropped as `truncated_reasoning`. The first 20
responses are checked for template tokens, thoughts left in the solution, and responses that are empty or never end; if most
are bad the run stops and shows them. Rerun the same command to resume.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from magpie.cli import flags
from magpie.common.console import MagpieError, log, run_program, say_next
from magpie.config.load import plain
from magpie.config.model_presets import Sampling, load_model
from magpie.generation.config import load_response_styles
from magpie.generation.continuation import ThinkingBudget
from magpie.generation.responses import ResponseGenerator, ResponseOptions
from magpie.generation.session import ModelOptions, SamplingOptions, Template, generate
from magpie.generation.waves import Waves
from magpie.models.checkpoint import files_hash
from magpie.runs.jobs import spent_on_single_responses
from magpie.runs.stage import StageOptions, open_run
from magpie.verification.early_stop import NEVER, RULES, Rule
from magpie.verification.pool import Verifier


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    flags.add_input(parser)
    parser.add_argument(
        "--output_file", type=Path, help="(default: the input's stem with _res, or _Nres, with --append _Nmore)"
    )
    group = parser.add_argument_group("responses")
    group.add_argument("--num_responses", type=flags.positive, default=1, help="responses per problem (default 1)")
    flags.switch(
        group,
        "--append",
        "keep the responses that the records have, and add this model's until there are --num_responses of it",
    )
    group.add_argument(
        "--stop_when",
        choices=RULES,
        default=NEVER,
        help="request responses in waves until their majority is settled (more than half of all agree), or its "
        "posterior probability is 0.95 (default never: request all)",
    )
    group.add_argument(
        "--response_style",
        choices=list(load_response_styles()),
        default="boxed",
        help="how the prompt asks for the final answer: configs/prompts/responses.yaml (default boxed)",
    )
    group.add_argument("--system_prompt", help="system prompt (default: the template's own)")
    group.add_argument(
        "--retry_length",
        type=flags.positive,
        help="continue a response that was cut at --max_tokens, once, up to this many tokens in total (default: off)",
    )
    group.add_argument(
        "--thinking_budget",
        type=flags.positive,
        help="maximum tokens of the chain of thought; then it is closed and the model has to respond (default: no limit)",
    )
    group.add_argument(
        "--preflight", type=flags.not_negative, default=20, help="responses to check first, 0: none (default 20)"
    )
    flags.switch(group, "--request_seeds", "send a seed with every request; slows vLLM's sampler")
    flags.add_shard(parser)
    flags.add_model(parser)
    flags.add_sampling(parser, "answers, or for samples with --num_responses above 1")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.num_responses > 1 and args.temperature == 0:
        parser.error("--temperature 0 gives the same response every time: with --num_responses above 1 raise it (0.8)")
    if args.append and args.stop_when != NEVER:
        parser.error(f"--append requests all of --num_responses: leave out --stop_when {args.stop_when}")
    if args.num_responses == 1 and args.stop_when != NEVER:
        parser.error(f"--stop_when {args.stop_when} needs several responses to compare: --num_responses 8")
    return args


def run_arguments(args: argparse.Namespace, model: str, sampling: Sampling) -> dict[str, Any]:
    """Return what decides the output's content."""
    names = ("num_responses", "response_style", "system_prompt", "retry_length", "request_seeds", "seed", "tokenizer")
    arguments = {"model_path": model, **plain(sampling), **{name: getattr(args, name) for name in names}}
    if args.stop_when != NEVER:  # files begun before this flag existed can be resumed
        arguments["stop_when"] = args.stop_when
    if args.thinking_budget:
        arguments["thinking_budget"] = args.thinking_budget
    if args.append:
        arguments |= {"append": True, "model_hash": files_hash(load_model(args.model_path))}
    if args.template_variables:
        arguments["template_variables"] = args.template_variables
    return arguments


def main() -> None:
    """Run the stage."""
    args = parse_args()
    preset = load_model(args.model_path)
    sampling = flags.options_from(args, SamplingOptions).over(preset.answers if args.num_responses == 1 else preset.samples)
    if sampling.temperature < preset.least_temperature:
        log.warning(
            "temperature %g is below what %s was made for (%s); expect endless repetition",
            sampling.temperature,
            preset.model,
            preset.answers_source,
        )
    if args.thinking_budget and args.thinking_budget >= sampling.max_tokens:
        raise MagpieError(
            f"--thinking_budget {args.thinking_budget} leaves no room for an answer: --max_tokens is {sampling.max_tokens}. "
            "Lower the first or raise the second"
        )
    model, options = flags.options_from(args, ModelOptions), flags.options_from(args, StageOptions)
    suffix = f"_{args.num_responses}more" if args.append else "_res" if args.num_responses == 1 else f"_{args.num_responses}res"
    run = open_run("gen_res.py", options, suffix, run_arguments(args, preset.model, sampling))
    if args.num_responses > 1 and not args.append:
        run.notes["beside_tokens"] = spent_on_single_responses(args.input_file)

    def try_template(template: Template) -> None:
        template.prompt("1 + 1?", args.system_prompt)
        if args.thinking_budget:
            ThinkingBudget.check(template)
        if template.left_off:
            log.warning(
                "the chat template of %s leaves thinking off. With --template_variables %s the model thinks before it responds",
                preset.model,
                template.left_off,
            )
        if template.unknown_tag:
            log.warning(
                "the chat template of %s mentions %s, which no format in configs/reasoning.yaml has: a thought in such tags "
                "stays in the response. Add the format there (docs/add-a-model.md)",
                preset.model,
                template.unknown_tag,
            )

    with Verifier() if args.stop_when != NEVER else contextlib.nullcontext() as verifier:
        waves = Waves(Rule(args.stop_when, args.num_responses), verifier) if verifier else None
        generator = ResponseGenerator(flags.options_from(args, ResponseOptions), preset, sampling, waves)
        rows, work = generator.rows(run), generator.work
        made = generate(run, preset, model, options, rows, work, try_template=try_template, responses=args.num_responses)
    if made:
        then = "export.py --format sharegpt" if args.num_responses == 1 and not args.append else "verify.py"
        say_next("%s --input_file %s", then, run.paths.output)


if __name__ == "__main__":
    run_program("gen_res", main)

"""Make problems: the model, given its chat template up to where the user speaks, writes them by itself.

    python exp/gen_ins.py --model_path smollm2 --total_prompts 64 --output_file data/job/job_ins.jsonl

Writes `id`, `instruction`, `pre_query_template`, `target_domain`, `template_id`, `gen_input_configs` and `created`. Ends with
exactly --total_prompts rows: a sample that is empty, cut off at --max_tokens or refused by the server is replaced and counted.
Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from magpie import flags
from magpie.client import Completion, Refused
from magpie.configs import PROJECT, ModelPreset, Sampling, load_domain, load_model, load_steering
from magpie.console import MagpieError, log, run_program
from magpie.generation import Session, generate, request_seed
from magpie.preflight import DuplicateAlarm, Preflight
from magpie.records import DOMAINS, stem_of
from magpie.runs import Run
from magpie.steering import Steer, Steerer, balanced

MARKDOWN_OPENERS = ("#", "*", "`", "- ", "> ", "|", "---")


def parse_args() -> argparse.Namespace:
    """Return the checked command line."""
    parser = flags.Parser(__doc__)
    parser.add_argument("--total_prompts", type=flags.positive, required=True, help="problems to make")
    parser.add_argument("--output_file", type=Path, help="(default: data/MODEL_TIME/MODEL_TIME_ins.jsonl)")
    group = parser.add_argument_group("steering")
    group.add_argument(
        "--control_tasks",
        choices=["math", "none"],
        default="math",
        help="what the system prompt asks for (default math)",
    )
    group.add_argument("--domain", nargs="+", choices=DOMAINS, default=[], help="fields of mathematics instead")
    group.add_argument(
        "--domain_weights",
        nargs="+",
        type=flags.number(float, above=0.0),
        help="a weight for each field of --domain (default: equal)",
    )
    group.add_argument(
        "--task_templates",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="steer with the fields' task templates too; all fields if no --domain is given (default off)",
    )
    group.add_argument(
        "--first_token_temperature",
        type=flags.number(float, above=0.0, most=2.0),
        help="temperature of the first token alone, for more variety ('flaming tokens'; needs a vLLM server; default off)",
    )
    group.add_argument(
        "--ban_markdown",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="no problem begins with a token that opens markdown (needs a vLLM server; default off)",
    )
    group.add_argument("--preflight", type=flags.not_negative, default=20, help="samples to check first, 0: none (default 20)")
    group.add_argument(
        "--max_attempts", type=flags.positive, help="samples at most (default: 10 for each problem, at least 200)"
    )
    group.add_argument(
        "--request_seeds",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="a seed for each request; slows vLLM's sampler (default off)",
    )
    flags.add_model(parser)
    flags.add_sampling(parser, "problems")
    flags.add_run(parser)
    args = parser.parse_args()
    if args.task_templates and not args.domain:
        args.domain = list(DOMAINS)
    if len(set(args.domain)) != len(args.domain):
        parser.error("--domain names a field twice")
    if args.domain_weights and len(args.domain_weights) != len(args.domain):
        parser.error(f"--domain_weights has {len(args.domain_weights)} numbers for {len(args.domain)} fields")
    return args


class Maker:
    """Makes problems: one row at a time, as often as it takes."""

    def __init__(self, args: argparse.Namespace, preset: ModelPreset, sampling: Sampling, stem: str) -> None:
        self._args, self._preset, self._sampling, self._stem = args, preset, sampling, stem
        task = None if args.control_tasks == "none" else args.control_tasks
        self._domains = {name: load_domain(name) for name in args.domain}
        self._steerer = Steerer(
            load_steering(), task=task, domains=self._domains, use_templates=args.task_templates, seed=args.seed
        )
        self._attempts = 0
        self._most_attempts = args.max_attempts or max(200, 10 * args.total_prompts)
        self._preflight = Preflight(min(args.preflight, args.total_prompts))
        self._alarm = DuplicateAlarm()
        self._banned: dict[str, int] | None = None

    def rows(self, run: Run) -> Iterator[tuple[int, str | None]]:
        """Yield the rows that are not finished, each with its field."""
        weights = dict(zip(self._args.domain, self._args.domain_weights or [1.0] * len(self._args.domain), strict=True))
        fields = balanced(weights, run.rows) if weights else iter([None] * 0)
        for row in range(run.rows):
            field = next(fields, None)
            if not run.is_closed(row):
                yield row, field

    async def make(self, session: Session, item: tuple[int, str | None]) -> None:
        """Sample until the row is filled."""
        row, domain = item
        if session.run.totals.written >= self._args.preflight:
            self._preflight.skip()
        attempt = 0
        while not session.run.is_closed(row):
            self._attempts += 1
            if self._attempts > self._most_attempts:
                raise MagpieError(
                    f"{self._most_attempts} samples made only {session.run.totals.written} problems, dropped: "
                    f"{dict(session.run.totals.dropped)}. Look at {session.run.paths.part}; raise --max_tokens "
                    "or --max_attempts"
                )
            await self._attempt(session, row, attempt, domain)
            attempt += 1

    async def _attempt(self, session: Session, row: int, attempt: int, domain: str | None) -> None:
        steer = self._steerer.draw(row, attempt, domain)
        prefix = session.template.frame(steer.system).pre_query
        record = self._record(row, prefix, steer)
        place = self._preflight.place()
        try:
            made = await self._sample(session, session.template.encode(prefix), request_seed(self._args.seed, row, attempt))
        except Refused as error:
            self._preflight.add(place, "", "refused", session.template.added_tokens)
            session.drop(row, record, error.reason, error.detail, replaced=True)
            return
        text = made.text.strip()
        record["instruction"] = text
        self._alarm.add(text)
        reason = "empty" if not text else "cut_at_max_tokens" if made.finish_reason == "length" else ""
        if reason:
            session.drop(row, record, reason, completions=[made], replaced=True)
        else:
            session.keep(row, record, [made])
        self._preflight.add(place, text, made.finish_reason, session.template.added_tokens)

    def _record(self, row: int, prefix: str, steer: Steer) -> dict[str, Any]:
        configs = {
            "input_generator": self._preset.model,
            **msgspec.structs.asdict(self._sampling),
            "first_token_temperature": self._args.first_token_temperature,
            "ban_markdown": self._args.ban_markdown,
            "seed": self._args.seed,
        }
        return {
            "id": f"{self._stem}-{row:06d}",
            "instruction": "",
            "pre_query_template": prefix,
            "target_domain": steer.domain,
            "template_id": steer.template_id,
            "gen_input_configs": configs,
            "created": int(time.time()),
        }

    async def _sample(self, session: Session, prefix: list[int], seed: int) -> Completion:
        settings = session.server_sampling(self._sampling)
        if self._args.request_seeds:
            settings |= {"seed": seed}
        if self._args.first_token_temperature is None and not self._args.ban_markdown:
            return await session.client.complete(prefix, settings)
        first = await session.client.complete(prefix, settings | self._first_token_settings(session))
        if first.finish_reason == "stop" or self._sampling.max_tokens == 1 or not first.token_ids:
            return first
        rest = await session.client.complete(prefix + first.token_ids, settings | {"max_tokens": self._sampling.max_tokens - 1})
        ids = first.token_ids + (rest.token_ids or [])
        tokens = first.completion_tokens + rest.completion_tokens
        return Completion(session.template.decode(ids), rest.finish_reason, first.prompt_tokens, tokens, ids)

    def _first_token_settings(self, session: Session) -> dict[str, Any]:
        if not session.client.is_vllm:
            raise MagpieError(
                "--first_token_temperature and --ban_markdown need a vLLM server (token ids come back only there)"
            )
        settings: dict[str, Any] = {"max_tokens": 1}
        if self._args.first_token_temperature is not None:
            settings["temperature"] = self._args.first_token_temperature
        if self._args.ban_markdown:
            if self._banned is None:
                self._banned = {str(i): -100 for i in session.template.ids_starting_with(MARKDOWN_OPENERS)}
            settings["logit_bias"] = self._banned
        return settings


def main() -> None:
    """Run the stage."""
    args = parse_args()
    preset = load_model(args.model_path)
    job = f"{preset.name}_{datetime.now():%Y%m%d_%H%M%S}"
    output = args.output_file or PROJECT / "data" / job / f"{job}_ins.jsonl"
    sampling = flags.sampling_of(args, preset.problems)
    maker = Maker(args, preset, sampling, stem_of(output).removesuffix("_ins"))
    arguments = {
        "model_path": preset.model,
        "total_prompts": args.total_prompts,
        **msgspec.structs.asdict(sampling),
        **{
            name: getattr(args, name)
            for name in (
                "control_tasks",
                "domain",
                "domain_weights",
                "task_templates",
                "first_token_temperature",
                "ban_markdown",
                "request_seeds",
                "seed",
                "tokenizer",
            )
        },
    }
    run = Run("gen_ins.py", output, rows=args.total_prompts, arguments=arguments)
    generate(run, preset, args, maker.rows(run), maker.make)
    log.info("next: python exp/gen_res.py --model_path %s --input_file %s", args.model_path, output)


if __name__ == "__main__":
    run_program("gen_ins", main)

"""Problems: one row at a time, sampled as often as it takes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from magpie.cleaning.clean import as_record, clean
from magpie.cli.flags import language_of
from magpie.client.replies import Completion, Refused
from magpie.common.console import MagpieError
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import ModelPreset, Sampling
from magpie.generation.config import load_domain, load_steering
from magpie.generation.preflight import DuplicateAlarm, Preflight
from magpie.generation.session import Session, Template
from magpie.generation.steering import Steer, Steerer, balanced
from magpie.runs.run import Run

MARKDOWN_OPENERS = ("#", "*", "`", "- ", "> ", "|", "---")


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
        self._most_attempts = args.max_attempts or 0
        self._preflight = Preflight(0)
        self._alarm = DuplicateAlarm()
        self._banned: dict[str, int] | None = None

    def rows(self, run: Run) -> Iterator[tuple[int, str | None]]:
        """Yield the rows that are not finished, each with its field."""
        self._preflight = Preflight(min(self._args.preflight, run.rows - run.closed))
        self._most_attempts = self._args.max_attempts or max(200, 10 * run.rows)
        weights = dict(zip(self._args.domain, self._args.domain_weights or [1.0] * len(self._args.domain), strict=True))
        fields = balanced(weights, self._args.total_prompts) if weights else iter([None] * 0)
        for row in range(self._args.total_prompts):
            field = next(fields, None)
            if not run.is_closed(row):
                yield row, field

    def try_template(self, template: Template) -> None:
        """Render a steered prefix."""
        template.frame(self._steerer.draw(0, 0, next(iter(self._domains), None)).system)

    async def make(self, session: Session, item: tuple[int, str | None]) -> None:
        """Sample until the row is filled."""
        row, domain = item
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
        prefix = session.own_template.frame(steer.system).pre_query
        record = self._record(row, prefix, steer)
        place = self._preflight.place()
        try:
            made = await self._sample(session, session.own_template.encode(prefix), hashed_seed(self._args.seed, row, attempt))
        except Refused as error:
            self._preflight.add(place, "", f"refused: {error.detail}", session.template.added_tokens)
            session.drop(row, record, error.reason, error.detail, replaced=True)
            return
        text = made.text.strip()
        record["instruction"] = text
        self._alarm.add(text)
        reason = "empty" if not text else "cut_at_max_tokens" if made.finish_reason == "length" else ""
        if self._args.clean and not reason:
            cleaned = clean(text, language=language_of(self._args))
            record, reason = as_record(record, cleaned), cleaned.drop_reason
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
        if session.client.context:
            settings["max_tokens"] = max(1, min(settings["max_tokens"], session.client.context - len(prefix)))
        if self._args.request_seeds:
            settings |= {"seed": seed}
        if self._args.first_token_temperature is None and not self._args.ban_markdown:
            return await session.client.complete(prefix, settings)
        first = await session.client.complete(prefix, settings | self._first_token_settings(session))
        if first.finish_reason == "stop" or self._sampling.max_tokens == 1 or not first.token_ids:
            return first
        settings["max_tokens"] = max(1, settings["max_tokens"] - 1)
        rest = await session.client.complete(prefix + first.token_ids, settings)
        ids = first.token_ids + (rest.token_ids or [])
        tokens = first.completion_tokens + rest.completion_tokens
        return Completion(session.own_template.decode(ids), rest.finish_reason, first.prompt_tokens, tokens, ids)

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
                self._banned = {str(i): -100 for i in session.own_template.ids_starting_with(MARKDOWN_OPENERS)}
            settings["logit_bias"] = self._banned
        return settings

"""Problems: each row is sampled until it has a usable one."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from magpie.cleaning.clean import as_record, clean
from magpie.client.replies import Completion, Refused
from magpie.common.console import MagpieError
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import ModelPreset, Sampling
from magpie.generation.config import load_domain, load_openings, load_steering
from magpie.generation.preflight import DuplicateAlarm, Preflight, by_reason
from magpie.generation.session import Session, Template
from magpie.generation.steering import Steer, Steerer, balanced
from magpie.runs.run import Run

MARKDOWN_OPENERS = ("#", "*", "`", "- ", "> ", "|", "---")


RATIONALE_CHARACTERS = 2000


@dataclass(frozen=True)
class ProblemOptions:
    """Flags of gen_ins.py: steering, samples, the run's seed."""

    total_prompts: int
    control_tasks: str
    domain: list[str]
    domain_weights: list[float] | None
    task_templates: bool
    openings: bool
    concepts: int
    rationale: bool
    first_token_temperature: float | None
    ban_markdown: bool
    preflight: int
    max_attempts: int | None
    clean: bool
    language: str
    request_seeds: bool
    seed: int
    planted: int
    planted_families: list[str]
    planted_levels: list[str]


class ProblemGenerator:
    """Generates problems: row by row, with as many samples as needed.

    Args:
        options: the stage's flags.
        preset: the model.
        sampling: settings of a sample.
        stem: beginning of every record's id.
    """

    def __init__(self, options: ProblemOptions, preset: ModelPreset, sampling: Sampling, stem: str) -> None:
        self._options, self._preset, self._sampling, self._stem = options, preset, sampling, stem
        task = None if options.control_tasks == "none" else options.control_tasks
        self._domains = {name: load_domain(name) for name in options.domain}
        self._steerer = Steerer(
            load_steering(),
            task=task,
            domains=self._domains,
            use_templates=options.task_templates,
            seed=options.seed,
            openings=load_openings() if options.openings else None,
            concepts=options.concepts,
        )
        self._controls: dict[int, dict[str, Any]] = {}
        self._attempts = 0
        self._most_attempts = options.max_attempts or 0
        self._preflight = Preflight(0, clean=options.clean, language=options.language)
        self._alarm = DuplicateAlarm()
        self._rationales: dict[int, str | None] = {}
        self._banned: dict[str, int] | None = None

    def rows(self, run: Run) -> Iterator[tuple[int, str | None]]:
        """Yield the rows that are not finished, each with its domain."""
        self._controls = self._planted(run)
        missing = sum(row not in self._controls and not run.is_closed(row) for row in run.indices)
        self._preflight.wanted = min(self._options.preflight, missing)
        self._most_attempts = self._options.max_attempts or max(200, 10 * run.rows)
        weights = dict(
            zip(self._options.domain, self._options.domain_weights or [1.0] * len(self._options.domain), strict=True)
        )
        domains = balanced(weights, self._options.total_prompts) if weights else iter([None] * 0)
        for row in range(self._options.total_prompts + self._options.planted):
            domain = None if row in self._controls else next(domains, None)
            if not run.is_closed(row):
                yield row, domain

    def _planted(self, run: Run) -> dict[int, dict[str, Any]]:
        """Return the rows that are controls, spread at random over the run."""
        options, count = self._options, self._options.planted
        if not count:
            return {}
        from magpie.controls.planting import planted

        rows = random.Random(hashed_seed(options.seed, "rows of controls"))
        made = planted(count, options.seed, options.planted_families, options.planted_levels)
        return dict(zip(rows.sample(range(options.total_prompts + count), count), made, strict=True))

    def try_template(self, template: Template) -> None:
        """Render a steered prefix.

        Raises:
            MagpieError: the template has no prefix to sample from.
        """
        if not template.frame(self._steerer.draw(0, 0, next(iter(self._domains), None)).system).pre_query:
            raise MagpieError("the chat template puts nothing before the user's text, so no problem can be sampled from it")

    async def work(self, session: Session, item: tuple[int, str | None]) -> None:
        """Sample until the row is filled.

        Raises:
            MagpieError: the run has reached its maximum number of samples.
        """
        row, domain = item
        if row in self._controls:
            self._plant(session, row)
            return
        attempt = 0
        while not session.run.is_closed(row):
            self._attempts += 1
            if self._attempts > self._most_attempts:
                raise MagpieError(self._too_few(session.run))
            await self._attempt(session, row, attempt, domain)
            attempt += 1

    def _plant(self, session: Session, row: int) -> None:
        """Finish a row with its control; only `control` distinguishes it from the others."""
        control = self._controls[row]
        steer = self._steerer.draw(
            row, 0, control["domain"] if control["domain"] in self._domains else next(iter(self._domains), None)
        )
        steer = dataclasses.replace(steer, opening="")
        record = self._record(row, session.own_template.frame(steer.system).pre_query, steer)
        record |= {"instruction": control["instruction"], "control": control["control"]}
        reason = ""
        if self._options.clean:
            cleaned = clean(control["instruction"], language=self._options.language)
            record, reason = as_record(record, cleaned), cleaned.drop_reason
        if reason:
            session.drop(row, record, reason)
        else:
            session.keep(row, record, [])

    def _too_few(self, run: Run) -> str:
        totals = run.totals
        return (
            f"{self._most_attempts} samples made only {totals.written} of {run.rows} {'clean ' * self._options.clean}problems, "
            f"dropped: {by_reason(totals.dropped)}. Nothing is lost: they are in {run.paths.part}. Rerun the same command to "
            "try again as often, raise --max_tokens or --max_attempts, or request fewer. If most samples are not "
            "mathematics, --openings or --domain may help"
        )

    async def _attempt(self, session: Session, row: int, attempt: int, domain: str | None) -> None:
        steer = self._steerer.draw(row, attempt, domain)
        rationale, thought = await self._rationale(session, row, steer)
        if rationale:
            design = load_steering().concepts.with_rationale.replace("{rationale}", rationale)
            steer = dataclasses.replace(steer, system=f"{steer.system} {design}")
        prefix = session.own_template.frame(steer.system).pre_query
        ids = session.own_template.encode(prefix + steer.opening)
        record = self._record(row, prefix, steer) | ({"rationale": rationale} if self._options.rationale else {})
        number = self._preflight.next_number()
        try:
            completion = await self._sample(session, ids, steer, row, attempt)
        except Refused as error:
            self._preflight.add(number, "", f"refused: {error.detail}", session.template.added_tokens)
            session.drop(row, record, error.reason, error.detail, replaced=True)
            return
        text = (steer.opening + completion.text).strip() if completion.text.strip() else ""
        record["instruction"] = text
        self._alarm.add(text)
        reason = "empty" if not text else "cut_at_max_tokens" if completion.finish_reason == "length" else ""
        if self._options.clean and not reason:
            cleaned = clean(text, language=self._options.language)
            record, reason = as_record(record, cleaned), cleaned.drop_reason
        if reason:
            session.drop(row, record, reason, completions=[*thought, completion], replaced=True)
        else:
            session.keep(row, record, [*thought, completion])
        self._preflight.add(number, text, completion.finish_reason, session.template.added_tokens)

    async def _rationale(self, session: Session, row: int, steer: Steer) -> tuple[str | None, list[Completion]]:
        """Return how the concepts of a row are to be combined, asked once per row, and the completion to be counted."""
        if not self._options.rationale or not steer.concepts:
            return None, []
        if row in self._rationales:
            return self._rationales[row], []
        topic = load_steering().concepts.joined.join(steer.concepts)
        prompt = session.template.prompt(load_steering().concepts.rationale.replace("{topic}", topic), thinking=False)
        try:
            completion = await session.client.complete(prompt, session.server_sampling(self._sampling))
        except Refused:
            return None, []
        solution = session.template.reasoning.split(completion.text, opened=session.template.forced_think)[1] or ""
        self._rationales[row] = (
            session.template.escape_special_tokens(" ".join(solution.split())[:RATIONALE_CHARACTERS]) or None
        )
        return self._rationales[row], [completion]

    def _record(self, row: int, prefix: str, steer: Steer) -> dict[str, Any]:
        configs = {
            "input_generator": self._preset.model,
            **msgspec.structs.asdict(self._sampling),
            "first_token_temperature": self._options.first_token_temperature,
            "ban_markdown": self._options.ban_markdown,
            "openings": self._options.openings,
            "seed": self._options.seed,
        }
        return {
            "id": f"{self._stem}-{row:06d}",
            "instruction": "",
            "pre_query_template": prefix,
            "opening": steer.opening or None,
            "target_domain": steer.domain,
            **({"concepts": list(steer.concepts)} if steer.concepts else {}),
            "template_id": steer.template_id,
            "gen_input_configs": configs,
            "created": int(time.time()),
        }

    async def _sample(self, session: Session, prefix: list[int], steer: Steer, row: int, attempt: int) -> Completion:
        settings = session.server_sampling(self._sampling, users_turn=True)
        if session.client.context:
            settings["max_tokens"] = max(1, min(settings["max_tokens"], session.client.context - len(prefix)))
        if self._options.request_seeds:
            settings |= {"seed": hashed_seed(self._options.seed, row, attempt)}
        bans = self._options.ban_markdown and not steer.opening  # an opening is not markdown
        if self._options.first_token_temperature is None and not bans:
            return await session.client.complete(prefix, settings, slot=(row, attempt))
        first_token = settings | self._first_token_settings(session, bans=bans)
        first = await session.client.complete(prefix, first_token, slot=(row, attempt))
        if first.finish_reason == "stop" or self._sampling.max_tokens == 1 or not first.token_ids:
            return first
        settings["max_tokens"] = max(1, settings["max_tokens"] - 1)
        rest = await session.client.complete(prefix + first.token_ids, settings, slot=(row, attempt))
        ids = first.token_ids + (rest.token_ids or [])
        tokens = first.completion_tokens + rest.completion_tokens
        template = session.own_template  # after the prefix, because some tokenizers drop a text's first space
        before = template.decode(prefix, users_turn=True)
        text = template.decode(prefix + ids, users_turn=True).removeprefix(before)
        return Completion(text, rest.finish_reason, first.prompt_tokens, tokens, ids)

    def _first_token_settings(self, session: Session, *, bans: bool) -> dict[str, Any]:
        if not session.client.is_vllm:
            raise MagpieError(
                "--first_token_temperature and --ban_markdown need a vLLM server (token ids come back only there). Leave them "
                "out; if the model's preset sets --ban_markdown, pass --no-ban_markdown"
            )
        settings: dict[str, Any] = {"max_tokens": 1}
        if self._options.first_token_temperature is not None:
            settings["temperature"] = self._options.first_token_temperature
        if bans:
            if self._banned is None:
                self._banned = {str(i): -100 for i in session.own_template.ids_starting_with(MARKDOWN_OPENERS)}
            settings["logit_bias"] = self._banned
        return settings

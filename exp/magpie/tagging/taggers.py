"""Taggers: a language model or a guard model behind the server, or local ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from magpie.client.chat_prompt import Prompt
from magpie.client.replies import Completion, Refused
from magpie.common.console import printable
from magpie.config.model_presets import ModelPreset
from magpie.generation.session import Session
from magpie.tagging.config import load_tag_prompts
from magpie.tagging.guard_models import FORMS, MAX_TOKENS, guard_form
from magpie.tagging.missions import CUT, EMPTY, MISSIONS, VALIDITY, Mission, question, read_tags, with_tags
from magpie.tagging.validity import Judging, ValidityJudge
from magpie.text.reasoning import machine_readable

Result = dict[str, Any] | str
"""A mission's tags, or the reason why there are none."""
LocalTagger = Callable[[Sequence[dict[str, Any]]], list[Result]]
ATTEMPTS, RETRY_TEMPERATURE = 3, 0.7
"""Requests per mission; an unreadable response is resampled, no longer greedily."""
SHORTEST_PROBLEM = 200
"""Characters of a problem below which it is not worth tagging."""
DETAIL = 160


@dataclass
class Item:
    """A record in progress: the results of its missions so far, and the missions left for the server (`asked`)."""

    index: int
    record: dict[str, Any]
    results: dict[str, Result] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


# --- through the server ------------------------------------------------------------------------------------------------


class Asker:
    """Asks a model about a problem under a mission's schema, and retries if its response cannot be read."""

    def __init__(self, preset: ModelPreset) -> None:
        self._prompts, self._form = load_tag_prompts(), guard_form(preset)
        self.retries = 0
        """Requests that replace an unreadable response."""

    async def ask(self, session: Session, mission: Mission, problem: str, completions: list[Completion]) -> Result:
        """Return the tags, or the reason why there are none; the model's completions are appended to `completions`."""
        prompt = self._prompt(session, mission, problem)
        if prompt is None:
            return "prompt_too_long"
        settings = self._settings(session, mission, prompt)
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.retries += 1
                settings["temperature"] = RETRY_TEMPERATURE
            try:
                completion = await session.client.complete(prompt, settings)
            except Refused as error:
                return _failure(error.reason, error.detail)
            completions.append(completion)
            try:
                return self._read(mission, machine_readable(completion.text, session.template.reasoning))
            except ValueError as error:
                reason, detail = error.args
                why = _failure(CUT if completion.finish_reason == "length" else reason, detail)
        return why

    def _read(self, mission: Mission, text: str) -> dict[str, Any]:
        return FORMS[self._form](text) if self._form else read_tags(mission, text)

    def _settings(self, session: Session, mission: Mission, prompt: Prompt) -> dict[str, Any]:
        if self._form:
            return session.greedy_settings(prompt, MAX_TOKENS)
        return session.greedy_settings(prompt, mission.most_tokens, mission.name, mission.schema)

    def _prompt(self, session: Session, mission: Mission, problem: str) -> Prompt | None:
        """Return the prompt, with the problem cut to what fits; None if too little of it would be left."""
        least = MAX_TOKENS if self._form else mission.least_tokens
        problem = session.template.escape_special_tokens(problem)
        most = self._prompts.most_characters
        while True:
            shown = problem if len(problem) <= most else problem[:most] + self._prompts.cut_note
            # a guard knows its task, and its template has no room for a note
            text = problem[:most] if self._form else question(mission, self._prompts, shown)
            prompt = session.template.prompt(text, thinking=False)
            if session.client.context is None or len(prompt) + least <= session.client.context:
                return prompt
            most = min(most, len(problem)) // 2
            if most < SHORTEST_PROBLEM:
                return None


class ServerTagger:
    """Does all missions of a record through the server, concurrently."""

    def __init__(self, preset: ModelPreset, taggers: dict[str, str], judging: Judging) -> None:
        self._taggers, self._asker, self._judge = taggers, Asker(preset), ValidityJudge(judging)

    @property
    def retries(self) -> int:
        """Requests that replace an unreadable response."""
        return self._asker.retries

    async def work(self, session: Session, item: Item) -> None:
        """Finish one record."""
        completions: list[Completion] = []
        problem = item.record["instruction"]
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(self._ask(session, name, problem, completions)) for name in item.asked}
        results = item.results | {name: task.result() for name, task in tasks.items()}
        session.keep(item.index, with_tags(item.record, results, self._taggers), completions)

    def _ask(self, session: Session, name: str, problem: str, completions: list[Completion]) -> Coroutine[Any, Any, Result]:
        if name == VALIDITY:
            return self._judge.ask(session, problem, completions)
        return self._asker.ask(session, MISSIONS[name], problem, completions)


def _failure(reason: str, detail: str) -> str:
    detail = " ".join(printable(detail, DETAIL).split())
    return f"{reason}: {detail}" if detail else reason


# --- on this machine ---------------------------------------------------------------------------------------------------


def tag_languages(records: Sequence[dict[str, Any]]) -> list[Result]:
    """Tag the language of the problems."""
    from magpie.text.language import language_of

    return [{"language": language_of(record["instruction"])} for record in records]


def domain_tagger() -> LocalTagger:
    """Return a tagger of the domain by the problems' embeddings."""
    from magpie.domains.classifier import DomainTagger

    tagger = DomainTagger()
    return lambda records: [{"domain": label} for label in tagger.tag([record["instruction"] for record in records])]


def reward_tagger(model: str, *, trust_remote_code: bool) -> LocalTagger:
    """Return a tagger that scores problem and response with a reward model; a record needs exactly one response."""
    from magpie.rewards.model import RewardModel

    scorer = RewardModel(model, trust_remote_code=trust_remote_code)

    def tag(records: Sequence[dict[str, Any]]) -> list[Result]:
        turns = [
            [{"role": "user", "content": record["instruction"]}, {"role": "assistant", "content": record["response"]}]
            for record in records
            if record.get("response")
        ]
        scores = iter(scorer.score(turns) if turns else [])
        return [_reward(next(scores)) if record.get("response") else "no_response" for record in records]

    return tag


def _reward(score: float | None) -> Result:
    return "too_long" if score is None else {"instruct_reward": score}


def tag_here(items: list[Item], missions: dict[str, LocalTagger], wanted: Callable[[str, dict[str, Any]], bool]) -> None:
    """Do the missions that need no server, each for the whole batch at once."""
    for name, tagger in missions.items():
        batch = [item for item in items if wanted(name, item.record) and name not in item.results]
        for item, result in zip(batch, tagger([item.record for item in batch]) if batch else [], strict=True):
            item.results[name] = result


def tag_empty(item: Item, wanted: list[str]) -> None:
    """Give each mission of a record without a problem its reason."""
    if not item.record["instruction"].strip():
        item.results |= dict.fromkeys(wanted, EMPTY)

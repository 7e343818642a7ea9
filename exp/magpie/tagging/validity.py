"""Whether a problem is valid: pointed questions to a language model, each asked several times and decided by its votes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from magpie.client.chat_prompt import Prompt
from magpie.client.replies import Completion, Refused
from magpie.generation.session import Session
from magpie.records.schema import INVALID, VALID
from magpie.tagging.config import ValidityPrompts, load_validity
from magpie.tagging.missions import NOT_JSON, SPARE_TOKENS, TOKENS_PER_CHARACTER, WRONG_ANSWER
from magpie.text.reasoning import machine_readable

YES, NO, UNREAD = "yes", "no", "unread"
TALLY = (YES, NO, UNREAD)
TOO_LONG = "prompt_too_long"
SPARE_OF_VERDICT = 40
"""Tokens of a verdict without a reason; it has about 8."""


class _Vote(msgspec.Struct):
    verdict: str


@dataclass(frozen=True)
class Judging:
    """How a problem is judged: votes per question, and whether the model gives a reason before each verdict."""

    votes: int = 3
    explain: bool = True


class ValidityJudge:
    """Asks a model every question of `configs/prompts/validity.yaml` about a problem, and counts its votes."""

    def __init__(self, judging: Judging) -> None:
        self._prompts: ValidityPrompts = load_validity()
        self._votes = judging.votes
        self._reason = self._prompts.reason_characters if judging.explain else 0
        reason = {"reason": {"type": "string", "minLength": 1, "maxLength": self._reason}} if self._reason else {}
        properties = reason | {"verdict": {"type": "string", "enum": [YES, NO]}}
        self._schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    async def ask(self, session: Session, problem: str, completions: list[Completion]) -> dict[str, Any] | str:
        """Return the tags, or the reason why there are none; the model's completions are appended to `completions`.

        The problem is shown in full: for a cut one, nobody could say whether something is missing.
        """
        prompts = {name: self._prompt(session, problem, question.ask) for name, question in self._prompts.questions.items()}
        if any(self._is_too_long(session, prompt) for prompt in prompts.values()):
            return TOO_LONG
        async with asyncio.TaskGroup() as group:
            votes = {
                name: [group.create_task(self._vote(session, prompt, completions)) for _ in range(self._votes)]
                for name, prompt in prompts.items()
            }
        found = {name: [task.result() for task in tasks] for name, tasks in votes.items()}
        unread = [why for results in found.values() for verdict, why in results if verdict == UNREAD]
        if len(unread) == self._votes * len(prompts):
            return unread[0]
        counts = {name: Counter(verdict for verdict, _ in results) for name, results in found.items()}
        return self.decided({name: [count[verdict] for verdict in TALLY] for name, count in counts.items()})

    def decided(self, tallies: dict[str, list[int]]) -> dict[str, Any]:
        """Return the tags that follow from each question's [yes, no, unread]; more than half of all three decide it."""
        passed = {name: self._passed(name, tally) for name, tally in tallies.items()}
        failed = [name for name, good in passed.items() if good is False]
        return {
            "validity": INVALID if failed else VALID if all(passed.values()) else None,
            "validity_votes": tallies,
            "validity_reasons": failed,
        }

    def _passed(self, name: str, tally: list[int]) -> bool | None:
        verdict = next((word for word, count in zip(TALLY, tally, strict=True) if 2 * count > sum(tally)), UNREAD)
        return None if verdict == UNREAD else verdict == self._prompts.questions[name].passes

    def _is_too_long(self, session: Session, prompt: Prompt) -> bool:
        context = session.client.context
        return context is not None and len(prompt) + SPARE_OF_VERDICT + self._reason > context

    def _prompt(self, session: Session, problem: str, question: str) -> Prompt:
        head, tail = self._prompts.prompt.split("{problem}")
        reason = '"reason": one sentence, "verdict": ' if self._reason else '"verdict": '
        head, tail = (
            part.replace("{question}", question).replace("{shape}", f'{{{reason}"yes" or "no"}}') for part in (head, tail)
        )
        text = f"{head}{session.template.escape_special_tokens(problem)}{tail}"
        return session.template.prompt(text, thinking=False)

    async def _vote(self, session: Session, prompt: Prompt, completions: list[Completion]) -> tuple[str, str]:
        """Return one vote, and why it is unread."""
        most = SPARE_TOKENS + TOKENS_PER_CHARACTER * self._reason if self._reason else SPARE_OF_VERDICT
        settings = session.greedy_settings(prompt, most, "validity", self._schema)
        if self._votes > 1:
            settings["temperature"] = self._prompts.temperature
        try:
            completion = await session.client.complete(prompt, settings)
        except Refused as error:
            return UNREAD, error.reason
        completions.append(completion)
        try:
            verdict = msgspec.json.decode(machine_readable(completion.text), type=_Vote).verdict.strip().lower()
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return UNREAD, NOT_JSON
        return (verdict, "") if verdict in (YES, NO) else (UNREAD, WRONG_ANSWER)

"""A language model's opinion on whether two final answers are equal, asked in both orders and recorded as an opinion."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from magpie.client.client import Completion, Refused
from magpie.generation.session import Session, Template
from magpie.tagging.config import load_same_answer
from magpie.text.reasoning import machine_readable
from magpie.verification.pool import REFERENCE, Judgement

SAME, DIFFERENT, UNDECIDED = "same", "different", "undecided"
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": [SAME, DIFFERENT]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
MOST_TOKENS, MOST_PAIRS = 64, 16
"""Maximum tokens of a verdict (typically 10), and maximum pairs per record to ask about."""


class _Verdict(msgspec.Struct):
    verdict: str


class AnswerJudge:
    """Asks the server's model about the pairs of final answers that rules could not compare."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._prompt = load_same_answer()

    def question(self, template: Template, problem: str, one: str, other: str) -> str:
        """Return the question about a pair of final answers."""
        most = self._prompt.most_characters
        shown = {"problem": problem[:most], "one": one[: most // 4], "other": other[: most // 4]}
        return self._prompt.question.format(**{name: template.escape_special_tokens(text) for name, text in shown.items()})

    async def settle(
        self, session: Session, record: dict[str, Any], judgement: Judgement
    ) -> tuple[list[dict[str, Any]], list[Completion]]:
        """Ask about every doubt, merge equal answers in the judgement, and return the opinions and their completions."""
        pairs = judgement.doubts[:MOST_PAIRS]
        texts = [(judgement.answers[i] or "", self._text(j, record, judgement)) for i, j in pairs]
        asked = [self._ask(session, record["instruction"], one, other) for a, b in texts for one, other in ((a, b), (b, a))]
        replies = await asyncio.gather(*asked)
        opinions = []
        for k, (i, j) in enumerate(pairs):
            verdicts = [replies[2 * k][0], replies[2 * k + 1][0]]
            verdict = verdicts[0] if verdicts[0] == verdicts[1] else UNDECIDED
            against = "reference_answer" if j == REFERENCE else j
            opinions.append({"response": i, "against": against, "verdict": verdict, "orders": verdicts, "model": self._model})
            if verdict == SAME:
                _merge(judgement, i, j)
        return opinions, [completion for _, completion in replies if completion is not None]

    @staticmethod
    def _text(j: int, record: dict[str, Any], judgement: Judgement) -> str:
        return (record["reference_answer"] if j == REFERENCE else judgement.answers[j]) or ""

    async def _ask(self, session: Session, problem: str, one: str, other: str) -> tuple[str, Completion | None]:
        """Return the model's verdict on a pair in one order, or why there is none."""
        prompt = session.template.prompt(self.question(session.template, problem, one, other), thinking=False)
        if session.client.context and len(prompt) + MOST_TOKENS > session.client.context:
            return "prompt_too_long", None
        settings = session.greedy_settings(prompt, MOST_TOKENS, "same_answer", SCHEMA)
        try:
            completion = await session.client.complete(prompt, settings)
        except Refused as error:
            return error.reason, None
        text = machine_readable(completion.text, session.template.reasoning)
        try:
            return msgspec.json.decode(text, type=_Verdict).verdict, completion
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "unreadable", completion


def _merge(judgement: Judgement, i: int, j: int) -> None:
    """Treat the final answer of response i, and of its whole group, as equal to that of j (or to the reference answer)."""
    group = judgement.groups[i]
    members = [i] if group is None else [k for k, g in enumerate(judgement.groups) if g == group]
    if j == REFERENCE:
        for k in members:
            judgement.correct[k] = True
    elif group is not None and judgement.groups[j] is not None:
        for k in members:
            judgement.groups[k] = judgement.groups[j]

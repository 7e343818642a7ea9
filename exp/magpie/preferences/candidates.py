"""The responses to a problem, as candidates for both sides of a pair."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from magpie.text.degeneration import ends_in_loop
from magpie.text.reasoning import CLOSE, OPEN

UNFINISHED = {"length": "truncated", "repetition": "looping"}


class NoPair(Exception):
    """Raised for a problem without a pair; `reason` becomes the `drop_reason`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Candidate:
    """One response. `text`: the complete completion to train on; `excluded`: why it is excluded from both sides, or empty."""

    index: int
    text: str
    answer: str | None
    group: int | None
    correct: bool | None
    reward: float | None
    excluded: str
    votes: int
    """Number of responses with the same final answer; 0 if none could be extracted."""
    tie_break: bytes
    """Tie-break between equals: a hash of the run's seed, the problem's id and the response's index."""
    model: str | None = None


def candidates_of(record: dict[str, Any], *, seed: int, reasoning: bool) -> list[Candidate]:
    """Return a verified record's responses as candidates; `reasoning` puts the chain of thought before the solution."""
    responses = record["responses"]
    keys = ("reasoning", "finish_reason", "answers", "answer_groups", "is_correct", "rewards", "response_models")
    lists = [_values(record, key, len(responses)) for key in keys]
    votes = Counter(group for group in lists[3] if group is not None)
    identity = f"{seed}:{record.get('id', record['instruction'])}"
    out: list[Candidate] = []
    seen: set[str] = set()
    for index, (response, thought, finish, answer, group, correct, reward, model) in enumerate(
        zip(responses, *lists, strict=True)
    ):
        text = f"{OPEN}\n{thought}\n{CLOSE}\n\n{response}" if thought and reasoning else response
        excluded = "repeated" if text in seen else exclusion_reason(response, finish)
        seen.add(text)
        tie_break = hashlib.blake2b(f"{identity}:{index}".encode(), digest_size=8).digest()
        given = votes[group] if group is not None else 0
        out.append(Candidate(index, text, answer, group, correct, reward, excluded, given, tie_break, model))
    return out


def exclusion_reason(response: str, finish: str | None) -> str:
    """Return why a response is excluded, or an empty text. Without a finish reason it counts as complete."""
    if not response.strip():
        return "empty"
    if finish not in (None, "stop"):
        return UNFINISHED.get(finish or "", "unfinished")
    return "looping" if ends_in_loop(response) else ""


def _values(record: dict[str, Any], key: str, count: int) -> list[Any]:
    """Return a key's values, one per response."""
    values = record.get(key)
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise NoPair("inconsistent_lists", f"`{key}` has not one value for each of the {count} responses")
    return values

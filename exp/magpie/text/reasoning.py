"""The chain of thought in a generated text: how model families write it, and how it is separated from the solution."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

OPEN, CLOSE = "<think>", "</think>"
"""The tags in datasets, and around a chain of thought that a server returns in a separate field."""


class ReasoningFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a family of models writes its chain of thought; configs/reasoning.yaml explains the fields."""

    open: str
    close: str
    close_pattern: str = ""
    signs: tuple[str, ...] = ()
    own_turns: tuple[str, ...] = ()
    wraps: tuple[str, ...] = ()
    aside: str = ""
    header: str = ""
    empty: str = ""
    ends_with: str = ""
    turn_on: dict[str, Any] = {}
    turn_off: dict[str, Any] = {}

    @property
    def marks(self) -> tuple[str, ...]:
        """All markers of the format, which belong neither to a thought nor to a solution."""
        return tuple(mark for mark in (self.open, self.close, *self.own_turns, *self.wraps) if mark)

    @property
    def ending(self) -> str:
        """The text appended to a thought to end it."""
        return self.ends_with or f"\n{self.close}\n\n"

    def split(self, text: str, *, opened: bool = False) -> tuple[str | None, str | None]:
        """Split a model's text into its chain of thought and its solution, even if a marker around the thought is missing.

        Args:
            text: what the model wrote.
            opened: whether the prompt had opened the chain of thought already.

        Returns:
            (reasoning, solution). No chain of thought: (None, text). One that never ended: (reasoning, None).
        """
        if self.open != OPEN and text.lstrip().startswith(OPEN):
            return THINK.split(text)
        found = _pattern(self.close_pattern or re.escape(self.close)).search(text) if self.close else None
        if found:
            return self._thought(text[: found.start()]) or None, self._unwrapped(text[found.end() :])
        if self.close and (opened or self._begins_thought(text)):
            return self._thought(text), None
        return None, self._unwrapped(text.strip().removeprefix(self.header))

    def _begins_thought(self, text: str) -> bool:
        return text.lstrip().startswith(self.open) or any(mark in text for mark in self.own_turns)

    def _thought(self, text: str) -> str:
        opening = _pattern(rf"(?:\s*{re.escape(self.open)})+").match(text) if self.open else None
        text = (text[opening.end() :] if opening else text.lstrip()).removeprefix(self.header)
        text = _pattern(self.aside).sub("", text) if self.aside else text
        parts = re.split("|".join(map(re.escape, self.own_turns)), text) if self.own_turns else [text]
        return "\n\n".join(part.strip() for part in parts if part.strip())

    def _unwrapped(self, text: str) -> str:
        text = text.strip()
        for mark in self.wraps:
            text = text.removeprefix(mark).removesuffix(mark).strip()
        return text


THINK = ReasoningFormat(open=OPEN, close=CLOSE)
"""`<think>…</think>`."""
NONE = ReasoningFormat(open="", close="")
"""No chain of thought."""


def split_written(text: str, other: ReasoningFormat) -> tuple[str | None, str]:
    """Split a text of a dataset into its chain of thought and its solution; a text without a complete thought is unchanged.

    Text from export.py is restored exactly. `other`: a further format to look for.
    """
    head, gap, rest = text.removeprefix(f"{OPEN}\n").partition(f"\n{CLOSE}\n\n")
    if gap and text.startswith(f"{OPEN}\n"):
        return head, rest
    form = other if text.lstrip().startswith(other.open) else THINK
    thought, solution = form.split(text) if form.close in text else (None, None)
    return (thought, solution) if thought and solution else (None, text)


@cache
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source)


def machine_readable(text: str, form: ReasoningFormat = THINK) -> str:
    """Return the machine-readable part of a model's text: without its chain of thought and the fences of a code block."""
    solution = form.split(text)[1] or ""
    return solution.removeprefix("```json").removeprefix("```").removesuffix("```").strip()

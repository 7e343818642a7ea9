"""Common parts of all kinds of reward models: conversations, step scores, and the protocol of a scorer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from magpie.common.console import MagpieError

Conversation = list[dict[str, str]]
"""Messages, each with `role` and `content`; the last is the response to score."""
Steps = list[float]
"""The scores of a response: one per step from a process reward model, else a single one."""

REDUCTIONS: dict[str, Callable[[Steps], float]] = {
    "min": min,
    "product": math.prod,
    "last": lambda steps: steps[-1],
    "mean": lambda steps: sum(steps) / len(steps),
}
"""Reductions of step scores to one reward. A chain is as good as its weakest step: `min` (Lightman et al., 2305.20050, and the
Qwen2.5-Math-PRM report, 2501.07301, compare it with `product` and `last`)."""
STEP_TOKEN = "<extra_0>"  # noqa: S105
"""The separator that Qwen2.5-Math-PRM reads after each step."""
STEP_SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system prompt that Qwen2.5-Math-PRM was trained with (its model card)."""
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")


class Scorer(Protocol):
    """A loaded reward model of any kind."""

    name: str

    @property
    def has_steps(self) -> bool:
        """True if each step has a score."""

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where it exceeds the model's context."""


def with_steps(turns: Conversation) -> Conversation:
    """Return a conversation in the format of a process reward model: STEP_TOKEN after each step; blank lines separate steps."""
    shown = [turn | {"content": turn["content"].replace(STEP_TOKEN, " ")} for turn in turns]
    steps = steps_of(shown[-1]["content"])
    shown[-1] = shown[-1] | {"content": "".join(f"{step}{STEP_TOKEN}" for step in steps)}
    system = [] if shown[0]["role"] == "system" else [{"role": "system", "content": STEP_SYSTEM_PROMPT}]
    return system + shown


def steps_of(response: str) -> list[str]:
    """Return a response's steps (at least one), as counted in `step_rewards`."""
    return [step for step in _BLANK_LINE.split(response.strip()) if step.strip()] or [""]


def loading_error(name: str, error: Exception) -> MagpieError:
    """Return the error for a model that cannot be loaded, in one line."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return MagpieError(
        f"the reward model {name!r} cannot be loaded ({first}). Name a folder, a hub id that this machine can reach, or the "
        "URL of a server (http://host:8000/v1)"
    )

"""Rewards: what reward models think of answers.

Four kinds, told apart by the model's own configuration:
- sequence classifiers with one label (Skywork-Reward-V2 and the like): the logit behind the last token;
- ArmoRM and its like: many objectives, mixed by a gate that sees the problem; read from the weights, so that the program which
  comes with the model is not needed (it does not load with this transformers);
- process reward models (Qwen2.5-Math-PRM): how likely each step is right; read from the weights too;
- any of them behind a server's URL (vLLM with `--runner pooling`).
A model with a program of its own that is none of these runs only where --trust_remote_code allows that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from magpie.common.console import MagpieError

Conversation = list[dict[str, str]]
"""Messages, each with `role` and `content`; the last is the answer that is scored."""
Steps = list[float]
"""The scores of an answer: one for each step by a process reward model, else a single one."""

REDUCTIONS: dict[str, Callable[[Steps], float]] = {
    "min": min,
    "product": math.prod,
    "last": lambda steps: steps[-1],
    "mean": lambda steps: sum(steps) / len(steps),
}
"""How the scores of steps become one. A chain is as good as its weakest step: `min` (Lightman et al., 2305.20050, and the
Qwen2.5-Math-PRM report, 2501.07301, compare it with `product` and `last`)."""
STEP_TOKEN = "<extra_0>"  # noqa: S105
"""What Qwen2.5-Math-PRM reads behind each step."""
STEP_SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system prompt that Qwen2.5-Math-PRM was trained with (its model card)."""
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")


class Scorer(Protocol):
    """What a kind of reward model brings."""

    name: str

    @property
    def has_steps(self) -> bool:
        """Whether each step has a score."""

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where it is longer than the model reads."""


class RewardModel:
    """Scores answers; the model is loaded at the first one, and a copy that is sent to another process loads it there."""

    def __init__(
        self,
        name: str,
        *,
        trust_remote_code: bool = False,
        device: str | None = None,
        batch_tokens: int | None = None,
        prm_reduce: str = "min",
    ) -> None:
        """Name the model.

        Args:
            name: hub id, folder, or URL of a server (http://host:8000/v1).
            trust_remote_code: run the program that comes with the model, where it needs one.
            device: as torch names it (default: the GPUs where there are some).
            batch_tokens: tokens in a batch, padding counted.
            prm_reduce: how the scores of steps become one: min, product, last or mean.
        """
        self._name = str(Path(name).resolve()) if Path(name).is_dir() else name
        self._reduction = prm_reduce
        self._trust, self._device, self._batch_tokens = trust_remote_code, device, batch_tokens
        self._loaded: Scorer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_loaded": None}

    @property
    def is_served(self) -> bool:
        """Whether it is behind a server's URL."""
        return self._name.startswith(("http://", "https://"))

    @property
    def _scorer(self) -> Scorer:
        if self._loaded is None:
            if self.is_served:
                from magpie.rewards.remote import ServedModel

                self._loaded = ServedModel(self._name)
            else:
                from magpie.rewards.local import load

                self._loaded = load(
                    self._name, trust_remote_code=self._trust, device=self._device, batch_tokens=self._batch_tokens
                )
        return self._loaded

    @property
    def name(self) -> str:
        """What records call the model: its hub id, its folder's name, or what the server calls it."""
        return self._scorer.name

    @property
    def has_steps(self) -> bool:
        """Whether it is a process reward model."""
        return self._scorer.has_steps

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return each answer's scores, one a step; None where it is longer than the model reads."""
        for conversation in conversations:
            if not conversation or conversation[-1].get("role") != "assistant":
                raise ValueError("a conversation ends with the assistant's answer")
        found = self._scorer.steps(conversations)
        for scores in found:
            if scores is not None and not all(math.isfinite(score) for score in scores):
                raise MagpieError(
                    f"{self.name} gives scores that are no numbers. Check its weights, or try it on another device"
                )
        return found

    def reduce(self, steps: Steps | None) -> float | None:
        """Return one score for an answer's steps."""
        return None if steps is None else REDUCTIONS[self._reduction](steps)

    def score(self, conversations: Sequence[Conversation]) -> list[float | None]:
        """Return each answer's reward; None where it is longer than the model reads."""
        return [self.reduce(steps) for steps in self.steps(conversations)]


@dataclass(frozen=True)
class Scored:
    """What a reward model makes of several answers."""

    model: str
    has_steps: bool
    steps: list[Steps | None]
    rewards: list[float | None]


def scores_of(models: Sequence[RewardModel], conversations: Sequence[Conversation]) -> list[Scored]:
    """Return what each model makes of the same answers.

    Raises:
        MagpieError: two of the models have the same name.
    """
    if len({model.name for model in models}) < len(models):
        raise MagpieError("two of the reward models have the same name: their scores could not be told apart")
    found = [model.steps(conversations) for model in models]
    return [
        Scored(model.name, model.has_steps, steps, [model.reduce(each) for each in steps])
        for model, steps in zip(models, found, strict=True)
    ]


def conversation(instruction: str, response: str) -> Conversation:
    """Return a problem and its answer as messages."""
    return [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}]


def with_steps(turns: Conversation) -> Conversation:
    """Return a conversation as a process reward model reads it: a mark behind each step, steps parted by blank lines."""
    shown = [turn | {"content": turn["content"].replace(STEP_TOKEN, " ")} for turn in turns]
    steps = [step for step in _BLANK_LINE.split(shown[-1]["content"].strip()) if step.strip()] or [""]
    shown[-1] = shown[-1] | {"content": "".join(f"{step}{STEP_TOKEN}" for step in steps)}
    system = [] if shown[0]["role"] == "system" else [{"role": "system", "content": STEP_SYSTEM_PROMPT}]
    return system + shown


def chosen_rewards(by_model: dict[str, list[float | None]], combine: str) -> list[float | None]:
    """Return the rewards that pairs are made by.

    Args:
        by_model: each model's scores of the same answers.
        combine: `first` (the first model's scores), or `rank` (the mean over the models of the share of the other answers
            that an answer beats; a tie counts half): models' scales are not alike, their orders can be compared.
    """
    scores = list(by_model.values())
    if combine == "first" or len(scores) == 1:
        return scores[0]
    ranks = [_ranks(each) for each in scores]
    columns = list(zip(*ranks, strict=True))
    return [None if any(rank is None for rank in column) else sum(column) / len(column) for column in columns]


def _ranks(scores: list[float | None]) -> list[float | None]:
    known = [score for score in scores if score is not None]

    def rank(score: float) -> float:
        beaten = sum(other < score for other in known) + (sum(other == score for other in known) - 1) / 2
        return beaten / (len(known) - 1) if len(known) > 1 else 0.5

    return [None if score is None else rank(score) for score in scores]


def loading_error(name: str, error: Exception) -> MagpieError:
    """Return the line for a model that cannot be loaded."""
    lines: list[Any] = str(error).splitlines() or [type(error).__name__]
    return MagpieError(
        f"the reward model {name!r} cannot be loaded ({lines[0]}). Name a folder, a hub id that this machine can reach, or the "
        "URL of a server (http://host:8000/v1)"
    )

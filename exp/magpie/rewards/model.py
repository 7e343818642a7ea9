"""Rewards of responses from reward models.

Four kinds, told apart by the model's own configuration:
- sequence classifiers with one label (Skywork-Reward-V2 and the like): the logit at the last token;
- ArmoRM and similar models: many objectives, mixed by a gate that sees the problem; read from the weights, so that the model's
  remote code is not needed (it does not load with this version of transformers);
- process reward models (Qwen2.5-Math-PRM): the probability that each step is right; read from the weights too;
- any of them behind a server's URL (vLLM with `--runner pooling`).
A model with remote code that is none of these runs only with --trust_remote_code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie.client.address_files import checked_url
from magpie.common.console import MagpieError
from magpie.rewards.base import REDUCTIONS, Conversation, Scorer, Steps
from magpie.rewards.local import load
from magpie.rewards.remote import ServedModel


class RewardModel:
    """A reward model, loaded at first use; a copy sent to another process loads it again there."""

    def __init__(
        self,
        name: str,
        *,
        trust_remote_code: bool = False,
        device: str | None = None,
        batch_tokens: int | None = None,
        prm_reduce: str = "min",
        proxy: str | None = None,
    ) -> None:
        """Name the model without loading it.

        Args:
            name: hub id, folder, or URL of a server (http://host:8000/v1).
            trust_remote_code: run the model's remote code, if needed.
            device: as torch names it (default: all GPUs, or the CPU if there are none).
            batch_tokens: tokens in a batch, including padding.
            prm_reduce: reduction of step scores to one reward: min, product, last or mean.
            proxy: for a server, see `client.proxies`.
        """
        self._name = str(Path(name).resolve()) if Path(name).is_dir() else name
        self._reduction, self._proxy = prm_reduce, proxy
        if self.is_served:
            checked_url(name, "--reward_model")
        self._trust, self._device, self._batch_tokens = trust_remote_code, device, batch_tokens
        self._loaded: Scorer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_loaded": None}

    @property
    def is_served(self) -> bool:
        """True if the model is behind a server's URL."""
        return self._name.startswith(("http://", "https://"))

    @property
    def _scorer(self) -> Scorer:
        if self._loaded is None:
            if self.is_served:
                self._loaded = ServedModel(self._name, self._proxy)
            else:
                self._loaded = load(
                    self._name, trust_remote_code=self._trust, device=self._device, batch_tokens=self._batch_tokens
                )
        return self._loaded

    @property
    def name(self) -> str:
        """The model's name in records: its hub id, its folder's name, or the server's name for it."""
        return self._scorer.name

    @property
    def has_steps(self) -> bool:
        """True for a process reward model."""
        return self._scorer.has_steps

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return each response's scores, one per step; None where it exceeds the model's context.

        Raises:
            ValueError: a conversation does not end with the assistant's turn.
            MagpieError: a score is not finite.
        """
        for conversation in conversations:
            if not conversation or conversation[-1].get("role") != "assistant":
                raise ValueError("a conversation must end with the assistant's turn")
        found = self._scorer.steps(conversations)
        for scores in found:
            if scores is not None and not all(math.isfinite(score) for score in scores):
                raise MagpieError(
                    f"{self.name} gives scores that are not finite. Check its weights, or try it on another device"
                )
        return found

    def reduce(self, steps: Steps | None) -> float | None:
        """Return the reward of a response from its step scores."""
        return None if steps is None else REDUCTIONS[self._reduction](steps)

    def score(self, conversations: Sequence[Conversation]) -> list[float | None]:
        """Return each response's reward; None where it exceeds the model's context."""
        return [self.reduce(steps) for steps in self.steps(conversations)]


@dataclass(frozen=True)
class Scored:
    """One reward model's scores of several responses."""

    model: str
    has_steps: bool
    steps: list[Steps | None]
    rewards: list[float | None]


def scores_of(models: Sequence[RewardModel], conversations: Sequence[Conversation]) -> list[Scored]:
    """Return each model's scores of the same responses.

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
    """Return a problem and a response as messages."""
    return [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}]


def chosen_rewards(by_model: dict[str, list[float | None]], combine: str) -> list[float | None]:
    """Return the rewards that rank responses for pairs.

    Args:
        by_model: each model's scores of the same responses.
        combine: `first` (the first model's scores), or `rank` (the mean over the models of the share of the other responses
            that a response beats; a tie counts half): the models' scales differ, their rankings are comparable.
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

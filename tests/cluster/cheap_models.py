"""The stages with models that take no time, for tests that are about the cluster and not about them.

    GO=FILE python tests/cluster/cheap_models.py gen_dis --input_file a.jsonl --ray HOST:PORT

With GO no worker begins with its second part before that file is there: what is stopped or killed until then is in the middle.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from magpie.common.console import run_program
from magpie.compute import embedding
from magpie.rewards.base import Conversation
from magpie.rewards.model import RewardModel

CHUNK = 50
"""Texts that are embedded together."""


class Gate:
    """Lets a worker through once, and then when the file is there."""

    def __init__(self) -> None:
        self._go, self._calls = os.environ.get("GO"), 0

    def wait(self) -> None:
        """Wait where that is so."""
        self._calls += 1
        while self._go and self._calls > 1 and not Path(self._go).exists():
            time.sleep(0.02)


class Letters:
    """In the place of `embedding.Encoder`: a text's vector counts its pairs of letters."""

    dimension = 64

    def __init__(self, *_: object) -> None:
        self._gate = Gate()

    def __call__(self, texts: list[str]) -> np.ndarray:
        self._gate.wait()
        counts = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for one, two in itertools.pairwise(text):
                counts[row, (31 * ord(one) + ord(two)) % self.dimension] += 1
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)


class Lengths(RewardModel):
    """A reward model whose scores are the answers' lengths."""

    name, has_steps = "lengths", False  # type: ignore[assignment]

    def __init__(self, *names: Any, **options: Any) -> None:
        super().__init__(*names, **options)
        self._gate = Gate()

    def steps(self, conversations: Sequence[Conversation]) -> list[list[float] | None]:
        """Return each answer's score."""
        self._gate.wait()
        return [[len(turns[-1]["content"]) / 7] for turns in conversations]


@contextlib.contextmanager
def cheap_models() -> Iterator[None]:
    """Put them in place."""
    with (
        mock.patch.object(embedding, "CHUNK", CHUNK),
        mock.patch.object(embedding, "Encoder", Letters),
        mock.patch("gen_po_rewards.RewardModel", Lengths),
    ):
        yield


if __name__ == "__main__":
    del sys.argv[0]
    with cheap_models():
        run_program(sys.argv[0], importlib.import_module(sys.argv[0]).main)

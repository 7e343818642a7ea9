"""A uniform sample of a stream, in constant memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Reservoir(Generic[Thing]):
    """A uniform sample of a stream."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._random = size, random.Random(seed)
        self.seen = 0
        self.kept: list[Thing] = []

    def offer(self, make: Callable[[], Thing]) -> None:
        """Count one more item, and create and keep it if it is drawn."""
        self.seen += 1
        if len(self.kept) < self._size:
            self.kept.append(make())
        elif (slot := self._random.randrange(self.seen)) < self._size:
            self.kept[slot] = make()

"""How fast answers are written, judged by those that ended last: of one that it is writing a server says nothing."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

LAST = 64
"""Answers whose pace counts: with more in flight each is slower, so what was long ago says little."""


@dataclass(eq=False)
class Request:
    """One request in flight; `tokens` is what it brought, None while there is nothing."""

    sent_at: float
    most_tokens: int
    tokens: int | None = None


class Pace:
    """The requests in flight, and how fast the last answers came."""

    def __init__(self) -> None:
        self._flying: set[Request] = set()
        self._ended: deque[tuple[int, float]] = deque(maxlen=LAST)

    @contextlib.contextmanager
    def request(self, most_tokens: int) -> Iterator[Request]:
        """Count a request as in flight that may bring so many tokens (0: not known); yields where to put how many came."""
        request = Request(time.monotonic(), most_tokens)
        self._flying.add(request)
        try:
            yield request
        finally:
            self._flying.discard(request)
            if request.tokens:
                self._ended.append((request.tokens, time.monotonic() - request.sent_at))

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of one answer; 0: none has ended."""
        seconds = sum(seconds for _, seconds in self._ended)
        return sum(tokens for tokens, _ in self._ended) / seconds if seconds else 0.0

    def written(self) -> float:
        """Return the tokens that those in flight are likely to have by now."""
        now, pace = time.monotonic(), self.tokens_per_second
        return sum(min((now - one.sent_at) * pace, one.most_tokens or math.inf) for one in self._flying)

    def most_seconds(self) -> tuple[float, float]:
        """Return the seconds that an answer takes at most, and until the last in flight ends: both at the pace of the last."""
        pace = self.tokens_per_second
        if not pace or not self._flying or not all(one.most_tokens for one in self._flying):
            return math.inf, math.inf
        now = time.monotonic()
        whole = max(one.most_tokens for one in self._flying) / pace
        return whole, max(0.0, *(one.most_tokens / pace - (now - one.sent_at) for one in self._flying))

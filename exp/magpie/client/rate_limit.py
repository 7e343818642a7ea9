"""Requests and tokens a minute, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from magpie.runs.one_pass import Totals

MINUTE = 60.0
FIRST_GUESS = 1000
"""Tokens of a completion before any has come back."""


@dataclass(frozen=True)
class Prices:
    """What a service charges, in US dollars for a million tokens."""

    prompt: float
    completion: float

    def cost(self, totals: Totals) -> float:
        """Return what the tokens of a run cost, in US dollars."""
        return (totals.prompt_tokens * self.prompt + totals.completion_tokens * self.completion) / 1e6


class Limits:
    """Requests and tokens a minute; None: no limit.

    A completion's length is known only afterwards. So a request pays for its prompt and for the mean of the completions so far
    (the first ones for a guess); what one writes beyond that the next request pays too.
    """

    def __init__(self, requests: int | None = None, tokens: int | None = None) -> None:
        self._requests, self._tokens = requests, tokens
        self._completions = self._written = self._owed = 0

    @cached_property
    def _request_limiter(self) -> AsyncLimiter | None:
        return _limiter(self._requests)

    @cached_property
    def _token_limiter(self) -> AsyncLimiter | None:
        return _limiter(self._tokens)

    async def before(self, prompt_tokens: int, most_tokens: int) -> int:
        """Wait until a request may be sent; return the completion's tokens that have been paid for."""
        if self._request_limiter:
            await self._request_limiter.acquire()
        expected = self._written // self._completions if self._completions else min(most_tokens, FIRST_GUESS)
        owed, self._owed = self._owed, 0
        await self._pay(owed + prompt_tokens + expected)
        return expected

    def after(self, paid: int, written: int) -> None:
        """Count a completion that `before` was paid for."""
        self._completions += 1
        self._written += written
        self._owed += max(0, written - paid)

    async def _pay(self, tokens: int) -> None:
        limiter = self._token_limiter
        while limiter and tokens > 0:
            part = min(tokens, int(limiter.max_rate))
            await limiter.acquire(part)
            tokens -= part


def _limiter(a_minute: int | None) -> AsyncLimiter | None:
    """Return a limiter that spreads a minute's worth evenly, in steps of at most a second's worth (at least one)."""
    if a_minute is None:
        return None
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(max(1.0, a_minute / MINUTE), max(1.0, a_minute / MINUTE) * MINUTE / a_minute)

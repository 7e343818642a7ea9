"""Limits on requests and tokens per minute, and prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

SECONDS_PER_MINUTE = 60.0
FIRST_GUESS = 1000
"""Assumed tokens of a completion before any is known."""


@dataclass(frozen=True)
class Prices:
    """What a service charges, in US dollars per million tokens."""

    prompt: float
    completion: float

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return what tokens cost, in US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class RateLimits:
    """Requests and tokens per minute; None: no limit.

    The length of a completion is known only afterwards. So a request reserves its prompt and the mean of the completions so far
    (at first a guess); what a completion exceeds that by is charged to the next request.
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

    async def reserve(self, prompt_tokens: int, max_tokens: int) -> int:
        """Wait until a request may be sent. Return the tokens that were reserved for its completion."""
        if self._request_limiter:
            await self._request_limiter.acquire()
        expected = self._written // self._completions if self._completions else min(max_tokens, FIRST_GUESS)
        owed, self._owed = self._owed, 0
        await self._spend(owed + prompt_tokens + expected)
        return expected

    def settle(self, reserved: int, written: int) -> None:
        """Count a completion of `written` tokens, for which `reserve` returned `reserved`."""
        self._completions += 1
        self._written += written
        self._owed += max(0, written - reserved)

    async def _spend(self, tokens: int) -> None:
        limiter = self._token_limiter
        while limiter and tokens > 0:
            part = min(tokens, int(limiter.max_rate))
            await limiter.acquire(part)
            tokens -= part


def _limiter(per_minute: int | None) -> AsyncLimiter | None:
    """Return a limiter that spreads a minute's worth evenly, in steps of at most a second's worth (at least one)."""
    if per_minute is None:
        return None
    from aiolimiter import AsyncLimiter

    step = max(1.0, per_minute / SECONDS_PER_MINUTE)
    return AsyncLimiter(step, step * SECONDS_PER_MINUTE / per_minute)

"""A ceiling on a run's tokens, seconds and dollars, which every request must pass.

A request whose expected tokens no longer fit waits until another has ended. When the ceiling is reached, an item without
finished requests ends; one that has some which are not on disk yet may go on until they are, so that nothing finished is lost.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from magpie.client.rate_limit import Prices
from magpie.common.console import CeilingReached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")


@dataclass
class Item:
    """The unfinished requests of an item of work."""

    in_flight: int = 0
    unrecorded: int = 0
    """Completions that are not on disk."""


_item: ContextVar[Item | None] = ContextVar("item", default=None)


def recorded() -> None:
    """Note that the item's completions so far are on disk."""
    if item := _item.get():
        item.unrecorded = 0


@dataclass(frozen=True)
class Limits:
    """The limits of a run, over all its sessions; None: no limit. Tokens are prompt plus completion tokens."""

    tokens: int | None = None
    seconds: float | None = None
    cost: float | None = None
    prices: Prices | None = None

    @property
    def named(self) -> dict[str, float]:
        """The limits by unit, and the prices, if any."""
        prices = {"prompt_price": self.prices.prompt, "completion_price": self.prices.completion} if self.prices else {}
        units = {"tokens": self.tokens, "seconds": self.seconds, "dollars": self.cost}
        limits = {unit: float(limit) for unit, limit in units.items() if limit is not None}
        return limits | prices if limits else {}

    def reached(self, prompt_tokens: float, completion_tokens: float, seconds: float) -> str:
        """Return the limit that is reached, in words, or an empty text."""
        cost = self.prices.cost(prompt_tokens, completion_tokens) if self.prices else 0.0
        checks = (
            (self.tokens, prompt_tokens + completion_tokens, "--max_tokens_total"),
            (self.seconds, seconds, "--max_seconds"),
            (self.cost, cost, "--max_cost"),
        )
        return next((f"{flag} {limit:.12g}" for limit, spent, flag in checks if limit is not None and spent >= limit), "")


class Ceiling:
    """What a run has used, and may still use.

    Args:
        limits: what it may use.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._prompt = self._completion = 0
        self._until = self._began = 0.0
        self._done = self._written = 0
        self._prompts_in_flight = self._in_flight = self._most_in_flight = 0
        self._changed = asyncio.Event()

    def begin(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> None:
        """Set what the run has used so far."""
        self._prompt, self._completion = prompt_tokens, completion_tokens
        self._began = time.monotonic() - seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the run must end."""
        if self._limits.seconds is None:
            return float("inf")
        return self._began + self._limits.seconds - time.monotonic()

    @property
    def reached(self) -> str:
        """The limit that is reached, in words; empty: none."""
        return self._limits.reached(self._prompt, self._completion, time.monotonic() - self._began)

    def require_room(self) -> None:
        """Raise CeilingReached if the run may use nothing more."""
        if why := self.reached:
            raise CeilingReached(why)

    async def allows_more(self, work: Callable[[T], Awaitable[None]], item: T) -> bool:
        """Do the work on an item, whose requests belong together, and return whether another may begin."""
        _item.set(Item())
        try:
            await work(item)
        except CeilingReached:
            return False
        except BaseExceptionGroup as group:
            if group.split(CeilingReached)[1]:
                raise
            return False
        return not self.reached

    @asynccontextmanager
    async def request(self, prompt_tokens: int, max_tokens: int) -> AsyncIterator[Callable[[int, int], None]]:
        """Wait until a request may be sent; yields a function to call with its prompt and completion tokens.

        Raises:
            CeilingReached: it may not.
        """
        item = _item.get() or Item()
        while not (item.unrecorded or self._fits(prompt_tokens, max_tokens)):
            if not item.in_flight:
                self.require_room()
            await self._changed.wait()

        def count(read: int, written: int) -> None:
            self._prompt += read
            self._completion += written
            self._done, self._written = self._done + 1, self._written + written
            item.unrecorded += 1

        self._take(item, 1, prompt_tokens, max_tokens)
        try:
            yield count
        finally:
            self._take(item, -1, -prompt_tokens, -max_tokens)
            self._changed.set()  # wakes all that are waiting
            self._changed.clear()

    def _take(self, item: Item, requests: int, prompt_tokens: int, max_tokens: int) -> None:
        item.in_flight += requests
        self._in_flight += requests
        self._prompts_in_flight += prompt_tokens
        self._most_in_flight += max_tokens

    def _fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Return whether one more request fits if it and those in flight get mean length, at first their maximum length."""
        if self.reached:
            return False
        most = self._most_in_flight + max_tokens
        expected = min(most, (self._in_flight + 1) * self._written / self._done) if self._done else most
        prompts = self._prompts_in_flight + prompt_tokens
        return not (self._in_flight and self._limits.reached(self._prompt + prompts, self._completion + expected, 0.0))

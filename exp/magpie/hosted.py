"""Services that belong to somebody else: prompts as messages, limits a minute, prices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from magpie.console import MagpieError
from magpie.texts import CLOSE, OPEN

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from magpie.streams import Totals

MINUTE = 60.0
MARKS = re.compile(rf"<(?=[|｜])|<(?={OPEN[1:]}|{CLOSE[1:]})")
"""What opens a special token of the usual templates: nobody knows the service's own."""
FIRST_GUESS = 1000
"""Tokens of a completion before any has come back."""
CHARACTERS_A_TOKEN = 2
"""A cautious guess where there is no tokenizer (English has about four, formulas fewer)."""


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt as messages; its length is a guess of its tokens."""

    messages: list[dict[str, str]]

    def __len__(self) -> int:
        return sum(len(message["content"]) for message in self.messages) // CHARACTERS_A_TOKEN + 1


Prompt = list[int] | ChatPrompt


class HostedTemplate:
    """What stages ask of a chat template, for a server that has the template to itself (`templates.ChatTemplate` otherwise)."""

    forced_think = False
    added_tokens: Sequence[str] = ()

    def prompt(self, user: str, system: str | None = None, *, thinking: bool = True) -> ChatPrompt:
        """Return one user's turn. Whether the model thinks first is the service's affair."""
        first = [{"role": "system", "content": system}] if system else []
        return ChatPrompt([*first, {"role": "user", "content": user}])

    def harmless(self, text: str) -> str:
        """Return a text in which nothing looks like a token of a chat template."""
        return MARKS.sub("< ", text)

    def frame(self, system: str | None = None) -> NoReturn:
        """Refuse: there is no prefix to write a problem from."""
        raise MagpieError(
            "problems need /v1/completions: only there can a user's turn be left open, and this server has chat completions "
            "only. Make the problems with a server of your own (vLLM); it can answer, tag and judge them"
        )


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

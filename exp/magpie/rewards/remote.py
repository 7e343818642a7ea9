"""A reward model behind a server: vLLM's pooling API (`vllm serve MODEL --runner pooling`)."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from magpie.client.address_files import checked_url
from magpie.client.http_session import HttpReply, HttpSession, one_line
from magpie.client.replies import READ, SERVER_DOWN, SHOWN, ServerUnusable, TransientError
from magpie.common.console import MagpieError, again, log, printable
from magpie.rewards.base import Conversation, Steps, with_steps

IN_FLIGHT = 64
TIMEOUT = 600.0
OUTAGE = 1800.0
"""Seconds of downtime to wait through; at the first request only FIRST_WAIT, as its URL may be wrong."""
FIRST_WAIT = 30.0
LONGEST_PAUSE = 30.0
MAX_ATTEMPTS = 8
"""Attempts at one request that the server answers with an error."""
T = TypeVar("T")


class _RequestError(Exception):
    """The server rejects the request permanently."""


class _Down(TransientError):
    """The server does not answer."""


class _Models(msgspec.Struct):
    class Model(msgspec.Struct):
        id: str

    data: list[Model]


class _Classes(msgspec.Struct):
    class Class(msgspec.Struct):
        probs: tuple[float]

    data: list[Class]


class _StepScores(msgspec.Struct):
    class Pairs(msgspec.Struct):
        data: list[tuple[float, float]]

    data: list[Pairs]


class ServedModel:
    """A reward model behind a server; one without `/classify` is a process reward model."""

    def __init__(self, url: str, proxy: str | None = None) -> None:
        self._root = checked_url(url, "--reward_model").removesuffix("/v1")
        self._key, self._proxy = os.environ.get("MAGPIE_API_KEY", "").strip(), proxy
        self._patience = FIRST_WAIT
        try:
            models = self._run(self._send("/v1/models", None, _Models)).data
        except _RequestError as error:
            self._refuse(error)
        if not models:
            self._refuse(_RequestError("it lists no model"))
        self._model = models[0].id
        # a server started with a folder names the model by its path
        self.name = self._model.rstrip("/").rpartition("/")[2] if self._model.startswith("/") else self._model
        self._patience = OUTAGE
        self._steps: bool | None = None

    @property
    def has_steps(self) -> bool:
        """True for a process reward model."""
        if self._steps is None:
            self._steps = self._run(self._asks_for_steps())
        return self._steps

    async def _asks_for_steps(self) -> bool:
        probe = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
        try:
            await self._classify(probe)
        except _RequestError:
            try:
                await self._process(probe)
            except _RequestError as error:
                self._refuse(error)
            return True
        return False

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where it exceeds the model's context."""
        return self._run(self._all(conversations, self._process if self.has_steps else self._classify))

    async def _all(self, conversations: Sequence[Conversation], one: Any) -> list[Steps | None]:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def scored(turns: Conversation) -> Steps | None:
            try:
                async with room:
                    return await one(turns)
            except _RequestError as error:
                if any(sign in str(error) for sign in ("context length", "max_model_len", "too long", "maximum")):
                    return None
                raise MagpieError(f"{self._root} rejects a response: {error}. Check the server's log") from error

        tasks = [asyncio.ensure_future(scored(turns)) for turns in conversations]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # the remaining ones when one has failed
                task.cancel()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run requests over connections of their own: scores are requested in windows, in any process or thread."""

        async def connected() -> T:
            async with HttpSession(self._key, TIMEOUT, self._proxy) as self._http:
                return await work

        return asyncio.run(connected())

    def _body(self, turns: Conversation) -> dict[str, Any]:
        return {"model": self._model, "messages": turns}

    async def _classify(self, turns: Conversation) -> Steps:
        body = self._body(turns) | {"use_activation": False}
        return list((await self._send("/classify", body, _Classes)).data[0].probs)

    async def _process(self, turns: Conversation) -> Steps:
        body = self._body(with_steps(turns)) | {"task": "token_classify"}
        return [right for _, right in (await self._send("/pooling", body, _StepScores)).data[0].data]

    def _refuse(self, error: Exception) -> NoReturn:
        raise MagpieError(
            f"{self._root} does not serve a reward model ({printable(str(error), SHOWN)}). Start it with "
            "`vllm serve MODEL --runner pooling`"
        ) from error

    async def _send(self, path: str, body: dict[str, Any] | None, kind: type[T]) -> T:
        """Return the decoded reply; transient errors are retried."""
        started, pause, attempts = time.monotonic(), 0.5, 0
        while True:
            try:
                return _decoded(await self._once(path, body), kind)
            except TransientError as error:
                attempts += not isinstance(error, _Down)
                if attempts >= MAX_ATTEMPTS or time.monotonic() - started > self._patience:
                    what = "does not answer" if isinstance(error, _Down) else "does not answer like a reward server"
                    raise MagpieError(f"{self._root} {what} ({error}). Check its log, then {again()}") from error
                log.info("%s: %s; retrying", self._root, error)
                await asyncio.sleep(random.uniform(0, pause))
                pause = min(LONGEST_PAUSE, 2 * pause)

    async def _once(self, path: str, body: dict[str, Any] | None) -> HttpReply:
        import aiohttp

        try:
            reply = await (self._http.post(self._root + path, body) if body else self._http.get(self._root + path))
        except ServerUnusable as error:
            raise MagpieError(f"{self._root} cannot be used ({error})") from error
        except aiohttp.InvalidURL as error:
            raise MagpieError(
                f"--reward_model {printable(self._root)} is not a URL. Give one like http://host:8000/v1"
            ) from error
        except (aiohttp.ClientConnectionError, aiohttp.ConnectionTimeoutError) as error:
            raise _Down(one_line(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(one_line(error)) from error
        if reply.status in (401, 403):
            raise MagpieError(f"{self._root} refuses the key. Put the right one into MAGPIE_API_KEY, then {again()}")
        return reply


def _decoded(reply: HttpReply, kind: type[T]) -> T:
    if reply.status == 200:
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TransientError(f"malformed reply: {printable(str(error), SHOWN)}") from error
    text = f"HTTP {reply.status}: {printable(reply.body[:READ].decode('utf-8', 'replace'), SHOWN)}"
    if reply.status in SERVER_DOWN:
        raise _Down(text)
    if reply.status >= 500 or reply.status in (408, 429):
        raise TransientError(text)
    raise _RequestError(text)

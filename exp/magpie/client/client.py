"""The client of OpenAI-compatible servers: a bounded window of requests in flight, balanced, tried again with back-off.

Passing failures (429, 5xx, a reset connection, an answer that makes no sense, a server that is being started again) are
tried again; lasting ones raise `Refused`, for which the caller drops a row. A server that refuses the key or serves no more is
left out; where it was the last one, or the servers are gone for good, a `MagpieError` ends the run: what is finished is on
disk, and the same command goes on from there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from magpie.client import endpoints
from magpie.client.chat_prompt import ChatPrompt, Prompt
from magpie.client.endpoints import Api, Connection, Endpoint, Endpoints, keepalive_socket, short
from magpie.client.rate_limit import Limits
from magpie.client.throughput import Pace
from magpie.common.console import MagpieError, again, log, printable
from magpie.common.progress import Load
from magpie.text.reasoning import CLOSE, OPEN

if TYPE_CHECKING:
    import aiohttp

MAX_ATTEMPTS = 8
"""Tries of one request before its row is dropped; waiting for a server that is down, or for its rate limit, is not one."""
MAX_RATE_LIMITED = 100
MAX_OUTAGES = 30
"""A request during which the server has died so often may be what it dies of."""
LONGEST_PAUSE = 60.0
AGAIN_SECONDS = 1.0
"""How soon a request that found no server looks for one again."""
REFUSALS_IN_A_ROW = 20
"""So many lasting failures without a success between them mean that the settings are wrong, not the rows."""
T = TypeVar("T")


class Refused(Exception):
    """A request that fails for good; `reason` goes into the dropped row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class _Passing(Exception):
    """A failure that may not be there next time."""


class _RateLimited(_Passing):
    """The server asked for patience; `seconds` of it, if it said."""

    def __init__(self, text: str, seconds: float | None) -> None:
        super().__init__(text)
        self.seconds = seconds


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Said(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _ChatAnswer(msgspec.Struct):
    choices: list[_Said]
    usage: _Usage | None = None

    def plain(self) -> _Answer:
        """Return it as a completion: the chain of thought in its tags, however the server puts it."""
        choices = []
        for said in self.choices:
            text, thought = said.message.content or "", said.message.reasoning or said.message.reasoning_content
            if thought:
                text = f"{OPEN}\n{thought}" + (f"\n{CLOSE}\n\n{text}" if text or said.finish_reason != "length" else "")
            choices.append(_Choice(text, said.finish_reason))
        return _Answer(choices, self.usage)


_decode = msgspec.json.Decoder(_Answer).decode
_decode_chat = msgspec.json.Decoder(_ChatAnswer).decode


@dataclass(frozen=True)
class Completion:
    """What a server wrote for one prompt. `token_ids` only where the server returns them (vLLM)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    token_ids: list[int] | None


@dataclass
class _Tries:
    """How often one request has been tried, by what came of it."""

    failed: int = 0
    limited: int = 0
    outages: int = 0

    def spent(self, state: Any) -> bool:
        """Count a failure and say whether it was the last one allowed (a `stop` of tenacity's)."""
        if isinstance(state.outcome.exception(), _RateLimited):
            self.limited += 1
        else:
            self.failed += 1
        return self.failed >= MAX_ATTEMPTS or self.limited >= MAX_RATE_LIMITED or self.outages >= MAX_OUTAGES


class Client:
    """Completions from one or several servers; use as an async context manager.

    Args:
        connection: where the servers are, and the key.
        model: the model's name, to find it among those served.
        max_in_flight: requests in flight at most, at each server.
        outage: seconds to wait for a server that is down before the run ends.
        timeout: seconds that one request may take.
        api: which of OpenAI's interfaces to use (`endpoints.Endpoints`).
        limits: requests and tokens a minute.
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        *,
        max_in_flight: int,
        outage: float = 1800.0,
        timeout: float = 7200.0,
        api: Api = "auto",
        limits: Limits | None = None,
    ) -> None:
        self.endpoints = Endpoints(connection, model, api=api, outage=outage, most=max_in_flight)
        self._key = connection.api_key
        self._timeout = timeout
        self._limits = limits or Limits()
        self.pace = Pace()
        self._session: aiohttp.ClientSession | None = None
        self._refusals = 0
        self._schemas = True
        self.model = model

    async def __aenter__(self) -> Client:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=False, socket_factory=keepalive_socket),
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=10),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            json_serialize=lambda value: msgspec.json.encode(value).decode(),
        )
        try:
            await self.endpoints.open(self._session)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None  # noqa: S101
        await self.endpoints.close()
        await self._session.close()

    @property
    def is_vllm(self) -> bool:
        """Whether the servers are vLLM's and take what only vLLM knows."""
        return self.endpoints.is_vllm

    @property
    def chat(self) -> bool:
        """Whether prompts go as messages, since the server has no other interface."""
        return self.endpoints.chat

    @property
    def context(self) -> int | None:
        """Tokens that the model takes, prompt and completion together; None: not known."""
        return self.endpoints.context

    def load(self) -> Load:
        """Return what the servers are doing now."""
        return Load(self.endpoints.in_flight, self.endpoints.tokens + int(self.pace.written()), *self.pace.most_seconds())

    # --- one request ---------------------------------------------------------------------------------------------

    async def complete(self, prompt: Prompt, sampling: dict[str, Any]) -> Completion:
        """Return a completion of token ids, or of messages. `sampling` is sent as it is.

        Raises:
            Refused: the request fails for good.
            MagpieError: the run cannot go on.
        """
        said = {"messages": prompt.messages} if isinstance(prompt, ChatPrompt) else {"prompt": prompt}
        body = {"model": self.model, **said, **sampling}
        if self.is_vllm:
            body |= {"return_token_ids": True}
        if not self._schemas:
            body.pop("response_format", None)
        try:
            answer = await self._tried(body, len(prompt), sampling.get("max_tokens", 0))
        except Refused as error:
            if "response_format" not in body or "response_format" not in error.detail:
                self._count_refusal(error)
            if self._schemas:
                log.warning("the server knows no JSON schemas (%s): answers are read as they come", error.detail)
            self._schemas = False
            return await self.complete(prompt, sampling)
        self._refusals = 0
        choice = answer.choices[0]
        usage = answer.usage or _Usage()
        return Completion(
            choice.text,
            choice.finish_reason or "unknown",
            usage.prompt_tokens,
            usage.completion_tokens,
            choice.token_ids,
        )

    async def _tried(self, body: dict[str, Any], prompt_tokens: int, most_tokens: int) -> _Answer:
        """Send a request as often as it takes; every time counts against the limits."""
        import tenacity

        tries = _Tries()
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Passing), wait=_pause, stop=tries.spent, reraise=True
        )
        try:
            answer: _Answer = await retrying(self._post, body, tries, prompt_tokens, most_tokens)
        except _Passing as error:
            raise Refused("server_error", printable(str(error), 300)) from error
        return answer

    def _count_refusal(self, error: Refused) -> None:
        self._refusals += 1
        if self._refusals >= REFUSALS_IN_A_ROW:
            raise MagpieError(
                f"{self._refusals} requests in a row were refused ({error}). Check the settings and the server's log"
            )
        raise error

    async def _post(self, body: dict[str, Any], tries: _Tries, prompt_tokens: int, most_tokens: int) -> _Answer:
        """Send a request; that a server is down is nobody's fault and costs no attempt."""
        waited = False
        paid = await self._limits.before(prompt_tokens, most_tokens)
        while True:
            answer = await self._post_once(body, most_tokens)
            if answer is not None:
                self._limits.after(paid, answer.usage.completion_tokens if answer.usage else paid)
                return answer
            if not waited:
                waited = True
                tries.outages += 1
                tries.failed = 0  # what failed just before was the server, which died
            self.endpoints.end_if_down_for_good()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _post_once(self, body: dict[str, Any], most_tokens: int) -> _Answer | None:
        """Return the answer, or None if no connection was had, or with a server that is left out."""
        endpoint = await self.endpoints.take()
        try:
            with self.pace.request(most_tokens) as request:
                answer = await self._ask(endpoint, body)
                if answer is not None and answer.usage:
                    request.tokens = answer.usage.completion_tokens
                return answer
        finally:
            await self.endpoints.give_back(endpoint)

    async def _ask(self, endpoint: Endpoint, body: dict[str, Any]) -> _Answer | None:
        import aiohttp

        assert self._session is not None  # noqa: S101
        sent_at = time.monotonic()
        try:
            if (not endpoint.met or endpoint.down_since is not None) and not await self.endpoints.join(endpoint):
                return None
            route = "chat/completions" if "messages" in body else "completions"
            async with self._session.post(f"{endpoint.url}/{route}", json=body) as answer:
                status, retry_after = answer.status, answer.headers.get("Retry-After")
                data = await answer.read()
            if status in (502, 503):  # a gateway whose server is down (504: one that has no patience with a long answer)
                endpoint.is_down(f"HTTP {status}")
                return None
            endpoint.is_up()
            return self._judge(endpoint, status, data, retry_after, sent_at)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            endpoint.is_down(short(error))
            return None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise _Passing(short(error)) from error

    def _judge(self, endpoint: Endpoint, status: int, data: bytes, retry_after: str | None, sent_at: float) -> _Answer | None:
        if status == 200:
            try:
                answer = _decode_chat(data).plain() if self.chat else _decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _Passing(f"malformed answer: {error}") from error
            if not answer.choices:
                raise _Passing("malformed answer: no choices")
            endpoint.succeeded(answer.usage.completion_tokens if answer.usage else 0)
            return answer
        text = f"HTTP {status}: {data[:300].decode('utf-8', 'replace')}"
        if status == 429:
            endpoint.too_many(sent_at)
            raise _RateLimited(text, _seconds(retry_after))
        if status >= 500 or status == 408:
            raise _Passing(text)
        if status in (401, 402, 403, 404):
            self._leave_out(endpoint, status, printable(text))
            return None
        raise Refused("request_refused", printable(text))

    def _leave_out(self, endpoint: Endpoint, status: int, text: str) -> None:
        """Go on without one of several servers: another program may have its port now, or it serves another model."""
        if status in (402, 404):
            hint = "" if self.chat else " (a service that has chat completions only: --api chat)"
            why, cure = f"serves no more ({text})", f"Mend that{hint}"
        else:
            why, cure = f"refuses the key (HTTP {status})", "Put the right one into MAGPIE_API_KEY"
        why = f"{printable(endpoint.url)} {why}"
        if not self.endpoints.leave_out(endpoint, why):
            raise MagpieError(f"{why}. {cure}, then {again()}")

    # --- many ----------------------------------------------------------------------------------------------------

    async def for_each(self, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Run `work` on every item, as many at a time as the servers take; the items are drawn as places become free.

        Raises:
            Whatever `work` raises first; the others are cancelled.
        """
        source = iter(items)
        workers: set[asyncio.Task[None]] = set()

        async def worker() -> None:
            for item in source:
                await work(item)

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for _ in range(self.endpoints.places - len(workers)):  # more when a server has come
                        workers.add(group.create_task(worker()))
                    finished, workers = await asyncio.wait(
                        workers, timeout=endpoints.FOLLOW_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    if finished:  # nothing is left to draw, or one has failed
                        break
        except BaseExceptionGroup as group_error:
            raise _first_leaf(group_error) from None


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _seconds(retry_after: str | None) -> float | None:
    try:
        seconds = float(retry_after or "")
        return min(seconds, LONGEST_PAUSE) if math.isfinite(seconds) and seconds >= 1 else None
    except ValueError:
        return None


def _pause(state: Any) -> float:
    import tenacity

    error = state.outcome.exception()
    if isinstance(error, _RateLimited) and error.seconds is not None:
        return error.seconds
    return float(tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE)(state))

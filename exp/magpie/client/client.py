"""A client of OpenAI-compatible servers: a bounded window of requests in flight, balanced over the servers, retried.

Transient errors (429, 5xx, a reset connection, a malformed reply, a server that is being restarted) are retried with back-off;
permanent ones raise `Refused`, for which the caller drops a row. A server that refuses the key or no longer serves the model is
excluded; if it was the last one, or the servers are gone for good, a `MagpieError` ends the run: what is finished is on disk,
and the same command resumes it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from magpie.client.address_files import Connection
from magpie.client.ceiling import Ceiling
from magpie.client.chat_prompt import ChatPrompt, Prompt
from magpie.client.dialects import OPTIONAL, optional, translate_for_llama_cpp
from magpie.client.endpoint import Endpoint
from magpie.client.http_session import HttpReply, HttpSession, one_line, reply_limit
from magpie.client.pool import EndpointPool
from magpie.client.probe import Api
from magpie.client.rate_limit import RateLimits
from magpie.client.recordings import Recordings
from magpie.client.replies import (
    SERVER_DOWN,
    Completion,
    RateLimited,
    Refused,
    ServerUnusable,
    Stream,
    TransientError,
    read_reply,
)
from magpie.client.workers import work_on_all
from magpie.common.console import MagpieError, again, log, printable
from magpie.common.progress import Load
from magpie.text.degeneration import LOOK_AGAIN, RUNNING_TOKENS

MAX_ATTEMPTS = 8
"""Attempts at one request before its row is dropped; waiting for a server that is down or for a rate limit does not count."""
MAX_RATE_LIMITED = 100
MAX_OUTAGES = 30
"""A request during which a server has died this often may be the cause."""
LONGEST_PAUSE = 60.0
NO_SERVER_SECONDS = 1.0
"""Pause of a request that found no server."""
MOST_NAMES = 20
"""Maximum number of other models counted by name."""
MAX_REFUSED_IN_A_ROW = 20
"""This many permanent errors in a row mean that the settings are wrong, not the rows."""
T = TypeVar("T")


@dataclass
class _Attempts:
    """The attempts at one request, by outcome."""

    failed: int = 0
    rate_limited: int = 0
    outages: int = 0
    total: int = 0
    in_outage: bool = False

    def count_outage(self) -> None:
        """Count an outage once, however often the request finds no server; a failure just before it was the dying server's."""
        if not self.in_outage:
            self.in_outage, self.outages, self.failed = True, self.outages + 1, 0

    def count_failure(self, error: TransientError) -> None:
        """Count a failure.

        Raises:
            Refused: it was the last attempt.
        """
        self.in_outage = False
        self.total += 1
        if isinstance(error, RateLimited):
            self.rate_limited += 1
        else:
            self.failed += 1
        if self.failed >= MAX_ATTEMPTS or self.rate_limited >= MAX_RATE_LIMITED or self.outages >= MAX_OUTAGES:
            raise Refused("server_error", printable(str(error), 300)) from error


class Client:
    """Completions from one or several servers; use as an async context manager.

    Args:
        connection: where the servers are, and the key.
        model: the name under which they serve the model.
        max_in_flight: requests in flight at most, per copy of the model.
        outage: seconds to wait for a server that is down before the run ends.
        timeout: seconds that one request may take.
        api: which of OpenAI's interfaces to use.
        limits: requests and tokens per minute.
        proxy: see `proxies.py`.
        ceiling: on all requests together.
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
        limits: RateLimits | None = None,
        proxy: str | None = None,
        ceiling: Ceiling | None = None,
    ) -> None:
        self.ceiling, self._recordings = ceiling or Ceiling(), Recordings()
        self.pool = EndpointPool(connection, model, api=api, outage=outage, window=max_in_flight)
        self.model = model
        self._api_key, self._timeout, self._proxy = connection.api_key, timeout, proxy
        self._limits = limits or RateLimits()
        self._http: HttpSession | None = None
        self._refused_in_a_row = self._succeeded = 0
        self._last_refusal: Refused | None = None
        self._not_taken: set[str] = set()
        """Optional fields of a request that the servers refuse."""
        self.other_models: Counter[str] = Counter()
        """Number of completions by the name of the other model that, as the server reports, wrote them."""

    async def __aenter__(self) -> Client:
        self._http = HttpSession(self._api_key, self._timeout, self._proxy)
        try:
            await self.pool.open(self._http)
        except BaseException:
            await self._http.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._http is not None  # noqa: S101
        await self.pool.close()
        await self._http.close()

    @property
    def is_vllm(self) -> bool:
        """Whether the servers are vLLM and take parameters that only vLLM knows."""
        return self.pool.info.is_vllm

    @property
    def chat(self) -> bool:
        """Whether prompts are sent as messages, since the server has chat completions only."""
        return self.pool.info.chat

    @property
    def context(self) -> int | None:
        """Context of the model in tokens, prompt and completion together; None: unknown."""
        return self.pool.info.context

    def load(self) -> Load:
        """Return what the servers are doing now."""
        return Load(self.pool.in_flight, self.pool.tokens)

    # --- one request ---------------------------------------------------------------------------------------------

    async def complete(
        self, prompt: Prompt, sampling: dict[str, Any], *, end_loops: bool = False, slot: object = ""
    ) -> Completion:
        """Return a completion of token ids or messages. `sampling` is sent unchanged.

        With `end_loops` it is streamed, and ended (`repetition`) once it is a loop, if it is long enough for one.
        `slot` distinguishes identical requests, if a record needs several or all share one prompt.

        Raises:
            Refused: a permanent error.
            CeilingReached: the run may use nothing more.
            MagpieError: the run cannot continue.
        """
        content = {"messages": prompt.messages} if isinstance(prompt, ChatPrompt) else {"prompt": prompt}
        body = {"model": self.model, **content, **sampling}
        if self.is_vllm:
            body["return_token_ids"] = True
        if self.pool.info.is_llama_cpp:
            translate_for_llama_cpp(body)
        if end_loops and body["max_tokens"] > RUNNING_TOKENS:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            if self.is_vllm:
                body["stream_interval"] = LOOK_AGAIN
                body["stream_options"]["continuous_usage_stats"] = True
        body = {name: value for name, value in body.items() if not name.startswith(tuple(self._not_taken))}
        try:
            completion = await self._send_within_ceiling(body, str(slot), len(prompt))
        except Refused as error:
            refused = optional(body, error)
            if refused is None:
                self._count_refused(error)
                raise
            if refused not in self._not_taken:
                log.warning("the server does not accept %s (%s): continuing without", OPTIONAL[refused], error.detail)
            self._not_taken.add(refused)
            return await self.complete(prompt, sampling, end_loops=end_loops, slot=slot)
        self._refused_in_a_row = 0
        self._succeeded += 1
        self._note_model(completion.model)
        return completion

    def _note_model(self, name: str) -> None:
        """Count a completion that, by its reply, another model wrote; services name a dated version."""
        asked, told = (each.lower().rpartition("/")[2] for each in (self.model, name))
        if told and not told.startswith(asked) and not asked.startswith(told):
            shown = printable(name, 100)
            if shown not in self.other_models:
                log.warning("requested %s, but the server reports %s", printable(self.model), shown)
            if len(self.other_models) < MOST_NAMES or shown in self.other_models:
                self.other_models[shown] += 1

    async def _send_within_ceiling(self, body: dict[str, Any], slot: str, prompt_tokens: int) -> Completion:
        max_tokens = body.get("max_tokens", 0)
        async with self.ceiling.request(prompt_tokens, max_tokens) as count:
            completion = self._recordings.take(body, slot)
            if completion is None:
                completion = await self._send_with_retries(body, prompt_tokens, max_tokens)
                self._recordings.add(body, slot, completion)
            count(completion.prompt_tokens, completion.completion_tokens)
        return completion

    async def _send_with_retries(self, body: dict[str, Any], prompt_tokens: int, max_tokens: int) -> Completion:
        """Send a request, with retries; every attempt counts against the rate limits."""
        attempts = _Attempts()
        while True:
            reserved = await self._limits.reserve(prompt_tokens, max_tokens)
            try:
                while (completion := await self._send(body, prompt_tokens)) is None:
                    attempts.count_outage()
                    self.pool.raise_if_down_for_good()
                    await asyncio.sleep(NO_SERVER_SECONDS)
            except TransientError as error:
                attempts.count_failure(error)
                await asyncio.sleep(_pause(attempts.total, error))
            else:
                self._limits.settle(reserved, completion.completion_tokens or reserved)
                return completion

    async def _send(self, body: dict[str, Any], prompt_tokens: int) -> Completion | None:
        """Send a request to one server, once. Return None if that server is down or has been excluded.

        Raises:
            TransientError, Refused: see `read_reply`.
            MagpieError: no server can be used any more.
        """
        import aiohttp

        endpoint = await self.pool.acquire()
        sent_at = time.monotonic()
        try:
            if not endpoint.is_ready and not await self.pool.add(endpoint):
                return None
            stream = Stream() if "stream" in body else None
            reply = await self._post(endpoint, body, stream)
            if reply.status in SERVER_DOWN:
                endpoint.mark_down(f"HTTP {reply.status}")
                return None
            endpoint.mark_up()
            if stream and reply.is_stream:
                completion = stream.completion(prompt_tokens, body["max_tokens"])
            else:
                completion = read_reply(reply.status, reply.body, reply.retry_after, chat=self.chat)
            endpoint.succeeded(completion.completion_tokens)
            return completion
        except RateLimited:
            endpoint.rate_limited(sent_at)
            raise
        except ServerUnusable as error:
            self._exclude(endpoint, error)
            return None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            endpoint.mark_down(one_line(error))
            return None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise TransientError(one_line(error)) from error
        finally:
            await self.pool.release(endpoint)

    async def _post(self, endpoint: Endpoint, body: dict[str, Any], stream: Stream | None) -> HttpReply:
        assert self._http is not None  # noqa: S101
        route = "chat/completions" if "messages" in body else "completions"
        tokens = body.get("max_tokens", 0) + len(body.get("prompt", ()))  # the ids of both may be in the reply
        events = stream.feed if stream else None
        return await self._http.post(f"{endpoint.url}/{route}", body, limit=reply_limit(tokens), events=events)

    def _exclude(self, endpoint: Endpoint, error: ServerUnusable) -> None:
        """Continue without one of several servers: another program may have its port now, or it serves another model."""
        if error.status in (401, 403):
            why, remedy = f"refuses the key (HTTP {error.status})", "Put the right one into MAGPIE_API_KEY"
        else:
            hint = "" if self.chat else " (a service that has chat completions only: --api chat)"
            why, remedy = f"can no longer be used ({error})", f"Fix that{hint}"
        why = f"{printable(endpoint.url)} {why}"
        if not self.pool.exclude(endpoint, why):
            raise MagpieError(f"{why}. {remedy}, then {again()}")

    def _count_refused(self, error: Refused) -> None:
        self._refused_in_a_row += 1
        self._last_refusal = error
        if self._refused_in_a_row >= MAX_REFUSED_IN_A_ROW:
            raise MagpieError(
                f"{self._refused_in_a_row} requests in a row were refused ({error}). Check the settings and the server's log"
            )

    @property
    def all_refused(self) -> Refused | None:
        """The last refusal, if every request was refused."""
        return None if self._succeeded else self._last_refusal

    # --- many ----------------------------------------------------------------------------------------------------

    async def for_each(self, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Run `work` on every item, as many at once as the servers accept; items are drawn only when there is room.

        At the ceiling requests in flight finish (when time is up, they are cancelled), and the other items are left.

        Raises:
            The first exception of `work`; the others are cancelled.
        """
        await work_on_all(items, work, self.pool, self.ceiling)


def _pause(attempts: int, error: TransientError) -> float:
    """Return the seconds to wait before another attempt: the server's own, or a random exponential back-off."""
    if isinstance(error, RateLimited) and error.seconds is not None:
        return error.seconds
    return random.uniform(0, min(LONGEST_PAUSE, 0.5 * 2 ** (attempts - 1)))

"""The servers of a run: where they are, what each serves, which one has a place free. They may come and go while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from magpie.common.console import MagpieError, again, log, printable

if TYPE_CHECKING:
    import aiohttp

Api = Literal["auto", "completions", "chat"]
PROBE_SECONDS = 5.0
QUIET_SECONDS = 60.0
"""How often a user is told that a server is down, at most."""
FOLLOW_SECONDS = 1.0
"""How often a file of addresses is looked at; it is read again once it has not changed between two looks."""
MEET_SECONDS = 30.0
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A machine that loses its power says nothing: two minutes later its connections count as broken."""
NO_SUCH_ROUTE = (404, 405, 501)


@dataclass(frozen=True)
class Connection:
    """How to reach the servers: base URLs, the key, whether (then why) they are gone for good, files that list more URLs."""

    urls: list[str]
    api_key: str
    gone: Callable[[], str]
    files: tuple[Path, ...] = ()


def addresses(base_url: str) -> tuple[list[str], tuple[Path, ...]]:
    """Return the URLs of `--base_url`, which are separated by commas, and the files among them (`@FILE`).

    Raises:
        MagpieError: a URL holds a password, or a file is not there.
    """
    parts = [part.strip() for part in base_url.split(",") if part.strip()]
    files = tuple(Path(part[1:]) for part in parts if part.startswith("@"))
    for file in files:
        listed(file)
    return list(dict.fromkeys(checked_url(part) for part in parts if not part.startswith("@"))), files


def listed(file: Path) -> list[str]:
    """Return the URLs of a file: one a line; what follows `#` is a comment."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text"
        raise MagpieError(f"--base_url @{printable(str(file))}: {why}. It lists the servers' URLs, one a line") from error
    words = (line.partition("#")[0].strip() for line in lines)
    return list(dict.fromkeys(checked_url(word) for word in words if word))


def checked_url(url: str) -> str:
    """Return a base URL without its last slash, if it has one."""
    if "@" in url:
        raise MagpieError("--base_url holds a user's name or password. Put the key into MAGPIE_API_KEY instead")
    return url.rstrip("/")


class Unreachable(Exception):
    """Nobody answers at an address; the message says so to a user."""


class _Models(msgspec.Struct):
    class Model(msgspec.Struct):
        """One served model."""

        id: str
        owned_by: str | None = None
        max_model_len: int | None = None

    data: list[Model]


@dataclass
class Endpoint:
    """One server: what is in flight there, how it fares, and what it has done."""

    url: str
    met: bool = False
    leaving: bool = False
    outstanding: int = 0
    down_since: float | None = None
    tried_at: float = 0.0
    limit: float = float("inf")
    """How many requests it takes at once: halved by a 429, growing slowly with every success up to `most`."""
    halved_at: float = float("-inf")
    most: float = float("inf")
    told_at: float = float("-inf")
    completions: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        self.limit = self.most

    def succeeded(self, tokens: int) -> None:
        """Count a completion."""
        self.completions += 1
        self.tokens += tokens
        self.limit = min(self.most, self.limit + 1 / self.limit)

    def too_many(self, sent_at: float) -> None:
        """Note that it asked for fewer requests at once; those that were sent before it did so last say nothing new."""
        if sent_at > self.halved_at:
            self.halved_at = time.monotonic()
            self.limit = max(1.0, min(self.limit, float(self.outstanding)) / 2)

    def rests(self) -> bool:
        """Whether it was down just now, or another request is finding out whether it still is."""
        return self.down_since is not None and (self.outstanding > 0 or time.monotonic() - self.tried_at < PROBE_SECONDS)

    def is_down(self, why: str) -> None:
        """Note that nobody answers there."""
        now = self.tried_at = time.monotonic()
        if self.down_since is None:
            self.down_since = now
            if now - self.told_at > QUIET_SECONDS:  # behind a load balancer a dead server fails every other request
                self.told_at = now
                log.warning("%s is down (%s); waiting for it", printable(self.url), why)

    def is_up(self) -> None:
        """Note that it answers."""
        if self.down_since is not None and time.monotonic() - self.down_since > PROBE_SECONDS:
            log.info("%s is up again", printable(self.url))
        self.down_since = None


class Endpoints:
    """All the servers of a run.

    Args:
        connection: where they are.
        model: the model's name, to find it among those served.
        api: which of OpenAI's interfaces to use; `auto`: completions, unless the first server has only chat.
        outage: seconds without any server after which the run ends.
        most: requests in flight at most, at each server.
    """

    def __init__(self, connection: Connection, model: str, *, api: Api, outage: float, most: int) -> None:
        self._connection, self._model, self._api, self._outage, self._most = connection, model, api, outage, most
        self._all = [Endpoint(url, most=most) for url in connection.urls]
        self._free = asyncio.Condition()
        self._none_since: float | None = None
        self._begun = False
        self._seen: dict[Path, tuple[int, int]] = {}
        self._follower: asyncio.Task[None] | None = None
        self._http: aiohttp.ClientSession | None = None
        self.chat = api == "chat"
        self.is_vllm = False
        self.context: int | None = None

    # --- meeting -------------------------------------------------------------------------------------------------

    async def open(self, http: aiohttp.ClientSession) -> None:
        """Find out what the servers serve, before any work is sent to them.

        Raises:
            MagpieError: none of them answers (those of a file are waited for), or one cannot do the work.
        """
        self._http = http
        self._read_files()
        if not self._all and not self._connection.files:
            raise MagpieError("--base_url names no server. Give one like http://host:8000/v1")
        started = time.monotonic()
        while True:
            absent = [error for endpoint in self._all if (error := await self._try(endpoint))]
            if any(endpoint.met for endpoint in self._all):
                break
            if not self._connection.files or time.monotonic() - started > self._outage:
                raise MagpieError(str(absent[0]) if absent else f"no server is listed in {self._connection.files[0]}")
            if self._none_since is None:
                self._none_since = started
                log.info("waiting for the first server of %s", ", ".join(map(str, self._connection.files)))
            self._end_if_gone()
            await asyncio.sleep(FOLLOW_SECONDS)
            self._read_files()
        self._none_since = None
        self._begun = True
        if self._connection.files:
            self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following the files."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower

    async def _try(self, endpoint: Endpoint) -> Unreachable | None:
        try:
            await self.meet(endpoint)
        except Unreachable as error:
            if len(self._all) > 1:
                endpoint.is_down("no answer")
            return error
        return None

    async def meet(self, endpoint: Endpoint) -> None:
        """Find out what a server serves.

        Raises:
            Unreachable: nobody answers.
            MagpieError: it cannot do the work.
        """
        import aiohttp

        assert self._http is not None  # noqa: S101
        where = f"{printable(endpoint.url)}/models"
        try:
            timeout = aiohttp.ClientTimeout(total=MEET_SECONDS, sock_connect=10)
            async with self._http.get(f"{endpoint.url}/models", timeout=timeout) as answer:
                status, body = answer.status, await answer.read()
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise MagpieError(f"'{printable(endpoint.url)}' is no URL. Give --base_url like http://host:8000/v1") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(
                f"no server answers at {where} ({short(error)}). Check --base_url (MAGPIE_BASE_URL), and that the server is up"
            ) from error
        if status in (401, 403):
            raise MagpieError(f"{where} refuses the key (HTTP {status}). Put the right one into MAGPIE_API_KEY")
        if status == 429 or status >= 500:
            raise Unreachable(f"{where} answers HTTP {status}. Is the server behind it up?")
        if status in NO_SUCH_ROUTE and self._api == "chat":
            await self._accept(endpoint, _Models.Model(self._model), where)  # a service need not list its models
            return
        try:
            if status != 200:
                raise msgspec.DecodeError(f"HTTP {status}")
            models = msgspec.json.decode(body, type=_Models).data
        except msgspec.DecodeError as error:
            raise MagpieError(
                f"{where} is not an OpenAI-compatible server ({error}). --base_url usually ends in /v1"
            ) from error
        served = {model.id: model for model in models}
        if self._model not in served:
            names = printable(", ".join(served) or "nothing", 300)
            raise MagpieError(
                f"{where} does not serve {self._model}, but {names}. Name one of those with --model_path, or with "
                "--served_model if it is the same model under another name"
            )
        await self._accept(endpoint, served[self._model], where)

    async def _accept(self, endpoint: Endpoint, model: _Models.Model, where: str) -> None:
        is_vllm = model.owned_by == "vllm"
        if not any(e.met for e in self._all):
            if self._api == "auto" and not is_vllm:
                self.chat = await self._has_only_chat(endpoint)
            self.is_vllm = is_vllm and not self.chat
            self.context = model.max_model_len
        elif self.is_vllm and not is_vllm:
            raise MagpieError(f"{where} is no vLLM server, the others are. Use servers of one kind in a run")
        elif self.context and (model.max_model_len or self.context) < self.context:
            if self._begun:
                raise MagpieError(
                    f"{where} takes {model.max_model_len} tokens of context, the others {self.context}. Start it with as many"
                )
            self.context = model.max_model_len
        endpoint.met = True
        endpoint.is_up()

    async def _has_only_chat(self, endpoint: Endpoint) -> bool:
        """Ask for a completion of nothing: a server that has the route finds fault with the request, not with the route."""
        import aiohttp

        assert self._http is not None  # noqa: S101
        try:
            async with self._http.post(f"{endpoint.url}/completions", json={}) as answer:
                found = answer.status in NO_SUCH_ROUTE
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        if found:
            log.info("%s has chat completions only", printable(endpoint.url))
        return found

    # --- coming and going ----------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Look at the files of addresses now and then, and read them again when they have changed and come to rest."""
        before = self._stamps()
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            now = self._stamps()
            if now == before and now != self._seen:
                self._read_files()
                async with self._free:
                    self._free.notify_all()
            before = now

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for file in self._connection.files:
            with contextlib.suppress(OSError):
                status = file.stat()
                found[file] = (status.st_mtime_ns, status.st_size)
        return found

    def _read_files(self) -> None:
        """Take up what is new in the files; what is no longer listed finishes what it has begun."""
        self._seen = self._stamps()
        try:
            wanted = {url for file in self._connection.files for url in listed(file)} | set(self._connection.urls)
        except MagpieError as error:  # it was there at the start: somebody is at it
            log.warning("%s; going on with the servers known", error)
            return
        for endpoint in self._all:
            if not endpoint.leaving and endpoint.url not in wanted:
                endpoint.leaving = True
                log.info("%s is not listed any more: it gets no new work", printable(endpoint.url))
        for endpoint in self._all:
            if endpoint.leaving and endpoint.url in wanted:  # the list was caught half written, or it is to be tried again
                endpoint.leaving = endpoint.met = False
        for url in sorted(wanted - {endpoint.url for endpoint in self._all}):
            if self._follower is not None:
                log.info("%s is new in the list", printable(url))
            self._all.append(Endpoint(url, most=self._most))

    # --- choosing ------------------------------------------------------------------------------------------------

    async def take(self) -> Endpoint:
        """Return the server with the fewest requests outstanding, those that are down last; wait until one has a place."""
        while True:
            async with self._free:
                while here := [e for e in self._all if not e.leaving]:
                    awake = [e for e in here if not e.rests()] or here
                    if open_ones := [e for e in awake if e.outstanding + 1 <= e.limit]:
                        endpoint = min(open_ones, key=lambda e: e.outstanding)
                        endpoint.outstanding += 1
                        if any(e.outstanding + 1 <= e.limit for e in awake):
                            self._free.notify()  # each wakes the next: a window may have opened by more than one place
                        return endpoint
                    await self._free.wait()
            self._none_since = self._none_since or time.monotonic()
            self.end_if_down_for_good()
            await asyncio.sleep(FOLLOW_SECONDS)

    async def give_back(self, endpoint: Endpoint) -> None:
        """Free the place that `take` took."""
        async with self._free:
            endpoint.outstanding -= 1
            self._free.notify()

    async def join(self, endpoint: Endpoint) -> bool:
        """Meet a server that is new, or was down; False: it is not there, or is left out for what it is."""
        try:
            await self.meet(endpoint)
        except Unreachable as error:
            endpoint.is_down(str(error.__cause__ or error))
        except MagpieError as error:
            if not self.leave_out(endpoint, str(error)):
                raise
        else:
            async with self._free:
                self._free.notify_all()  # it has places for those that wait
            return True
        return False

    def leave_out(self, endpoint: Endpoint, why: str) -> bool:
        """Send nothing more to a server that cannot do the work; False: there is no other, and none may come."""
        others = any(not e.leaving for e in self._all if e is not endpoint)
        if not others and not self._connection.files:
            return False
        if not endpoint.leaving:
            log.warning("%s; it is left out", why)
            endpoint.leaving = True
        return True

    def end_if_down_for_good(self) -> None:
        """Raise a MagpieError where there has been no server for too long, or there never will be one."""
        self._end_if_gone()
        here = [endpoint for endpoint in self._all if not endpoint.leaving]
        since = [endpoint.down_since for endpoint in here] if here else [self._none_since]
        if here:
            self._none_since = None
        longest = min(time.monotonic() - at if at is not None else 0.0 for at in since)
        if longest > self._outage:
            raise MagpieError(f"no server has answered for {longest:.0f} s. Start it, then {again()}")

    def _end_if_gone(self) -> None:
        if why := self._connection.gone():
            raise MagpieError(f"{why}. To go on, {again()}")

    @property
    def places(self) -> int:
        """How many requests all the servers together take."""
        return self._most * max(1, sum(not endpoint.leaving for endpoint in self._all))

    @property
    def in_flight(self) -> int:
        """Requests that are with a server now."""
        return sum(endpoint.outstanding for endpoint in self._all)

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return sum(endpoint.tokens for endpoint in self._all)

    def shares(self) -> list[str]:
        """Return what each server has done, where there are several."""
        whole = self.tokens or 1
        return [
            f"{printable(e.url)}: {e.completions:,} completions, {e.tokens:,} tokens ({100 * e.tokens / whole:.0f}%)"
            for e in self._all
            if len(self._all) > 1
        ]


def short(error: BaseException) -> str:
    """Return an error in one line."""
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)


def keepalive_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """Return a socket that notices a machine which is gone (for aiohttp's connector)."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made

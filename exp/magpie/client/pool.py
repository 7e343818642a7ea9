"""The servers of a run, which may come and go: the members of the pool, and which of them gets the next request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

from magpie.client.address_files import AddressFiles, Connection
from magpie.client.endpoint import Endpoint
from magpie.client.http_session import HttpSession
from magpie.client.probe import Api, ServerInfo, Unreachable, probe
from magpie.common.console import MagpieError, again, log, printable

POLL_SECONDS = 1.0
"""Interval between checks of the address files; one is reread once it has not changed between two checks."""


class EndpointPool:
    """All servers of a run.

    Args:
        connection: where they are.
        model: the name under which they serve the model.
        api: which interface to use; `auto` is decided by the first server.
        outage: seconds without any server after which the run ends.
        window: requests in flight at most, per copy of the model.
    """

    def __init__(self, connection: Connection, model: str, *, api: Api, outage: float, window: int) -> None:
        self._connection, self._model, self._api, self._outage, self._window = connection, model, api, outage, window
        self._files = AddressFiles(connection.files)
        self._endpoints = [Endpoint(url, window) for url in connection.urls]
        self._room = asyncio.Condition()
        self._empty_since: float | None = None
        self._is_open = False
        self._follower: asyncio.Task[None] | None = None
        self._http: HttpSession | None = None
        self.info = ServerInfo(chat=api == "chat")

    # --- membership ----------------------------------------------------------------------------------------------

    async def open(self, http: HttpSession) -> None:
        """Probe the servers.

        Raises:
            MagpieError: none answers (servers in a file are waited for), or one cannot do the work.
        """
        self._http = http
        self._update_members()
        if not self._endpoints and not self._files:
            raise MagpieError("--base_url names no server. Give one like http://host:8000/v1")
        started, waiting = time.monotonic(), False
        while True:
            errors = [error for endpoint in self._endpoints if (error := await self._first_probe(endpoint))]
            if any(endpoint.probed for endpoint in self._endpoints):
                break
            if not self._files or time.monotonic() - started > self._outage:
                raise MagpieError(str(errors[0]) if errors else f"no server is listed in {self._files}")
            if not waiting:
                waiting = True
                log.info("waiting for the first server in %s", self._files)
            self._raise_if_gone()
            await asyncio.sleep(POLL_SECONDS)
            self._update_members()
        self._is_open = True
        if self._files:
            self._follower = asyncio.create_task(self._follow_files())

    async def close(self) -> None:
        """Stop following the files."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower

    async def add(self, endpoint: Endpoint) -> bool:
        """Probe a server that is new or was down, and return whether it can be used; if not, it backs off or is excluded.

        Raises:
            MagpieError: it cannot do the work, and there is no other.
        """
        try:
            await self._probe(endpoint)
        except Unreachable as error:
            endpoint.mark_down(str(error.__cause__ or error))
            return False
        except MagpieError as error:
            if not self.exclude(endpoint, str(error)):
                raise
            return False
        async with self._room:
            self._room.notify_all()
        return True

    def exclude(self, endpoint: Endpoint, why: str) -> bool:
        """Send no more requests to a server that cannot do the work. Return False if it is the last and no other may come."""
        others = any(not each.excluded for each in self._endpoints if each is not endpoint)
        if not others and not self._files:
            return False
        if not endpoint.excluded:
            log.warning("%s; it is excluded", why)
            endpoint.excluded = True
        return True

    async def _first_probe(self, endpoint: Endpoint) -> Unreachable | None:
        try:
            await self._probe(endpoint)
        except Unreachable as error:
            if len(self._endpoints) > 1:
                endpoint.mark_down("no answer")
            return error
        return None

    async def _probe(self, endpoint: Endpoint) -> None:
        """Probe a server and note it as usable.

        Raises:
            Unreachable: no server answers.
            MagpieError: it cannot do the work, or it differs from the others.
        """
        assert self._http is not None  # noqa: S101
        info = await probe(self._http, endpoint.url, self._model, self._api)
        if any(each.probed for each in self._endpoints):
            self._check_like_others(endpoint, info)
        else:
            self.info = info
            self._api = "chat" if info.chat else "completions"
        if not endpoint.probed:
            endpoint.open(self._window * info.copies)
        endpoint.probed = True
        endpoint.mark_up()

    def _check_like_others(self, endpoint: Endpoint, info: ServerInfo) -> None:
        where = printable(endpoint.url)
        if self.info.is_vllm and not info.is_vllm:
            raise MagpieError(f"{where} is not a vLLM server, the others are. Use servers of one kind in a run")
        if self.info.context and (info.context or self.info.context) < self.info.context:
            if self._is_open:  # requests may already be sized for the longer context
                raise MagpieError(
                    f"{where} has a context of {info.context} tokens, the others of {self.info.context}. Start it with the same"
                )
            self.info = replace(self.info, context=info.context)

    async def _follow_files(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._files.have_changed():
                self._update_members()
                async with self._room:
                    self._room.notify_all()

    def _update_members(self) -> None:
        """Add servers that are new in the files; those no longer listed finish their requests."""
        try:
            listed = self._files.read() | set(self._connection.urls)
        except MagpieError as error:  # the file existed at the start: it is being edited
            log.warning("%s; continuing with the known servers", error)
            return
        for endpoint in self._endpoints:
            if endpoint.url not in listed and not endpoint.excluded:
                endpoint.excluded = True
                log.info("%s is no longer listed: it gets no new requests", printable(endpoint.url))
            elif endpoint.url in listed and endpoint.excluded:  # listed again, or to be tried again
                endpoint.excluded = endpoint.probed = False
        for url in sorted(listed - {endpoint.url for endpoint in self._endpoints}):
            if self._is_open:
                log.info("%s is new in the list", printable(url))
            self._endpoints.append(Endpoint(url, self._window))

    # --- scheduling ----------------------------------------------------------------------------------------------

    async def acquire(self) -> Endpoint:
        """Wait for room in a window, and return the server with the fewest requests; one that backs off comes last.

        Raises:
            MagpieError: see `raise_if_down_for_good`.
        """
        while True:
            async with self._room:
                while members := self._members:
                    candidates = [each for each in members if not each.is_backing_off] or members
                    if with_room := [each for each in candidates if each.has_room]:
                        endpoint = min(with_room, key=lambda each: each.in_flight)
                        endpoint.in_flight += 1
                        if any(each.has_room for each in candidates):
                            self._room.notify()  # each wakes the next: a window may have opened by more than one request
                        return endpoint
                    await self._room.wait()
            self._empty_since = self._empty_since or time.monotonic()
            self.raise_if_down_for_good()
            await asyncio.sleep(POLL_SECONDS)

    async def release(self, endpoint: Endpoint) -> None:
        """Free the room that `acquire` took."""
        async with self._room:
            endpoint.in_flight -= 1
            self._room.notify()

    def raise_if_down_for_good(self) -> None:
        """Check whether waiting still makes sense.

        Raises:
            MagpieError: no server has been up for longer than `outage`, or none will ever be again.
        """
        self._raise_if_gone()
        members = self._members
        since = [endpoint.down_since for endpoint in members] if members else [self._empty_since]
        if members:
            self._empty_since = None
        shortest = min(time.monotonic() - at if at is not None else 0.0 for at in since)
        if shortest > self._outage:
            raise MagpieError(f"no server has answered for {shortest:.0f} s. Start it, then {again()}")

    def _raise_if_gone(self) -> None:
        if why := self._connection.gone():
            raise MagpieError(f"{why}. To resume, {again()}")

    @property
    def _members(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints if not endpoint.excluded]

    # --- figures -------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Requests that all servers together accept at once."""
        return sum(endpoint.max_window for endpoint in self._members) or self._window

    @property
    def in_flight(self) -> int:
        """Requests that the servers are working on."""
        return sum(endpoint.in_flight for endpoint in self._endpoints)

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return sum(endpoint.tokens for endpoint in self._endpoints)

    def shares(self) -> list[str]:
        """Return a line about the work of each server; none if there is only one."""
        if len(self._endpoints) == 1:
            return []
        total = self.tokens or 1
        return [
            f"{printable(e.url)}: {e.completions:,} completions, {e.tokens:,} tokens ({100 * e.tokens / total:.0f}%)"
            for e in self._endpoints
        ]

"""HTTP to the servers that the user named: the rules for every request.

The key and the prompts go only to the named server: a redirect to another one is refused. A proxy (`proxies.py`) is never used
for this machine. A reply is read up to a limit, counted after decompression.
"""

from __future__ import annotations

import socket
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import msgspec

from magpie.client.proxies import proxy_of
from magpie.client.replies import ServerUnusable, TransientError
from magpie.common.console import MagpieError, printable
from magpie.common.masking import keep_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

CONNECT_SECONDS = 10.0
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A machine that loses power closes no connections: they count as broken after two minutes."""
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 3
REPLY_BYTES, BYTES_PER_TOKEN = 1 << 20, 256
"""Bytes that a reply may have, and bytes per token: long ones have 128 spaces, and each byte may be escaped."""
LIST_BYTES = 1 << 24
"""The limit of a list of models."""
ERROR_BYTES = 1 << 16
"""Bytes read of an error's reply."""
PORTS = {"http": 80, "https": 443}
EVENTS, EVENT_FACTOR = "text/event-stream", 4
"""The type of a streamed reply, and how many times longer it may be: each token may be its own event."""


@dataclass(frozen=True)
class HttpReply:
    """A server's reply."""

    status: int
    body: bytes
    retry_after: str | None
    is_stream: bool = False
    """Whether the body was a stream of events and was read as one."""


class HttpSession:
    """Connections to servers.

    Args:
        api_key: sent with every request; empty: none is sent.
        timeout: seconds that a request may take.
        proxy: `--proxy`; None: as the environment says.

    Raises:
        MagpieError: the key cannot be sent.
    """

    def __init__(self, api_key: str, timeout: float, proxy: str | None = None) -> None:
        import aiohttp

        if not (api_key.isascii() and api_key.isprintable()):
            raise MagpieError("the key (MAGPIE_API_KEY) has a line break or another character that no key has. Set it again")
        keep_secret(api_key)
        self._proxy = proxy
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=False, socket_factory=_keepalive_socket),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            json_serialize=lambda value: msgspec.json.encode(value).decode(),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def __aenter__(self) -> HttpSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, url: str, *, seconds: float | None = None) -> HttpReply:
        """Return a page, as a list of models is one."""
        return await self._send("GET", url, None, LIST_BYTES, seconds)

    async def post(
        self,
        url: str,
        body: dict[str, Any],
        *,
        limit: int = LIST_BYTES,
        seconds: float | None = None,
        events: Callable[[bytes], bool] | None = None,
    ) -> HttpReply:
        """Send a JSON body and return the reply; a stream is fed to `events` until it has enough.

        Raises:
            ServerUnusable: a redirect to another server.
            TransientError: the reply is longer than `limit` bytes, or its compression is not supported.
            aiohttp.ClientError, TimeoutError, OSError: the reply is not complete.
        """
        return await self._send("POST", url, body, limit, seconds, events)

    async def _send(
        self,
        method: str,
        url: str,
        body: Any,
        limit: int,
        seconds: float | None,
        events: Callable[[bytes], bool] | None = None,
    ) -> HttpReply:
        import aiohttp

        more: dict[str, Any] = {} if body is None else {"json": body}
        if seconds is not None:
            more["timeout"] = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        for _ in range(MOST_REDIRECTS):
            request = self._http.request(method, url, allow_redirects=False, proxy=proxy_of(url, self._proxy), **more)
            async with request as reply:
                if events and reply.status == 200 and reply.content_type == EVENTS:
                    await _read_events(reply, limit, events)
                    return HttpReply(200, b"", None, is_stream=True)
                if reply.status not in REDIRECTS:
                    return HttpReply(reply.status, await _read(reply, limit), reply.headers.get("Retry-After"))
                url = _redirected(reply.status, url, reply.headers.get("Location", ""))
        raise ServerUnusable(302, f"it redirects more than {MOST_REDIRECTS} times")


def reply_limit(tokens: int) -> int:
    """Return the maximum bytes of a reply to a prompt and completion of at most so many tokens."""
    return REPLY_BYTES + BYTES_PER_TOKEN * tokens


def _redirected(status: int, url: str, location: str) -> str:
    """Return where a redirect leads on the same server.

    Raises:
        ServerUnusable: it leads to another one, which must get neither the key nor the prompt.
    """
    try:
        to = urljoin(url, location)
        before, after = _origin(url), _origin(to)
    except ValueError:
        before, after = ("", None, None), ("", "an invalid address", None)
    if after in (before, ("https", before[1], 443)):
        return to
    raise ServerUnusable(
        status,
        f"HTTP {status}: it redirects to {printable(f'{after[0]}://{after[1]}', 100)}, which is another server and gets "
        "neither the key nor a prompt; name it yourself if you trust it",
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


async def _read_events(reply: aiohttp.ClientResponse, limit: int, events: Callable[[bytes], bool]) -> None:
    """Feed a stream to `events`, piece by piece; once it has enough, the connection is closed, which ends the request."""
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        events(await _read(reply, EVENT_FACTOR * limit))
        return
    left = EVENT_FACTOR * limit
    async for chunk in reply.content.iter_any():
        left -= len(chunk)
        if left < 0 or events(chunk):
            reply.close()
            break
    if left < 0:
        raise TransientError(f"the stream has more than {EVENT_FACTOR * limit:,} bytes, more than its tokens can take")


async def _read(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return a reply's body; of an error only the beginning."""
    is_error = reply.status != 200
    limit = ERROR_BYTES if is_error else limit
    body = bytearray()
    async for chunk in reply.content.iter_any():
        body += chunk
        if len(body) > limit:
            reply.close()
            break
    encoding = reply.headers.get("Content-Encoding", "identity").lower()
    found = _decompressed(bytes(body), encoding, limit)
    if len(found) > limit and not is_error:
        reply.close()
        raise TransientError(f"the reply has more than {limit:,} bytes, which is more than its tokens can take")
    return found[:limit]


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return at most `limit` + 1 bytes of a body's content."""
    if encoding in ("identity", ""):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise TransientError(f"the reply is compressed in a way that was not requested ({printable(encoding, 40)})")
    try:
        return zlib.decompressobj(47).decompress(body, limit + 1)  # 47: gzip or zlib, by the header
    except zlib.error as error:
        raise TransientError(f"the reply's compression is broken ({error})") from error


def one_line(error: BaseException) -> str:
    """Return an error's message in one printable line, at most 200 characters long."""
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)


def _keepalive_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """Return a socket that notices when the machine at the other end is gone."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made

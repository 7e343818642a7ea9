"""The HTTP session of a client."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec

from magpie.common.console import printable

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 10.0
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A machine that loses power closes no connection: two minutes later its connections count as broken."""


def open_session(api_key: str, timeout: float) -> aiohttp.ClientSession:
    """Return a session that sends the key with every request and gives each `timeout` seconds."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=False, socket_factory=_keepalive_socket),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        json_serialize=lambda value: msgspec.json.encode(value).decode(),
    )


def one_line(error: BaseException) -> str:
    """Return an error's message in one printable line, at most 200 characters long."""
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)


def _keepalive_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """Return a socket that notices when the machine at its other end is gone."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made

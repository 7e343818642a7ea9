"""A server that answers with any bytes: replies that no HTTP library would send. `Answer` gets the request, and writes."""

from __future__ import annotations

import gzip
import json
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any

Answer = Callable[["Request"], None]


class Request:
    """A request as it arrived; `send` writes bytes to it."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes, sock: socket.socket) -> None:
        self.path, self.headers, self.body, self._socket = path, headers, body, sock

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self, content: Any, status: str = "200 OK", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


class HostileServer:
    """Answers every request by `answer`, except the list of models, and keeps what has arrived."""

    def __init__(self, answer: Answer, *, model: str = "owner/scripted", owned_by: str = "vllm", lists: bool = True) -> None:
        self.requests: list[Request] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                first = self.rfile.readline().decode().split()
                headers = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(": ")
                    headers[name.lower()] = value
                if len(first) < 2:
                    return
                body = self.rfile.read(int(headers.get("content-length", 0)))
                request = Request(first[1], headers, body, self.connection)
                outer.requests.append(request)
                try:
                    if first[1].endswith("/models") and lists:
                        request.reply({"data": [{"id": model, "owned_by": owned_by, "max_model_len": 4096}]})
                    else:
                        answer(request)
                except OSError:  # the client has had enough
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> HostileServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def bomb(request: Request) -> None:
    """A gigabyte of spaces in a megabyte."""
    inner = gzip.compress(b" " * (1 << 26))
    request.reply(inner * 16, Content_Encoding="gzip")


def endless(request: Request) -> None:
    """A body without an end."""
    request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{")
    while True:
        request.send(b" " * (1 << 20))

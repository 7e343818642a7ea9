"""A small OpenAI-compatible server whose replies are scripted: for faults that a real server cannot be made to show."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL = "owner/scripted"


def completion(text: str = "fine", finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A body as a vLLM server sends it."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "token_ids": [1, 2]} | more
    return {"id": "c", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def chat(text: str | None = "fine", finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A body of chat completions, as hosted services send it."""
    said = {"role": "assistant", "content": text} | message
    return {
        "choices": [{"index": 0, "message": said, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7},
    }


@dataclass
class Reply:
    """One scripted reply, sent once `hold` is true; `reset` closes the socket abruptly instead (a TCP reset)."""

    status: int = 200
    body: Any = field(default_factory=completion)
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False
    hold: Callable[[], object] = lambda: True
    events: list[Any] | None = None
    """A stream of these instead of `body`, if a stream was asked for, as fast as the client reads."""
    beat: float = 0.0


@dataclass
class Call:
    """One request as it arrived; `in_flight` counts it and those that were being answered then."""

    path: str
    headers: dict[str, str]
    body: Any
    at: float
    in_flight: int
    events: int = 0
    """Those of its stream that were sent."""


class ScriptedServer:
    """A context manager: answers `routes` under `/v1` from `script`, then with `default`, and keeps every call in `history`.

    `by` gives a call's reply instead of both.
    """

    def __init__(
        self,
        *replies: Reply,
        default: Reply | None = None,
        models: Reply | None = None,
        served: tuple[str, ...] = (MODEL,),
        owned_by: str = "vllm",
        key: str = "",
        routes: tuple[str, ...] = ("completions",),
        context: int = 4096,
        port: int = 0,
        engines: int = 1,
        by: Callable[[Call], Reply] | None = None,
    ) -> None:
        self.script = deque(replies)
        self.default = default or Reply()
        self.by = by
        listed = [{"id": name, "owned_by": owned_by, "max_model_len": context} for name in served]
        self.models = models or Reply(body={"object": "list", "data": listed})
        self.key, self.routes = key, routes
        self.history: list[Call] = []
        self.model_calls: list[Call] = []
        self.port, self.engines = port, engines
        self.in_flight = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def max_in_flight(self) -> int:
        return max(call.in_flight for call in self.history)

    def __enter__(self) -> ScriptedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; a second start takes the same port again."""
        ready = threading.Event()
        self.in_flight = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(60), "the scripted server did not start"

    def stop(self) -> None:
        """Go, and drop the connections that are open."""
        if self._thread is None or self._loop is None or self._end is None:
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the scripted server did not stop"
        self._thread = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/v1/models", self._answer_models)
        app.router.add_get("/metrics", self._answer_metrics)
        for route in self.routes:
            app.router.add_post(f"/v1/{route}", self._answer_completions)
        runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _answer_models(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.path, dict(request.headers), None, time.monotonic(), 0)
        self.model_calls.append(call)
        return await self._send(request, self._refusal(call) or self.models)

    async def _answer_metrics(self, request: web.Request) -> web.StreamResponse:
        lines = (f'vllm:num_requests_running{{engine="{number}",model_name="m"}} 0.0\n' for number in range(self.engines))
        return await self._send(request, Reply(body="".join(lines).encode()))

    async def _answer_completions(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        try:
            body = json.loads(await request.read())
            if not body:  # the question whether the route is there
                return await self._send(request, Reply(400, {"error": "no model"}))
            call = Call(request.path, dict(request.headers), body, time.monotonic(), self.in_flight)
            self.history.append(call)
            scripted = self.by or (lambda _: self.script.popleft() if self.script else self.default)
            reply = self._refusal(call) or scripted(call)
            while not reply.hold():  # noqa: ASYNC110 - what it looks at knows no event
                await asyncio.sleep(0.01)
            if reply.delay:
                await asyncio.sleep(reply.delay)
            if reply.events is not None and body.get("stream"):
                return await self._stream(request, call, reply)
            return await self._send(request, reply)
        finally:
            self.in_flight -= 1

    async def _stream(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in reply.events or []:
            if request.transport is None or request.transport.is_closing():
                break
            await response.write(event if isinstance(event, bytes) else b"data: %s\n\n" % json.dumps(event).encode())
            call.events += 1
            await asyncio.sleep(reply.beat)
        return response

    def _refusal(self, call: Call) -> Reply | None:
        if self.key and call.headers.get("Authorization") != f"Bearer {self.key}":
            return Reply(401, {"error": "wrong key"})
        return None

    async def _send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        if reply.reset:
            assert request.transport is not None
            sock = request.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
            return web.Response()
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(body=body, status=reply.status, headers=reply.headers, content_type="application/json")

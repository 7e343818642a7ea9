"""The servers for faults.py."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import re
import signal
from collections.abc import Iterable
from typing import Any


class Served:
    """The addresses of a model's and a reward model's server, in a process of its own: threads and forks do not mix.

    Args:
        stages: what every fork would import.
    """

    def __init__(self, stages: Iterable[str]) -> None:
        self._stages = stages

    def __enter__(self) -> dict[str, str]:
        reader, writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            self._serve(writer)
        os.close(writer)
        become_subreaper = 36
        ctypes.CDLL(None).prctl(become_subreaper, 1, 0, 0, 0)
        with os.fdopen(reader) as told:
            urls: dict[str, str] = json.loads(told.readline())
        for stage in self._stages:
            __import__(stage)
        return urls

    def _serve(self, writer: int) -> None:
        from hostile_server import HostileServer
        from scripted_server import Call, Reply, ScriptedServer, chat, completion

        numbers = itertools.count(1)

        def answer(call: Call) -> Reply:
            asked = re.search(r"What is (\d+) \+ (\d+)\?", call.body["messages"][-1]["content"])
            is_program = asked and "Python" in call.body["messages"][-1]["content"]
            text = f"```python\nprint({asked[1]} + {asked[2]})\n```" if asked and is_program else "It is 3."
            return Reply(body=chat(text), delay=0.005)

        def problem(_: Call) -> Reply:
            text = f"A shop sells {next(numbers)} apples on Monday and twice as many on Tuesday. How many does it sell in all?"
            return Reply(body=completion(text), delay=0.005)

        with (
            ScriptedServer(by=answer, owned_by="x", routes=("chat/completions", "completions")) as model,
            ScriptedServer(by=problem) as engine,
            HostileServer(lambda request: request.reply({"data": [{"probs": [1.0]}]})) as scorer,
        ):
            urls = {"model": model.url, "engine": engine.url, "rewards": scorer.url}
            os.write(writer, json.dumps(urls).encode() + b"\n")
            os.close(writer)
            signal.pause()

    def __exit__(self, *_: Any) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

"""A reward model behind a server: vLLM's pooling API (`vllm serve MODEL --runner pooling`)."""

from __future__ import annotations

import contextlib
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from magpie.common.console import MagpieError, again, log, printable
from magpie.rewards.base import Conversation, Steps, with_steps

IN_FLIGHT = 64
TIMEOUT = 600.0
OUTAGE = 1800.0
"""Seconds of downtime to wait through; at the first request only FIRST_WAIT, as its URL may be wrong."""
FIRST_WAIT = 30.0
LONGEST_PAUSE = 30.0


class _TransientError(Exception):
    """A failure that a retry may mend."""


class _RequestError(Exception):
    """The server rejects the request for good."""


class ServedModel:
    """A reward model behind a server; one without `/classify` is a process reward model."""

    def __init__(self, url: str) -> None:
        self._root = url.rstrip("/").removesuffix("/v1")
        self._key = os.environ.get("MAGPIE_API_KEY", "")
        self._patience = FIRST_WAIT
        with self._no_reward_model():
            models = self._send("/v1/models", None)["data"]
            self._model: str = models[0]["id"]
        # the model of a server that was started with a folder is named by its path
        self.name = self._model.rstrip("/").rpartition("/")[2] if self._model.startswith("/") else self._model
        self._patience = OUTAGE
        self._steps: bool | None = None

    @property
    def has_steps(self) -> bool:
        """True for a process reward model."""
        if self._steps is None:
            probe = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
            try:
                self._send("/classify", self._body(probe))
                self._steps = False
            except _RequestError:
                with self._no_reward_model():
                    self._process(probe)
                self._steps = True
        return self._steps

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where it exceeds the model's context."""
        one = self._process if self.has_steps else self._classify

        def scored(turns: Conversation) -> Steps | None:
            try:
                return one(turns)
            except _RequestError as error:
                if any(sign in str(error) for sign in ("context length", "max_model_len", "too long", "maximum")):
                    return None
                raise MagpieError(f"{self._root} rejects a response: {error}. Check the server's log") from error

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(scored, conversations))

    def _body(self, turns: Conversation) -> dict[str, Any]:
        return {"model": self._model, "messages": turns}

    def _classify(self, turns: Conversation) -> Steps:
        (score,) = self._send("/classify", self._body(turns) | {"use_activation": False})["data"][0]["probs"]
        return [score]

    def _process(self, turns: Conversation) -> Steps:
        reply = self._send("/pooling", self._body(with_steps(turns)) | {"task": "token_classify"})
        return [right for _, right in reply["data"][0]["data"]]

    @contextlib.contextmanager
    def _no_reward_model(self) -> Any:
        try:
            yield
        except (_RequestError, KeyError, IndexError, ValueError, TypeError) as error:
            raise MagpieError(
                f"{self._root} does not serve a reward model ({printable(str(error), 300)}). Start it with "
                "`vllm serve MODEL --runner pooling`"
            ) from error

    def _send(self, path: str, body: dict[str, Any] | None) -> Any:
        """Return the decoded reply; transient errors are retried."""
        started, pause = time.monotonic(), 0.5
        while True:
            try:
                return self._once(path, body)
            except _TransientError as error:
                if time.monotonic() - started > self._patience:
                    raise MagpieError(f"{self._root} does not answer ({error}). Start it, then {again()}") from error
                log.info("%s: %s; retrying", self._root, error)
                time.sleep(random.uniform(0, pause))
                pause = min(LONGEST_PAUSE, 2 * pause)

    def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        data = msgspec.json.encode(body) if body else None
        request = urllib.request.Request(self._root + path, data, headers)  # noqa: S310 - the user names the server
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:  # noqa: S310
                return msgspec.json.decode(reply.read())
        except urllib.error.HTTPError as error:
            text = f"HTTP {error.code}: {printable(error.read(400).decode('utf-8', 'replace'))}"
            if error.code in (401, 403):
                raise MagpieError(
                    f"{self._root} refuses the key. Put the right one into MAGPIE_API_KEY, then {again()}"
                ) from error
            raise (_TransientError(text) if error.code >= 500 or error.code in (408, 429) else _RequestError(text)) from error
        except (OSError, msgspec.DecodeError) as error:
            raise _TransientError(str(error)) from error

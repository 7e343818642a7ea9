"""A reward model behind a server: vLLM's pooling API (`vllm serve MODEL --runner pooling`)."""

from __future__ import annotations

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import tenacity

from magpie.common.console import MagpieError, again, log, printable
from magpie.rewards.model import Conversation, Steps, with_steps

IN_FLIGHT = 64
TIMEOUT = 600.0
OUTAGE = 1800.0
"""Seconds that a server may be down; the first time, only FIRST_WAIT: its URL may be wrong."""
FIRST_WAIT = 30.0


class _Passing(Exception):
    """A failure that may not be there next time."""


class _Refused(Exception):
    """The server does not take this request."""


class ServedModel:
    """Scores answers on a server; a process reward model is told by its having no `/classify`."""

    def __init__(self, url: str) -> None:
        self._root = url.rstrip("/").removesuffix("/v1")
        self._key = os.environ.get("MAGPIE_API_KEY", "")
        self._patience = FIRST_WAIT
        with self._ending_the_run():
            models = self._send("/v1/models", None)["data"]
            self._model: str = models[0]["id"]
        # a server of a folder calls it by its path
        self.name = self._model.rstrip("/").rpartition("/")[2] if self._model.startswith("/") else self._model
        self._patience = OUTAGE
        self._steps: bool | None = None

    @property
    def has_steps(self) -> bool:
        """Whether it is a process reward model."""
        if self._steps is None:
            probe = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
            try:
                self._send("/classify", self._body(probe))
                self._steps = False
            except _Refused:
                with self._ending_the_run():
                    self._process(probe)
                self._steps = True
        return self._steps

    def steps(self, conversations: Sequence[Conversation]) -> list[Steps | None]:
        """Return the scores of each conversation, or None where the server finds it too long."""
        one = self._process if self.has_steps else self._classify

        def scored(turns: Conversation) -> Steps | None:
            try:
                return one(turns)
            except _Refused as error:
                if any(sign in str(error) for sign in ("context length", "max_model_len", "too long", "maximum")):
                    return None
                raise MagpieError(f"{self._root} refuses an answer: {error}. Check the server's log") from error

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(scored, conversations))

    def _body(self, turns: Conversation) -> dict[str, Any]:
        return {"model": self._model, "messages": turns}

    def _classify(self, turns: Conversation) -> Steps:
        (score,) = self._send("/classify", self._body(turns) | {"use_activation": False})["data"][0]["probs"]
        return [score]

    def _process(self, turns: Conversation) -> Steps:
        answer = self._send("/pooling", self._body(with_steps(turns)) | {"task": "token_classify"})
        return [right for _, right in answer["data"][0]["data"]]

    @contextlib.contextmanager
    def _ending_the_run(self) -> Any:
        try:
            yield
        except (_Refused, KeyError, IndexError, ValueError, TypeError) as error:
            raise MagpieError(
                f"{self._root} serves no reward model ({printable(str(error), 300)}). Start it with `vllm serve MODEL --runner "
                "pooling`"
            ) from error

    def _send(self, path: str, body: dict[str, Any] | None) -> Any:
        """Return the server's answer; a passing failure is tried again."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=30),
            stop=tenacity.stop_after_delay(self._patience),
            before_sleep=lambda state: log.info(
                "%s: %s; trying again", self._root, state.outcome and state.outcome.exception()
            ),
            reraise=True,
        )
        try:
            return retrying(self._once, path, body)
        except _Passing as error:
            raise MagpieError(f"{self._root} does not answer ({error}). Start it, then {again()}") from error

    def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        data = msgspec.json.encode(body) if body else None
        request = urllib.request.Request(self._root + path, data, headers)  # noqa: S310 - the user names the server
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return msgspec.json.decode(answer.read())
        except urllib.error.HTTPError as error:
            text = f"HTTP {error.code}: {printable(error.read(400).decode('utf-8', 'replace'))}"
            if error.code in (401, 403):
                raise MagpieError(
                    f"{self._root} refuses the key. Put the right one into MAGPIE_API_KEY, then {again()}"
                ) from error
            raise (_Passing(text) if error.code >= 500 or error.code in (408, 429) else _Refused(text)) from error
        except (OSError, msgspec.DecodeError) as error:
            raise _Passing(str(error)) from error

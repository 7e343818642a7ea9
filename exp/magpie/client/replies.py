"""HTTP replies: read as a completion, or as the error that they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from magpie.common.console import printable
from magpie.common.masking import masked
from magpie.text.reasoning import CLOSE, OPEN

LONGEST_RETRY_AFTER = 60.0
SHOWN, READ = 300, 4096
"""Characters of an error's reply that are shown, and those before what is no text in it and our key are taken out."""
MOST_TOKENS = 10**9
"""More than this is no count of one request's tokens."""
SERVER_DOWN = (502, 503)
"""From a gateway whose server is down (504: from one that does not wait for a long completion)."""
SERVER_UNUSABLE = (401, 402, 403, 404)
"""The server refuses the key, is not paid, or serves another model now: other requests will fare no better there."""


@dataclass(frozen=True)
class Completion:
    """What a server wrote for one prompt. `token_ids` only where the server returns them (vLLM)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    token_ids: list[int] | None
    model: str = ""
    """The model that the server says it is."""


class Refused(Exception):
    """A permanent error of one request; `reason` goes into the dropped row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class TransientError(Exception):
    """An error that may not occur again."""


class RateLimited(TransientError):
    """Too many requests or tokens; `seconds` is how long to wait, if the server said so."""

    def __init__(self, text: str, seconds: float | None) -> None:
        super().__init__(text)
        self.seconds = seconds


class ServerUnusable(Exception):
    """A permanent error of a server."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Completions(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _ChatChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None

    def as_text(self) -> _Choice:
        """Return it as a text, with the chain of thought in its tags wherever the server puts it."""
        text, reasoning = self.message.content or "", self.message.reasoning or self.message.reasoning_content
        if reasoning:
            text = f"{OPEN}\n{reasoning}" + (f"\n{CLOSE}\n\n{text}" if text or self.finish_reason != "length" else "")
        return _Choice(text, self.finish_reason)


class _ChatCompletions(msgspec.Struct):
    choices: list[_ChatChoice]
    usage: _Usage | None = None
    model: str | None = None


_decode = msgspec.json.Decoder(_Completions).decode
_decode_chat = msgspec.json.Decoder(_ChatCompletions).decode


def read_reply(status: int, body: bytes, retry_after: str | None, *, chat: bool) -> Completion:
    """Return the completion in a reply. `retry_after` is its header.

    Raises:
        TransientError: sent again, the request may succeed.
        Refused: it will not.
        ServerUnusable: no request will, at this server.
    """
    if status == 200:
        return _read_completion(body, chat=chat)
    text = f"HTTP {status}: {printable(body[:READ].decode('utf-8', 'replace'), SHOWN)}"
    if status == 429:
        raise RateLimited(text, _seconds(retry_after))
    if status >= 500 or status == 408:
        raise TransientError(text)
    if status in SERVER_UNUSABLE:
        raise ServerUnusable(status, text)
    raise Refused("request_refused", text)


def _read_completion(body: bytes, *, chat: bool) -> Completion:
    try:
        reply = _decode_chat(body) if chat else _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TransientError(f"malformed reply: {printable(str(error), SHOWN)}") from error
    if not reply.choices:
        raise TransientError("malformed reply: no choices")
    first, usage = reply.choices[0], reply.usage or _Usage()
    choice = first.as_text() if isinstance(first, _ChatChoice) else first
    return Completion(
        masked(choice.text),
        masked(choice.finish_reason or "unknown"),
        _counted(usage.prompt_tokens),
        _counted(usage.completion_tokens),
        choice.token_ids,
        reply.model or "",
    )


def _counted(tokens: int) -> int:
    """Return a server's count of tokens; 0, as where there is none, for one that cannot be true."""
    return tokens if 0 <= tokens <= MOST_TOKENS else 0


def _seconds(retry_after: str | None) -> float | None:
    """Return a `Retry-After` in seconds; None: there is none, it is a date, or it is less than a second."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 1 else None

"""HTTP replies: read as a completion, or as the error that they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec

from magpie.common.console import printable
from magpie.common.masking import masked
from magpie.text.degeneration import LoopWatch
from magpie.text.reasoning import CLOSE, OPEN

LONGEST_RETRY_AFTER = 60.0
SHOWN, READ = 300, 4096
"""Characters of an error's reply that are shown, and those before what is no text in it and our key are taken out."""
MOST_TOKENS = 10**9
"""More than this is no count of one request's tokens."""
UNFINISHED = ("length", "repetition")
"""A thought that ended for such a reason has not been closed."""
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
    saved_tokens: int = 0
    """Tokens up to the limit that a loop, which was ended, might still have written."""


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
            text = f"{OPEN}\n{reasoning}" + (f"\n{CLOSE}\n\n{text}" if text or self.finish_reason not in UNFINISHED else "")
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
    return _completion(reply.choices[0], reply.usage or _Usage(), reply.model)


def _completion(first: _Choice | _ChatChoice, usage: _Usage, model: str | None) -> Completion:
    choice = first.as_text() if isinstance(first, _ChatChoice) else first
    return Completion(
        masked(choice.text),
        masked(choice.finish_reason or "unknown"),
        _counted(usage.prompt_tokens),
        _counted(usage.completion_tokens),
        choice.token_ids,
        model or "",
    )


class _Piece(msgspec.Struct):
    text: str | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Event(msgspec.Struct):
    choices: list[_Piece] = []
    usage: _Usage | None = None
    model: str | None = None
    error: msgspec.Raw | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_DATA = b"data:"


class Stream:
    """A streamed reply, read while it arrives, so that a loop can be ended."""

    def __init__(self) -> None:
        self._rest, self._is_chat, self._is_ended = b"", False, False
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._ids: list[int] = []
        self._tokens, self._usage, self._model, self._finish = 0, _Usage(), "", ""
        self._watch = LoopWatch()

    def feed(self, piece: bytes) -> bool:
        """Read a piece of the body; return whether the rest is not wanted, since it is a loop.

        Raises:
            TransientError: it cannot be read.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return any(self._read(line[len(_DATA) :].strip()) for line in lines if line.startswith(_DATA))

    def _read(self, data: bytes) -> bool:
        if data == b"[DONE]":
            return False
        try:
            event = _decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TransientError(f"malformed reply: {printable(str(error), SHOWN)}") from error
        if event.error is not None:
            raise TransientError(f"the server broke off: {printable(bytes(event.error).decode('utf-8', 'replace'), SHOWN)}")
        self._usage, self._model = event.usage or self._usage, event.model or self._model
        return any(self._add(each) for each in event.choices[:1])

    def _add(self, piece: _Piece) -> bool:
        """Add a piece of the text; return whether it has become a loop."""
        text, thought = piece.text or "", ""
        if piece.delta:
            self._is_chat = True
            text, thought = piece.delta.content or "", piece.delta.reasoning or piece.delta.reasoning_content or ""
        self._texts.append(text)
        self._thoughts.append(thought)
        self._ids += piece.token_ids or ()
        tokens = len(piece.token_ids or ()) or int(bool(text or thought))  # others than vLLM send one in each event
        self._tokens += tokens
        self._finish = piece.finish_reason or self._finish
        self._is_ended = not self._finish and self._watch.loops(text + thought, tokens)
        return self._is_ended

    def completion(self, prompt_tokens: int, limit: int) -> Completion:
        """Return what has been read; the arguments stand in for what the server did not come to say.

        Raises:
            TransientError: it is not all.
        """
        finish = "repetition" if self._is_ended else self._finish
        if not finish:
            raise TransientError("malformed reply: the stream ended before the response")
        text, thought = "".join(self._texts), "".join(self._thoughts)
        usage = _Usage(self._usage.prompt_tokens or prompt_tokens, self._usage.completion_tokens or self._tokens)
        message = _ChatChoice(_Message(text, thought), finish) if self._is_chat else _Choice(text, finish, self._ids or None)
        found = _completion(message, usage, self._model)
        return replace(found, saved_tokens=max(0, limit - found.completion_tokens)) if self._is_ended else found


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

"""HTTP replies: read as a completion or an error."""

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
"""Characters of an error's reply that are shown, and those read before control characters and our key are removed."""
MOST_TOKENS = 10**9
"""A larger number is not a count of one request's tokens."""
DATA = b"data:"
"""Beginning of a line that holds a stream's event."""
UNFINISHED = ("length", "repetition")
"""A thought that ended for this reason was not closed."""
SERVER_DOWN = (502, 503)
"""From a gateway whose server is down (504: or which does not wait for a long completion)."""
SERVER_UNUSABLE = (401, 402, 403, 404)
"""The server refuses the key, is not paid, or serves another model now: all other requests will fail too."""


@dataclass(frozen=True)
class Completion:
    """What a server wrote for one prompt. `token_ids` only where the server returns them (vLLM)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    token_ids: list[int] | None
    model: str = ""
    """The model that the server reports."""
    saved_tokens: int = 0
    """Tokens saved at most by ending a loop: those left up to the limit."""


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


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @property
    def parts(self) -> tuple[str, str]:
        """The text, and the chain of thought from whichever field the server uses."""
        return self.content or "", self.reasoning or self.reasoning_content or ""


class _Choice(msgspec.Struct):
    """A response, or a piece of one; of `text` (completions), `message` and `delta` (chat) it has one."""

    text: str | None = None
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None

    @property
    def parts(self) -> tuple[str, str]:
        """The text and the separate chain of thought."""
        said = self.message or self.delta
        return said.parts if said else (self.text or "", "")


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: str | None = None
    error: msgspec.Raw | None = None


_decoder = msgspec.json.Decoder(_Reply)


def _decode(body: bytes) -> _Reply:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TransientError(f"malformed reply: {printable(str(error), SHOWN)}") from error


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
    reply = _decode(body)
    first = reply.choices[0] if reply.choices else _Choice()
    if (first.message if chat else first.text) is None:
        raise TransientError("malformed reply: no response in it")
    return _completion(first.parts, first.finish_reason, reply.usage or _Usage(), first.token_ids, reply.model)


def _completion(
    parts: tuple[str, str], finish_reason: str | None, usage: _Usage, token_ids: list[int] | None, model: str | None
) -> Completion:
    """Return it as one text, with the chain of thought in its tags."""
    text, thought = parts
    if thought:
        text = f"{OPEN}\n{thought}" + (f"\n{CLOSE}\n\n{text}" if text or finish_reason not in UNFINISHED else "")
    return Completion(
        masked(text),
        masked(finish_reason or "unknown"),
        _counted(usage.prompt_tokens),
        _counted(usage.completion_tokens),
        token_ids,
        model or "",
    )


class Stream:
    """A streamed reply, read while it arrives, so that a loop can be ended."""

    def __init__(self) -> None:
        self._rest, self._tokens, self._watch = b"", 0, LoopWatch()
        self._parts: list[tuple[str, str]] = []
        self._ids: list[int] = []
        self._usage, self._model, self._finish, self._is_ended = _Usage(), "", "", False

    def feed(self, piece: bytes) -> bool:
        """Read a piece of the body; return whether to stop, because it is a loop.

        Raises:
            TransientError: it cannot be read.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return any(self._read(line[len(DATA) :].strip()) for line in lines if line.startswith(DATA))

    def _read(self, data: bytes) -> bool:
        """Read an event; return whether the text has become a loop."""
        if data == b"[DONE]":
            return False
        event = _decode(data)
        if event.error is not None:
            raise TransientError(f"the server broke off: {printable(bytes(event.error).decode('utf-8', 'replace'), SHOWN)}")
        self._usage, self._model = event.usage or self._usage, event.model or self._model
        for piece in event.choices[:1]:
            text, thought = piece.parts
            self._parts.append((text, thought))
            self._ids += piece.token_ids or ()
            tokens = len(piece.token_ids or ()) or int(bool(text or thought))  # servers other than vLLM send one in each event
            self._tokens += tokens
            self._finish = piece.finish_reason or self._finish
            self._is_ended = not self._finish and self._watch.loops(text + thought, tokens)
        return self._is_ended

    def completion(self, prompt_tokens: int, limit: int) -> Completion:
        """Return what has been read; the arguments replace what the server did not get to send.

        Raises:
            TransientError: it is incomplete.
        """
        finish = "repetition" if self._is_ended else self._finish
        if not finish:
            raise TransientError("malformed reply: the stream ended before the response")
        text, thought = ("".join(parts) for parts in zip(*self._parts, strict=True))
        usage = _Usage(self._usage.prompt_tokens or prompt_tokens, self._usage.completion_tokens or self._tokens)
        found = _completion((text, thought), finish, usage, self._ids or None, self._model)
        return replace(found, saved_tokens=max(0, limit - found.completion_tokens)) if self._is_ended else found


def _counted(tokens: int) -> int:
    """Return a server's count of tokens; 0 if it is missing or cannot be true."""
    return tokens if 0 <= tokens <= MOST_TOKENS else 0


def _seconds(retry_after: str | None) -> float | None:
    """Return a `Retry-After` in seconds; None: there is none, it is a date, or it is less than a second."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 1 else None

"""Completions of a preview, kept so that the real run reuses them instead of requesting them again."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from magpie.client.replies import Completion

RECORD, TAKE_OVER = "MAGPIE_RECORD", "MAGPIE_TAKE_OVER"
"""Variables that name the file to add completions to, and the files (separated as in PATH) to take them from."""


class Recorded(msgspec.Struct):
    """A line of such a file."""

    prompt: str
    """A digest of the prompt alone."""
    key: str
    """A digest of the request and of its place among several for one prompt."""
    completion: Completion


class Recordings:
    """Completions by request; each is reused once."""

    def __init__(self) -> None:
        self._file = os.environ.get(RECORD, "")
        self._known: dict[str, deque[Completion]] = defaultdict(deque)
        for name in filter(None, os.environ.get(TAKE_OVER, "").split(os.pathsep)):
            for line in read_recordings(Path(name)):
                self._known[line.key].append(line.completion)

    def take(self, body: dict[str, Any], slot: str) -> Completion | None:
        """Return a completion of the same request, if there is one."""
        known = self._known.get(_digest([body, slot])) if self._known else None
        return known.popleft() if known else None

    def add(self, body: dict[str, Any], slot: str, completion: Completion) -> None:
        """Keep a completion, if this is a preview."""
        if self._file:
            prompt = _digest(body.get("prompt") or body.get("messages"))
            line = Recorded(prompt, _digest([body, slot]), completion)
            Path(self._file).parent.mkdir(exist_ok=True)
            with Path(self._file).open("ab", buffering=0) as file:
                file.write(msgspec.json.encode(line) + b"\n")


def read_recordings(path: Path) -> Iterator[Recorded]:
    """Yield a file's whole lines."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield msgspec.json.decode(line, type=Recorded)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # torn: its program was killed


def _digest(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(value, order="sorted"))

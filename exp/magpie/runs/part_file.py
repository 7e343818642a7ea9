"""The `.part` file: the log of a run that has not finished, one line per finished record.

A line is `[index, state, prompt_tokens, completion_tokens, record]`. Only a whole line counts, so a process may be killed at
any moment; the next one cuts off a torn last line. One process at a time holds the file's lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec

from magpie.common.console import MagpieError, log
from magpie.records.reading import encode


class State(StrEnum):
    """The state of an index: kept, dropped, dropped but tried again, or with one more of several responses."""

    KEPT = "kept"
    DROPPED = "dropped"
    REPLACED = "replaced"
    PARTIAL = "partial"


class PartLine(msgspec.Struct, array_like=True):
    """A line of a `.part` file."""

    index: int
    state: State
    prompt_tokens: int
    completion_tokens: int
    record: msgspec.Raw


_decode = msgspec.json.Decoder(PartLine).decode


def whole_lines(file: BinaryIO) -> Iterator[tuple[int, PartLine | None]]:
    """Yield each whole line from where `file` stands, with its length in bytes; None for one that cannot be read."""
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            yield len(line), _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield len(line), None


def require_unlocked(path: Path) -> None:
    """Raise a MagpieError if another process works on a `.part` file; one that is not there is free."""
    if path.exists():
        with path.open("rb") as file:
            _lock(path, file)


def _lock(path: Path, file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MagpieError(f"{path}: another process is working on it. Wait for it, or choose another --output_file") from None


class PartFile:
    """A `.part` file that this process has locked; it is created where there is none."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[PartFile]:
        """Hold a `.part` file.

        Raises:
            MagpieError: another process holds it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            _lock(path, file)
            yield cls(path, file)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file.fileno()).st_size

    def clear(self) -> None:
        """Empty the file."""
        self._file.truncate(0)

    def recover(self) -> Iterator[tuple[int, PartLine | None]]:
        """Yield the lines that are there, each with its offset, None for an unreadable one; then cut off a torn last line."""
        offset = 0
        with self._path.open("rb") as file:
            for length, line in whole_lines(file):
                yield offset, line
                offset += length
        if offset < self.size:
            log.info("a torn last line in %s is discarded", self._path.name)
            self._file.truncate(offset)

    def append(self, line: PartLine) -> int:
        """Append a line, whole or not at all, and return its offset."""
        data = memoryview(encode(line) + b"\n")
        offset = self._file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.truncate(offset)
            error.filename = error.filename or str(self._path)
            raise
        return offset


def records_at(path: Path, offsets: Iterable[int]) -> Iterator[bytes]:
    """Yield the records of a `.part` file's lines at the given offsets."""
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            yield bytes(_decode(file.readline()).record)

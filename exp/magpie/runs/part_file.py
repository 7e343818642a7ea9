"""The `.part` file: the log of a run that has not finished, one line per finished record.

A line is `[index, state, prompt_tokens, completion_tokens, record, "checksum of the above"]`; older files have no
checksums. Only complete lines count, so a process may be killed at any moment; the next one cuts off a torn last line and
redoes the record of a damaged one. One process at a time holds the file's lock.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import xxhash

from magpie.common.console import MagpieError, again, log
from magpie.records.rows import encode


class State(StrEnum):
    """The state of an index: kept, dropped, dropped but retried, or with one more of several responses."""

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
    checksum: str | None = None


class _Reason(msgspec.Struct):
    stop_reason: Any = None


_decode_reason = msgspec.json.Decoder(_Reason).decode


def is_settled(record: msgspec.Raw) -> bool:
    """Return whether a record's votes were decided before all were requested."""
    return b'"stop_reason"' in bytes(record) and _decode_reason(record).stop_reason in ("settled", "posterior")


_decode_line = msgspec.json.Decoder(PartLine).decode


def _decode(line: bytes) -> PartLine | None:
    """Return a line's content, or None if it is damaged."""
    try:
        found = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found.checksum is None:
        return found
    end = len(line) - _CHECKSUM_LENGTH
    return found if line[end:] == _checksum(line[:end]) else None


def _checksum(beginning: bytes) -> bytes:
    """Return the end of a line."""
    return b',"%016x"]\n' % xxhash.xxh3_64_intdigest(beginning)


_CHECKSUM_LENGTH = len(_checksum(b""))


def whole_lines(file: BinaryIO) -> Iterator[tuple[int, PartLine | None]]:
    """Yield each complete line from the position of `file`, with its length in bytes; None for an unreadable one."""
    for line in file:
        if not line.endswith(b"\n"):
            return
        yield len(line), _decode(line)


def require_unlocked(path: Path) -> None:
    """Raise a MagpieError if another process works on a `.part` file; one that does not exist is free."""
    if os.path.lexists(path):
        with _open_own(path) as file:
            _lock(path, file)


def _open_own(path: Path) -> BinaryIO:
    """Open an existing `.part` file: a regular file of the user, with no other name.

    Raises:
        MagpieError: it is not one, and its content would be overwritten or mistaken for this run's work.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if not path.is_symlink():
            raise
        raise MagpieError(f"{path} is a link. Remove it, or choose another --output_file") from error
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == _owner_in(path.parent):
        return os.fdopen(handle, "a+b", buffering=0)
    os.close(handle)
    raise MagpieError(f"{path} is not a file of yours alone. Remove it, or choose another --output_file")


def _owner_in(folder: Path) -> int:
    """Return the owner of new files in a folder: a file server may have its own view of that."""
    with tempfile.TemporaryFile(dir=folder) as made:
        return os.fstat(made.fileno()).st_uid


def _lock(path: Path, file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MagpieError(f"{path}: another process is working on it. Wait for it, or choose another --output_file") from None


class PartFile:
    """A `.part` file that this process has locked; it is created if missing."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[PartFile]:
        """Lock a `.part` file.

        Raises:
            MagpieError: another process holds it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        made = False
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            made = True
        except FileExistsError:
            file = _open_own(path)
        else:
            file = os.fdopen(handle, "a+b", buffering=0)
        with file:
            _lock(path, file)
            try:
                yield cls(path, file)
            except BaseException:
                if made and not os.fstat(file.fileno()).st_size:
                    path.unlink(missing_ok=True)
                raise

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file.fileno()).st_size

    def clear(self) -> None:
        """Empty the file."""
        self._file.truncate(0)

    def recover(self) -> Iterator[tuple[int, PartLine | None]]:
        """Yield the existing lines, each with its offset, None for an unreadable one; then cut off a torn last line."""
        offset = 0
        with self._path.open("rb") as file:
            for length, line in whole_lines(file):
                yield offset, line
                offset += length
        if offset < self.size:
            log.info("a torn last line in %s is discarded", self._path.name)
            self._file.truncate(offset)

    def append(self, line: PartLine) -> int:
        """Append a line atomically and return its offset."""
        beginning = encode(line)[: -len(b",null]")]
        data = memoryview(beginning + _checksum(beginning))
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
    """Yield the records of a `.part` file's lines at the given offsets.

    Raises:
        MagpieError: a line has been damaged since it was read or written.
    """
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            if (line := _decode(file.readline())) is None:
                raise MagpieError(f"{path}: a line of it has been damaged on disk. To repair it, {again()}")
            yield bytes(line.record)


def dropped_row(record: dict[str, Any], reason: str, detail: str = "") -> dict[str, Any]:
    """Return a record for the dropped file."""
    return record | {"drop_reason": reason} | ({"drop_detail": detail} if detail else {})

"""Atomic file and folder writes."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
"""An existing link or file of that name is neither opened nor followed."""
LONGEST_NAME = 255 - len(".12345678.tmp.")
"""Maximum bytes of a file name that leave room for the temporary suffix."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that is synced and renamed onto `path` at the end; nothing is left behind on failure."""
    temporary = _new_name(path)
    try:
        with os.fdopen(os.open(temporary, NEW_FILE, 0o666), "wb", buffering=1 << 20) as file:
            _lock(file)
            yield file
            settle(file)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)
        raise
    sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces `path` at the end; nothing is left behind on failure."""
    inside = Path(tempfile.mkdtemp(prefix=".magpie-", suffix=".tmp", dir=path.parent))  # nobody else uses its name
    temporary, old = inside / "new", inside / "old"
    temporary.mkdir()
    try:
        yield temporary
        for made in temporary.rglob("*"):
            sync(made)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(inside, ignore_errors=True)
    sync(path.parent)


def _new_name(path: Path) -> Path:
    """Return an unused name next to a file; leftovers of killed processes under such names are deleted."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError), os.fdopen(os.open(stale, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            _lock(file)
            stale.unlink()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _lock(file: BinaryIO) -> None:
    """Mark a temporary file as in use; raise BlockingIOError if another process has."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def settle(file: BinaryIO) -> None:
    """Flush what was written to disk: a full disk shows here."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file of lines atomically."""
    with replacing(path) as file:
        for line in lines:
            file.write(line)
            file.write(b"\n")

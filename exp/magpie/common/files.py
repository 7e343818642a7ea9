"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that is synced and renamed onto `path` at the end; nothing is left behind on failure."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
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
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    for stale in (temporary, old):  # left by a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for inside in temporary.rglob("*"):
            sync(inside)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file of lines, whole or not at all."""
    with replacing(path) as file:
        for line in lines:
            file.write(line)
            file.write(b"\n")

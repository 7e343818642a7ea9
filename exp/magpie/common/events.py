"""What a program does, one line of JSON per event, for other programs (`--events`; docs/events.md has the schema)."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = "MAGPIE_EVENTS"
EVERY_SECONDS = 60.0
"""Between two counts."""
START = b'{"event":'
"""The start of a file of events."""
Counts = Callable[[], dict[str, Any]]


class _Events:
    """The events of this process."""

    def __init__(self, path: Path, program: str) -> None:
        self._path, self._program = path, program
        self._over = threading.Event()
        self.counts: Counts | None = None
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def begin(self) -> None:
        self.emit("begun")
        self._ticker.start()

    def _tick(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self.emit_counts()

    def emit_counts(self) -> None:
        if self.counts:
            self.emit("counts", **self.counts())

    def end(self, code: int) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self.emit_counts()
        self.emit("ended", code=code)

    def emit(self, event: str, **more: Any) -> None:
        """Append a line atomically; a line torn by a killed process is cut off first."""
        head = {"event": event, "time": round(time.time(), 3), "program": self._program, "pid": os.getpid()}
        line = json.dumps(head | more).encode() + b"\n"
        with self._path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _whole_end(file)
            file.truncate(end)
            if file.write(line) != len(line):
                file.truncate(end)


def _whole_end(file: Any) -> int:
    """Return where the last complete line ends."""
    at = end = file.seek(0, os.SEEK_END)
    while at:
        start = max(0, at - 4096)
        file.seek(start)
        if (found := file.read(at - start).rfind(b"\n")) >= 0:
            return int(start + found + 1)
        at = start
    return 0 if end else end


_current: list[_Events] = []


def begin(path: Path | None, program: str) -> None:
    """Write the events of this program, and of programs that it starts, into a file (None: the parent's file)."""
    if path:
        os.environ[EVENTS] = str(path.resolve())
    _current.clear()
    if name := os.environ.get(EVENTS):
        _require_events(Path(name))
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        events = _Events(Path(name), program)
        events.begin()
        _current.append(events)  # only now: what did not begin has no end


def _require_events(path: Path) -> None:
    """Refuse to append to a file that has something else in it, such as the input.

    Raises:
        MagpieError: it has.
    """
    from magpie.common.console import MagpieError  # which imports this module

    if path.is_file():
        with path.open("rb") as file:
            start = file.read(len(START))
        if not START.startswith(start):
            raise MagpieError(f"--events {path}: it exists and has no events in it. Name a new file")


def count_by(counts: Counts) -> None:
    """Set the function that returns the current run's counts."""
    for each in _current:
        each.counts = counts


def end(code: int) -> None:
    """Note how the program ends."""
    for each in _current:
        each.end(code)
    _current.clear()

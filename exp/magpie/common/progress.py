"""Progress bars, the summary table and the finished examples.

On a terminal a stage shows one bar; elsewhere a plain line every `PLAIN_SECONDS`, which also goes to the job's log.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from magpie.common.console import log, printable

PLAIN_SECONDS, TERMINAL_SECONDS, LOOK_SECONDS = 30.0, 0.1, 1.0
LOG_BYTES, LINE_CHARACTERS = 8000, 80
"""Bytes read from the end of a log for its last line, and characters of that line on the screen."""


class Load(NamedTuple):
    """The servers' load: requests in flight, and the tokens of all finished ones."""

    in_flight: int
    tokens: int


class StageBar(contextlib.AbstractContextManager["StageBar"]):
    """The progress of one stage: records, tokens per second, dropped, requests in flight, time left.

    It is shown even while no record finishes: long chains of thought take many minutes.

    Args:
        title: the stage.
        total, done: number of records (None: unknown), and of those already done.
        each: answers per record; if several, each is counted.
        answers: how many exist of records that are not done.
        load: returns what the servers are doing; None: the stage uses no server.
        more: returns further words for a plain line.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        done: int,
        *,
        each: int = 1,
        answers: int = 0,
        load: Callable[[], Load] | None = None,
        more: Callable[[], list[str]] = list,
    ) -> None:
        from tqdm import tqdm

        self._terminal = sys.stderr.isatty()
        self._total, self._done, self._each, self._answers = total, done, each, answers
        self._first = self._answered
        self._bar = tqdm(
            total=None if total is None else total * each,
            initial=self._first,
            desc=title,
            unit=" records" if each == 1 else " answers",
            disable=not self._terminal,
            dynamic_ncols=True,
            smoothing=0.05,
        )
        self._load, self._more, self._dropped = load, more, 0
        self._told = False  # in a resumed stage, the number of dropped ones is not known before the first record
        self._started = self._shown = time.monotonic()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._ticker = threading.Thread(target=self._keep_showing, daemon=True)

    def __enter__(self) -> StageBar:
        self._ticker.start()
        return self

    def _keep_showing(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with self._lock:
                self._show()

    @property
    def _answered(self) -> int:
        return self._done * self._each + self._answers

    def update(self, *, closed: int, dropped: int, answers: int = 0) -> None:
        """Count `closed` rows (0: a request that finished none); `dropped`, and `answers` of open rows, are sums so far."""
        with self._lock:
            self._done += closed
            self._dropped, self._answers, self._told = dropped, answers, True
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS):
            return
        self._shown = now
        seconds = now - self._started
        load = self._load() if self._load else None
        parts = [f"{load.tokens / seconds:,.0f} tokens/s"] if load and load.tokens else []
        parts += [f"{self._dropped:,} dropped"] if self._told else []
        parts += [f"{load.in_flight:,} in flight"] if load else []
        if self._terminal:
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
            self._bar.update(self._answered - self._bar.n)
        else:
            log.info(
                "%s", ", ".join([self._records(), *parts, f"elapsed {duration(seconds)}", *self._left(seconds), *self._more()])
            )

    def _records(self) -> str:
        if self._total is None:
            return f"{self._done:,} records"
        return so_far(self._done, self._total, self._answered, self._each)

    def _left(self, seconds: float) -> list[str]:
        if self._total is None:
            return []
        return [time_left(self._answered - self._first, self._total * self._each - self._answered, seconds)]

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        self._bar.update(self._answered - self._bar.n)
        self._bar.close()


def so_far(done: int, total: int, answered: int, each: int) -> str:
    """Return how many records are done, and how many answers if a record has several (`each`)."""
    answers = f", {answered:,} of {total * each:,} answers" if each > 1 else ""
    return f"{done:,} of {total:,} records{answers} ({100 * answered // max(total * each, 1)}%)"


def time_left(done: int, rest: int, seconds: float) -> str:
    """Return how long `rest` takes at the rate at which `done` took `seconds`."""
    return f"ETA {duration(seconds / done * rest) if done else 'unknown'}"


def duration(seconds: float) -> str:
    """Return a time in words: 75 → `1m15s`."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


@contextlib.contextmanager
def waiting_bar(title: str, log_file: Path, *, show: bool) -> Iterator[Callable[[], None]]:
    """Show that something of unknown length is running, with the last line of its log; yields a function to call regularly."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty() and show
    if show and not terminal:
        log.info("%s (log: %s)", title, log_file)
    started = shown = time.monotonic()
    with tqdm(desc=title, bar_format="{desc}: {elapsed} {postfix}", disable=not terminal, dynamic_ncols=True) as bar:

        def tick() -> None:
            nonlocal shown
            now = time.monotonic()
            if terminal:
                bar.set_postfix_str(printable(last_line(log_file), LINE_CHARACTERS))
            elif show and now - shown >= PLAIN_SECONDS:
                shown = now
                log.info("%s: %s so far: %s", title, duration(now - started), printable(last_line(log_file), LINE_CHARACTERS))

        yield tick


def last_line(path: Path) -> str:
    """Return the last line of a log that is not blank; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")

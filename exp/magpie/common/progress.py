"""Progress bars, the summary table and the finished examples.

On a terminal a stage shows one bar; elsewhere a plain line every `PLAIN_SECONDS`, which also goes to the job's log.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from magpie.common.console import log, printable

PLAIN_SECONDS, TERMINAL_SECONDS, LOOK_SECONDS = 30.0, 0.1, 1.0


BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}, {rate_fmt}{postfix}]"
"""tqdm's own, without its time left."""


class Load(NamedTuple):
    """Requests in flight, tokens written so far, what of them is not done yet estimated; a stage without a server has one
    record in work at a time. `most` and `last`: see `time_left`.
    """

    in_flight: int = 1
    tokens: int = 0
    most: float = math.inf
    last: float = math.inf


def time_left(done: int, rest: int, in_flight: int, busy: float, most: float = math.inf, last: float = math.inf) -> float:
    """Return the seconds until `rest` answers are done, `in_flight` of them begun; `busy`: seconds that all took together.

    `most` is what an answer of the greatest length takes, `last` the seconds until all in flight would have that length.

    Those that are done first are the short ones, so `seconds / done * rest` is far too long at first; and since nothing is
    left to draw at the end, the long ones alone decide then, and it is far too short. So (figures: docs/LOG.md, time left)

    - an answer takes what all have taken, those in flight counted as a quarter done: half would be right if all were of one
      length, nothing if how long one has gone told nothing about how long it goes on; lengths of answers are between these;
    - those not begun share the places of those in flight;
    - of F in flight the last ends after 1 + ln F answers' time if each keeps its speed (the longest of F, memoryless), and
      after about one if what remains is faster the fewer there are. It is taken as half of the first, which is between.
    """
    if not rest:
        return 0.0
    in_flight = min(in_flight, rest)
    waiting = rest - in_flight
    each = min(busy / (done + in_flight / 4), most)
    return each * waiting / in_flight + min(each * (1 + math.log(in_flight)) / 2, most if waiting else last)


class StageBar(contextlib.AbstractContextManager["StageBar"]):
    """Records, tokens a second, time left and dropped so far, for one stage; `total` may not be known.

    It is shown also while no record ends: long chains of thought take many minutes.

    Args:
        title: the stage.
        total, done: records in all, and those that are done already.
        each: answers a record; more than one are counted one by one.
        answers: how many are there of records that are not done.
        load: what the servers are doing.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        done: int,
        *,
        each: int = 1,
        answers: int = 0,
        load: Callable[[], Load] = Load,
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
            bar_format=None if total is None else BAR,
            disable=not self._terminal,
            dynamic_ncols=True,
            smoothing=0.05,
        )
        self._load, self._in_flight, self._busy, self._dropped = load, 1, 0.0, 0
        self._told = False  # how many were dropped is not known before the first record, in a stage that goes on
        self._started = self._shown = self._looked_at = time.monotonic()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._ticker = threading.Thread(target=self._keep_showing, daemon=True)

    def __enter__(self) -> StageBar:
        self._ticker.start()
        return self

    def _keep_showing(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with self._lock:
                self._look()
                self._show()

    def _look(self) -> None:
        """Add up what is in flight (here alone: at the moment at which one ends there is always one fewer)."""
        now, in_flight = time.monotonic(), self._load().in_flight
        self._busy += in_flight * (now - self._looked_at)
        self._looked_at = now
        self._in_flight = in_flight or self._in_flight  # while a server is down

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
        tokens = self._load().tokens
        rates = [f"{tokens / seconds:,.0f} tokens/s"] if tokens else []
        rates += [f"{self._dropped:,} dropped"] if self._told else []
        left = self._left()
        if self._terminal:
            self._bar.set_postfix_str(", ".join([*left, *rates]), refresh=False)
            self._bar.update(self._answered - self._bar.n)
        else:
            log.info("%s", ", ".join([self._records(), *rates, f"{duration(seconds)} gone", *left]))

    def _records(self) -> str:
        if self._total is None:
            return f"{self._done:,} records"
        return so_far(self._done, self._total, self._answered, self._each)

    def _left(self) -> list[str]:
        if self._total is None:
            return []
        new, rest = self._answered - self._first, self._total * self._each - self._answered
        known = new and self._busy
        load = self._load()
        seconds = time_left(new, rest, self._in_flight, self._busy, load.most, load.last) if known else None
        return [f"{'?' if seconds is None else duration(seconds)} left"]

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        self._bar.update(self._answered - self._bar.n)
        self._bar.close()


def so_far(done: int, total: int, answered: int, each: int) -> str:
    """Return how many records are done, and answers where a record has `each` of several."""
    answers = f", {answered:,} of {total * each:,} answers" if each > 1 else ""
    return f"{done:,} of {total:,} records{answers} ({100 * answered // max(total * each, 1)}%)"


def duration(seconds: float) -> str:
    """Return a time in words: 75 → `1m15s`."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


@contextlib.contextmanager
def waiting_bar(title: str, log_file: Path, *, show: bool) -> Iterator[Callable[[], None]]:
    """Show that something of unknown length goes on, with the last line of its log; yields what to call now and then."""
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
                bar.set_postfix_str(_last_line(log_file))
            elif show and now - shown >= PLAIN_SECONDS:
                shown = now
                log.info("%s: %s so far: %s", title, duration(now - started), _last_line(log_file))

        yield tick


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return printable(next((line for line in reversed(lines) if line.strip()), ""), 80)

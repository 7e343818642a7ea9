"""Progress bars, the summary table and the finished examples.

On a terminal a stage shows one bar; elsewhere a plain line every `PLAIN_SECONDS`, which also goes to the job's log.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from magpie.console import file_log, log, printable
from magpie.runs import Paths, Totals

PLAIN_SECONDS, TERMINAL_SECONDS, LOOK_SECONDS = 30.0, 0.1, 1.0
EXAMPLES = 3
EXAMPLE_CHARACTERS = 600


class StageBar(contextlib.AbstractContextManager["StageBar"]):
    """Records, tokens a second, time left and dropped so far, for one stage; `total` may not be known.

    It is shown also while no record ends: long chains of thought take many minutes.
    """

    def __init__(self, title: str, total: int | None, done: int) -> None:
        from tqdm import tqdm

        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            unit=" records",
            disable=not self._terminal,
            dynamic_ncols=True,
            smoothing=0.05,
        )
        self._total, self._done, self._first = total, done, done
        self._tokens, self._dropped = 0, 0
        self._told = False  # how many were dropped is not known before the first record, in a stage that goes on
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

    def update(self, *, closed: int, tokens: int = 0, dropped: int) -> None:
        """Count `closed` rows (0: a request that did not finish one) and their tokens; `dropped` is the sum so far."""
        with self._lock:
            self._done += closed
            self._tokens += tokens
            self._dropped, self._told = dropped, True
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS):
            return
        self._shown = now
        seconds = now - self._started
        rates = [f"{self._tokens / seconds:,.0f} tokens/s"] if self._tokens else []
        rates += [f"{self._dropped:,} dropped"] if self._told else []
        if self._terminal:
            self._bar.set_postfix_str(", ".join(rates), refresh=False)
            self._bar.update(self._done - self._bar.n)
        else:
            log.info("%s", ", ".join([self._records(), *rates, f"{duration(seconds)} gone", *self._left(seconds)]))

    def _records(self) -> str:
        if self._total is None:
            return f"{self._done:,} records"
        return f"{self._done:,} of {self._total:,} records ({100 * self._done // max(self._total, 1)}%)"

    def _left(self, seconds: float) -> list[str]:
        if self._total is None:
            return []
        new = self._done - self._first
        return [f"{duration(seconds / new * (self._total - self._done)) if new else '?'} left"]

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        self._bar.update(self._done - self._bar.n)
        self._bar.close()


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


def show_summary(stage: str, paths: Paths, totals: Totals, more: Iterable[tuple[str, str]] = ()) -> None:
    """Print the table at a stage's end: read, written, dropped by reason, the stage's own rows, tokens, time, the files."""
    from rich.console import Console
    from rich.table import Table

    dropped = sum(totals.dropped.values())
    rows = [("read", f"{totals.written + dropped:,}"), ("written", f"{totals.written:,}")]
    rows += [] if totals.rows is None else [("  rows", f"{totals.rows:,}")]
    rows.append(("dropped", f"{dropped:,}"))
    rows += [(f"  {reason}", f"{count:,}") for reason, count in totals.dropped.most_common()]
    rows += more
    if totals.completion_tokens:
        rows.append(("tokens", f"{totals.prompt_tokens:,} read, {totals.completion_tokens:,} written"))
        rows.append(("tokens/s", f"{totals.tokens_per_second:,.0f}"))
    rows += [(name.replace("_", " "), str(value)) for name, value in totals.statistics.items()]
    rows.append(("time", duration(totals.seconds)))
    rows += [("output", str(paths.output)), ("run file", str(paths.run))]
    if dropped:
        rows.append(("dropped rows", str(paths.dropped)))
    rows = [(printable(name), printable(value)) for name, value in rows]  # a reason may hold what a server wrote
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"  {name}", value)
    # as wide as it gets: a path that is folded cannot be copied
    screen = Console(file=sys.stderr, highlight=False, markup=False, emoji=False, width=1000)
    screen.print(stage)
    screen.print(table)
    file_log.info("finished: %s", ", ".join(f"{name.strip()} {value}" for name, value in rows))


def show_examples(path: Path) -> None:
    """Print the first finished records of an output: the problem, and the answer's beginning if there is one."""
    from rich import box
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    with path.open("rb") as lines:
        for line in itertools.islice(lines, EXAMPLES):
            record = msgspec.json.decode(line)
            parts = [Text(printable(record["instruction"], EXAMPLE_CHARACTERS), style="bold")]
            if answer := _first_answer(record):
                parts += [Text(""), Text(printable(answer, EXAMPLE_CHARACTERS))]
            console.print(Panel(Group(*parts), title=Text(printable(str(record["id"]))), box=box.ROUNDED))


def _first_answer(record: dict[str, Any]) -> str:
    responses = record.get("responses") or [record.get("response")]
    return responses[0] or ""

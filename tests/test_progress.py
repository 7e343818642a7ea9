"""The line of a stage that runs: what it says, and that it is said while no record ends."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from magpie.common import progress
from magpie.common.console import log
from magpie.common.progress import time_left


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.05)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.02)
    lines: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(listener)
    yield lines
    log.removeHandler(listener)
    log.setLevel(level)


def wait_for(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_stage_says_how_far_it_is_also_while_no_record_ends(said: list[str]) -> None:
    load, first = progress.Load(2, 0), re.compile(r"1 of 4 records \(25%\), 2 in flight, elapsed \d+s, ETA unknown")
    with progress.StageBar("gen_res", 4, 1, load=lambda: load) as bar:
        wait_for(lambda: sum(bool(first.fullmatch(line)) for line in said) >= 2)
        load = progress.Load(1, 300)
        bar.update(closed=2, dropped=1)
        wait_for(lambda: said[-1].startswith("3 of 4 records (75%), "))
    assert re.search(r" tokens/s, 1 dropped, 1 in flight, elapsed \d+s, ETA \d+s$", said[-1]), said[-1]
    count = len(said)
    time.sleep(0.2)
    assert len(said) == count  # nothing is said once it is over


def test_a_stage_whose_length_is_not_known_says_no_time_left(said: list[str]) -> None:
    with progress.StageBar("clean", None, 0) as bar:
        bar.update(closed=5, dropped=0)
        wait_for(lambda: said)
    assert re.fullmatch(r"5 records, 0 dropped, elapsed \d+s", said[-1]), said[-1]


def test_every_answer_of_a_record_counts_at_once(said: list[str]) -> None:
    with progress.StageBar("gen_res", 31, 0, each=4, load=lambda: progress.Load(100, 5000)) as bar:
        wait_for(lambda: said)
        bar.update(closed=0, dropped=0, answers=9)
        wait_for(lambda: said[-1].startswith("0 of 31 records, 9 of 124 answers (7%), "))
        assert " tokens/s, 0 dropped, 100 in flight" in said[-1] and re.search(r"ETA \d+s$", said[-1])
        bar.update(closed=2, dropped=0, answers=3)  # the two took eight of the nine with them
        wait_for(lambda: said[-1].startswith("2 of 31 records, 11 of 124 answers (8%), "))


def test_a_bar_on_a_terminal_counts_answers_and_says_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(progress, "TERMINAL_SECONDS", 0.02)
    with progress.StageBar("gen_res", 31, 0, each=4, load=lambda: progress.Load(100, 5000)) as bar:
        wait_for(lambda: re.search(r" 0/124 \[\d+:\d+<\?,", screen.getvalue()))
        for answers in (3, 6, 9):
            bar.update(closed=0, dropped=0, answers=answers)
            wait_for(lambda: f" {answers}/124 [" in screen.getvalue())  # noqa: B023 - it is waited for here
    last = screen.getvalue().rsplit("\r", 2)[-2]
    assert re.search(r" 9/124 \[\d+:\d+<\d+:\d+, .* answers/s, .* tokens/s, 0 dropped, 100 in flight\]", last), last


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("done", "rest", "told"), [(100, 300, "ETA 2m30s"), (100, 0, "ETA 0s"), (0, 100, "ETA unknown")])
def test_the_time_left_is_what_the_rate_so_far_says(done: int, rest: int, told: str) -> None:
    assert time_left(done, rest, 50.0) == told

"""The line of a stage that runs: what it says, and that it is said while no record ends."""

from __future__ import annotations

import heapq
import io
import logging
import random
import re
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from magpie.client import throughput as pace
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
    load = progress.Load(2, 0)
    with progress.StageBar("gen_res", 4, 1, load=lambda: load) as bar:
        wait_for(lambda: sum(bool(re.fullmatch(r"1 of 4 records \(25%\), \d+s gone, \? left", line)) for line in said) >= 2)
        load = progress.Load(1, 300)
        bar.update(closed=2, dropped=1)
        wait_for(lambda: said[-1].startswith("3 of 4 records (75%), "))
    assert re.search(r" tokens/s, 1 dropped, \d+s gone, \d+s left$", said[-1]), said[-1]
    count = len(said)
    time.sleep(0.2)
    assert len(said) == count  # nothing is said once it is over


def test_a_stage_whose_length_is_not_known_says_no_time_left(said: list[str]) -> None:
    with progress.StageBar("clean", None, 0) as bar:
        bar.update(closed=5, dropped=0)
        wait_for(lambda: said)
    assert re.fullmatch(r"5 records, 0 dropped, \d+s gone", said[-1]), said[-1]


def test_every_answer_of_a_record_counts_at_once(said: list[str]) -> None:
    with progress.StageBar("gen_res", 31, 0, each=4, load=lambda: progress.Load(100, 5000)) as bar:
        wait_for(lambda: said)
        bar.update(closed=0, dropped=0, answers=9)
        wait_for(lambda: said[-1].startswith("0 of 31 records, 9 of 124 answers (7%), "))
        assert " tokens/s, 0 dropped" in said[-1] and said[-1].endswith("s left") and "?" not in said[-1]
        bar.update(closed=2, dropped=0, answers=3)  # the two took eight of the nine with them
        wait_for(lambda: said[-1].startswith("2 of 31 records, 11 of 124 answers (8%), "))


def test_a_bar_on_a_terminal_counts_answers_and_says_the_same_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(progress, "TERMINAL_SECONDS", 0.02)
    with progress.StageBar("gen_res", 31, 0, each=4, load=lambda: progress.Load(100, 5000)) as bar:
        wait_for(lambda: "0/124 answers" in screen.getvalue() and "? left, " in screen.getvalue())
        for answers in (3, 6, 9):
            bar.update(closed=0, dropped=0, answers=answers)
            wait_for(lambda: f"{answers}/124 answers" in screen.getvalue())  # noqa: B023 - it is waited for here
    last = screen.getvalue().rsplit("\r", 2)[-2]
    assert "9/124 answers" in screen.getvalue() and "tokens/s, 0 dropped" in last and "s left" in last, last


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def estimates(total: int, window: int, shares: tuple[float, ...]) -> list[tuple[float, float]]:
    """Work through so many answers of lognormal length; return estimate over truth at some shares: the old one's and ours."""
    draw = random.Random(1)
    lengths = [draw.lognormvariate(0, 0.7) for _ in range(total)]
    flying, now, busy, told = lengths[:window], 0.0, 0.0, []
    heapq.heapify(flying)
    for done in range(1, total + 1):
        ends = heapq.heappop(flying)
        busy += (ends - now) * (len(flying) + 1)
        now = ends
        if window + done <= total:
            heapq.heappush(flying, now + lengths[window + done - 1])
        told.append((now, now / done * (total - done), time_left(done, total - done, len(flying), busy)))
    at = [told[int(share * total) - 1] for share in shares]
    return [(old / (now - then), new / (now - then)) for then, old, new in at]


@pytest.mark.parametrize(("total", "window"), [(200, 186), (2000, 64), (1000, 200)])
def test_the_time_left_is_right_within_a_factor_of_two_from_one_in_twenty_on(total: int, window: int) -> None:
    found = estimates(total, window, (0.05, 0.1, 0.25, 0.5))
    assert all(0.5 < new < 2 for _, new in found), found


@pytest.mark.parametrize("shared", [True, False])
def test_answers_that_are_cut_at_their_greatest_length_bound_the_time_left_and_the_tokens_of_all_are_told(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """168 answers at once, most of them cut, as in the demonstration; all share one speed, or each has its own."""
    now, busy, most, told = 0.0, 0.0, 256, []
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    draw, asked = random.Random(1), pace.Pace()
    lengths = sorted(min(most, int(draw.lognormvariate(5.7, 0.7))) for _ in range(168))
    flying = [asked.request(most) for _ in lengths]
    requests = [one.__enter__() for one in flying]
    for done, length in enumerate(lengths):
        rest = len(lengths) - done
        grown = length - (lengths[done - 1] if done else 0)
        seconds = grown * (rest / 84 if shared else 2.0)
        now, busy = now + seconds, busy + seconds * rest
        requests[done].tokens = length
        flying[done].__exit__(None, None, None)
        left = time_left(done + 1, rest - 1, rest - 1, busy, *asked.most_seconds())
        told.append((now, left, (sum(lengths[: done + 1]) + asked.written()) / (sum(lengths[:done]) + length * rest)))
    for then, left, tokens in (told[int(share * len(lengths)) - 1] for share in (0.02, 0.05, 0.1, 0.25)):
        assert 0.6 < left / (now - then) < 1.7 and 0.9 < tokens < 1.1


def test_the_time_left_of_a_stage_that_works_on_one_record_at_a_time_is_what_its_pace_says() -> None:
    assert time_left(100, 300, 1, 50.0) == pytest.approx(150, rel=0.01)
    assert time_left(100, 0, 1, 50.0) == 0

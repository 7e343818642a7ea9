"""The line of a stage that runs: what it says, and that it is said while no record ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from magpie import progress
from magpie.console import log


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.1)
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


def test_a_stage_says_how_far_it_is_also_while_no_record_ends(said: list[str]) -> None:
    with progress.StageBar("gen_res", 4, 1) as bar:
        time.sleep(0.5)
        assert said.count("1 of 4 records (25%), 0s gone, ? left") >= 2
        bar.update(closed=2, tokens=300, dropped=1)
        time.sleep(0.3)
    assert said[-1].startswith("3 of 4 records (75%), ") and " tokens/s, 1 dropped, 0s gone, 0s left" in said[-1]
    count = len(said)
    time.sleep(0.3)
    assert len(said) == count  # nothing is said once it is over


def test_a_stage_whose_length_is_not_known_says_no_time_left(said: list[str]) -> None:
    with progress.StageBar("clean", None, 0) as bar:
        bar.update(closed=5, dropped=0)
        time.sleep(0.3)
    assert said[-1] == "5 records, 0 dropped, 0s gone"

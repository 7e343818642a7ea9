"""A preview: its intervals, and its completions, which the real run takes over (test_ceiling.py has a job with one)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from magpie.client.recordings import RECORD, TAKE_OVER, Recordings
from magpie.client.replies import Completion
from magpie.planning.prediction import WIDEST, _spread, around, share


def test_a_completion_is_taken_over_once_by_the_same_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept" / "responses.jsonl"
    monkeypatch.setenv(RECORD, str(path))
    first, second = (Completion(text, "stop", 3, 2, [1, 2]) for text in ("one", "two"))
    body = {"prompt": [1, 2], "temperature": 0.5}
    Recordings().add(body, "0", first)
    Recordings().add(body, "1", second)
    with path.open("ab") as torn:
        torn.write(b'{"key": "')
    monkeypatch.delenv(RECORD)
    assert Recordings().take(body, "0") is None
    monkeypatch.setenv(TAKE_OVER, str(path))
    known = Recordings()
    assert known.take(body | {"temperature": 0.6}, "0") is None
    assert known.take(dict(reversed(body.items())), "1") == second and known.take(body, "1") is None
    assert known.take(body, "0") == first


def test_an_interval_is_never_wider_than_three_times_its_lower_end() -> None:
    for spread in (0.0, 0.1, 0.5, 5.0):
        found = around(100.0, spread)
        assert found.low <= found.mid <= found.high and found.high <= 3.0001 * found.low
    for right in range(1, 11):
        found = share(right, 10)
        assert 0 < found.low <= found.mid <= found.high <= 1 and found.high <= 3.0001 * found.low
    assert share(0, 10).mid == 0
    assert _spread([5], 20) == WIDEST and _spread([], 20) == WIDEST


def test_a_spread_holds_in_about_four_fifths_of_the_cases() -> None:
    import random

    chance = random.Random(7)
    hits = 0
    for _ in range(400):
        few = [int(chance.lognormvariate(6, 0.6)) for _ in range(10)]
        found = around(sum(few) * 20, _spread(few, 20))
        hits += found.low <= sum(int(chance.lognormvariate(6, 0.6)) for _ in range(200)) <= found.high
    assert 0.72 <= hits / 400 <= 0.95, hits
    assert math.isclose(around(10.0, WIDEST).high / around(10.0, WIDEST).low, 3)

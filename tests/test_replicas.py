"""Replicas on a real Ray cluster of two nodes, with the real engine: one is killed, and nothing is lost or left running."""

from __future__ import annotations

from pathlib import Path

from replicas import run


def test_two_replicas_share_the_work_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    seen = run(tmp_path, problems=36, max_tokens=80)
    assert seen["every record once"] and seen["problems"] == 36
    assert seen["killed"] and seen["restarts"] == 1
    assert len(seen["tokens of each replica"]) == 2 and min(seen["tokens of each replica"]) > 0
    assert seen["processes left over"] == [], "an engine outlived its replica"

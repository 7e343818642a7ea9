"""The kills of tests/test_kill.py with the real engine, more of them (`bash scripts/test.sh --long`)."""

from __future__ import annotations

from pathlib import Path

import pytest

import kill

pytestmark = pytest.mark.long


@pytest.mark.parametrize("stage", ["gen_ins", "gen_res"])
def test_a_stage_killed_again_and_again_ends_with_every_id_once(stage: str, tmp_path: Path, engine: dict[str, str]) -> None:
    command, output = kill.stage_command(stage, tmp_path, 64)
    assert kill.kill_stage([*command, "--max_in_flight", "16"], output, 6, engine) == 6
    assert kill.problems_of(output, 64) == []


def test_a_server_and_its_engine_core_killed_in_turn_are_started_again(tmp_path: Path) -> None:
    command, output = kill.stage_command("gen_res", tmp_path, 96, max_tokens=96)
    assert kill.kill_server([*command, "--max_in_flight", "16"], output, 3, tmp_path) == 3
    assert kill.problems_of(output, 96) == []
    assert len(list((tmp_path / "logs").glob("server-0-*.log"))) == 4

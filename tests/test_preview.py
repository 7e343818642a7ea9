"""A preview: what it shows and predicts, and that the real run takes over what it has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from conftest import finished, rows
from magpie.client.recordings import RECORD, TAKE_OVER, Recordings
from magpie.client.replies import Completion
from magpie.planning.prediction import WIDEST, _spread, around, share
from scripted_server import ScriptedServer
from test_ceiling import as_a_model
from test_run_job import RUN_JOB, environment


def test_a_preview_is_shown_predicts_and_is_taken_over(tmp_path: Path) -> None:
    command = [*RUN_JOB, "main", "--", "smollm2", "12"]
    with ScriptedServer(by=as_a_model, served=("HuggingFaceTB/SmolLM2-135M-Instruct",)) as server:
        env = environment(tmp_path, MAGPIE_BASE_URL=server.url, PROMPT_PRICE="1", COMPLETION_PRICE="2")
        refused = finished([*command, "--preview", "12"], env=env)
        assert refused.returncode == 2 and "the whole has 12 problems" in refused.stderr
        seen = finished([*command, "--preview", "4"], env=env)
        assert seen.returncode == 0, seen.stderr
        shown = seen.stderr.partition("The preview is done")[2]
        folder = tmp_path / "job" / "preview_4"
        page = (folder / "preview.html").read_text()
        ours = {row["id"]: row for row in rows(folder / "job_ins_clean_distance_res.jsonl")}
        assert len(ours) == 4 and all(name in shown and name in page for name in ours)
        for words in ("tokens written", "tokens read", "time", "cost in dollars", "disk in GB", "records after responses"):
            assert words in shown and words in page
        assert "--preview" not in shown.rpartition("without --preview")[2]
        previewed = len(server.history)
        server.history.clear()
        done = finished(command, env=env)
        assert done.returncode == 0, done.stderr
        whole = {row["id"]: row for row in rows(tmp_path / "job" / "job_ins_clean_distance_res.jsonl")}
        assert (
            len(whole) == 12
            and {name: row["response"] for name, row in ours.items()}.items()
            <= {name: row["response"] for name, row in whole.items()}.items()
        )
        assert len(server.history) == 24 - previewed, "what the preview has was asked for again"


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

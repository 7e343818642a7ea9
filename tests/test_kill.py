"""Processes killed with -9 in the middle: nothing is lost, nothing is doubled, nothing is left running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

import kill
from conftest import STUB, clean_environment, served_by_stub
from magpie.common.seeds import hashed_seed
from magpie.config.load import PROJECT
from scripted_server import MODEL, Reply, ScriptedServer, completion

SERVE = [sys.executable, str(PROJECT / "exp" / "serve.py"), "smollm2"]
SLOW = STUB | {"STUB_DELAY": "0.3"}
"""An engine whose every answer can be waited for."""


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory):
    """The environment of a program that uses a server with a slow engine."""
    with served_by_stub(tmp_path_factory.mktemp("slow"), **SLOW) as environment:
        yield environment


@pytest.mark.parametrize("stage", ["gen_ins", "gen_res"])
def test_a_stage_killed_in_the_middle_goes_on_and_ends_with_every_id_once(stage, tmp_path, slow_server):
    command, output = kill.stage_command(stage, tmp_path, 32)
    assert kill.kill_stage([*command, "--max_in_flight", "4"], output, 3, slow_server) == 3
    assert kill.problems_of(output, 32) == []
    sessions = json.loads(output.with_suffix(".run.json").read_text())["sessions"]
    assert len(sessions) == 4


def test_a_server_and_its_engine_core_killed_in_the_middle_are_started_again_while_the_client_waits(tmp_path, monkeypatch):
    for name, value in SLOW.items():
        monkeypatch.setenv(name, value)
    command, output = kill.stage_command("gen_res", tmp_path, 16, max_tokens=64)
    assert kill.kill_server([*command, "--max_in_flight", "4"], output, 2, tmp_path) == 2
    assert kill.problems_of(output, 16) == []
    assert len(list((tmp_path / "logs").glob("server-0-*.log"))) == 3


def test_answers_of_an_unfinished_record_outlive_the_kill_and_are_not_asked_for_again(tmp_path):
    source, output = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"id": i, "instruction": f"What is {i} + 1?"}) + "\n" for i in range(3)))
    command = [sys.executable, str(PROJECT / "exp" / "gen_res.py"), "--model_path", "smollm2", "--served_model", MODEL]
    command += ["--input_file", str(source), "--output_file", str(output), "--num_responses", "4", "--request_seeds"]
    part = output.with_suffix(".part")
    quick = (0, 1, 4, 5, 8)  # of each record one answer or two
    replies = [Reply(body=completion(f"early {i}"), delay=0 if i in quick else 600) for i in range(12)]
    with ScriptedServer(*replies) as server:
        environment = clean_environment(MAGPIE_BASE_URL=server.url)
        process = subprocess.Popen(command, env=environment)
        assert kill.wait_for(lambda: kill._lines(part) >= 5, process, "an answer")
        process.kill()
        process.wait()
        assert not any('"kept"' in line for line in part.read_text().splitlines()), "a record was finished"
        first, server.default = server.history, Reply(body=completion("late"))
        server.history = []
        server.script.clear()
        subprocess.run(command, env=environment, check=True)
        again = [call.body["seed"] for call in server.history]
    place_of = {hashed_seed(0, index, place): (index, place) for index in range(3) for place in range(4)}
    finished = {place_of[first[i].body["seed"]]: f"early {i}" for i in quick}
    assert sorted(place_of[seed] for seed in again) == sorted(set(place_of.values()) - finished.keys())
    made = [json.loads(line) for line in output.read_text().splitlines()]
    expected = [[finished.get((index, place), "late") for place in range(4)] for index in range(3)]
    assert [row["id"] for row in made] == [0, 1, 2] and [row["responses"] for row in made] == expected
    assert all(row["completion_tokens"] == [2, 2, 2, 2] and row["finish_reason"] == ["stop"] * 4 for row in made)
    told = json.loads(output.with_suffix(".run.json").read_text())
    assert told["tokens"] == {"prompt": 36, "completion": 24} and told["counts"]["read"] == 3


def engine_of(serve: subprocess.Popen) -> list[psutil.Process]:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert serve.poll() is None, "serve.py ended by itself"
        found = [psutil.Process(pid) for pid in kill.engine_processes(serve.pid)]
        if len(found) > 1:  # the server and its engine core
            return found
        time.sleep(0.1)
    raise AssertionError("no engine was started")


def test_no_engine_outlives_its_serve_program(tmp_path):
    serve = subprocess.Popen([*SERVE, "--log_dir", str(tmp_path)], env=clean_environment(**STUB), stderr=subprocess.DEVNULL)
    try:
        family = engine_of(serve)
    finally:
        serve.kill()
    serve.wait(60)
    _, alive = psutil.wait_procs(family, 120)
    assert alive == []
    assert serve.returncode == -signal.SIGKILL


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_stage_says_how_to_go_on(how, tmp_path, slow_server):
    command, output = kill.stage_command("gen_res", tmp_path, 64)
    command += ["--max_in_flight", "4"]
    process = subprocess.Popen(command, env=clean_environment(**slow_server), stderr=subprocess.PIPE, text=True)
    assert kill.wait_for(lambda: kill._lines(output.with_suffix(".part")) >= 1, process, "a record")
    process.send_signal(how)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "rerun the same command" in errors
    assert json.loads(output.with_suffix(".run.json").read_text())["status"] == "stopped"
    assert not output.exists()

"""The chain of a job: interrupted anywhere it goes on, what fails is passed on, older jobs are taken over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import STUB, clean_environment, finished, program, rows
from magpie.chain.command_line import derived, settings_of
from magpie.chain.config import load_job
from magpie.chain.reuse import NAMES
from magpie.config.load import PROJECT

FOLLOWS = {
    "problem_missions",
    "response_missions",
    "has_clean",
    "has_unique",
    "has_validity",
    "has_controls",
    "planted",
    *NAMES,
}
RUN_JOB = [sys.executable, str(PROJECT / "exp" / "run_job.py")]
STAGES = ["samples", "problems", "unique", "tagged", "responses", "voted", "verified", "filtered", "data_set"]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", FILTER="finished", VOTES="2", MISSIONS="language", **more)


def state(tmp_path: Path, kind: str = "main") -> dict[str, Any]:
    return json.loads((tmp_path / "job" / "job.json").read_text())[kind]


def running(tmp_path: Path) -> str:
    """The name of the stage that runs, or nothing."""
    try:
        return next((one["stage"]["name"] for one in state(tmp_path)["stages"] if one["status"] == "running"), "")
    except (FileNotFoundError, json.JSONDecodeError):
        return ""


@pytest.mark.parametrize("stages", [["unique", "voted"], pytest.param(STAGES, marks=pytest.mark.long)], ids=["two", "all"])
def test_killed_in_the_middle_of_a_stage_it_goes_on_with_every_id_once(
    stages: list[str], tmp_path: Path, stub_server: dict[str, str]
) -> None:
    command = [*RUN_JOB, "main", "--", "smollm2", "10", "--all"]
    env, killed = environment(tmp_path, **stub_server), []
    for stage in stages:
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
        while process.poll() is None and running(tmp_path) != stage:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed.append(stage)
        process.communicate()
    assert len(killed) >= len(stages) - 2, killed
    done = finished(command, env=env)
    assert done.returncode == 0, done.stderr
    chain = state(tmp_path)
    assert chain["status"] == "complete" and {one["status"] for one in chain["stages"]} <= {"complete", "skipped"}
    folder = tmp_path / "job"
    assert [row["id"] for row in rows(folder / "job_ins.jsonl")] == [f"job-{n:06d}" for n in range(10)]
    for output in folder.glob("job_ins_*.jsonl"):
        if not output.name.endswith(("_sharegpt.jsonl", "_dropped.jsonl")):
            ids = [row["id"] for row in rows(output) + rows(output.with_name(f"{output.stem}_dropped.jsonl"))]
            assert len(ids) == len(set(ids)) > 0, output
    assert not list(folder.glob("*.part"))


def test_a_failed_stage_ends_the_job_with_its_code_and_says_why(tmp_path: Path, stub_server: dict[str, str]) -> None:
    env = environment(tmp_path, **stub_server)
    done = finished([*RUN_JOB, "main", "--", "smollm2", "6"], env=env)
    assert done.returncode == 0, done.stderr
    problems = tmp_path / "job" / "job_ins_clean_distance.jsonl"
    problems.write_bytes(problems.read_bytes() + b"{not json\n")
    (tmp_path / "job" / "job_ins_clean_distance_res.jsonl").unlink()
    (tmp_path / "job" / "job_ins_clean_distance_res.run.json").unlink()
    again = finished([*RUN_JOB, "--job", str(tmp_path / "job")], env=env)
    assert again.returncode == 2 and "job_ins_clean_distance.jsonl" in again.stderr and "line" in again.stderr, again.stderr


def test_a_failure_in_the_middle_is_kept_in_the_file(tmp_path: Path) -> None:
    gone = environment(tmp_path, MAGPIE_BASE_URL="http://127.0.0.1:9/v1", INS_FLAGS="--outage 1")
    done = finished([*RUN_JOB, "main", "--", "smollm2", "6"], env=gone)
    assert done.returncode == 2 and "no server answers" in done.stderr
    chain = state(tmp_path)
    assert chain["status"] == "failed" and chain["message"] == "gen_ins.py failed (exit code 2): see above"
    assert chain["stages"][0]["exit_code"] == 2 and chain["stages"][1]["status"] == "waiting"
    assert "MAGPIE_API_KEY" not in json.dumps(chain)


def test_interrupted_it_stops_its_stage_and_server_and_says_how_to_resume(tmp_path: Path) -> None:
    env = environment(tmp_path, **STUB)
    process = subprocess.Popen([*RUN_JOB, "main", "--", "smollm2", "10"], env=env, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and running(tmp_path) != "responses":
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted (SIGTERM). To resume: " in told, told
    assert state(tmp_path)["status"] == "stopped"
    [made] = state(tmp_path)["provenance"]
    assert made["command"].startswith("python exp/run_job.py main -- smollm2 10")
    assert "--max-model-len" in made["engine"]["flags"]
    [first] = json.loads((tmp_path / "job" / "job_ins.run.json").read_text())["provenance"]
    assert (first["engine"], first["models"]) == (made["engine"], made["models"])
    assert "result_file" not in first["command"]
    folder = str(tmp_path)
    left = [
        line
        for line in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout.splitlines()
        if folder in line
    ]
    assert left == []


def test_a_job_made_before_gets_a_job_file_and_goes_on(tmp_path: Path, stub_server: dict[str, str]) -> None:
    """As scripts/lib had left it at an interruption: votes without a job.json."""
    job = tmp_path / "job"
    flags = ["--model_path", "smollm2", "--max_tokens", 64]
    made = [
        program(
            "gen_ins", *flags, "--total_prompts", 6, "--preflight", 0, "--output_file", job / "job_ins.jsonl", env=stub_server
        ),
        program("clean_ins", "--input_file", job / "job_ins.jsonl"),
        program("gen_res", *flags, "--input_file", job / "job_ins_clean.jsonl", env=stub_server),
        program(
            "gen_res",
            "--model_path",
            "smollm2",
            "--input_file",
            job / "job_ins_clean.jsonl",
            "--num_responses",
            2,
            "--temperature",
            0.7,
            "--top_p",
            0.95,
            env=stub_server,
        ),
    ]
    assert [done.returncode for done in made] == [0] * 4, made
    before = (job / "job_ins_clean_2res.jsonl").read_bytes()
    done = finished([*RUN_JOB, "sft", "--", "job", "--judge"], env=environment(tmp_path, **stub_server))
    assert done.returncode == 0, done.stderr
    asked = json.loads((job / "job_ins_clean_2res_tagged_verified.run.json").read_text())["arguments"]
    assert asked["judge"] is True and asked["model_path"].endswith("SmolLM2-135M-Instruct")
    assert (
        job / "job_ins_clean_2res.jsonl"
    ).read_bytes() == before and "job_ins_clean_2res.jsonl is already complete" in done.stderr
    chains = json.loads((job / "job.json").read_text())
    assert set(chains) == {"earlier", "sft"} and {one["status"] for one in chains["earlier"]["stages"]} == {"complete"}
    assert chains["sft"]["settings"]["judge"] == "true"
    assert chains["sft"]["inputs"] == {"problems": "job_ins_clean.jsonl", "responses": "job_ins_clean_res.jsonl"}


def test_a_second_process_waits_for_the_first_and_then_gives_up(tmp_path: Path, stub_server: dict[str, str]) -> None:
    env = environment(tmp_path, **stub_server)
    command = [*RUN_JOB, "main", "--", "smollm2", "10"]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and not running(tmp_path):
            time.sleep(0.005)
        second = finished(command, env=env)
        assert first.wait() == 0
    assert second.returncode == 0 and "waiting up to a minute" in second.stderr, second.stderr


@pytest.mark.parametrize(
    ("model", "arguments", "environment", "judges"),
    [
        ("Qwen/Qwen3-32B", [], "", "true"),
        ("Qwen/Qwen3-32B", ["--no-judge"], "true", "false"),
        ("Qwen/Qwen3-32B", [], "0", "false"),
        ("smollm2", [], "", "false"),
        ("someone/unknown", [], "", "false"),
        ("smollm2", ["--judge"], "false", "true"),
        ("smollm2", [], "yes", "true"),
    ],
)
def test_whether_a_model_is_asked_is_said_or_up_to_its_preset(
    model: str, arguments: list[str], environment: str, judges: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE", environment)
    for kind, source in (("main", model), ("sft", "job"), ("align", "job")):
        job = load_job(kind)
        settings = settings_of(job, kind, [source, *arguments], defaults={}, launcher=kind) | {"model": model}
        settings |= derived(job, settings)
        assert settings["judge"] == judges
        asked = {stage.name: stage.asks_model(settings) for stage in job.stages if stage.program in ("verify", "gen_res")}
        assert asked.get("verified", judges == "true") is (judges == "true") and not asked.get("read"), asked
        assert all(asked[name] for name in ("voted", "responses") if name in asked)


@pytest.mark.parametrize(("more", "said"), [([], "nothing reads --votes, --filter without --all"), (["--all"], "")])
def test_what_only_a_dataset_needs_is_told_where_none_is_made(
    more: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["smollm2", "4", "--votes", "8", "--filter", "hle", "--benchmarks", "my.csv", "--seed", "3", *more]
    with caplog.at_level("WARNING", logger="magpie"):
        settings_of(load_job("main"), "main", words, defaults={}, launcher="main")
    assert said in caplog.text and bool(caplog.text) is bool(said)


def test_votes_are_sampled_as_the_preset_says_but_go_on_as_they_were_begun() -> None:
    job = load_job("sft")
    settings = settings_of(job, "sft", ["job"], defaults={}, launcher="sft") | {"model": "smollm2"}
    assert settings["vote_flags"] == "" and "vote_flags" not in derived(job, settings)
    begun = settings | {"vote_flags": "--temperature 0.7", "stop_when": "settled"}
    assert derived(job, settings, earlier=begun)["vote_flags"] == "--temperature 0.7"
    assert "vote_flags" not in derived(job, settings | {"vote_flags": "--top_p 1"}, earlier=begun)


@pytest.mark.parametrize("kind", ["main", "sft", "align"])
def test_a_chain_names_only_what_there_is(kind: str) -> None:
    job = load_job(kind)
    known = {"problems", "responses", "base"}  # the source of a chain, or stages of the one that includes it
    for stage in job.stages:
        assert (PROJECT / "exp" / f"{stage.program}.py").exists() and set(stage.input) <= known, stage.name
        assert {*stage.only, *stage.unless} <= job.settings.keys() | FOLLOWS
        known.add(stage.name)

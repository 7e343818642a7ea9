"""The launcher as a user runs it."""

from __future__ import annotations

import json
import subprocess

import pytest

from conftest import clean_environment, finished, rows
from magpie.configs import PROJECT

LAUNCHER = PROJECT / "scripts" / "magpie-smollm2.sh"


def launch(tmp_path, *arguments, **environment):
    env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", **environment)
    return finished(["bash", str(LAUNCHER), *arguments], env=env, cwd=tmp_path)


def test_the_main_job_ends_with_its_files_and_a_second_run_has_nothing_to_do(tmp_path):
    settings = {"RES_FLAGS": "--max_tokens 128", "VOTE_FLAGS": "--temperature 0.7 --max_tokens 200", "VOTES": "3"}
    done = launch(tmp_path, "12", **settings)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "job"
    problems, clean, answers = (rows(folder / f"job_{stem}.jsonl") for stem in ("ins", "ins_clean", "ins_clean_res"))
    assert [r["id"] for r in problems] == [f"job-{i:06d}" for i in range(12)]
    assert 0 < len(clean) == 12 - len(rows(folder / "job_ins_clean_dropped.jsonl"))
    run = json.loads((folder / "job_ins_clean_res.run.json").read_text())
    assert run["counts"]["read"] == len(clean) == len(answers) + sum(run["counts"]["dropped"].values())
    sft = rows(folder / "job_ins_clean_res_sharegpt.jsonl")
    assert {r["conversation_id"] for r in sft} == {r["id"] for r in answers if r["finish_reason"] == "stop"}
    log = (folder / "job.log").read_text()
    assert "gen_ins: finished" in log
    assert "clean_ins: finished" in log
    assert "gen_res: finished" in log
    assert len(list((folder / "logs").iterdir())) == 1
    assert "From the model to the data" in (folder / "report.html").read_text()
    check_data_set(folder)
    again = launch(tmp_path, "12", **settings)
    assert again.returncode == 0, again.stderr
    assert "starting" not in again.stderr
    assert len(list((folder / "logs").iterdir())) == 1


def check_data_set(folder):
    """The whole chain has run: every stage read what the one before it wrote, and nothing was lost without a reason."""
    stem = "job_ins_clean_3res"
    for ending in ("_tagged", "_verified", "_distance", "_filtered_finished"):
        count, stem = len(rows(folder / f"{stem}.jsonl")), stem + ending
        run = json.loads((folder / f"{stem}.run.json").read_text())
        assert run["status"] == "complete"
        assert run["counts"]["read"] == count == run["counts"]["written"] + sum(run["counts"]["dropped"].values())
    kept = rows(folder / f"{stem}.jsonl")
    if not kept:
        assert "No record passes the filter finished" in (folder / "job.log").read_text()
        return
    from datasets import load_dataset

    data = load_dataset(str(folder / "job_finished"), split="train")
    assert [turns[1]["content"] for turns in data["messages"]] and data.num_rows <= len(kept)
    card = (folder / "job_finished" / "README.md").read_text()
    assert "Not decontaminated" in (folder / "job.log").read_text() and "SmolLM2" in card


def test_a_server_elsewhere_is_used_and_settings_reach_the_stages(tmp_path, engine):
    done = launch(tmp_path, "6", "--no-all", **engine, INS_FLAGS="--domain algebra --seed 5", RES_FLAGS="--max_tokens 64")
    assert done.returncode == 0, done.stderr
    assert {r["target_domain"] for r in rows(tmp_path / "job" / "job_ins.jsonl")} == {"algebra"}
    assert not (tmp_path / "job" / "logs").exists()


def test_bad_settings_end_the_job_before_a_model_is_loaded(tmp_path):
    for arguments, environment, word in [
        (["-5"], {}, "--total_prompts"),
        (["4"], {"INS_FLAGS": "--top_p 1.2"}, "--top_p"),
        (["4"], {"MAGPIE_BASE_URL": "http://127.0.0.1:9/v1"}, "no server answers"),
    ]:
        done = launch(tmp_path, *arguments, "--no-all", **environment)
        assert done.returncode == 2, done.stderr
        assert word in done.stderr
        assert not (tmp_path / "job" / "logs").exists()


def sft(*arguments):
    command = ["bash", str(PROJECT / "scripts" / "sft.sh"), *map(str, arguments)]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)


def test_a_data_set_is_refused_without_a_finished_job(tmp_path):
    for arguments, word in [
        ([], "name a job"),
        (["--votes", "4"], "name a job"),
        ([tmp_path, "--votes"], "needs a value"),
        ([tmp_path, "--votes", "0"], "--votes 0"),
        ([tmp_path, "--voices", "4"], "--voices"),
        ([tmp_path], "this folder is not a job"),
        ([tmp_path / "none"], "no such folder"),
    ]:
        done = sft(*arguments)
        assert done.returncode == 2, done.stderr
        assert word in done.stderr and "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["", "/somewhere/python3.12"])
def test_launchers_leave_the_interpreter_that_the_set_up_is_to_use_to_the_user(given: str) -> None:
    """In a fresh clone there is no .venv yet: the set-up must not be pointed at its Python."""
    env = {name: value for name, value in clean_environment().items() if name != "PYTHON"} | (
        {"PYTHON": given} if given else {}
    )
    script = f"source {PROJECT}/scripts/lib/common.sh; env | grep ^PYTHON= || :"
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (f"PYTHON={given}" if given else "")

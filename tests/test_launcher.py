"""The launchers as a user runs them, with the stub engine or none."""

from __future__ import annotations

import re
import subprocess

import pytest
from datasets import load_dataset

from conftest import STUB, clean_environment, finished, rows
from magpie.config.load import PROJECT

LAUNCHER = PROJECT / "scripts" / "magpie-smollm2.sh"


def launch(tmp_path, *arguments, **environment):
    env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", **environment)
    return finished(["bash", str(LAUNCHER), *arguments], env=env, cwd=tmp_path)


def eval_sum(problem):
    """The answer to `What is 1 + 2?`."""
    return str(sum(map(int, re.findall(r"\d+", problem))))


def test_the_whole_chain_ends_with_a_data_set_of_what_was_verified(tmp_path):
    """The stub engine solves three sums of four, so there is a majority for most of them."""
    settings = {"VOTES": "5", "FILTER": "rlvr", "FORMAT": "rlvr", **STUB}
    done = launch(tmp_path, "12", **settings)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "job"
    stem = "job_ins_clean_distance_tagged_5res_verified_filtered_rlvr"
    kept = rows(folder / f"{stem}.jsonl")
    assert kept and len(list((folder / "logs").glob("*.log"))) == 1
    made = load_dataset(str(folder / "job_rlvr"), split="train", cache_dir=str(tmp_path / "cache"))
    assert made.num_rows == len(kept)
    right = sum(eval_sum(record["instruction"]) == record["majority_answer"] for record in kept)
    assert right > len(kept) / 2
    again = launch(tmp_path, "12", **settings)
    assert again.returncode == 0 and "starting" not in again.stderr, again.stderr


def test_a_server_elsewhere_is_used_and_settings_reach_the_stages(tmp_path, stub_server):
    done = launch(tmp_path, "6", "--no-all", **stub_server, INS_FLAGS="--domain algebra --seed 5", RES_FLAGS="--max_tokens 64")
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


@pytest.mark.parametrize("given", ["", "/somewhere/python3.12"])
def test_launchers_leave_the_interpreter_that_the_set_up_is_to_use_to_the_user(given: str) -> None:
    """In a fresh clone there is no .venv yet: the set-up must not be pointed at its Python."""
    env = {name: value for name, value in clean_environment().items() if name != "PYTHON"} | (
        {"PYTHON": given} if given else {}
    )
    script = f"source {PROJECT}/scripts/lib/launcher.sh; env | grep ^PYTHON= || :"
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (f"PYTHON={given}" if given else "")

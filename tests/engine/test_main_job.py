"""The launcher as a user runs it, whole, with the real engine: one server from the first problem to the dataset."""

from __future__ import annotations

import json

from conftest import clean_environment, finished, rows
from magpie.config.load import PROJECT

LAUNCHER = PROJECT / "scripts" / "magpie-smollm2.sh"


def launch(tmp_path, *arguments, **environment):
    env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", **environment)
    return finished(["bash", str(LAUNCHER), *arguments], env=env, cwd=tmp_path)


def test_the_main_job_ends_with_its_files(tmp_path):
    settings = {"INS_FLAGS": "--max_tokens 120", "RES_FLAGS": "--max_tokens 160", "PREFLIGHT": "6"}
    settings |= {"VOTES": "1", "MISSIONS": "quality language"}  # (votes: tests/test_launcher.py)
    done = launch(tmp_path, "6", **settings)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "job"
    stems = ("ins", "ins_clean", "ins_clean_distance_tagged", "ins_clean_distance_tagged_res")
    problems, clean, unique, answers = (rows(folder / f"job_{stem}.jsonl") for stem in stems)
    assert [r["id"] for r in problems] == [f"job-{i:06d}" for i in range(6)]
    assert 0 < len(clean) == 6 - len(rows(folder / "job_ins_clean_dropped.jsonl"))
    assert len(clean) == len(unique) + len(rows(folder / "job_ins_clean_distance_dropped.jsonl"))
    run = json.loads((folder / "job_ins_clean_distance_tagged_res.run.json").read_text())
    assert run["counts"]["read"] == len(unique) == len(answers) + sum(run["counts"]["dropped"].values())
    sft = rows(folder / "job_ins_clean_distance_tagged_res_sharegpt.jsonl")
    assert {r["conversation_id"] for r in sft} == {r["id"] for r in answers if r["finish_reason"] == "stop"}
    log = (folder / "job.log").read_text()
    assert "gen_ins: finished" in log
    assert "clean_ins: finished" in log
    assert "gen_res: finished" in log
    assert len(list((folder / "logs").glob("*.log"))) == 1
    assert "From the model to the data" in (folder / "report.html").read_text()
    check_data_set(folder)


def check_data_set(folder, responses="_res"):
    """The whole chain has run: every stage read what the one before it wrote, and nothing was lost without a reason."""
    stem = "job_ins_clean"
    for ending in ("_distance", "_tagged", responses, "_verified", "_filtered_finished"):
        count, stem = len(rows(folder / f"{stem}.jsonl")), stem + ending
        run = json.loads((folder / f"{stem}.run.json").read_text())
        assert run["status"] == "complete"
        assert run["counts"]["read"] == count == run["counts"]["written"] + sum(run["counts"]["dropped"].values())
    kept = rows(folder / f"{stem}.jsonl")
    if not kept:
        assert "No record passes the filter finished" in (folder / "job.log").read_text()
        return
    from datasets import load_dataset

    data = load_dataset(str(folder / "job_finished"), split="train", cache_dir=str(folder / "cache"))
    assert all(turns[1]["content"] for turns in data["messages"]) and data.num_rows <= len(kept)
    card = (folder / "job_finished" / "README.md").read_text()
    assert "Not decontaminated" in (folder / "job.log").read_text() and "SmolLM2" in card

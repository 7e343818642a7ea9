"""scripts/align.sh and scripts/magpie_po.sh as a user runs them, with the stub engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, finished, program, rows
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.records.rows import encode
from magpie.runs.jobs import model_of, model_of_file
from scripted_server import Reply, ScriptedServer, completion


def script(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(PROJECT / "scripts" / f"{name}.sh"), *map(str, arguments)]
    return finished(command, env=clean_environment(**environment))


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems that the embedded model solves now and then, with their answers."""
    path = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    model = {"input_generator": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    problems = [
        {"id": n, "instruction": f"What is {n} + {n + 1}?", "reference_answer": str(2 * n + 1), "gen_input_configs": model}
        for n in range(1, 11)
    ]
    path.write_bytes(b"".join(encode(problem) + b"\n" for problem in problems))
    return path


def counts(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".run.json").read_text())["counts"]


def test_a_file_of_problems_ends_with_pairs_that_are_right_against_wrong(sums: Path, stub_server: dict[str, str]) -> None:
    arguments = [sums, "--num_responses", 6, "--pairs_per_problem", 2]
    done = script("magpie_po", *arguments, **stub_server, RES_FLAGS="--max_tokens 72")
    assert done.returncode == 0, done.stderr
    answers = rows(sums.with_name("sums_clean_distance_6res.jsonl"))
    assert {record["gen_response_configs"]["temperature"] for record in answers} == {0.8}
    pairs = sums.with_name("sums_clean_distance_6res_verified_pairs.jsonl")
    found = counts(pairs)
    assert found["read"] == len(answers) == found["written"] + sum(found["dropped"].values())
    verified = {record["id"]: record for record in rows(sums.with_name("sums_clean_distance_6res_verified.jsonl"))}
    for row in rows(pairs):
        record = verified[row["id"]]
        assert record["is_correct"][row["chosen_index"]] is True and record["is_correct"][row["rejected_index"]] is False
        assert row["why"] == "reference" and row["chosen"][0]["content"] == record["responses"][row["chosen_index"]]
    assert "To resume after an interruption:" in done.stderr and str(sums) in done.stderr
    again = script("magpie_po", *arguments, **stub_server, RES_FLAGS="--max_tokens 72")
    assert again.returncode == 0
    assert len(rows(sums.with_name("sums_clean_distance_6res_verified_pairs_dpo.jsonl"))) == len(rows(pairs)) > len(verified)
    assert "  written" not in again.stderr and "The pairs are done" in again.stderr, again.stderr


def test_right_and_wrong_answers_become_pairs_and_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "sum.jsonl"
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    problem = {
        "id": 1,
        "instruction": "What is 1 + 2?",
        "reference_answer": "3",
        "gen_input_configs": {"input_generator": model},
    }
    path.write_bytes(encode(problem) + b"\n")
    told = [f"One and two are \\boxed{{{3 + n % 2}}}. So much for attempt {n}." for n in range(6)]
    with ScriptedServer(*(Reply(body=completion(text)) for text in told), served=(model,)) as server:
        done = script("magpie_po", path, "--num_responses", 6, "--pairs_per_problem", 2, MAGPIE_BASE_URL=server.url)
    assert done.returncode == 0, done.stderr
    pairs = rows(path.with_name("sum_clean_distance_6res_verified_pairs.jsonl"))
    assert len(pairs) == 2
    assert all("{3}" in row["chosen"][0]["content"] and "{4}" in row["rejected"][0]["content"] for row in pairs)
    assert len(rows(path.with_name("sum_clean_distance_6res_verified_pairs_dpo.jsonl"))) == 2


def test_a_main_job_ends_with_pairs_or_says_why_there_are_none(tmp_path: Path, stub_server: dict[str, str]) -> None:
    folder = tmp_path / "job"
    problems = folder / "job_ins.jsonl"
    ready = [
        program(
            "gen_ins",
            "--model_path",
            "smollm2",
            "--total_prompts",
            5,
            "--max_tokens",
            96,
            "--output_file",
            problems,
            "--preflight",
            0,
            env=stub_server,
        )
    ]
    ready.append(program("gen_res", "--model_path", "smollm2", "--input_file", problems, "--max_tokens", 64, env=stub_server))
    assert [done.returncode for done in ready] == [0, 0], ready
    done = script("align", "job", "--num_responses", 3, **stub_server, DATA_DIR=str(tmp_path), RES_FLAGS="--max_tokens 64")
    assert done.returncode == 0, done.stderr
    pairs = folder / "job_ins_clean_distance_3res_verified_pairs.jsonl"
    found = counts(pairs)
    assert (
        found["read"]
        == found["written"] + sum(found["dropped"].values())
        == len(rows(folder / "job_ins_clean_distance_3res_verified.jsonl"))
    )
    assert ("The pairs are done" if rows(pairs) else "No pair: the summary above") in done.stderr
    assert "gen_po_pairs: finished" in (folder / "job.log").read_text()
    assert (folder / "report.html").exists()


def test_which_model_answers_is_told_by_the_records(sums: Path, tmp_path: Path) -> None:
    assert model_of_file(sums) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert model_of({"gen_response_configs": {"output_generator": "a"}, "gen_input_configs": {"input_generator": "b"}}) == "a"
    assert model_of({"gen_input_configs": None}) == ""
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(MagpieError, match="no usable record"):
        model_of_file(tmp_path / "empty.jsonl")

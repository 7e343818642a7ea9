"""gen_po_pairs.py as a user runs it, its rows in every format (in trainers: tests/trainers), and the benchmark."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment, program, rows
from magpie.config.load import PROJECT
from magpie.export.preference_formats import (
    AXOLOTL,
    DPO_COLUMNS,
    KTO_COLUMNS,
    LLAMA_FACTORY,
    SHAREGPT_DPO_COLUMNS,
    dpo,
    kto,
    not_a_pair,
    sharegpt_dpo,
)
from magpie.records.rows import encode

SHARED = PROJECT / "../shared/data"


def verified(number: int, *, wrong: int = 2, cut: bool = False) -> dict[str, Any]:
    """What verify.py and gen_po_rewards.py leave of a problem with five responses, so many of them wrong."""
    right = 5 - wrong
    answers = [str(number + 2)] * right + [str(number - i) for i in range(wrong)]
    return {
        "id": f"job-{number:06d}",
        "instruction": f"What is {number} + 2?",
        "responses": [
            f"We add 2 to {number} step by step, which gives \\boxed{{{answer}}}. ({i})" for i, answer in enumerate(answers)
        ],
        "reasoning": ["Two more.", None, "Hm.", "Two less.", None],
        "finish_reason": ["stop"] * right + ["length" if cut else "stop"] * wrong,
        "answers": answers,
        "answer_states": ["parsed"] * 5,
        "answer_groups": [0] * right + list(range(1, wrong + 1)),
        "majority_answer": answers[0] if right else None,
        "agreement": right / 5,
        "is_correct": [None] * 5,
        "rewards": [0.5, 0.25, 1.0, 0.75, -1.0],
        "domain": "algebra",
    }


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return path


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Eight problems with pairs, and one each for three reasons to have none."""
    others = [verified(8, wrong=0), verified(9, wrong=2, cut=True), verified(10, wrong=4)]
    return write(tmp_path / "job_5res_verified.jsonl", [verified(n, wrong=1 + n % 2) for n in range(8)] + others)


def test_read_is_written_and_dropped_and_pairs_are_counted_apart(job: Path) -> None:
    done = program("gen_po_pairs", "--input_file", job, "--pairs_per_problem", 2)
    assert done.returncode == 0, done.stderr
    output = job.with_name("job_5res_verified_pairs.jsonl")
    pairs = rows(output)
    run = json.loads(output.with_suffix(".run.json").read_text())
    assert run["counts"] == {
        "read": 11,
        "written": 8,
        "dropped": {"all_agree": 1, "rejected_truncated": 1, "low_agreement": 1},
        "rows": len(pairs),
    }
    assert len(pairs) == 16
    assert {(row["id"], row["pair"]) for row in pairs} == {(f"job-{n:06d}", k) for n in range(8) for k in (0, 1)}
    assert run["statistics"]["pairs_by"] == "majority 16"
    for line in (
        "written 8",
        "rows 16",
        "dropped 3",
        "all_agree 1",
        "mean vote margin",
        "mean characters chosen",
        "longer wins",
    ):
        assert line in " ".join(done.stderr.split()), done.stderr
    reasons = {row["id"]: row["drop_reason"] for row in rows(job.with_name("job_5res_verified_pairs_dropped.jsonl"))}
    assert reasons == {"job-000008": "all_agree", "job-000009": "rejected_truncated", "job-000010": "low_agreement"}


def test_the_pairs_are_right_and_the_same_each_time(job: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        assert (
            program("gen_po_pairs", "--input_file", job, "--output_file", tmp_path / f"{name}.jsonl", "--seed", 4).returncode
            == 0
        )
        texts.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert texts[0] == texts[1]
    for row in rows(tmp_path / "a.jsonl"):
        number = int(row["id"].removeprefix("job-"))
        assert row["answer_chosen"] == str(number + 2) != row["answer_rejected"]
        assert f"boxed{{{number + 2}}}" in row["chosen"][0]["content"]
        assert row["domain"] == "algebra" and "responses" not in row


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--strategy", "reward", "--input_file", "bare.jsonl"], "gen_po_rewards.py"),
        (["--input_file", "raw.jsonl"], "verify.py"),
        (["--pairs_per_problem", "0", "--input_file", "bare.jsonl"], "--pairs_per_problem"),
        (["--settings", "wrong.yaml", "--input_file", "bare.jsonl"], "least_vote"),
        (["--input_file", "nothing.jsonl"], "nothing.jsonl"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], says: str) -> None:
    record = verified(1)
    write(tmp_path / "bare.jsonl", [{key: value for key, value in record.items() if key != "rewards"}])
    write(tmp_path / "raw.jsonl", [{key: record[key] for key in ("id", "instruction", "responses")}])
    (tmp_path / "wrong.yaml").write_text("longest_ratio: 2\nleast_vote: 3\n")
    there = [str(tmp_path / word) if "." in word and not word.startswith("-") else word for word in arguments]
    done = program("gen_po_pairs", *there)
    assert done.returncode == 2
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("*_pairs*"))


def test_other_settings_are_refused_for_the_same_output(job: Path) -> None:
    assert program("gen_po_pairs", "--input_file", job).returncode == 0
    done = program("gen_po_pairs", "--input_file", job, "--strategy", "consensus")
    assert done.returncode == 2 and "--strategy" in done.stderr
    assert program("gen_po_pairs", "--input_file", job, "--strategy", "consensus", "--overwrite").returncode == 0
    assert all(
        row["why"] == "consensus" and row["pair_weight"] > 0 for row in rows(job.with_name("job_5res_verified_pairs.jsonl"))
    )


STOPPING = """
import runpy, sys, time
from magpie.runs.one_pass import Stream
keep, calls = Stream.keep_several, 0
def stopping(self, rows):
    global calls
    calls += 1
    if calls > 15_000:
        time.sleep(1000)
    keep(self, rows)
Stream.keep_several = stopping
runpy.run_path({exp!r} + "/gen_po_pairs.py", run_name="__main__")
"""
"""Does not get beyond the middle."""


def test_killed_in_the_middle_it_leaves_no_half_file_and_the_same_command_makes_it_whole(tmp_path: Path) -> None:
    source = write(tmp_path / "many.jsonl", [verified(n) for n in range(20_000)])
    output = tmp_path / "many_pairs.jsonl"
    command = [sys.executable, "-c", STOPPING.format(exp=str(PROJECT / "exp")), "--input_file", str(source)]
    child = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
    temporaries = lambda: [path for path in tmp_path.glob(".many_pairs.jsonl*") if path.stat().st_size]  # noqa: E731
    while child.poll() is None and not temporaries():
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    assert not output.exists()
    done = program("gen_po_pairs", "--input_file", source)
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in rows(output)] == [f"job-{n:06d}" for n in range(20_000)]


def test_a_file_of_pairs_is_an_input_again_its_repeated_ids_told_apart_by_their_numbers(job: Path) -> None:
    program("gen_po_pairs", "--input_file", job, "--pairs_per_problem", 2)
    done = program("export", "--input_file", job.with_name("job_5res_verified_pairs.jsonl"), "--check")
    assert done.returncode == 0, done.stderr
    doubled = write(job.with_name("doubled.jsonl"), rows(job.with_name("job_5res_verified_pairs.jsonl")) * 2)
    assert "ids occur twice" in program("export", "--input_file", doubled).stderr


# --- the formats -----------------------------------------------------------------------------------------------------


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is what a column declares."""
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(one, kind[0]) for one in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and value.keys() == kind.keys() and all(fits(value[key], kind[key]) for key in kind)
    return value is None or isinstance(value, {"string": str, "double": (int, float), "int64": int, "bool": bool}[kind])


@pytest.fixture
def pairs(job: Path) -> list[dict[str, Any]]:
    program("gen_po_pairs", "--input_file", job)
    return rows(job.with_name("job_5res_verified_pairs.jsonl"))


def test_rows_of_each_format_are_as_their_columns_say(pairs: list[dict[str, Any]]) -> None:
    assert all(fits(dpo(record), DPO_COLUMNS) and fits(sharegpt_dpo(record), SHAREGPT_DPO_COLUMNS) for record in pairs)
    assert all(len(kto(record)) == 2 and fits(kto(record), [KTO_COLUMNS]) for record in pairs)
    assert [row["label"] for row in kto(pairs[0])] == [True, False]
    assert {not_a_pair(record) for record in pairs} == {""}
    assert {not_a_pair({"id": "a", "prompt": "text"}), not_a_pair(verified(1))} == {"not_a_pair"}


def test_llama_factory_and_axolotl_find_what_their_documentation_names(pairs: list[dict[str, Any]]) -> None:
    row = sharegpt_dpo(pairs[0])
    assert LLAMA_FACTORY["ranking"] is True
    turns = row[AXOLOTL["field_messages"]]
    role, content = (AXOLOTL["message_property_mappings"][key] for key in ("role", "content"))
    assert [turn[role] for turn in turns] == ["human"] and turns[0][content] == pairs[0]["instruction"]
    for side in ("chosen", "rejected"):
        end = row[AXOLOTL[f"field_{side}"]]
        assert end[role] in AXOLOTL["roles"]["assistant"] and end[content] == pairs[0][side][0]["content"]
    assert LLAMA_FACTORY["columns"] == {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}


# --- the benchmark ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there: data of an earlier run, not part of the project")
def test_the_benchmark_shows_what_is_asked_of_the_pairs() -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "benchmarks" / "pairs.py"), "--samples"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = {line[:34].strip(): line[34:].replace("%", "").split() for line in done.stdout.split(" alone:")[0].splitlines()}
    hidden, known = lines["verified, without the reference"], lines["verified, with the reference"]
    assert float(hidden[1]) >= 60 and float(hidden[2]) <= 15 and float(hidden[6]) >= 45
    assert float(known[1]) >= 97 and float(known[2]) == 0


def test_the_benchmark_ends_with_a_clear_message_without_its_data(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "benchmarks" / "pairs.py"), str(tmp_path)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no such file" in done.stderr and "Traceback" not in done.stderr

"""decontaminate.py: what it drops and why, what it certifies, what it never copies, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import decontaminate
from conftest import clean_environment, program, rows
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.similarity.config import load_benchmark_list

SECRET = "A cartographer folds a square map of side 64 cm seven times along its middle. How many square centimetres is it then?"
SECRET_REWORDED = (
    "Seven times a cartographer folds a map along its middle. Unfolded it is a square of side 64 cm. How many square "
    "centimetres does the folded map cover?"
)
PUBLIC = "Ines counts 36 geese on a pond. A third of them fly off and then 9 come back. How many geese are on the pond now?"
CLEAN = ["Find the derivative of $x^3 \\cos x$.", "Prove that there are infinitely many primes.", ""]
CANARY = load_benchmark_list().canaries[0]
RECORDS: list[dict[str, Any]] = [
    {"id": 1, "instruction": SECRET, "response": "32", "kept": "by the stage"},
    {"id": "r2", "instruction": CLEAN[0], "reasoning": None},
    {"id": 3, "instruction": SECRET_REWORDED},
    {"id": 4, "instruction": PUBLIC.replace("Ines", "Consider the following problem. Ines"), "response": "33"},
    {"id": 5, "instruction": CLEAN[1]},
    {"id": 6, "instruction": CLEAN[2]},
]


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with records, a public benchmark (CSV) and a private one (its rows carry the canary)."""
    write_lines(tmp_path / "in.jsonl", RECORDS)
    (tmp_path / "public.csv").write_text(f'question,answer\nWhat is 1 + 1?,2\n"{PUBLIC}",33\n', encoding="utf-8")
    write_lines(tmp_path / "private.jsonl", [{"id": "s1", "question": SECRET, "canary": CANARY}])
    return tmp_path


def arguments(job: Path, *more: object) -> list[str]:
    benchmarks = [job / "public.csv", job / "private.jsonl"]
    return list(map(str, ["--input_file", job / "in.jsonl", "--benchmarks", *benchmarks, *more]))


def run_here(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    """Run the program in this process: no start of Python, and its errors as they are raised."""
    monkeypatch.setattr(sys, "argv", ["decontaminate.py", *given])
    decontaminate.main()


def test_contaminated_records_are_dropped_with_evidence_and_certified(job):
    done = program("decontaminate", *arguments(job))
    assert done.returncode == 0, done.stderr
    kept, dropped = rows(job / "in_decontaminated.jsonl"), rows(job / "in_decontaminated_dropped.jsonl")
    assert kept == [RECORDS[1], RECORDS[4], RECORDS[5]]
    by_id = {row["id"]: row for row in dropped}
    assert set(by_id) == {1, 3, 4} and all(row["drop_reason"] == "contaminated" for row in dropped)
    evidence = {id_: row["contamination"] for id_, row in by_id.items()}
    assert [
        (evidence[i]["benchmark"], evidence[i]["row"], evidence[i]["row_id"], evidence[i]["method"]) for i in (1, 3, 4)
    ] == [
        ("private", 0, "s1", "exact"),
        ("private", 0, "s1", "embedding"),
        ("public", 1, None, "exact"),
    ]
    assert all(evidence[i]["record_id"] == i and 0 < evidence[i]["score"] <= 1 for i in evidence)
    assert by_id[4]["instruction"] == RECORDS[3]["instruction"] and by_id[4]["response"] == "33"
    assert set(by_id[1]) == {"id", "contamination", "drop_reason", "drop_detail"} and "left out" in by_id[1]["drop_detail"]

    told = json.loads((job / "in_decontaminated.certificate.json").read_text())
    run = json.loads((job / "in_decontaminated.run.json").read_text())
    assert run["certificate"] == told and run["counts"] == {"read": 6, "written": 3, "dropped": {"contaminated": 3}}
    assert [(one["benchmark"], one["rows"], one["hits"], one["rows_hit"]) for one in told["benchmarks"]] == [
        ("public", 2, 1, 1),
        ("private", 1, 2, 1),
    ]
    assert told["methods"]["embedding_model"] and told["methods"]["ngrams"][0]["size"] == 8
    assert "public: 2 problems, 1 hits on 1 of them" in done.stderr

    for file in job.iterdir():  # of the private benchmark nothing is copied, and of the public one no more than the records had
        if file.name not in ("in.jsonl", "private.jsonl", "public.csv"):
            content = file.read_bytes()
            assert b"cartographer" not in content and b"What is 1 + 1" not in content, file
    assert "cartographer" not in done.stderr + done.stdout and str(job) not in json.dumps(told)


def test_a_second_run_has_nothing_to_do_and_other_benchmarks_are_refused(job, monkeypatch, caplog):
    caplog.set_level("INFO", logger="magpie")
    monkeypatch.setattr("magpie.common.console.log.propagate", True)
    run_here(monkeypatch, arguments(job))
    before = {path: path.read_bytes() for path in job.iterdir() if "decontaminated" in path.name}
    assert len(before) == 4
    run_here(monkeypatch, arguments(job))
    assert "already complete" in caplog.text and {path: path.read_bytes() for path in before} == before
    write_lines(job / "private.jsonl", [{"question": "What is 3 + 3?"}])
    with pytest.raises(MagpieError, match=r"other settings.*benchmarks private"):
        run_here(monkeypatch, arguments(job))
    with pytest.raises(MagpieError, match=r"other settings.*benchmarks"):
        run_here(monkeypatch, ["--input_file", str(job / "in.jsonl"), "--benchmarks", str(job / "public.csv")])
    run_here(monkeypatch, arguments(job, "--overwrite"))
    assert len(rows(job / "in_decontaminated.jsonl")) == 5


def test_the_vectors_of_a_benchmark_are_computed_once(job, monkeypatch):
    run_here(monkeypatch, arguments(job))
    monkeypatch.setattr("magpie.compute.embedding._load", lambda *_: pytest.fail("the model was loaded again"))
    run_here(monkeypatch, arguments(job, "--overwrite"))


def test_malformed_rows_are_dropped_when_asked_for_and_do_not_count_as_hits(job, monkeypatch):
    (job / "in.jsonl").write_text('{"id":1,"instruction":"' + PUBLIC + '"}\n{"id":2\n{"id":3,"instruction":"Name a prime."}\n')
    run_here(monkeypatch, arguments(job, "--skip_malformed"))
    dropped = rows(job / "in_decontaminated_dropped.jsonl")
    assert sorted(row["drop_reason"] for row in dropped) == ["contaminated", "malformed"]
    assert [row["id"] for row in rows(job / "in_decontaminated.jsonl")] == [3]


@pytest.mark.parametrize(
    ("changed", "given", "words"),
    [
        ({"in.jsonl": ""}, (), ("in.jsonl", "empty")),
        ({"in.jsonl": '{"instruction":"1?"}\n{"response":"1"}\n'}, (), ("in.jsonl, line 2", "`instruction`")),
        ({"in.jsonl": '{"instruction":"1?"}\n{"instruction":"2?","meta":["' + CANARY + '"]}\n'}, (), ("line 2", "canary")),
        ({"public.csv": "question\n"}, (), ("public.csv", "empty")),
        ({"public.csv": "exercise\n1?\n"}, (), ("public.csv", "no column", "exercise", "--problem_column")),
        ({}, ("--problem_column", "text"), ("no column `text`", "question")),
        ({}, ("--benchmarks", "nosuch"), ("nosuch", "no such file", "math500")),
        ({}, ("--benchmarks", "public.csv", "public.csv"), ("two are called 'public'",)),
        ({}, ("--output_file", "private.jsonl", "--overwrite"), ("private.jsonl is the input",)),
        ({}, ("--output_file", "out.json"), ("out.json", ".jsonl")),
        ({"rules.yaml": "ngrams: []\n"}, ("--config", "rules.yaml"), ("rules.yaml", "neighbours")),
        ({"rules.yaml": "ngrams: [{size: 0, share: 2, source: x}]\n"}, ("--config", "rules.yaml"), ("rules.yaml", "size")),
        ({}, ("--config", "no.yaml"), ("no.yaml", "no such file")),
    ],
)
def test_bad_input_is_refused_before_anything_is_embedded(job, monkeypatch, changed, given, words):
    monkeypatch.chdir(job)
    monkeypatch.setattr("magpie.compute.embedding._load", lambda *_: pytest.fail("a model was loaded"))
    for name, content in changed.items():
        (job / name).write_text(content)
    before = {path.name: path.read_bytes() for path in job.iterdir()}
    with pytest.raises(MagpieError) as error:
        run_here(monkeypatch, arguments(job, *given))
    assert all(word in str(error.value) for word in words), error.value
    assert {path.name: path.read_bytes() for path in job.iterdir()} == before


STOPPING = """
import runpy, sys, time
from magpie.runs.run import Run
append = Run._append
def stopping(self, entry, *more, **named):
    append(self, entry, *more, **named)
    if entry.index >= 300:
        time.sleep(1000)
Run._append = stopping
runpy.run_path({exp!r} + "/decontaminate.py", run_name="__main__")
"""
"""Does not get beyond the middle."""


def test_killed_in_the_middle_it_goes_on_and_ends_as_if_nothing_had_been(job, monkeypatch):
    records = [{"id": n, "instruction": f"Add {n} and {n * n + 1}."} for n in range(600)]
    records[5]["instruction"] = records[580]["instruction"] = PUBLIC
    write_lines(job / "in.jsonl", records)
    command = [sys.executable, "-c", STOPPING.format(exp=str(PROJECT / "exp")), *arguments(job)]
    part, done = job / "in_decontaminated.part", 0
    with subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and done < decontaminate.BATCH:
            done = part.read_bytes().count(b"\n") if part.exists() else 0
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert decontaminate.BATCH <= done < len(records) and not (job / "in_decontaminated.jsonl").exists()

    run_here(monkeypatch, arguments(job))
    run_here(monkeypatch, arguments(job, "--output_file", job / "whole.jsonl"))
    for ending in (".jsonl", "_dropped.jsonl", ".certificate.json"):
        assert (job / f"in_decontaminated{ending}").read_bytes() == (job / f"whole{ending}").read_bytes(), ending
    assert not part.exists()
    assert json.loads((job / "in_decontaminated.run.json").read_text())["certificate"]["benchmarks"][0]["hits"] == 2

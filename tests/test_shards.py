"""Shards: several workers on one file make what one would have made, and an incomplete set is refused."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import clean_environment, program, rows
from magpie.cli.flags import shard
from magpie.compute.embedding import Embedder
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.domains.classifier import LABELS
from magpie.reporting.funnel import line_of
from magpie.runs.jobs import finished, run_files
from magpie.runs.shards import Shard, whole_of
from scripted_server import MODEL, Reply, ScriptedServer, completion

TOKENIZER = load_model("smollm2").path


@pytest.mark.parametrize("of", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("count", [0, 1, 6, 7, 1000])
def test_the_shards_are_all_the_rows_in_order_and_of_one_size(count: int, of: int) -> None:
    parts = [Shard(number, of).rows(count) for number in range(1, of + 1)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "/4", "-1/4", "1/4/2", "a/b", "1/100000", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        shard(text)


def test_a_shard_s_name_leads_back_to_the_file(tmp_path: Path) -> None:
    whole = tmp_path / "job_ins.jsonl"
    assert shard("2/4") == Shard(2, 4) and Shard(2, 4).path(whole).name == "job_ins-00002-of-00004.jsonl"
    assert whole_of(Shard(2, 4).path(whole)) == whole


def make_problems(server: ScriptedServer, output: Path, *more: Any, total: int = 10) -> subprocess.CompletedProcess[str]:
    arguments = ("--model_path", MODEL, "--tokenizer", TOKENIZER, "--total_prompts", total, "--preflight", 0)
    steering = ("--domain", "algebra", "number_theory", "--domain_weights", 2, 1, "--request_seeds")
    return program("gen_ins", *arguments, *steering, "--base_url", server.url, "--output_file", output, *more)


def facts(path: Path) -> list[tuple[Any, ...]]:
    return [(r["id"], r["target_domain"], r["template_id"], r["pre_query_template"]) for r in rows(path)]


def seeds(server: ScriptedServer) -> list[int]:
    return sorted(call.body["seed"] for call in server.history)


@pytest.mark.parametrize("of", [2, 3])
def test_ids_fields_prompts_and_seeds_are_the_same_whatever_the_number_of_shards(tmp_path: Path, of: int) -> None:
    with ScriptedServer(default=Reply(body=completion("What is 1 + 1?"))) as server:
        assert make_problems(server, tmp_path / "one" / "x_ins.jsonl").returncode == 0
        alone = seeds(server)
        server.history.clear()
        for number in range(1, of + 1):
            done = make_problems(server, tmp_path / "many" / "x_ins.jsonl", "--shard", f"{number}/{of}")
            assert done.returncode == 0, done.stderr
    assert seeds(server) == alone
    done = program("concat", "--shards", tmp_path / "many" / "x_ins.jsonl")
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / "many" / "x_ins.jsonl") == facts(tmp_path / "one" / "x_ins.jsonl")
    one, many = (json.loads((tmp_path / name / "x_ins.run.json").read_text()) for name in ("one", "many"))
    for key in ("status", "stage", "arguments", "inputs", "counts", "tokens"):
        assert one[key] == many[key], key
    assert len(many["shards"]) == of and list(finished(tmp_path / "many")) == [tmp_path / "many" / "x_ins.jsonl"]


@pytest.fixture(scope="module")
def answered_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve problems answered in three shards; the answers of every fourth were empty."""
    folder = tmp_path_factory.mktemp("answered")
    problems = folder / "x.jsonl"
    problems.write_text("".join(json.dumps({"id": f"p{i}", "instruction": f"What is {i}?"}) + "\n" for i in range(12)))
    with ScriptedServer() as server:
        for number in (1, 2, 3):
            server.script.extend([Reply(body=completion("")), *(Reply(body=completion(f"{n}")) for n in range(3))])
            done = answer(server, problems, f"{number}/3")
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def answered(answered_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(answered_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "x_res.jsonl"


def flags(server: ScriptedServer, problems: Path, shard: str) -> list[str]:
    """What gen_res.py needs to answer one shard, one request at a time."""
    model = ["--model_path", MODEL, "--tokenizer", TOKENIZER, "--base_url", server.url, "--max_in_flight", "1"]
    return [*model, "--input_file", str(problems), "--shard", shard]


def answer(server: ScriptedServer, problems: Path, shard: str) -> subprocess.CompletedProcess[str]:
    return program("gen_res", *flags(server, problems, shard))


def shard_file(whole: Path, number: int, suffix: str = ".jsonl") -> Path:
    return Shard(number, 3).path(whole).with_suffix(suffix)


def test_what_was_dropped_and_counted_is_put_together_too(answered: Path) -> None:
    assert program("concat", "--shards", answered).returncode == 0
    assert [r["id"] for r in rows(answered)] == [f"p{i}" for i in range(12) if i % 4]
    assert [r["id"] for r in rows(answered.with_name("x_res_dropped.jsonl"))] == ["p0", "p4", "p8"]
    run = json.loads(answered.with_suffix(".run.json").read_text())
    assert run["counts"] == {"read": 12, "written": 9, "dropped": {"empty_response": 3}}
    assert "shard" not in run["arguments"] and run["tokens"]["completion"] == 24
    again = program("concat", "--shards", answered)
    assert again.returncode == 0 and "already complete" in again.stderr


def test_a_shard_that_was_made_again_is_taken_up_and_costs_are_added(answered: Path) -> None:
    for number in (1, 2, 3):
        path = shard_file(answered, number, ".run.json")
        run = json.loads(path.read_text())
        path.write_text(json.dumps(run | {"statistics": {"cost_in_dollars": 1.5}, "updated": f"2026-11-23T00:00:0{number}"}))
    program("concat", "--shards", answered)
    assert json.loads(answered.with_suffix(".run.json").read_text())["statistics"] == {"cost_in_dollars": 4.5}
    path = shard_file(answered, 2, ".run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"updated": "2026-11-23T01:00:00"}))
    again = program("concat", "--shards", answered)
    assert again.returncode == 0 and "rebuilt since" in again.stderr and "9 rows" in again.stderr


def test_a_report_counts_shards_once(answered: Path) -> None:
    program("concat", "--shards", answered)
    runs = run_files(answered.parent)
    assert [run.stem for run in runs] == ["x_res"] and line_of(runs) == runs


def test_more_shards_than_rows_are_refused(tmp_path: Path) -> None:
    with ScriptedServer() as server:
        done = make_problems(server, tmp_path / "x_ins.jsonl", "--shard", "3/11")
    assert done.returncode != 0 and "only 10 rows" in done.stderr and not server.history


def test_tags_are_added_to_a_shard_in_a_second_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_model(self: Embedder, texts: list[str]) -> np.ndarray:  # torch would take most of the test's time
        return np.zeros((len(texts), 384), np.float32)

    monkeypatch.setattr(Embedder, "encode", without_a_model)
    problems = tmp_path / "x.jsonl"
    problems.write_text(
        "".join(json.dumps({"id": f"p{i}", "instruction": f"What is the sum of {i} and 2?"}) + "\n" for i in range(6))
    )
    for mission in ("language", "domain"):
        for number in (1, 2):
            done = program(
                "unitag", "--input_file", problems, "--tag_mission", mission, "--tagger", "embedding", "--shard", f"{number}/2"
            )
            assert done.returncode == 0, done.stderr
    assert program("concat", "--shards", tmp_path / "x_tagged.jsonl").returncode == 0
    tagged = rows(tmp_path / "x_tagged.jsonl")
    assert [(r["id"], r["language"]) for r in tagged] == [(f"p{i}", "en") for i in range(6)]
    assert all(r["domain"] in LABELS and [*r["tagged_by"]] == ["language", "domain"] for r in tagged)


def test_one_worker_takes_the_joined_file_for_its_own(answered: Path) -> None:
    program("concat", "--shards", answered)
    with ScriptedServer() as server:
        arguments = ("--model_path", MODEL, "--tokenizer", TOKENIZER, "--base_url", server.url)
        done = program("gen_res", *arguments, "--input_file", answered.with_name("x.jsonl"))
        assert done.returncode == 0 and "already complete" in done.stderr and not server.history


def take_one_away(whole: Path) -> str:
    shard_file(whole, 2).unlink()
    return "--shard 2/3"


def leave_one_unfinished(whole: Path) -> str:
    shard_file(whole, 3).rename(shard_file(whole, 3, ".part"))
    return "--shard 3/3"


def cut_one(whole: Path) -> str:
    path = shard_file(whole, 2)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return "its run file says 3"


def change_one(whole: Path) -> str:
    path = shard_file(whole, 2, ".run.json")
    run = json.loads(path.read_text())
    run["arguments"]["temperature"] = 0.123
    path.write_text(json.dumps(run))
    return "arguments differ"


def lose_a_run_file(whole: Path) -> str:
    shard_file(whole, 1, ".run.json").unlink()
    return "--shard 1/3"


def add_another_set(whole: Path) -> str:
    Shard(1, 2).path(whole).write_text("")
    return "2 and 3"


@pytest.mark.parametrize(
    "harm",
    [take_one_away, leave_one_unfinished, cut_one, change_one, lose_a_run_file, add_another_set],
    ids=lambda f: f.__name__,
)
def test_an_incomplete_set_is_refused_and_nothing_is_made(answered: Path, harm: Any) -> None:
    says = harm(answered)
    done = program("concat", "--shards", answered)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not answered.exists() and not answered.with_suffix(".run.json").exists()


def test_a_broken_run_file_of_the_whole_is_refused_until_it_may_be_overwritten(answered: Path) -> None:
    answered.touch()
    answered.with_suffix(".run.json").write_text("{")
    done = program("concat", "--shards", answered)
    assert done.returncode == 2 and "broken" in done.stderr and not answered.stat().st_size
    done = program("concat", "--shards", answered, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert json.loads(answered.with_suffix(".run.json").read_text())["counts"]["written"] == len(rows(answered)) > 0


def test_no_shards_at_all_is_said(tmp_path: Path) -> None:
    done = program("concat", "--shards", tmp_path / "x_res.jsonl")
    assert done.returncode != 0 and "no shards of it found" in done.stderr


def test_a_shard_is_no_input_of_an_ordinary_merge(answered: Path) -> None:
    done = program(
        "concat", "--inputs", shard_file(answered, 1), shard_file(answered, 2), "--output_file", answered.with_name("y.jsonl")
    )
    assert done.returncode != 0 and f"--shards {answered}" in done.stderr


def test_a_shard_that_was_killed_goes_on_and_the_same_shard_twice_at_a_time_is_refused(tmp_path: Path) -> None:
    problems = tmp_path / "x.jsonl"
    problems.write_text("".join(json.dumps({"id": f"p{i}", "instruction": f"What is {i}?"}) + "\n" for i in range(40)))
    # five answers, then one that never comes: the worker stays in the middle, however slow the machine is
    with ScriptedServer(*[Reply()] * 5, default=Reply(delay=600)) as server:
        command = [sys.executable, str(PROJECT / "exp" / "gen_res.py"), *flags(server, problems, "2/2")]
        worker = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while len(server.history) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        twice = answer(server, problems, "2/2")
        assert twice.returncode != 0 and "another process" in twice.stderr
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        server.default = Reply()
        done = answer(server, problems, "2/2")
    assert done.returncode == 0, done.stderr
    assert [r["id"] for r in rows(Shard(2, 2).path(tmp_path / "x_res.jsonl"))] == [f"p{i}" for i in range(20, 40)]
    asked = [call.body["prompt"] for call in server.history]
    assert len(asked) <= 22, "what was finished was made again"


@pytest.mark.parametrize("name", ["gen_ins", "gen_res", "unitag", "verify", "gen_po_rewards"])
def test_every_stage_whose_records_are_expensive_takes_a_shard(name: str) -> None:
    assert "--shard I/N" in program(name, "--help").stdout


def test_verify_works_on_its_own_rows_only(tmp_path: Path) -> None:
    records = [{"id": f"p{i}", "instruction": "?", "response": f"$\\boxed{{{i}}}$"} for i in range(5)]
    source = tmp_path / "x_res.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    for number in (1, 2):
        done = program("verify", "--input_file", source, "--shard", f"{number}/2")
        assert done.returncode == 0, done.stderr
    assert program("concat", "--shards", tmp_path / "x_res_verified.jsonl").returncode == 0
    assert [(r["id"], r["answers"]) for r in rows(tmp_path / "x_res_verified.jsonl")] == [(f"p{i}", [str(i)]) for i in range(5)]

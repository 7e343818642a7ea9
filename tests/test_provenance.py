"""What an output was made with: it describes a run and never binds it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import program
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.export import evidence
from magpie.models import checkpoint, hardware
from magpie.runs import provenance as made
from magpie.runs.run import Run
from magpie.runs.run_file import RunFile
from magpie.serving.server import read_made_with

OLD, NEW = "a" * 40, "b" * 40


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_is_clean_where_programs_and_configuration_are_as_in_it(tmp_path: Path) -> None:
    made.commit_of.cache_clear()
    clone = tmp_path / "clone"
    for name in ("exp/a.py", "configs/a.yaml", "README.md"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("1")

    def told() -> tuple[str | None, bool | None]:
        made.commit_of.cache_clear()
        return made.commit_of(clone)

    assert told() == (None, None)
    git(clone, "init", "-q")
    assert told() == (None, None)  # nothing is committed yet
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "x")
    commit = git(clone, "rev-parse", "HEAD")
    assert told() == (commit, True)
    (clone / "README.md").write_text("2")
    (clone / "data").write_text("3")
    assert told() == (commit, True)
    (clone / "exp" / "new.py").write_text("4")
    assert told() == (commit, False)
    (clone / "exp" / "new.py").unlink()
    (clone / "configs" / "a.yaml").write_text("5")
    assert told() == (commit, False)
    (clone / "copy" / "exp").mkdir(parents=True)  # unpacked inside somebody else's repository
    assert made.commit_of(clone / "copy") == (None, None)


def test_a_command_is_exact_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGPIE_API_KEY", "sk-secret")
    words = [
        "--input_file",
        "a b.jsonl",
        "--proxy=http://me:word@host:1",
        "--served_model",
        "sk-secret",
        "--result_file=/tmp/x.result",
    ]
    monkeypatch.setattr(sys, "argv", ["/somewhere/exp/gen_res.py", *words])
    told = made.command()
    assert told == "python exp/gen_res.py --input_file 'a b.jsonl' '--proxy=http://[key]@host:1' --served_model '[key]'"


def test_a_card_says_nothing_of_this_machines_folders_and_addresses() -> None:
    given = (
        "python exp/gen_res.py --input_file=/home/me/my job/x.jsonl --base_url http://10.0.0.5:8000/v1,@/run/me/urls --ray "
        "10.1.2.3:6379 --columns a=b/c --output_file data/job/x.jsonl '``` | <b>'"
    )
    entry = made.Provenance(command=given.replace("my job", "'my job'"))
    line, _ = evidence.commands([RunFile(stage="gen_res.py", provenance=[entry])])
    assert "/home" not in line and "10." not in line and "/run" not in line
    assert "--input_file=x.jsonl" in line and "a=b/c" in line and "data/job/x.jsonl" in line
    torn = made.Provenance(command="python 'exp")
    assert evidence.commands([RunFile(stage="x.py", provenance=[torn])])[0].startswith("#")


def test_a_run_goes_on_after_a_new_commit_and_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.jsonl"
    for commit, command, index in ((OLD, "x --a", 0), (OLD, "x --a", 1), (NEW, "x --b", 2)):
        monkeypatch.setattr(made, "commit_of", lambda folder, commit=commit: (commit, True))
        monkeypatch.setattr(made, "command", lambda command=command: command)
        run = Run("stage.py", output, rows=3, arguments={"seed": 0})
        run.check()
        run.made_with = {"models": {"owner/model": "c" * 40}}
        with run.session():
            assert run.closed == index
            run.keep(index, {"id": index})
            if index == 2:
                run.finish()
    told = json.loads(output.with_suffix(".run.json").read_text())
    assert [(entry["commit"], entry["command"]) for entry in told["provenance"]] == [(OLD, "x --a"), (NEW, "x --b")]
    assert evidence.revisions(
        [RunFile(provenance=[made.Provenance(models={"m": "1"}), made.Provenance(models={"m": "2"})])]
    ) == {"m": "1 and 2"}


def test_a_stage_names_engine_flags_and_the_models_files(tmp_path: Path, stub_server: dict[str, str]) -> None:
    def entry(*more: str, **changes: str) -> dict[str, Any]:
        arguments = (
            "--model_path",
            "smollm2",
            "--total_prompts",
            2,
            "--preflight",
            0,
            "--output_file",
            tmp_path / "x_ins.jsonl",
        )
        done = program("gen_ins", *arguments, "--overwrite", *more, env=stub_server | changes)
        assert done.returncode == 0, done.stderr
        [told] = json.loads((tmp_path / "x_ins.run.json").read_text())["provenance"]
        return told

    told = entry()
    assert (
        told["command"].startswith("python exp/gen_ins.py --model_path smollm2")
        and told["commit"] == made.commit_of(PROJECT)[0]
    )
    assert told["engine"]["version"].startswith("vllm") and "--max-model-len" in told["engine"]["flags"]
    assert "--port" not in told["engine"]["flags"] and "--seed" not in told["engine"]["flags"]
    preset = load_model("smollm2")
    assert told["models"] == {preset.model: checkpoint.revision(preset)} and told["models"][preset.model].startswith("files:")
    elsewhere = entry("--base_url", stub_server["MAGPIE_BASE_URL"] + "/")  # nothing says who started that
    assert (elsewhere["engine"], elsewhere["models"], elsewhere["gpus"]) == (None, {}, None)
    (tmp_path / "broken.json").write_text('{"models": 3}')
    assert entry(MAGPIE_MADE_WITH=str(tmp_path / "broken.json"))["engine"] is None
    assert read_made_with(tmp_path / "none.json") == {}


def test_a_quick_stage_names_commit_and_command_alone(tmp_path: Path) -> None:
    (tmp_path / "x_ins.jsonl").write_text(json.dumps({"id": 1, "instruction": "Find the area of a square of side 3."}))
    assert program("clean_ins", "--input_file", tmp_path / "x_ins.jsonl").returncode == 0
    [told] = json.loads((tmp_path / "x_ins_clean.run.json").read_text())["provenance"]
    commit, clean = made.commit_of(PROJECT)
    assert told == {
        "commit": commit,
        "clean": clean,
        "command": f"python exp/clean_ins.py --input_file {tmp_path}/x_ins.jsonl",
        "models": {},
        "engine": None,
        "gpus": None,
        "driver": None,
    }


def test_a_revision_is_the_hubs_commit_or_a_hash_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "snapshots" / NEW
    snapshot.mkdir(parents=True)
    monkeypatch.setattr(checkpoint, "model_folder", lambda preset: snapshot)
    assert checkpoint.revision(load_model("owner/model")) == NEW
    monkeypatch.setattr(checkpoint, "model_folder", lambda preset: tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"1" * 100_000)
    first = checkpoint.revision(load_model("owner/model"))
    (tmp_path / "model.safetensors").write_bytes(b"1" * 99_999 + b"2")
    assert first and first.startswith("files:") and checkpoint.revision(load_model("owner/model")) != first
    monkeypatch.setattr(checkpoint, "model_folder", lambda preset: None)
    assert checkpoint.revision(load_model("owner/model")) is None


def test_gpus_and_driver_are_those_of_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware.this_machine.cache_clear()
    rows = {("name", "memory.total", "compute_cap"): [["NVIDIA X", "81559", "9.0"]] * 2, ("driver_version",): [["570.1"]] * 2}
    monkeypatch.setattr(hardware, "query_gpus", lambda *fields, visible=None: rows[fields])
    assert hardware.gpus_and_driver() == {"gpus": ["NVIDIA X"] * 2, "driver": "570.1"}
    monkeypatch.setattr(hardware, "query_gpus", lambda *fields, visible=None: [])
    hardware.this_machine.cache_clear()
    assert hardware.gpus_and_driver() == {"gpus": None, "driver": None}
    hardware.this_machine.cache_clear()

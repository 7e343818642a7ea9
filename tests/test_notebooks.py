"""The notebooks run from top to bottom, on the stub engine (the real one: `--long`); they are committed with real outputs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import program, rows
from magpie.config.load import PROJECT
from magpie.reporting.plots import counts

DEMO, CONCATENATION, FILTERING = "demo_production", "data_sft/data_concatenation", "data_sft/data_filter"


def read(name: str) -> Any:
    import nbformat

    return nbformat.read(PROJECT / f"{name}.ipynb", as_version=4)


def execute(name: str) -> Any:
    from nbclient import NotebookClient

    folder = (PROJECT / name).parent
    patience = {"timeout": 600, "startup_timeout": 300, "iopub_timeout": 60}
    return NotebookClient(read(name), **patience, resources={"metadata": {"path": str(folder)}}).execute()


def outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, stub_server: dict[str, str]) -> list[Path]:
    """Two small main jobs on the embedded model."""
    folder = tmp_path_factory.mktemp("jobs")
    found = []
    for seed, name in enumerate(("one", "two")):
        problems = folder / name / f"{name}_ins.jsonl"
        settings = ("--model_path", "smollm2", "--seed", seed)
        made = program("gen_ins", *settings, "--total_prompts", 4, "--preflight", 0, "--output_file", problems, env=stub_server)
        assert made.returncode == 0, made.stderr
        answered = program("gen_res", *settings, "--input_file", problems, "--max_tokens", 96, env=stub_server)
        assert answered.returncode == 0, answered.stderr
        found.append(folder / name)
    return found


def test_the_notebook_of_concatenation_merges_real_jobs(jobs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    output = jobs[0].parent / "both" / "both.jsonl"
    monkeypatch.setenv("CONCAT_INPUTS", " ".join(map(str, jobs)))
    monkeypatch.setenv("CONCAT_OUTPUT", str(output))
    assert pictures(execute(CONCATENATION)) == 2
    merged = rows(output)
    assert {r["source"] for r in merged} == {"one", "two"} and len({r["id"] for r in merged}) == len(merged) == 8


def test_the_notebook_of_filtering_shows_what_each_rule_removes(jobs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    records = rows(jobs[0] / "one_ins_res.jsonl")
    marked = jobs[0] / "marked.jsonl"  # what gen_dis.py would say of them; the first is called a copy of the second
    told = [
        r | {"duplicate_of": records[1]["id"] if i == 0 else None, "min_neighbor_distance": 0.5} for i, r in enumerate(records)
    ]
    marked.write_text("".join(json.dumps(record) + "\n" for record in told))
    monkeypatch.setenv("FILTER_INPUT", str(marked))
    notebook = execute(FILTERING)
    assert pictures(notebook) == 5
    found = counts(jobs[0] / "marked_filtered.jsonl")
    assert found["read"] == 4 == found["written"] + sum(found["dropped"].values()) and found["dropped"]["duplicate"] == 1
    assert any("duplicate | duplicate_of is" in output.get("text", "") for output in outputs(notebook))


@pytest.fixture(params=["stub_server", pytest.param("engine", marks=pytest.mark.long)])
def any_server(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a program that uses a server, with the stub engine or the real one."""
    found: dict[str, str] = request.getfixturevalue(request.param)
    return found


def test_the_demonstration_makes_both_data_sets_and_a_report(
    tmp_path: Path, any_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"PROBLEMS": "8", "ANSWERS": "3", "TOKENS": "80", "TEST_PROBLEMS": "2"}
    for name, value in {
        **{f"MAGPIE_DEMO_{k}": v for k, v in settings.items()},
        **any_server,
        "DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    notebook = execute(DEMO)
    assert pictures(notebook) == 9 and not [output for output in outputs(notebook) if output.output_type == "error"]
    job, stem, voted = tmp_path / "demo", "demo_ins_clean_distance", "_decontaminated_tagged_3res_verified"
    [pairs] = job.glob(f"{stem}*_3res*_pairs.jsonl")
    for file in (job / f"{stem}_res.jsonl", job / f"{stem}{voted}_filtered_sft.jsonl", pairs):
        found = counts(file)
        assert found["read"] == found["written"] + sum(found["dropped"].values())
    assert len(rows(tmp_path / "demo_test" / "test_ins.jsonl")) == 2
    kept = rows(job / f"{stem}{voted}_filtered_sft.jsonl")
    assert (job / "demo_sft" / "README.md").exists() == bool(kept)
    assert (job / "report.html").exists() and not (job / "logs").exists()  # the session's server was used
    shown = [output.data["text/markdown"] for output in outputs(notebook) if "text/markdown" in output.get("data", {})]
    assert len(shown) == 4 and all("**problem**" in text or "none in this run" in text for text in shown)


def test_the_first_cell_names_the_wrong_python(tmp_path: Path) -> None:
    cell = next(cell.source for cell in read(DEMO).cells if cell.cell_type == "code")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup.sh").touch()
    command = [sys.executable, "-S", "-c", cell]  # -S: without the installed packages
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "this kernel is not the project's Python" in done.stderr


def test_what_the_demonstration_runs_is_there() -> None:
    code = "".join(cell.source for cell in read(DEMO).cells if cell.cell_type == "code")
    called = re.findall(r'"((?:scripts|exp)/[\w/.-]+)"', code)
    assert called == [
        "scripts/setup.sh",
        "scripts/magpie_math.sh",
        "exp/gen_ins.py",
        "scripts/sft.sh",
        "scripts/align.sh",
        "exp/report.py",
    ]
    assert all((PROJECT / name).exists() for name in called)
    text = "".join(cell.source for cell in read(DEMO).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([\w/.-]+)\)", text):
        assert (PROJECT / link).exists(), link


@pytest.mark.parametrize(("name", "plots"), [(DEMO, 9), (CONCATENATION, 2), (FILTERING, 5)])
def test_a_notebook_is_committed_with_its_outputs_and_without_paths_of_a_machine(name: str, plots: int) -> None:
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(notebook) == plots and not [output for output in outputs(notebook) if output.output_type == "error"]
    text = (PROJECT / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|work|Users)/", text) and str(PROJECT) not in text
    said = "".join(output.get("text", "") for output in outputs(notebook))
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", said)

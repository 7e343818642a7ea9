"""Ceilings: what stops at one is partial and says so, nothing is lost, and a higher one leads to the same files."""

from __future__ import annotations

import json
import re
import time
import zlib
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer

from conftest import finished, program, rows
from magpie.client.ceiling import Limits
from magpie.client.rate_limit import Prices
from magpie.common.console import EXIT_CEILING
from magpie.config.load import PROJECT
from scripted_server import MODEL, Call, Reply, ScriptedServer, completion
from test_run_job import RUN_JOB, environment, state

TOKENS = 5
"""Of each request to the scripted server, both ways."""
COUNT = 12
TOKENIZER = Tokenizer.from_file(str(PROJECT / "models" / "SmolLM2-135M-Instruct" / "tokenizer.json"))


def run_file(output: Path) -> dict[str, Any]:
    return json.loads(output.with_suffix(".run.json").read_text())


def of_prompt(call: Call) -> Reply:
    """The same answer to the same prompt, whenever it is asked: a label, or a final answer."""
    number = sum(call.body["prompt"]) % 89
    told = {"difficulty": "easy", "intent": "x", "knowledge": "y", "verdict": "same"}
    text = json.dumps(told) if "response_format" in call.body else f"So \\boxed{{{number}}}.\n```python\nprint({number})\n```"
    return Reply(body=completion(text), delay=0.002)


def write_problems(path: Path, **more: Any) -> Path:
    lines = [json.dumps({"id": f"p{n}", "instruction": f"What is {n} + {n * n}, written out?"} | more) for n in range(COUNT)]
    path.write_text("\n".join(lines) + "\n")
    return path


MORE: dict[str, dict[str, Any]] = {
    "check_code": {"majority_answer": "1"},
    "verify": {"responses": [r"So \boxed{\text{it tends to a limit}}."], "reference_answer": r"\text{the sequence converges}"},
}
"""What the problems of a stage have beside their text."""


def stage_of(name: str, folder: Path) -> tuple[list[Any], Path]:
    """A generating stage's command line without its server, and its output."""
    folder.mkdir(exist_ok=True)
    problems, output = folder / "problems.jsonl", folder / "out.jsonl"
    write_problems(problems, **MORE.get(name, {}))
    read = ["--input_file", problems, "--output_file", output]
    model = ["--model_path", "smollm2", "--served_model", MODEL, "--max_in_flight", 3]
    commands: dict[str, list[Any]] = {
        "gen_ins": ["--total_prompts", COUNT, "--output_file", output, "--preflight", 0, "--no-clean", *model],
        "gen_res": [*read, "--preflight", 0, *model],
        "gen_res votes": [*read, "--preflight", 0, "--num_responses", 3, "--temperature", 0.5, *model],
        "gen_res waves": [
            *read,
            "--preflight",
            0,
            "--num_responses",
            4,
            "--stop_when",
            "settled",
            "--temperature",
            0.5,
            *model,
        ],
        "unitag": [*read, "--tag_mission", "difficulty", *model],
        "check_code": [*read, "--workers", 1, *model],
        "verify": [*read, "--judge", "--keep_unverified", "--workers", 1, *model],
    }
    return [name.split()[0], *commands[name]], output


@pytest.mark.parametrize("name", ["gen_ins", "gen_res", "gen_res votes", "gen_res waves", "unitag", "check_code", "verify"])
def test_a_stage_that_stops_at_its_ceiling_loses_nothing_and_ends_with_the_same_file(name: str, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    with ScriptedServer(by=of_prompt) as server:
        server_flag = ["--base_url", server.url]
        command, output = stage_of(name, whole)
        assert program(*command, *server_flag).returncode == 0
        asked, expected = len(server.history), rows(output)
        command, output = stage_of(name, part)
        server.history.clear()
        for ceiling in (3, 6):
            stopped = program(*command, *server_flag, "--max_tokens_total", ceiling * TOKENS)
            assert stopped.returncode == EXIT_CEILING, stopped.stderr
            told = run_file(output)
            assert told["status"] == "partial: ceiling" and told["partial"] == "ceiling"
            assert len(rows(output)) == told["counts"]["written"] < len(expected)
            assert ceiling * TOKENS <= sum(told["tokens"].values()) <= (ceiling + 6) * TOKENS
            if name != "gen_res waves":  # the ids are as the whole file has them
                assert [row["id"] for row in rows(output)] == [row["id"] for row in expected if row["id"] in ids(output)]
        again = program(*command, *server_flag)
        assert again.returncode == 0, again.stderr
        assert len(server.history) == asked, "a finished request was asked for again, or one was left out"
    assert timeless(rows(output)) == timeless(expected)
    assert run_file(output)["status"] == "complete" and "partial" not in run_file(output)


def ids(path: Path) -> set[str]:
    return {row["id"] for row in rows(path)}


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "created"} for record in records]


def test_seconds_cut_what_is_in_flight_and_keep_what_is_done(tmp_path: Path) -> None:
    command, output = stage_of("gen_res", tmp_path)
    with ScriptedServer(by=of_prompt) as server:
        nothing = program(*command, "--base_url", server.url, "--max_seconds", 0)
        assert nothing.returncode == EXIT_CEILING and not server.history and not output.exists()
    fast = 4

    def then_never(call: Call) -> Reply:
        return of_prompt(call) if len(server.history) <= fast else Reply(hold=lambda: False)

    with ScriptedServer(by=then_never) as server:
        process_seconds = psutil.Process().create_time()  # the programs run in this process: its start is theirs
        limit = time.time() - process_seconds + 6
        stopped = program(*command, "--base_url", server.url, "--max_seconds", limit)
        assert stopped.returncode == EXIT_CEILING and "--max_seconds" in stopped.stderr, stopped.stderr
    assert len(rows(output)) == fast and run_file(output)["status"] == "partial: ceiling"
    with ScriptedServer(by=of_prompt) as server:
        assert program(*command, "--base_url", server.url).returncode == 0
        assert len(server.history) == COUNT - fast
    assert [row["id"] for row in rows(output)] == [f"p{n}" for n in range(COUNT)]


def test_a_partial_file_is_refused_where_nobody_says_that_it_is_known(tmp_path: Path) -> None:
    command, output = stage_of("gen_ins", tmp_path)
    with ScriptedServer(by=of_prompt) as server:
        assert program(*command, "--base_url", server.url, "--max_tokens_total", 20).returncode == EXIT_CEILING
    for stage, *more in (["clean_ins"], ["gen_res", "--model_path", "smollm2"], ["unitag", "--tag_mission", "language"]):
        refused = program(stage, "--input_file", output, *more)
        assert refused.returncode == 2 and "partial" in refused.stderr and "--partial" in refused.stderr, refused.stderr
    refused = program("concat", "--inputs", output, "--output_file", tmp_path / "all.jsonl")
    assert refused.returncode == 2 and "--partial" in refused.stderr
    taken = program("clean_ins", "--input_file", output, "--partial")
    cleaned = tmp_path / "out_clean.jsonl"
    assert taken.returncode == 0 and run_file(cleaned)["status"] == "complete" and run_file(cleaned)["partial"] == "ceiling"
    assert (
        program("filter", "--input_file", cleaned, "--config", "finished").returncode == 2
    )  # what is made of it is partial too
    command, output = stage_of("gen_res", tmp_path / "answers")
    with ScriptedServer(by=of_prompt) as server:
        assert program(*command, "--base_url", server.url, "--max_tokens_total", 20).returncode == EXIT_CEILING
    flags = ["--input_file", output, "--format", "messages", "--output_folder", tmp_path / "set"]
    assert program("export", *flags).returncode == 2
    made = program("export", *flags, "--partial")
    assert made.returncode == 0 and "**Partial**" in (tmp_path / "set" / "README.md").read_text(), made.stderr
    report = program("report", tmp_path)
    assert report.returncode == 0 and "Partial: a run stopped at its ceiling" in (tmp_path / "report.html").read_text()


def test_a_limit_of_cost_needs_prices_and_counts_them(tmp_path: Path) -> None:
    command, output = stage_of("gen_res", tmp_path)
    refused = program(*command, "--base_url", "http://127.0.0.1:9/v1", "--max_cost", 1)
    assert refused.returncode == 2 and "--prompt_price" in refused.stderr
    with ScriptedServer(by=of_prompt) as server:
        prices = ["--prompt_price", 1e6, "--completion_price", 1e6]  # a dollar per token
        stopped = program(*command, "--base_url", server.url, *prices, "--max_cost", 4 * TOKENS)
    assert stopped.returncode == EXIT_CEILING and "--max_cost 20" in stopped.stderr
    assert 4 * TOKENS <= run_file(output)["statistics"]["cost_in_dollars"] <= 8 * TOKENS


def test_the_limit_that_is_reached_is_named() -> None:
    limits = Limits(tokens=10, seconds=5.0, cost=2.0, prices=Prices(1e6, 1e6))
    assert limits.reached(1, 0, 1.0) == ""
    assert limits.reached(5, 5, 1.0) == "--max_tokens_total 10"
    assert limits.reached(1, 0, 5.0) == "--max_seconds 5"
    assert limits.reached(1, 1, 1.0) == "--max_cost 2"


def as_a_model(call: Call) -> Reply:
    """A problem in a user's turn, a response elsewhere: the same one to the same prompt."""
    prompt = TOKENIZER.decode(call.body["prompt"], skip_special_tokens=False)
    turn = re.search(r"user\W*(\w[\w ]*)?$", prompt[-80:], re.I)
    number = zlib.crc32(prompt.encode()) % 100_000
    return Reply(body=completion(f" this: What is {number} + {number % 997}?" if turn else f"So \\boxed{{{number}}}."))


def test_a_job_previewed_and_stopped_in_the_middle_goes_on_to_the_same_files(tmp_path: Path) -> None:
    command = [*RUN_JOB, "main", "--", "smollm2", "8"]
    names = ["job_ins", "job_ins_clean", "job_ins_clean_distance", "job_ins_clean_distance_res_sharegpt"]
    whole, part, told = tmp_path / "whole", tmp_path / "part", tmp_path / "events.jsonl"
    with ScriptedServer(by=as_a_model, served=("HuggingFaceTB/SmolLM2-135M-Instruct",)) as server:
        address = {"MAGPIE_BASE_URL": server.url, "RES_FLAGS": "--max_in_flight 2 --preflight 0"}
        address |= {"PROMPT_PRICE": "1", "COMPLETION_PRICE": "2"}
        done = finished(command, env=environment(whole, **address))
        assert done.returncode == 0, done.stderr
        asked = len(server.history)
        env = environment(part, **address)
        look_at_a_preview(command, env, part / "job" / "preview_3")
        limited = env | {"MAX_TOKENS_TOTAL": str(TOKENS * (asked - 3))}
        stopped = finished(command, env=limited)
        assert stopped.returncode == EXIT_CEILING and "partial: ceiling" in stopped.stderr, stopped.stderr
        chain = state(part)
        assert chain["status"] == "partial: ceiling" and chain["seconds"] > 0
        at = next(one for one in chain["stages"] if one["status"] == "partial: ceiling")
        assert (at["stage"]["name"], at["exit_code"]) == ("responses", EXIT_CEILING)
        assert next(one for one in chain["stages"] if one["stage"]["name"] == "sft_file")["status"] == "waiting"
        assert "Partial: a run stopped" in (part / "job" / "report.html").read_text()
        known = finished([*command, "--partial"], env=limited)  # what is there is exported
        assert known.returncode == EXIT_CEILING, known.stderr
        some = part / "job" / f"{names[-1]}.jsonl"
        assert 0 < len(rows(some)) < 8 and run_file(some)["partial"] == "ceiling"
        again = finished(command, env=env | {"MAX_TOKENS_TOTAL": "100000", "EVENTS": str(told)})
        assert again.returncode == 0, again.stderr
        assert [event["program"] for event in rows(told) if event["event"] == "ended"] == ["gen_res", "export", "run_job"]
        assert len(server.history) == 2 * asked, "a finished request was asked for again, or one was left out"
    assert state(part)["status"] == "complete" and not list((part / "job").glob("*.part"))
    assert not [path for path in (part / "job").glob("*.run.json") if "partial" in json.loads(path.read_text())]
    for name in names:
        assert timeless(rows(part / "job" / f"{name}.jsonl")) == timeless(rows(whole / "job" / f"{name}.jsonl")), name


def look_at_a_preview(command: list[str], env: dict[str, str], folder: Path) -> None:
    """Make a preview of three problems; all of it is shown, in the terminal and as a page, with a prediction."""
    refused = finished([*command, "--preview", "8"], env=env)
    assert refused.returncode == 2 and "the whole has 8 problems" in refused.stderr
    seen = finished([*command, "--preview", "3"], env=env)
    assert seen.returncode == 0, seen.stderr
    shown = seen.stderr.partition("The preview is done")[2]
    page = (folder / "preview.html").read_text()
    ids = [row["id"] for row in rows(folder / "job_ins_clean_distance_res.jsonl")]
    assert ids == [f"job-{n:06d}" for n in range(3)] and all(name in shown and name in page for name in ids)
    for words in ("tokens written", "tokens read", "time", "cost in dollars", "disk in GB", "records after responses"):
        assert words in shown and words in page
    assert "--preview" not in shown.rpartition("without --preview")[2]

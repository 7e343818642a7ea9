"""A limit to thinking: a server that obeys ends the thought, any other is cut there and asked for the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import made_tokenizers
from conftest import program
from magpie.config.model_presets import ModelPreset
from magpie.generation.continuation import FIELD
from magpie.models.chat_template import ChatTemplate
from magpie.models.reasoning_formats import load_formats, load_last_thought
from scripted_server import MODEL, Call, Reply, ScriptedServer, completion

BUDGET, LIMIT = 20, 200
THOUGHT, SOLUTION = "Let me think about this. " * 100, "It is \\boxed{7}."
"""What the model would write without a limit: 2,500 characters."""


@pytest.fixture(scope="module")
def r1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ChatTemplate]:
    folder = tmp_path_factory.mktemp("models") / "DeepSeek-R1"
    made_tokenizers.make("deepseek-r1", folder)
    return folder, ChatTemplate(ModelPreset(model="made", folder=str(folder)))


class Thinker:
    """A server whose model never stops thinking, unless its thought is closed for it."""

    def __init__(self, template: ChatTemplate, obeys: Callable[[int], bool] = lambda _: False, **refuses: Reply) -> None:
        self.template, self.obeys, self.refuses = template, obeys, refuses
        self.written = 0

    def __call__(self, call: Call) -> Reply:
        body, template = call.body, self.template
        if FIELD in body and self.refuses:
            return self.refuses["with_reply"]
        if template.decode(body["prompt"]).rstrip().endswith("</think>"):
            ids, reason = template.encode(SOLUTION), "stop"
        else:
            ids, reason = template.encode(THOUGHT), "length"
            if self.obeys(body.get(FIELD, 0)):
                ids, reason = ids[: body[FIELD]] + template.encode("\n</think>\n\n" + SOLUTION), "stop"
        ids = ids[: body["max_tokens"]]
        self.written += len(ids)
        said = completion(template.decode(ids), reason, token_ids=ids)
        return Reply(body=said | {"usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}})


def run(tmp_path: Path, folder: Path, thinker: Thinker, *flags: str) -> tuple[list[dict[str, Any]], list[Call], Any]:
    source, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"id": str(n), "instruction": f"What is {n}?"}) + "\n" for n in range(4)))
    with ScriptedServer(by=thinker) as server:
        arguments = [
            "--model_path",
            str(folder),
            "--served_model",
            MODEL,
            "--input_file",
            str(source),
            "--output_file",
            str(out),
        ]
        arguments += ["--base_url", server.url, "--max_tokens", str(LIMIT), "--preflight", "0", *flags]
        done = program("gen_res", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()], server.history, done


@pytest.mark.parametrize("who", ["no vLLM", "refuses", "takes it and does not obey", "obeys at first", "obeys"])
def test_every_thought_ends_at_the_limit_and_has_an_answer_behind_it(
    who: str, r1: tuple[Path, ChatTemplate], tmp_path: Path
) -> None:
    folder, template = r1
    refused = {"with_reply": Reply(400, {"error": f"{FIELD} is set but reasoning_config is not configured"})}
    obeys = {"obeys": lambda budget: budget > 0, "obeys at first": lambda budget: budget == 1}.get(who, lambda _: False)
    thinker = Thinker(template, obeys, **(refused if who == "refuses" else {}))
    rows, calls, done = run(tmp_path, folder, thinker, "--thinking_budget", str(BUDGET))
    assert [row["response"] for row in rows] == [SOLUTION] * 4
    for row in rows:
        thought = row["reasoning"].removesuffix(load_last_thought()).strip()
        assert THOUGHT.startswith(thought) and BUDGET - 2 <= len(template.encode(thought)) <= BUDGET
        assert row["finish_reason"] == "stop" and row["gen_response_configs"]["thinking_budget"] == BUDGET
        assert (load_last_thought() in row["reasoning"]) is (who != "obeys")
        assert row["completion_tokens"] <= LIMIT or who == "obeys at first"  # what was written beyond it is counted
    assert sum(call.body.get(FIELD) == 1 for call in calls) == 1  # the trial
    assert ("by the server" in done.stderr) is (who.startswith("obeys"))
    assert ("exceed --thinking_budget" in done.stderr) is (who == "obeys at first")


def test_a_budget_saves_the_tokens_of_thoughts_that_never_end(r1: tuple[Path, ChatTemplate], tmp_path: Path) -> None:
    folder, template = r1
    without, within = Thinker(template), Thinker(template)
    run(tmp_path, folder, without)
    run(tmp_path, folder, within, "--thinking_budget", str(BUDGET), "--overwrite")
    assert within.written < 0.4 * without.written


def test_a_solution_that_crosses_the_limit_is_continued_as_it_is(r1: tuple[Path, ChatTemplate], tmp_path: Path) -> None:
    folder, template = r1
    whole = template.encode("Short.\n</think>\n\n" + "So it is this number. " * 5 + SOLUTION)

    def reply(call: Call) -> Reply:
        if FIELD in call.body:
            return Reply(400, {"error": f"{FIELD}: no"})
        there = next(n for n in range(len(whole), -1, -1) if call.body["prompt"][len(call.body["prompt"]) - n :] == whole[:n])
        ids = whole[there : there + call.body["max_tokens"]]
        return Reply(
            body=completion(template.decode(ids), "length" if there + len(ids) < len(whole) else "stop", token_ids=ids)
        )

    rows, calls, _ = run(tmp_path, folder, reply, "--thinking_budget", str(BUDGET))  # type: ignore[arg-type]
    assert all(row["reasoning"] == "Short." and row["response"].endswith(SOLUTION) for row in rows)
    assert len(calls) == 1 + 2 * 4


def test_every_format_tells_how_a_thought_is_ended_so_that_the_solution_can_be_read() -> None:
    for name, form in load_formats().items():
        if form.close:
            found = form.split(f"{form.open}{form.header}Hm.\n\n{load_last_thought()}{form.ending}{SOLUTION}")
            assert found == (f"Hm.\n\n{load_last_thought()}", SOLUTION), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--thinking_budget", "200"], "leaves no room for an answer"),
        (["--thinking_budget", "20", "--api", "chat"], "needs /v1/completions"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(
    flags: list[str], message: str, r1: tuple[Path, ChatTemplate], tmp_path: Path
) -> None:
    (tmp_path / "p.jsonl").write_text('{"instruction": "?"}\n')
    arguments = ["--model_path", str(r1[0]), "--input_file", str(tmp_path / "p.jsonl"), "--max_tokens", "200"]
    done = program("gen_res", *arguments, "--base_url", "http://127.0.0.1:9/v1", *flags)
    assert done.returncode == 2 and message in done.stderr

"""Everybody's files: every form and shape through every stage, and our own exports read back."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from conftest import program, rows
from hostile_server import HostileServer
from magpie.export.formats import FORMATS
from magpie.records.reading import check_input
from own_data import COUNT, NESTED, PLAIN, PROBLEMS, lines, records, source, written
from scripted_server import MODEL, Reply, ScriptedServer, chat

# --- every stage on every form ------------------------------------------------------------------------------------------

FORMS = ("parquet", "csv", "messages", "conversations")
STAGES: dict[str, list[str]] = {
    "clean_ins": [],
    "verify": [],
    "filter": ["--where", "instruction|length > 3"],
    "export": ["--format", "messages"],
    "decontaminate": ["--benchmarks", "test.csv"],
    "concat": [],
    "unitag": ["--tag_mission", "language"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_every_form_and_gives_the_columns_back(tmp_path: Path, stage: str, form: str) -> None:
    path = written(tmp_path, form)
    (tmp_path / "test.csv").write_text("problem\nHow many sheep are there on the moon?\n")
    more = [str(tmp_path / word) if word == "test.csv" else word for word in STAGES[stage]]
    output = tmp_path / "out.jsonl"
    done = program(stage, "--inputs" if stage == "concat" else "--input_file", path, "--output_file", output, *more)
    assert done.returncode == 0, done.stderr
    assert "as `instruction`" in done.stderr and "ids are generated" in done.stderr, done.stderr
    made = rows(output)
    assert len(made) == COUNT
    if stage == "export":
        assert [row["messages"][0]["content"] for row in made] == PROBLEMS
        return
    assert stage == "clean_ins" or [row["instruction"] for row in made] == PROBLEMS
    before = NESTED if form == "parquet" else [{**row, "number": str(row["number"])} for row in PLAIN]
    for row, was in zip(made, before if form in ("parquet", "csv") else [{}] * COUNT, strict=True):
        aside = row.get("previous") or {}
        assert all(row.get(name, aside.get(name)) == value for name, value in was.items()), (row, was)
        assert {name for name in was if name in aside} <= {"rewards"}  # of another type than ours
    if stage == "verify":
        assert [row["is_correct"] for row in made] == [[True]] * COUNT and made[0]["pass_rate"] == 1.0
        assert "right: 100.0% of 4 responses" in done.stderr and "pass@1: 100.0%" in done.stderr
        assert form in ("parquet", "csv") or [row["reasoning"] for row in made] == ["hm"] * COUNT


@pytest.mark.parametrize("form", FORMS)
def test_responses_are_asked_for_of_every_form(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, form)
    with ScriptedServer() as server:
        given = ["--model_path", "smollm2", "--served_model", MODEL, "--base_url", server.url, "--max_tokens", 20]
        done = program("gen_res", "--input_file", path, *given)
    assert done.returncode == 0, done.stderr
    made = rows(tmp_path / "own_res.jsonl")
    assert [row["instruction"] for row in made] == PROBLEMS and made[0]["id"] == "own-000001"


@pytest.mark.parametrize("form", FORMS)
def test_duplicates_are_found_in_every_form(tmp_path: Path, form: str) -> None:
    done = program("gen_dis", "--input_file", written(tmp_path, form))
    assert done.returncode == 0, done.stderr
    assert [row["instruction"] for row in rows(tmp_path / "own_distance.jsonl")] == PROBLEMS


@pytest.mark.parametrize("form", FORMS)
def test_responses_of_every_form_are_scored(tmp_path: Path, form: str) -> None:
    with HostileServer(lambda request: request.reply({"data": [{"probs": [0.5]}]})) as server:
        done = program("gen_po_rewards", "--input_file", written(tmp_path, form), "--reward_model", server.url)
    assert done.returncode == 0, done.stderr
    assert [(row["instruction"], row["rewards"]) for row in rows(tmp_path / "own_rewards.jsonl")] == [
        (problem, [0.5]) for problem in PROBLEMS
    ]


@pytest.mark.parametrize("form", FORMS)
def test_pairs_are_made_of_every_form(tmp_path: Path, form: str) -> None:
    votes = {"answers": ["1", "1", "2"], "answer_groups": [0, 0, 1], "is_correct": [True, True, False]}
    path = written(tmp_path, form, responses=["So 1.", "It is 1.", "So 2."], finish_reason=["stop"] * 3, **votes)
    done = program("gen_po_pairs", "--input_file", path)
    assert done.returncode == 0, done.stderr
    made = rows(tmp_path / "own_pairs.jsonl")
    assert [row["prompt"][-1]["content"] for row in made] == PROBLEMS
    assert {row["rejected"][-1]["content"] for row in made} == {"So 2."}


@pytest.mark.parametrize("form", FORMS)
def test_programs_check_the_answers_of_every_form(tmp_path: Path, form: str) -> None:
    reply = Reply(body=chat("```python\nprint(3)\n```"))
    with ScriptedServer(default=reply, owned_by="x", routes=("chat/completions",)) as server:
        given = ["--model_path", "smollm2", "--served_model", MODEL, "--base_url", server.url, "--api", "chat"]
        named = ["--columns", "majority_answer=answer"]
        done = program("check_code", "--input_file", written(tmp_path, form), *named, *given)
    assert done.returncode == 0, done.stderr
    made = rows(tmp_path / "own_coded.jsonl")
    assert [row["instruction"] for row in made] == PROBLEMS
    assert [row["code_agrees"] for row in made] == [True, False, False, False]


@pytest.mark.parametrize("form", FORMS)
def test_a_report_is_made_of_a_file_alone(tmp_path: Path, form: str) -> None:
    done = program("report", written(tmp_path, form))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "own_report.html").read_text()
    assert f"{COUNT} records" in page and "sum" in page


def test_a_report_is_made_of_a_data_set_in_a_folder(tmp_path: Path) -> None:
    done = program(
        "export", "--input_file", written(tmp_path, "parquet"), "--format", "messages", "--output_folder", tmp_path / "set"
    )
    assert done.returncode == 0, done.stderr
    done = program("report", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    assert f"{COUNT} records" in (tmp_path / "set_report.html").read_text()
    (tmp_path / "empty").mkdir()
    assert "not a job" in program("report", tmp_path / "empty").stderr
    assert "no such folder" in program("report", "nothing").stderr


# --- our own exports, read back ------------------------------------------------------------------------------------------

TEXTS = ("x", " two  spaces ", "line\n\nline", "„é“ 🙂", "a, \"b\"\t'c'", "\\frac{1}{2} < 3", "[1]", "{}", "<b>", "#### 4", "0")


def drawn(draw: random.Random, number: int) -> dict[str, Any]:
    """A finished record of texts that are hard to write and to read."""
    text = lambda: "".join(draw.choices(TEXTS, k=draw.randint(1, 4)))  # noqa: E731
    steps = [f"step {n} of {number}" for n in range(draw.randint(1, 3))]
    answer = draw.choice(["7", "\\frac{1}{2}", "1, 2"])
    response = "\n\n".join(steps)
    record: dict[str, Any] = {
        "id": f"job/{number}",
        "instruction": text().strip() + ".",
        "response": response if draw.random() < 0.5 else f"so {text()} it is",
        "finish_reason": "stop",
        "majority_answer": answer,
        "pass_rate": draw.choice([0.25, 1.0, None]),
        "agreement": draw.choice([0.5, None]),
        "domain": draw.choice(["algebra", None]),
        "gen_response_configs": {"output_generator": "owner/model"},
    }
    record |= {"reasoning": text().strip() or "r"} if draw.random() < 0.5 else {}
    record |= {"reference_answer": answer} if draw.random() < 0.3 else {}
    if record["response"] == response:
        record["step_rewards"] = {"prm": [[0.75] * len(steps)]}
    return record


def pair_of(record: dict[str, Any]) -> dict[str, Any]:
    say = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    prompt = [{"role": "user", "content": record["instruction"]}]
    return {
        "id": record["id"],
        "pair": 0,
        "prompt": prompt,
        "chosen": say(record["response"]),
        "rejected": say("no"),
        "why": "w",
    }


HELD: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sharegpt", "messages", "alpaca"), ("id", "instruction", "response", "reasoning")),
    **dict.fromkeys(("rlvr", "verl", "prime-rl"), ("id", "instruction", "reference_answer")),
    **dict.fromkeys(("dpo", "sharegpt_dpo"), ("id", "instruction", "response", "prompt", "chosen", "rejected")),
    "kto": ("original_id", "instruction", "response"),
    "stepwise": ("original_id", "instruction", "response"),
}
"""What a format's one file holds of a record; a folder has the labels too."""
LABELS = ("pass_rate", "agreement", "domain", "majority_answer")


@pytest.mark.parametrize("kind", ["file", "parquet", "jsonl"])
@pytest.mark.parametrize("form", FORMATS)
def test_what_export_writes_is_read_back_to_the_same_records(tmp_path: Path, form: str, kind: str) -> None:
    draw = random.Random(f"{form} {kind}")
    given = [drawn(draw, number) for number in range(40)]
    pairs = form in ("dpo", "sharegpt_dpo", "kto")
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([pair_of(record) for record in given] if pairs else given))
    output = tmp_path / ("out.jsonl" if kind == "file" else "out")
    to = ["--output_file", output] if kind == "file" else ["--output_folder", output, "--file_type", kind]
    done = program("export", "--input_file", path, "--format", form, *to)
    assert done.returncode == 0, done.stderr
    made = {record.get("original_id", record["id"]): record for record in records(output) if record.get("label") is not False}
    assert check_input(source(output), skip_malformed=False).malformed == 0
    expected = [record for record in given if form != "stepwise" or "step_rewards" in record]
    assert set(made) == {record["id"] for record in expected} and made
    labels = LABELS if kind != "file" and not pairs and form not in ("kto", "stepwise") else ()
    for record in expected:
        wanted = (pair_of(record) if pairs else {}) | record | {"original_id": record["id"]}
        got = made[record["id"]]
        for key in (*HELD[form], *labels):
            assert got.get(key) == wanted.get(key) or (key == "id" and str(got[key]) == wanted[key]), (key, got, wanted)
        if form in ("rlvr", "verl", "prime-rl"):
            assert (
                got["majority_answer" if "reference_answer" not in wanted else "reference_answer"] == wanted["majority_answer"]
            )

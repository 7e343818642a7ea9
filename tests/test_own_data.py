"""Everybody's files: every form and shape through every stage, and our own exports read back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from conftest import program, rows
from hostile_server import HostileServer
from magpie.cleaning.clean import clean
from magpie.common.console import MagpieError
from magpie.export.formats import FORMATS
from magpie.records.reading import check_input
from magpie.similarity.config import load_benchmark_list
from magpie.similarity.contamination import refuse_canaries
from magpie.similarity.test_sets import load_benchmarks
from own_data import COUNT, NESTED, PLAIN, PROBLEMS, lines, parquet, records, source, written
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


# --- what others' files hold ---------------------------------------------------------------------------------------------


def made(folder: Path, given: list[dict[str, Any]]) -> Path:
    path = folder / "mine.jsonl"
    path.write_bytes(lines(given))
    return path


def asked(number: int, *answers: int, right: int = 7) -> dict[str, Any]:
    texts = [f"It is \\boxed{{{answer}}}." for answer in answers]
    return {"id": number, "problem": f"Compute {number} + {right - number}.", "answer": right, "generations": texts}


def test_pass_at_k_is_of_all_problems_though_some_have_nothing_to_choose(tmp_path: Path) -> None:
    path = made(tmp_path, [asked(1, 7, 7), asked(2, 8, 7), asked(3, 8, 9), asked(4, 8, 8)])
    said = program("verify", "--choose", "--input_file", path).stderr
    assert "right: 37.5% of 8 responses" in said and "pass@2: 50.0% of 4 problems" in said
    assert len(rows(tmp_path / "mine_verified.jsonl")) == 2


def test_the_given_answer_is_the_answer_and_not_a_majority_that_is_wrong(tmp_path: Path) -> None:
    path = made(tmp_path, [asked(1, 8, 8, 8, 7), asked(2, 7, 7, 7, 8)])
    program("verify", "--choose", "--input_file", path)
    done = program("export", "--input_file", tmp_path / "mine_verified.jsonl", "--output_folder", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    got = [(row["reference_answer"], row["answer_source"], row["majority_answer"]) for row in records(tmp_path / "set")]
    assert got == [("7", "reference", "8"), ("7", "reference", "7")]
    card = (tmp_path / "set" / "README.md").read_text()
    assert card.count("| right by the reference answer |") == 2 and "agree on one: 2 of the records" in card
    assert "2 rows have a given `answer`" in card


def test_a_card_does_not_say_that_models_wrote_somebodys_own_problems(tmp_path: Path) -> None:
    path = made(tmp_path, [{"problem": "Berechne 1 + 1.", "solution": "2", "language": "DE"}])
    program("export", "--input_file", path, "--output_folder", tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text()
    assert "from scratch" not in card and "synthetic" not in card and "language:\n- de\n" in card
    assert "terms of the data that these rows are from" in card


def test_the_final_answer_of_a_given_solution_is_what_a_program_checks_against(tmp_path: Path) -> None:
    path = made(tmp_path, [{"question": "How many?", "answer": "1 + 1 = <<1+1=2>>2.\n#### 2"}])
    program("export", "--input_file", path, "--format", "rlvr")
    assert [row["ground_truth"] for row in rows(tmp_path / "mine_rlvr.jsonl")] == ["2"]


@pytest.mark.parametrize(("form", "key", "who", "what"), [("messages", "messages", "role", "content"), ("sharegpt",) * 4])
def test_the_turns_between_stay_in_a_conversation(tmp_path: Path, form: str, key: str, who: str, what: str) -> None:
    said = [("user", "Hi"), ("assistant", "Ask!"), ("user", "5 choose 2?"), ("assistant", "10")]
    path = made(tmp_path, [{"messages": [{"role": role, "content": text} for role, text in said]}])
    program("export", "--input_file", path, "--format", form)
    [row] = rows(tmp_path / f"mine_{form}.jsonl")
    if form == "messages":
        assert [(turn[who], turn[what]) for turn in row[key]] == said
    else:
        assert [turn["value"] for turn in row["conversations"]] == [text for _, text in said]
    program("export", "--input_file", path, "--format", "alpaca")
    assert [row["drop_reason"] for row in rows(tmp_path / "mine_alpaca_dropped.jsonl")] == ["several_turns"]


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet"])
def test_a_canary_in_a_table_stops_the_run(tmp_path: Path, name: str) -> None:
    held = [{"problem": "1 + 1?", "note": load_benchmark_list().canaries[0]}]
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text(f"problem,note\n1 + 1?,{held[0]['note']}\n")
    else:
        parquet(path, held)
    with pytest.raises(MagpieError, match=r"row 1: the record contains the canary"):
        refuse_canaries(source(path), load_benchmark_list().canaries)


def test_columns_of_a_benchmark_are_found_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "aime.csv"
    path.write_text("ID,Problem,Answer\nI-1,1 + 1?,2\n")
    [found] = load_benchmarks([str(path)], load_benchmark_list())
    assert (found.texts, found.ids) == (["1 + 1?"], ["I-1"])


@pytest.mark.parametrize(
    "text",
    [
        "解方程：2x + 3 = 11。",
        "已知三角形的三边长分别为3、4、5，求其面积。",
        "Wie groß ist denn nun die Fläche des Kreises? Größe: 4 m²",
    ],
)
def test_words_of_english_decide_nothing_about_other_languages(text: str) -> None:
    found = clean(text, language="any")
    assert (found.drop_reason, found.text, found.answer_type) == ("", text, None)
    assert clean("解方程：", language="any").drop_reason == "truncated"


def test_a_table_says_the_row_and_keeps_it_as_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('problem,answer\n"Compute\n1 + 1.",2\n,3\n')
    assert "mine.csv, row 2: `problem` has no text" in program("clean_ins", "--input_file", path).stderr
    done = program("clean_ins", "--input_file", path, "--skip_malformed")
    assert "next:" in done.stderr
    assert [json.loads(row["raw"]) for row in rows(tmp_path / "mine_clean_dropped.jsonl")] == [{"problem": "", "answer": "3"}]


def test_nothing_is_next_where_nothing_is_left(tmp_path: Path) -> None:
    assert "next:" not in program("clean_ins", "--input_file", made(tmp_path, [{"problem": "Hello."}])).stderr


def test_pairs_of_single_responses_are_refused_with_the_way_to_make_them(tmp_path: Path) -> None:
    path = made(tmp_path, [asked(1, 7, 8)])
    assert "takes pairs" in program("export", "--input_file", path, "--format", "dpo").stderr
    program("verify", "--choose", "--input_file", path)
    assert "verify.py without --choose" in program("gen_po_pairs", "--input_file", tmp_path / "mine_verified.jsonl").stderr


def test_a_report_of_a_file_has_nothing_that_only_a_job_has(tmp_path: Path) -> None:
    path = made(tmp_path, [{"Aufgabe": "Berechne 1 + 1."}])
    assert "no column is read as the problem; there are Aufgabe" in program("report", path).stderr
    page = (tmp_path / "mine_report.html").read_text()
    assert "No stage is finished" not in page and "tokens were written" not in page


def test_copies_that_stay_are_counted(tmp_path: Path) -> None:
    path = made(tmp_path, [{"id": n, "instruction": "Compute 1 + 1."} for n in (1, 2)])
    assert "1 copies (`duplicate_of`) are in it" in program("gen_dis", "--input_file", path).stderr
    path.write_bytes(lines([{"Aufgabe": "1 + 1?"}]))
    assert "there are Aufgabe" in program("gen_dis", "--input_file", path, "--overwrite").stderr


def test_records_are_balanced_without_rules(tmp_path: Path) -> None:
    path = made(tmp_path, [{"id": n, "instruction": f"{n}?", "topic": "b" if n else "a"} for n in range(3)])
    assert program("filter", "--input_file", path, "--balance", "topic").returncode == 0
    assert sorted(row["topic"] for row in rows(tmp_path / "mine_filtered.jsonl")) == ["a", "b"]

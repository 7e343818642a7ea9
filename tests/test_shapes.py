"""Shapes and forms of everybody's files: names of columns, sets of the hub, encodings, folders, bad input in one line."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from conftest import program, rows
from magpie.common.console import MagpieError
from own_data import ANSWERS, PLAIN, PROBLEMS, SOLUTIONS, lines, parquet, records

# --- shapes ---------------------------------------------------------------------------------------------------------------

THOUGHT = "<think>\nhm\n</think>\n\nIt is 4."
HUB: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "NuminaMath-1.5": (
        [
            {"problem": "2+2?", "solution": "4.", "answer": "4", "problem_type": "Algebra", "problem_is_valid": "Yes"},
            {"problem": "Prove.", "solution": "So.", "answer": "proof", "problem_type": "Algebra", "problem_is_valid": "Yes"},
        ],
        {"instruction": "2+2?", "response": "4.", "reference_answer": "4"},
    ),
    "NuminaMath-CoT": (
        [{"source": "x", "problem": "2+2?", "solution": "4.", "messages": [{"role": "user", "content": "2+2?"}]}],
        {"instruction": "2+2?", "response": "4.", "source": "x"},
    ),
    "OpenR1-Math": (
        [
            {
                "problem": "2+2?",
                "solution": "4.",
                "answer": "4",
                "uuid": "u-1",
                "generations": [THOUGHT, "5"],
                "correctness_math_verify": [True, False],
            }
        ],
        {"responses": ["It is 4.", "5"], "reasoning": ["hm", None], "reference_answer": "4", "original_id": "u-1"},
    ),
    "several responses of any origin": (
        [{"problem": "2+2?", "solution": "So 4.", "generations": [THOUGHT, "5"], "answer": 4}],
        {"responses": ["It is 4.", "5"], "reasoning": ["hm", None], "reference_answer": "4", "solution": "So 4."},
    ),
    "generations that are no list of texts": (
        [{"problem": "2+2?", "solution": "So 4.", "generations": [1, 2]}],
        {"response": "So 4.", "generations": [1, 2]},
    ),
    "OpenMathReasoning": (
        [
            {
                "problem": "2+2?",
                "generated_solution": THOUGHT,
                "expected_answer": "4",
                "problem_type": kind,
                "pass_rate_72b_tir": "0.9",
            }
            for kind in ("has_answer_extracted", "no_answer_extracted", "converted_proof")
        ],
        {"response": "It is 4.", "reasoning": "hm", "reference_answer": "4", "pass_rate_72b_tir": "0.9"},
    ),
    "DeepMath": (
        [
            {
                "question": "2+2?",
                "final_answer": "4",
                "difficulty": 4.5,
                "topic": "x",
                **{f"r1_solution_{n}": f"{n}" for n in (1, 2, 3)},
            }
        ],
        {"instruction": "2+2?", "responses": ["1", "2", "3"], "reference_answer": "4", "difficulty": 4.5},
    ),
    "Big-Math": (
        [{"problem": "2+2?", "answer": "4", "source": "x", "domain": ["Algebra", "B"], "llama8b_solve_rate": 0.5}],
        {"instruction": "2+2?", "reference_answer": "4", "domain": ["Algebra", "B"]},
    ),
    "OpenThoughts": (
        [
            {
                "system": "s",
                "conversations": [
                    {"from": "user", "value": "2+2?"},
                    {
                        "from": "assistant",
                        "value": "<|begin_of_thought|>\n\nhm\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n4.\n\n"
                        "<|end_of_solution|>",
                    },
                ],
            }
        ],
        {"instruction": "2+2?", "response": "4.", "reasoning": "hm"},
    ),
    "several turns": (
        [
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
                    {"role": "assistant", "content": "5"},
                    {"role": "user", "content": "No."},
                    {"role": "assistant", "content": "4"},
                ]
            }
        ],
        {
            "instruction": "2+2?",
            "response": "4",
            "history": [{"role": "assistant", "content": "5"}, {"role": "user", "content": "No."}],
        },
    ),
    "question": ([{"question": "2+2?", "answer": 4}], {"instruction": "2+2?", "reference_answer": "4"}),
    "query": ([{"query": "2+2?", "uuid": "a"}], {"instruction": "2+2?", "id": "a"}),
    "prompt": ([{"prompt": "2+2?", "completion": "4"}], {"instruction": "2+2?", "response": "4", "prompt": "2+2?"}),
    "alpaca": (
        [{"instruction": "Add.", "input": "2 and 2", "output": "4"}],
        {"instruction": "Add.\n\n2 and 2", "response": "4"},
    ),
}


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_set_of_the_hub_is_read_as_it_is_there(tmp_path: Path, name: str, form: str) -> None:
    given, wanted = HUB[name]
    if (name, form) == ("several turns", "parquet"):  # a column has one type
        given = [
            {
                "messages": [
                    {**turn, "content": "2+2?"} if isinstance(turn["content"], list) else turn for turn in given[0]["messages"]
                ]
            }
        ]
    path = tmp_path / f"x.{form}"
    parquet(path, given) if form == "parquet" else path.write_bytes(lines(given))
    first, *rest = records(path)
    assert {key: first.get(key) for key in wanted} == wanted
    assert all(first[key] == value or first["previous"][key] == value for key, value in given[0].items())
    assert all("reference_answer" not in record for record in rest)  # there is none, or only a vote
    assert name != "OpenMathReasoning" or [record["majority_answer"] for record in rest] == ["4", "4"]


def test_columns_are_named_by_hand_and_what_stood_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([{"id": "a", "instruction": "old", "q": {"text": "2+2?"}, "gold": 4, "r": THOUGHT}] * 2))
    first, second = records(path, instruction="q.text", reference_answer="gold", response="r", id="")
    assert (first["instruction"], first["reference_answer"], first["reasoning"]) == ("2+2?", "4", "hm")
    assert first["previous"] == {"instruction": "old", "id": "a"} and first["original_id"] == "a" and second["id"] == "x-000002"
    with pytest.raises(MagpieError, match="no column `nothing`"):
        records(path, instruction="nothing")
    done = program("filter", "--where", "1 < 2", "--input_file", path, "--columns", "problem=q")
    assert done.returncode and "no key `problem`" in done.stderr


def test_names_in_capitals_other_delimiters_and_nulls_at_the_beginning_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("ID; Problem ;Answer\na;2+2?;4\n")
    assert [records(tmp_path / "x.csv")[0][key] for key in ("id", "instruction", "reference_answer")] == ["a", "2+2?", "4"]
    given = [{"problem": "2+2?", "solution": text, "answer": text} for text in (None, "4")]
    first, second = records(parquet(tmp_path / "x.parquet", given))
    assert "response" not in first and (second["response"], second["reference_answer"]) == ("4", "4")
    done = program("filter", "--where", "1 < 2", "--input_file", tmp_path / "x.csv", "--columns", "id=a", "id=b")
    assert done.returncode == 2 and "`id` is named twice" in done.stderr


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["problem", "problem"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(MagpieError, match="two columns have one name"):
        records(tmp_path / "x.parquet")


def test_other_columns_are_another_run(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([{"id": 1, "a": "2+2?", "b": "3+3?"}]))
    given = ["--where", "1 < 2", "--input_file", path, "--columns"]
    assert program("filter", *given, "instruction=a").returncode == 0
    done = program("filter", *given, "instruction=b")
    assert done.returncode and "columns" in done.stderr


# --- forms ------------------------------------------------------------------------------------------------------------------

WRITTEN: dict[str, Callable[[], bytes]] = {
    "x.jsonl": lambda: json.dumps(PLAIN[0]).encode() + b"\n" + lines(PLAIN[1:]),
    "utf16.jsonl": lambda: lines(PLAIN).decode().encode("utf-16"),
    "utf16be.json": lambda: b"\xfe\xff" + json.dumps(PLAIN).encode("utf-16-be"),
    "data.json": lambda: json.dumps({"version": "1.0", "data": PLAIN, "more": 1}, indent=2).encode(),
    "rows.json": lambda: json.dumps({"rows": PLAIN}).encode(),
    "x.tsv": lambda: table("\t"),
    "x.csv.gz": lambda: gzip.compress(table(",")),
    "utf16.csv": lambda: table(",").decode().encode("utf-16"),
    "bom.csv": lambda: b"\xef\xbb\xbf" + table(","),
    "no_name": lambda: table(","),
}


def table(delimiter: str) -> bytes:
    out = io.BytesIO()
    pa_csv.write_csv(pa.Table.from_pylist(PLAIN), out, pa_csv.WriteOptions(delimiter=delimiter))
    return out.getvalue()


@pytest.mark.parametrize("name", WRITTEN)
def test_every_form_gives_the_same_records(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WRITTEN[name]())
    made = records(path)
    assert [(row["instruction"], row["response"], row["reference_answer"]) for row in made] == list(
        zip(PROBLEMS, SOLUTIONS, ANSWERS, strict=True)
    )
    assert [row["note"] for row in made] == [row["note"] for row in PLAIN]


def test_the_standard_input_is_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(parquet(tmp_path / "x", PLAIN).read_bytes())))
    done = program("filter", "--where", "number > 1", "--input_file", "-", "--output_file", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert [row["number"] for row in rows(tmp_path / "out.jsonl")] == [2, 3]


def test_a_data_set_in_a_folder_is_read_with_its_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(PLAIN)
    made.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(str(tmp_path / "two"))
    (tmp_path / "three" / "data").mkdir(parents=True)
    for number, part in enumerate((PLAIN[:1], PLAIN[1:])):
        parquet(tmp_path / "three" / "data" / f"train-{number:05d}-of-00002.parquet", part)
    assert [row["problem"] for row in records(tmp_path / "one")] == PROBLEMS
    assert [row["problem"] for row in records(tmp_path / "two", "test")] == PROBLEMS[:1]
    assert [row["id"] for row in records(tmp_path / "three")] == [f"three-{n:06d}" for n in range(1, 5)]
    with pytest.raises(MagpieError, match="--split"):
        records(tmp_path / "two")
    with pytest.raises(MagpieError, match="no split 'dev'"):
        records(tmp_path / "two", "dev")


# --- bad input --------------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, bytes, str]] = {
    "an empty CSV file": ("x.csv", b"", "no readable CSV file"),
    "a header alone": ("x.csv", b"problem,answer\n", "the file is empty"),
    "a short row": ("x.csv", b"problem,answer\na,b\nc\n", "row 2: 1 columns instead of 2"),
    "one name twice": ("x.csv", b"problem,problem\na,b\n", "two columns have one name"),
    "CSV in Latin-1": ("x.csv", "problem\nä\n".encode("latin-1"), "UTF-8"),
    "CSV without a problem": ("x.csv", b"a,b\n1,2\n", "the key `instruction` is missing"),
    "an empty problem": ("x.csv", b"problem,b\nx,1\n,2\n", "row 2: `problem` has no text"),
    "no Parquet": ("x.parquet", b"PAR1 and then nothing", "no readable Parquet file"),
    "text named Parquet": ("x.parquet", b"hello", "no readable Parquet file"),
    "a spreadsheet": ("x.xlsx", b"PK\x03\x04....", "an Excel file"),
    "a pickle": ("x.pkl", b"\x80\x04\x95abc", "pickle"),
    "JSON over lines": ("x.json", b'{\n  "problem": "a",\n  "answer": 1\n}\n', "over several lines"),
    "half of UTF-16": ("x.jsonl", '{"problem": "a"}\n'.encode("utf-16")[:-1], "broken UTF-16"),
    "a broken quote": ("x.csv", b'problem,answer\n"a,b\nc,d\n', 'row 1: 1 columns instead of 2: "a,b c,d'),
    "Parquet in gzip": ("x.parquet.gz", gzip.compress(b"PAR1"), "unpack it"),
    "gzip without its name": ("x.jsonl", gzip.compress(b"{}"), "give it a name that ends in .gz"),
    "a pointer": ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a web page": ("x.jsonl", b"<!DOCTYPE html>", "a download that failed"),
    "rows inside an object": ("x.json", b'{"mine": [{"problem": "a"}]}', "jq -c '.mine[]'"),
    "an object as the problem": ("x.jsonl", b'{"problem": {"text": "a"}}\n', "no column can be read as it: problem (dict)"),
    "messages as broken JSON": ("x.jsonl", b'{"messages":"[{\\"role\\":"}\n', "a conversation in broken JSON"),
    "a turn without text": (
        "x.jsonl",
        b'{"messages":[{"role":"user","content":[{"type":"image"}]}]}\n',
        "no user turn with text",
    ),
    "a conversation without a user": ("x.jsonl", b'{"messages":[{"role":"system","content":"a"}]}\n', "no user turn"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    name, content, says = BAD[what]
    path = tmp_path / name
    path.write_bytes(content)
    done = program("filter", "--where", "1 < 2", "--input_file", path)
    told = [line for line in done.stderr.splitlines() if ": reads `" not in line and "ids are generated" not in line]
    assert done.returncode == 2 and len(told) == 1 and says in told[0] and str(path) in told[0], done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == [name]

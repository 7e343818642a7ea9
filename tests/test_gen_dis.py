"""gen_dis.py: duplicates within a file, between files, against earlier datasets and an index."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import program, rows
from magpie.common.console import MagpieError
from magpie.compute import large_arrays, vector_index
from magpie.compute.embedding import Embedder
from magpie.compute.index_folder import IndexFolder
from magpie.similarity.compare_files import Compared, compare_files, problem_of, rank_of

PROBLEMS = [
    {"id": "p1", "instruction": "Find $x$ such that $3x+5=20$."},
    {"id": "p2", "instruction": "Determine \\( x \\) such that \\( 3 x + 5 = 20 \\). Show all your steps."},
    {"id": "p3", "instruction": "Find $x$ such that $5x+3=20$."},
    {"id": "p4", "instruction": "A train travels 60 miles in 2 hours. What is its speed?"},
    {
        "id": "p5",
        "instruction": "What is the speed of a train that covers 60 miles in two hours?",
        "input_quality": "excellent",
    },
    {"id": "p6", "instruction": "Find $x$ such that $3x+5=20$.", "is_correct": [True], "extra": {"stays": 1}},
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "embeddings.sqlite"


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def compared(cache: Path, *inputs: Path, against: list[Path] | None = None, folder: IndexFolder | None = None) -> Compared:
    return compare_files(inputs, against or [], Embedder(cache=cache), folder, distance=0.05, skip_malformed=False)


def by_id(found: Compared, path: Path) -> dict[str, Any]:
    return {str(found.problems.ids[place]): found.of(path, row) for row, place in found.problems.files[path].items()}


def test_a_file_as_a_user_runs_it(tmp_path: Path, cache: Path) -> None:
    source = written(tmp_path / "job_res.jsonl", PROBLEMS)
    done = program("gen_dis", "--input_file", source, "--cache", cache, "--index", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    output = rows(tmp_path / "job_res_distance.jsonl")
    assert [{key: row[key] for key in problem} for row, problem in zip(output, PROBLEMS, strict=True)] == PROBLEMS
    assert {row["id"]: row["duplicate_of"] for row in output} == {
        "p1": "p6", "p2": "p6", "p3": None, "p4": "p5", "p5": None, "p6": None,
    }  # fmt: skip
    first, fourth, last = output[0], output[3], output[5]
    assert first["duplicate_evidence"] == {"how": "exact", "why": "same text", "score": 1.0, "cosine": 1.0}
    assert fourth["duplicate_evidence"]["how"] == "embedding"
    assert (first["min_neighbor_distance"], last["min_similar_conversation_id"]) == (0.0, "p1")
    assert first["repeat_count"] >= 1
    run = json.loads((tmp_path / "job_res_distance.run.json").read_text())
    assert run["counts"] == {"read": 6, "written": 6, "dropped": {}}
    again = program("gen_dis", "--input_file", source, "--cache", cache, "--index", tmp_path / "kept")
    assert "already complete" in again.stderr


def test_sharegpt_lines_as_in_the_original_program(tmp_path: Path, cache: Path) -> None:
    turns = [
        {
            "conversation_id": p["id"],
            "conversations": [{"from": "human", "value": p["instruction"]}, {"from": "gpt", "value": "So."}],
        }
        for p in PROBLEMS
    ]
    source = written(tmp_path / "X_sharegpt.jsonl", turns)
    assert program("gen_dis", "--input_file", source, "--cache", cache).returncode == 0
    output = rows(tmp_path / "X_sharegpt_distance.jsonl")
    assert [row["conversation_id"] for row in output] == [problem["id"] for problem in PROBLEMS]
    assert output[1]["duplicate_of"] == "p1"
    assert output[5]["duplicate_of"] == "p1"
    assert output[2]["duplicate_of"] is None


def test_several_files_are_compared_with_each_other_and_each_has_its_output(tmp_path: Path, cache: Path) -> None:
    one, other = written(tmp_path / "a.jsonl", PROBLEMS[:1]), written(tmp_path / "b.jsonl", PROBLEMS[1:3])
    found = compared(cache, one, other)
    assert by_id(found, one)["p1"]["duplicate_of"] is None
    values = by_id(found, other)
    assert (values["p2"]["duplicate_of"], values["p2"]["duplicate_evidence"]["file"]) == ("p1", str(one))
    assert values["p3"]["duplicate_of"] is None


def test_the_order_of_the_files_and_of_their_rows_changes_nothing(tmp_path: Path, cache: Path) -> None:
    one = written(tmp_path / "a.jsonl", PROBLEMS)
    forwards = by_id(compared(cache, one), one)
    two, three = written(tmp_path / "b.jsonl", PROBLEMS[:2:-1]), written(tmp_path / "c.jsonl", PROBLEMS[2::-1])
    found = compared(cache, three, two)
    backwards = by_id(found, two) | by_id(found, three)
    assert {key: value["duplicate_of"] for key, value in forwards.items()} == {
        key: value["duplicate_of"] for key, value in backwards.items()
    }


def test_an_earlier_data_set_is_kept_before_everything_and_not_written(tmp_path: Path, cache: Path) -> None:
    source, earlier = written(tmp_path / "new.jsonl", PROBLEMS), written(tmp_path / "old.jsonl", PROBLEMS[1:2])
    before = hashlib.sha256(earlier.read_bytes()).hexdigest()
    found = compared(cache, source, against=[earlier])
    values = by_id(found, source)
    assert {values[name]["duplicate_of"] for name in ("p1", "p2", "p6")} == {"p2"}
    assert values["p6"]["duplicate_evidence"]["file"] == str(earlier)
    assert hashlib.sha256(earlier.read_bytes()).hexdigest() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.jsonl", "old.jsonl"]


def test_an_index_holds_the_kept_ones_and_knows_them_again(tmp_path: Path, cache: Path) -> None:
    source, later = written(tmp_path / "a.jsonl", PROBLEMS), written(tmp_path / "b.jsonl", PROBLEMS[:1] + PROBLEMS[3:4])
    folder = IndexFolder.open(tmp_path / "kept", "m")
    folder.extend(*compared(cache, source, folder=folder).new(), "m")
    assert [record.id for record in folder.records] == ["p3", "p5", "p6"]
    same = compared(cache, source, folder=IndexFolder.open(tmp_path / "kept", "m"))
    assert by_id(same, source)["p6"]["duplicate_of"] is None
    assert same.new()[0] == []
    other = compared(cache, later, folder=IndexFolder.open(tmp_path / "kept", "m"))
    assert [value["duplicate_of"] for value in by_id(other, later).values()] == ["p6", "p5"]


def test_magpies_keys_are_those_of_the_original_program(tmp_path: Path, cache: Path) -> None:
    texts = ["How many primes are below 50?", "How many primes are there below 50?", "Integrate $x^2$.", "Integrate $x^2$."]
    source = written(tmp_path / "a.jsonl", [{"id": place, "instruction": text} for place, text in enumerate(texts)])
    values = list(by_id(compared(cache, source), source).values())
    vectors = Embedder(cache=cache).encode(texts)
    distance = float(((vectors[0] - vectors[1]) ** 2).sum())
    assert distance < 0.05
    assert values[0]["min_neighbor_distance"] == pytest.approx(distance, abs=1e-5)
    assert [value["repeat_count"] for value in values] == [1, 1, 1, 1]
    assert [value["min_similar_conversation_id"] for value in values] == [0, 0, 2, 2]
    lone = written(tmp_path / "b.jsonl", [{"instruction": texts[0]}])
    assert by_id(compared(cache, lone), lone) == {
        "b:0": {
            "min_neighbor_distance": None,
            "repeat_count": 0,
            "min_similar_conversation_id": None,
            "duplicate_of": None,
            "duplicate_evidence": None,
        }
    }


def test_hundreds_of_copies_are_counted_and_are_one_group(tmp_path: Path, cache: Path) -> None:
    texts = [f"Find $x$ such that $3x + 5 = 20$.{' ' * place}" for place in range(60)] + ["Find $x$ such that $3x+5=21$."]
    source = written(tmp_path / "a.jsonl", [{"id": place, "instruction": text} for place, text in enumerate(texts)])
    values = list(by_id(compared(cache, source), source).values())
    assert [value["duplicate_of"] for value in values] == [None, *[0] * 59, None]
    assert min(value["repeat_count"] for value in values[:60]) >= 59


def test_in_partitions_and_out_of_memory_the_findings_are_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "a.jsonl", [problem | {"id": f"{problem['id']}{n}"} for n in range(5) for problem in PROBLEMS])
    earlier = written(tmp_path / "b.jsonl", PROBLEMS[3:4])
    whole = by_id(compared(cache, source, against=[earlier]), source)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(vector_index, "PARTITION", 2)
    found = compared(cache, source, against=[earlier])
    assert isinstance(found.vectors, np.memmap)
    assert by_id(found, source) == whole


@pytest.mark.parametrize(
    "better",
    [
        ({"is_correct": [False, True]}, {"input_quality": "excellent", "instruct_reward": 9.0}),
        ({"majority_answer": "3"}, {"majority_answer": None, "input_quality": "excellent"}),
        ({"input_quality": "good"}, {"input_quality": "average", "instruct_reward": 9.0}),
        ({"input_quality": "very poor"}, {}),
        ({"instruct_reward": 1.0}, {"instruct_reward": -1.0}),
        ({"instruct_reward": -5.0}, {"instruct_reward": None}),
    ],
)
def test_verified_then_quality_then_reward(better: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert rank_of(better[0]) < rank_of(better[1])


def test_smaller_ids_are_kept_by_their_value(tmp_path: Path, cache: Path) -> None:
    source = written(tmp_path / "a.jsonl", [{"id": name, "instruction": "What is 2+2?"} for name in ("10", "9", 11)])
    assert [value["duplicate_of"] for value in by_id(compared(cache, source), source).values()] == ["9", None, "9"]


@pytest.mark.parametrize(
    "record", [{}, {"conversations": []}, {"conversations": "no"}, {"conversations": [{"from": "gpt", "value": "x"}]}]
)
def test_a_row_without_a_problem_is_refused_by_its_line(record: dict[str, Any]) -> None:
    with pytest.raises(MagpieError, match=r"a\.jsonl, line 7: neither"):
        problem_of(record, "a.jsonl, line 7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input_file", "a.jsonl", "a.jsonl"], "named twice"),
        (["--input_file", "a.jsonl", "--against", "a.jsonl"], "named twice"),
        (["--input_file", "a.jsonl", "b.jsonl", "--output_file", "c.jsonl"], "single --input_file"),
        (["--input_file", "missing.jsonl"], "no such file"),
        (["--input_file", "a.jsonl", "--distance_threshold", "0"], "out of range"),
        (["--input_file", "a.jsonl", "--index", "."], "not an index folder"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    import gen_dis

    for name in ("a.jsonl", "b.jsonl"):
        written(tmp_path / name, PROBLEMS[:1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gen_dis.py", *arguments])
    with pytest.raises(MagpieError, match=message):
        gen_dis.main()
    assert not list(tmp_path.glob("*_distance*"))

"""Filters: what every operator decides, what a missing field means, who is chosen, and the program."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import program, rows
from magpie.common.console import MagpieError
from magpie.config.load import CONFIGS, check
from magpie.selection.config import FilterPreset, Rule, load_filter
from magpie.selection.rules import Filter
from magpie.selection.sampling import choose, shares

PRESETS = sorted(path.stem for path in (CONFIGS / "filters").glob("*.yaml"))
GOOD: dict[str, Any] = {
    "id": "a",
    "instruction": "What is 1 + 1?",
    "response": "It is 2.",
    "finish_reason": "stop",
    "input_quality": "good",
    "instruct_reward": 0.5,
    "duplicate_of": None,
    "answer_type": "closed",
    "answers": ["2", "2", None, "2", "3"],
    "majority_answer": "2",
    "agreement": 0.75,
    "pass_rate": 0.6,
    "language": "EN",
    "safety": "safe",
    "weak_pass_rate": 0.25,
    "strong_pass_rate": 0.75,
    "pass_rate_gap": 0.5,
    "strong_agreement": 0.75,
}


def decided(op: str, value: Any, found: Any, field: str = "x", missing: str = "drop") -> str:
    rule = check(
        {"field": field, "op": op, "reason": "out", "missing": missing} | ({} if value is ... else {"value": value}),
        Rule,
        Path("test"),
    )
    record = {"id": 1} if found is ... else {"id": 1, "x": found}
    return Filter(FilterPreset([rule]), "test").drop_reason(record)[0]


@pytest.mark.parametrize(
    ("op", "value", "kept", "out"),
    [
        ("eq", "a", ["a"], ["b", 1, ["a"], True]),
        ("eq", 1, [1, 1.0], [2, "1", True]),
        ("eq", True, [True], [False, 1]),
        ("eq", None, [None], ["a", 0, False, ""]),
        ("ne", "a", ["b", 1, []], ["a"]),
        ("ne", None, ["a", 0], [None]),
        ("in", ["a", 2], ["a", 2, 2.0], ["b", "2", ["a"], {}]),
        ("in", ["a", None], ["a", None], ["b"]),
        ("not_in", ["a", 2], ["b", ["a"]], ["a", 2]),
        ("at_least", 0.5, [0.5, 1, 2.0], [0.49, -1]),
        ("at_most", 3, [3, -1], [3.01]),
        ("above", -10, [-9.99, 0], [-10, -11.0]),
        ("below", 1, [0.99], [1, 1.5]),
        ("exists", ..., ["a", 0, False, [], ""], [None, ...]),
        ("contains", "a", ["xay", ["a", "b"]], ["xy", ["b"], []]),
        ("contains", True, [[False, True]], [[1], [False]]),
        ("not_contains", "a", ["xy", ["b"]], ["xay", ["a"]]),
        ("ends_with", [".", "?"], ["a.", "b?"], ["a:", ""]),
        ("not_ends_with", ":", ["a.", ""], ["a:"]),
    ],
)
def test_what_an_operator_keeps_and_what_it_drops(op: str, value: Any, kept: list[Any], out: list[Any]) -> None:
    assert [found for found in kept if decided(op, value, found)] == []
    assert [found for found in out if decided(op, value, found) != "out"] == []


@pytest.mark.parametrize(
    ("field", "found", "number"),
    [("x|length", "four", 4), ("x|length", [1, None, 3], 3), ("x|count", [1, None, 3], 2), ("x|count", [], 0)],
)
def test_length_and_count(field: str, found: Any, number: int) -> None:
    assert decided("at_least", number, found, field) == "" and decided("at_least", number + 1, found, field) == "out"
    assert decided("at_least", 0, None, field) == "no_x"


def test_a_dotted_field_is_looked_up_inside() -> None:
    assert decided("eq", 1, {"y": {"z": 1}}, "x.y.z") == ""
    assert decided("eq", 1, {"y": {"z": 2}}, "x.y.z") == "out"
    assert decided("eq", 1, {"y": 1}, "x.y.z") == "no_x.y.z"


@pytest.mark.parametrize("found", [None, ...])
def test_a_missing_field_is_what_the_rule_says(found: Any) -> None:
    assert decided("at_least", 1, found, missing="keep") == ""
    assert decided("at_least", 1, found, missing="drop") == "no_x"
    with pytest.raises(MagpieError, match=r"the record 1 has no `x`.*missing"):
        decided("at_least", 1, found, missing="error")


def test_null_is_a_value_where_the_rule_speaks_of_it() -> None:
    assert decided("eq", None, None, missing="error") == ""
    with pytest.raises(MagpieError, match="has no `x`"):
        decided("eq", None, ..., missing="error")


@pytest.mark.parametrize(
    ("op", "value", "found", "field"),
    [
        ("at_least", 1, "a", "x"),
        ("above", 1, True, "x"),
        ("ends_with", ".", 5, "x"),
        ("contains", "a", 5, "x"),
        ("at_least", 1, 5, "x|length"),
        ("at_least", 1, "text", "x|count"),
    ],
)
def test_a_value_that_an_operator_cannot_take_names_the_record(op: str, value: Any, found: Any, field: str) -> None:
    with pytest.raises(MagpieError, match="the record 1 has"):
        decided(op, value, found, field)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"op": "at_least", "value": "a"}, "must be a number"),
        ({"op": "at_least", "value": True}, "must be a number"),
        ({"op": "in", "value": "a"}, "must be a list"),
        ({"op": "in", "value": []}, "must be a list"),
        ({"op": "ends_with", "value": ""}, "must be a text"),
        ({"op": "eq"}, "`value` is missing"),
        ({"op": "exists", "value": 1}, "`exists` has no `value`"),
        ({"op": "exists", "missing": "keep"}, "`missing` must be"),
        ({"op": "eq", "value": 1, "field": "x|words"}, "|words"),
        ({"op": "eq", "value": 1, "field": ".x"}, "not a key"),
        ({"op": "is", "value": 1}, "Invalid enum value"),
        ({"op": "eq", "value": 1, "missing": "maybe"}, "Invalid enum value"),
        ({"op": "eq", "value": 1, "reson": "y"}, "reson"),
    ],
)
def test_a_broken_rule_is_an_error_that_says_what_is_wrong(tmp_path: Path, rule: dict[str, Any], says: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"rules": [{"field": "x", "reason": "out", "missing": "drop"} | rule]}))
    with pytest.raises(MagpieError) as error:
        Filter(load_filter(str(path)), str(path))
    assert says in str(error.value) and "rules.yaml" in str(error.value)


def test_every_preset_of_the_house_is_there() -> None:
    assert {"magpie", "hle", "sft", "rlvr"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_keeps_a_good_record(name: str) -> None:
    assert Filter(load_filter(name), name).drop_reason(GOOD) == ("", "")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("magpie", {"input_quality": "average"}, "low_quality"),
        ("magpie", {"instruct_reward": -10.0}, "low_reward"),
        ("magpie", {"instruction": "Solve this:"}, "ends_in_colon"),
        ("magpie", {"duplicate_of": "b"}, "duplicate"),
        ("magpie", {"input_quality": None}, "no_input_quality"),
        ("hle", {"pass_rate": 0.05}, "too_hard"),
        ("hle", {"pass_rate": 0.1}, ""),
        ("hle", {"pass_rate": 0.7}, ""),
        ("hle", {"pass_rate": 0.75}, "too_easy"),
        ("hle", {"answers": ["1", "1", "2"]}, "too_few_votes"),
        ("hle", {"answers": ["1", None, None, "1"]}, "too_few_answers"),
        ("hle", {"agreement": 0.4}, "low_agreement"),
        ("hle", {"majority_answer": None}, "no_answer"),
        ("hle", {"answer_type": "proof"}, "not_closed"),
        ("hle", {"answer_type": None}, "no_answer_type"),
        ("hle", {"duplicate_of": 7}, "duplicate"),
        ("hle_gap", {"weak_pass_rate": 14 / 16, "strong_pass_rate": 11 / 16, "pass_rate_gap": -3 / 16}, ""),  # hard for both
        ("hle_gap", {"weak_pass_rate": 15 / 16}, "too_easy"),
        ("hle_gap", {"strong_pass_rate": 0.0}, "too_hard"),
        ("hle_gap", {"strong_pass_rate": 12 / 16, "pass_rate_gap": 5 / 16}, "no_gap"),
        ("hle_gap", {"strong_pass_rate": 12 / 16, "pass_rate_gap": 6 / 16}, ""),
        ("hle_gap", {"strong_pass_rate": None}, "no_strong_pass_rate"),
        ("hle_gap", {"pass_rate_gap": None}, "no_pass_rate_gap"),
        ("hle_gap", {"strong_agreement": 0.4}, "low_agreement"),
        ("hle_gap", {"strong_agreement": 0.4, "reference_answer": "2"}, ""),
        ("sft", {"response": None}, "no_response"),
        ("sft", {"finish_reason": "length"}, "unfinished"),
        ("sft", {"input_quality": "poor"}, "low_quality"),
        ("sft", {"input_quality": None}, ""),
        ("sft", {"agreement": 0.25}, "low_agreement"),
        ("sft", {"agreement": None}, "no_agreement"),
        ("sft", {"agreement": None, "answer_type": None}, "no_agreement"),
        ("sft", {"agreement": None, "answer_type": "proof"}, ""),
        ("sft", {"agreement": 0.2, "answer_type": "open"}, ""),
        ("sft", {"language": "DE"}, "not_english"),
        ("sft", {"safety": "unsafe"}, "unsafe"),
        ("rlvr", {"majority_answer": None}, "no_answer"),
        ("rlvr", {"answer_type": "open"}, "not_closed"),
        ("rlvr", {"pass_rate": 1.0}, "always_solved"),
        ("rlvr", {"answers": ["1", "1"]}, "too_few_answers"),
    ],
)
def test_what_a_preset_drops(name: str, changes: dict[str, Any], reason: str) -> None:
    assert Filter(load_filter(name), name).drop_reason(GOOD | changes)[0] == reason


KNOWN = {"reference_answer": "7", "majority_answer": None, "agreement": 0.2}


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("hle", {"pass_rate": 3 / 16}, ""),
        ("hle", {"pass_rate": 0.0}, "too_hard"),
        ("rlvr", {"pass_rate": 3 / 16}, ""),
        ("rlvr", {"pass_rate": 1.0}, "always_solved"),
        ("sft", {"pass_rate": 3 / 16}, ""),
        ("sft", {"pass_rate": 0.0, "agreement": 0.9}, "no_right_answer"),
        ("sft", {"pass_rate": None}, ""),
    ],
)
def test_where_the_right_answer_is_known_no_vote_is_asked_for(name: str, changes: dict[str, Any], reason: str) -> None:
    assert Filter(load_filter(name), name).drop_reason(GOOD | KNOWN | changes)[0] == reason


def test_a_proof_that_is_kept_is_marked() -> None:
    rules = Filter(load_filter("sft"), "sft")
    proof = {key: value for key, value in GOOD.items() if key not in ("agreement", "validity")} | {"answer_type": "proof"}
    assert rules.drop_reason(proof) == ("", "")
    assert "agreement" in rules.not_judged(proof) and "agreement" not in rules.not_judged(GOOD)


def test_a_rule_for_what_verify_wrote_before_names_the_new_key(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text("rules: [{field: answer, op: exists, reason: no_answer, missing: drop}]")
    old = {"instruction": "?", "answers": ["2", "2"], "answer": "2", "answer_groups": [0, 0]}
    new = {"instruction": "?", "answers": ["2", "2"], "majority_answer": "2", "answer_groups": [0, 0]}
    for name, record in (("old", old), ("new", new), ("user's", new | {"answer": "3"})):
        source = tmp_path / f"{name}.jsonl"
        source.write_text(json.dumps(record) + "\n")
        done = program("filter", "--config", rules, "--input_file", source)
        assert (done.returncode == 0) is (name == "user's"), done.stderr
        assert ("`majority_answer` now" in done.stderr) is (name != "user's")
    text = rules.read_text().replace("drop}", "drop, made_by: verify.py}")
    rules.write_text(text)
    with pytest.raises(MagpieError, match="`majority_answer` now"):
        Filter(load_filter(str(rules)), "mine")


@pytest.mark.parametrize(
    ("sizes", "total", "shared"),
    [([5, 5], 4, [2, 2]), ([1, 9], 6, [1, 5]), ([3, 3, 3], 4, [2, 1, 1]), ([2, 2], 99, [2, 2]), ([0, 4], 2, [0, 2])],
)
def test_shares_are_as_even_as_sizes_allow(sizes: list[int], total: int, shared: list[int]) -> None:
    assert shares(np.array(sizes), total).tolist() == shared


def test_the_best_are_chosen_and_the_earlier_of_equals() -> None:
    groups, scores, real = np.array([0, 0, 1, 1, 1]), np.array([-1.0, -3.0, -2.0, -2.0, -9.0]), np.ones(5, dtype=bool)
    assert choose(groups, scores, real, balance=False, top=3, seed=0).tolist() == [False, True, True, False, True]
    assert choose(groups, scores, real, balance=True, top=None, seed=0).tolist() == [True, True, True, False, True]
    assert choose(groups, scores, real, balance=True, top=2, seed=0).tolist() == [False, True, False, False, True]


def test_chance_is_the_seeds_alone() -> None:
    groups, real = np.zeros(1000, dtype=int), np.ones(1000, dtype=bool)
    first = choose(groups, None, real, balance=False, top=100, seed=1)
    assert first.sum() == 100 and (first == choose(groups, None, real, balance=False, top=100, seed=1)).all()
    assert (first != choose(groups, None, real, balance=False, top=100, seed=2)).any()


def test_a_control_takes_no_place_and_passes_the_same_choice() -> None:
    real = np.array([True, False, True, False, True, False])
    scores, groups = np.arange(6.0), np.array([0, 0, 0, 0, 1, 2])

    def chosen(**how: Any) -> list[int]:
        return np.flatnonzero(choose(groups, scores, real, **how, seed=0)).tolist()

    assert chosen(balance=False, top=2) == [0, 1, 2]  # the control behind the second real one is out
    assert chosen(balance=False, top=3) == chosen(balance=False, top=9) == [0, 1, 2, 3, 4, 5]
    assert chosen(balance=True, top=None) == [0, 4, 5]  # a group of controls alone lessens no other
    assert chosen(balance=True, top=2) == [0, 4, 5]
    assert choose(groups, None, ~np.ones(6, dtype=bool), balance=True, top=1, seed=0).all()
    everywhere = np.random.default_rng(1).random(4000) < 0.9
    taken = choose(np.zeros(4000, dtype=int), None, everywhere, balance=False, top=900, seed=2)
    assert taken[everywhere].sum() == 900 and 70 < taken[~everywhere].sum() < 130


# --- the program -----------------------------------------------------------------------------------------------------


def many(path: Path, count: int = 60) -> list[dict[str, Any]]:
    draw = random.Random(7)
    records = [
        GOOD
        | {
            "id": f"r-{i}",
            "domain": draw.choice(["algebra", "algebra", "algebra", "geometry", "calculus"]),
            "instruct_reward": draw.uniform(-20, 5),
            "input_quality": draw.choice(["good", "poor", "excellent"]),
            "duplicate_of": None if i % 10 else "r-1",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


def test_kept_rows_are_the_inputs_own_bytes_and_everything_is_counted(tmp_path: Path) -> None:
    records = many(tmp_path / "x.jsonl")
    done = program("filter", "--config", "magpie", "--input_file", tmp_path / "x.jsonl")
    assert done.returncode == 0, done.stderr
    wanted = [r for r in records if r["input_quality"] != "poor" and r["instruct_reward"] > -10 and r["duplicate_of"] is None]
    source = (tmp_path / "x.jsonl").read_text().splitlines()
    assert (tmp_path / "x_filtered.jsonl").read_text().splitlines() == [source[records.index(r)] for r in wanted]
    dropped = rows(tmp_path / "x_filtered_dropped.jsonl")
    counts = json.loads((tmp_path / "x_filtered.run.json").read_text())["counts"]
    assert counts == {"read": 60, "written": len(wanted), "dropped": Counter(r["drop_reason"] for r in dropped)}
    assert all(r["drop_detail"] for r in dropped) and len(wanted) + len(dropped) == 60
    again = program("filter", "--config", "magpie", "--input_file", tmp_path / "x.jsonl")
    assert again.returncode == 0 and "already complete" in again.stderr
    other = program("filter", "--config", "hle", "--input_file", tmp_path / "x.jsonl")
    assert other.returncode == 2 and "--rules was" in other.stderr


def test_where_nothing_passes_for_want_of_a_key_the_stage_that_adds_it_is_named(tmp_path: Path) -> None:
    record = {"id": "a", "instruction": "1 + 1?", "duplicate_of": None, "answers": ["2"] * 4, "majority_answer": "2"}
    (tmp_path / "x.jsonl").write_text(json.dumps(record) + "\n")
    done = program("filter", "--config", "hle", "--input_file", tmp_path / "x.jsonl")
    assert done.returncode == 0 and "records without `answer_type`, which clean_ins.py adds: 1" in done.stderr
    (tmp_path / "y.jsonl").write_text(json.dumps(record | {"answer_type": None}) + "\n")
    done = program("filter", "--config", "hle", "--input_file", tmp_path / "y.jsonl")
    assert "no record passed" in done.stderr and "clean_ins.py" not in done.stderr


def test_balance_and_top_share_the_best_out_evenly(tmp_path: Path) -> None:
    records = many(tmp_path / "x.jsonl", 200)
    choice = ("--balance", "domain", "--top", "30", "--by", "instruct_reward")
    done = program("filter", "--config", "magpie", "--input_file", tmp_path / "x.jsonl", *choice)
    assert done.returncode == 0, done.stderr
    kept = rows(tmp_path / "x_filtered.jsonl")
    assert Counter(r["domain"] for r in kept) == {"algebra": 10, "geometry": 10, "calculus": 10}
    passed = [r for r in records if r["input_quality"] != "poor" and r["instruct_reward"] > -10 and r["duplicate_of"] is None]
    for domain in ("algebra", "geometry"):
        best = sorted((r["instruct_reward"] for r in passed if r["domain"] == domain), reverse=True)[:10]
        assert sorted((r["instruct_reward"] for r in kept if r["domain"] == domain), reverse=True) == best
    assert [r["id"] for r in kept] == [r["id"] for r in records if r in kept]
    counts = json.loads((tmp_path / "x_filtered.run.json").read_text())["counts"]
    assert counts["read"] == 200 and counts["dropped"]["not_in_top"] == len(passed) - 30


def test_shuffling_keeps_every_record_and_its_order_is_the_seeds(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{field: instruction, op: exists, reason: none, missing: drop}]")
    records = many(tmp_path / "x.jsonl")
    orders = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        out = tmp_path / f"{name}.jsonl"
        choice = ("--shuffle", "--seed", seed, "--output_file", out)
        done = program("filter", "--config", rules, "--input_file", tmp_path / "x.jsonl", *choice)
        assert done.returncode == 0, done.stderr
        orders.append([r["id"] for r in rows(out)])
    ids = [r["id"] for r in records]
    assert orders[0] == orders[1] != orders[2] != ids and sorted(orders[0]) == sorted(orders[2]) == sorted(ids)


def test_an_indented_array_and_windows_lines_come_out_as_json_lines(tmp_path: Path) -> None:
    records = many(tmp_path / "x.jsonl", 5)
    (tmp_path / "y.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "z.jsonl").write_bytes((tmp_path / "x.jsonl").read_bytes().replace(b"\n", b"\r\n"))
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{field: instruction, op: exists, reason: none, missing: drop}]")
    for name in ("y.json", "z.jsonl"):
        done = program("filter", "--config", rules, "--input_file", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert rows(tmp_path / f"{name[0]}_filtered.jsonl") == records
        assert b"\r" not in (tmp_path / f"{name[0]}_filtered.jsonl").read_bytes()


def test_a_dropped_row_keeps_every_key_and_a_reason_that_was_there_is_replaced(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{field: mine, op: eq, value: 1, reason: not_mine, missing: drop}]")
    records = [
        {"instruction": "a", "mine": 2, "deep": {"x": [None]}},
        {"instruction": "b", "mine": 1},
        {"instruction": "c", "drop_reason": "old", "drop_detail": "older"},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done = program("filter", "--config", rules, "--input_file", tmp_path / "x.jsonl")
    assert done.returncode == 0, done.stderr
    first, second = rows(tmp_path / "x_filtered_dropped.jsonl")
    assert first == records[0] | {"id": "x-000001", "drop_reason": "not_mine", "drop_detail": "mine is 2; the rule: eq 1"}
    assert second == {
        "instruction": "c",
        "id": "x-000003",
        "drop_reason": "no_mine",
        "drop_detail": "mine is missing; the rule: eq 1",
    }
    assert b'"drop_reason"' in (tmp_path / "x_filtered_dropped.jsonl").read_bytes().splitlines()[0]
    assert rows(tmp_path / "x_filtered.jsonl") == [records[1] | {"id": "x-000002"}]


def test_a_finished_run_stays_finished_where_a_preset_of_ours_has_changed(tmp_path: Path) -> None:
    source, made, run_file = (
        tmp_path / name for name in ("x_res.jsonl", "x_filtered_finished.jsonl", "x_filtered_finished.run.json")
    )
    source.write_text(
        '{"id": "1", "instruction": "What is 1+1?", "response": "2", "finish_reason": "stop", "duplicate_of": null}\n'
    )
    words = ["--input_file", str(source), "--config", "finished", "--output_file", str(made)]
    assert program("filter", *words).returncode == 0
    earlier, rows = json.loads(run_file.read_text()), made.read_bytes()
    earlier["arguments"]["rules"].pop()
    run_file.write_text(json.dumps(earlier))
    again = program("filter", *words)
    assert again.returncode == 0 and "our preset has changed" in again.stderr and "--overwrite" in again.stderr
    assert made.read_bytes() == rows
    other = program("filter", *words, "--shuffle")
    assert other.returncode == 2 and "other settings" in other.stderr
    assert "other settings" in program("filter", *words, "--config", "hle").stderr
    assert program("filter", *words, "--overwrite").returncode == 0


@pytest.mark.parametrize("flag", ["--balance", "--by"])
def test_a_field_that_is_none_is_refused_before_a_row_is_read(tmp_path: Path, flag: str) -> None:
    (tmp_path / "in.jsonl").write_text('{"instruction": "What is 1 + 1?"}\n')
    done = program("filter", "--input_file", "in.jsonl", "--config", "sft", "--top", 2, f"{flag}=../..", cwd=tmp_path)
    assert done.returncode == 2 and "is not a key or a dotted path" in done.stderr

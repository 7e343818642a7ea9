"""Votes: groups, majorities, ties, pass rates with their intervals, and the choice of a response."""

from __future__ import annotations

from typing import Any

import pytest

from magpie.common.console import MagpieError
from magpie.records.schema import DIFFICULTIES
from magpie.selection.config import load_filter
from magpie.selection.rules import Filter
from magpie.verification.annotate import job_of, verified, with_reference, with_response
from magpie.verification.pool import Judgement
from magpie.verification.votes import choose, difficulty, is_verified, vote, wilson


def judged(groups: list[int | None], correct: list[bool | None] | None = None) -> Judgement:
    answers = [None if group is None else f"a{group}" for group in groups]
    states = ["unparsed" if group is None else "parsed" for group in groups]
    return Judgement(answers, states, groups, correct or [None] * len(groups))


VOTES: dict[str, tuple[list[int | None], tuple[str | None, float | None, float | None]]] = {
    "all alike": ([0, 0, 0, 0], ("a0", 1.0, 1.0)),
    "a majority": ([0, 1, 1, 1], ("a1", 0.75, 0.75)),
    "most, though not half": ([0, 1, 2, 2, 3], ("a2", 0.4, 0.4)),
    "a tie": ([0, 0, 1, 1], (None, 0.5, None)),
    "all different": ([0, 1, 2], (None, pytest.approx(1 / 3), None)),
    "unparsed ones have no vote, and agree with none": ([0, None, 0, None], ("a0", 0.5, 0.5)),
    "one answer": ([0], (None, None, None)),
    "one parsed answer": ([None, 0, None], (None, None, None)),
    "none": ([None, None], (None, None, None)),
}


@pytest.mark.parametrize("which", VOTES)
def test_a_vote_without_a_reference(which: str) -> None:
    groups, (answer, agreement, pass_rate) = VOTES[which]
    result = vote(judged(groups), has_reference=False)
    assert (result.majority_answer, result.agreement, result.pass_rate) == (answer, agreement, pass_rate)
    assert (result.interval is None) == (pass_rate is None)


def test_the_pass_rate_is_the_share_right_where_there_is_a_reference() -> None:
    result = vote(judged([0, 0, 0, 1], [False, False, False, True]), has_reference=True)
    assert (result.majority_answer, result.agreement, result.pass_rate) == ("a0", 0.75, 0.25)


def test_what_was_not_compared_may_be_wrong_or_right() -> None:
    result = vote(judged([0, 0, 1, None], [True, None, False, False]), has_reference=True)
    assert (result.pass_rate, result.interval) == (0.25, [wilson(1, 4)[0], wilson(2, 4)[1]])
    assert vote(judged([0, 0], [True, None]), has_reference=True).interval == [wilson(1, 2)[0], 1.0]


def test_a_reference_that_nothing_could_be_compared_with_tells_no_rate() -> None:
    for correct in ([None, None, None], [None, None, False]):  # the last gave no answer
        result = vote(judged([0, 1, None], correct), has_reference=True)
        assert (result.pass_rate, result.interval, result.answered) == (None, None, 2 / 3)


def test_without_any_answer_none_is_right() -> None:
    result = vote(judged([None] * 4, [False] * 4), has_reference=True)
    assert (result.pass_rate, result.answered, result.agreement) == (0.0, 0.0, None)


THREE_OF_16: dict[str, tuple[int, dict[str, Any]]] = {
    "no answer": (13, {}),
    "lost": (0, {"lost_responses": 13}),
    "some lost": (5, {"lost_responses": 8}),
    "votes asked": (2, {"votes_asked": 16, "lost_responses": 1}),
}


@pytest.mark.parametrize("which", THREE_OF_16)
def test_all_that_was_asked_for_is_in_the_denominator(which: str) -> None:
    without, keys = THREE_OF_16[which]
    groups: list[int | None] = [0, 0, 0, *[None] * without]
    base = {
        "id": 1,
        "instruction": "?",
        "responses": ["x"] * len(groups),
        "duplicate_of": None,
        "answer_type": "closed",
        **keys,
    }
    voted = verified(base, judged(groups))
    assert (voted["agreement"], voted["answered"], voted["pass_rate"]) == (3 / 16,) * 3
    assert not is_verified(voted)
    graded = verified(base | {"reference_answer": "7"}, judged(groups, [True] * 3 + [False] * without))
    assert (graded["pass_rate"], graded["pass_rate_interval"]) == (3 / 16, list(wilson(3, 16)))
    assert graded["difficulty_measured"] == "hard"
    graded["answers"] += [None] * (4 - len(groups))  # the presets want four votes
    for preset in ("hle", "rlvr"):
        rules = Filter(load_filter(preset), preset)
        assert rules.drop_reason(graded) == ("", "")
        voted["answers"] = graded["answers"]
        assert rules.drop_reason(voted)[0] == "low_agreement"


def test_one_response_is_one_that_was_asked_for_however_many_it_was_chosen_from() -> None:
    chosen = verified({"instruction": "?", "response": "x", "lost_responses": 3, "votes_asked": 8}, judged([0]))
    assert (chosen["answered"], chosen["agreement"], chosen["pass_rate"]) == (1.0, None, None)


# --- keys --------------------------------------------------------------------------------------------------------------------


def test_the_users_keys_are_not_overwritten() -> None:
    found = verified({"instruction": "?", "responses": ["a", "b"], "answer": "4", "agreement": 0.9}, judged([0, 0]))
    assert (found["answer"], found["majority_answer"], found["agreement"]) == ("4", "a0", 1.0)
    assert found["previous"] == {"agreement": 0.9}  # a key that verify.py writes, and had not written


def test_what_verifying_found_before_is_replaced() -> None:
    first = verified({"instruction": "?", "responses": ["a", "b"]}, judged([0, 0]))
    again = verified(first | {"answer_judgements": [{}], "response_index": 1}, judged([0, 1]))
    assert again == verified({"instruction": "?", "responses": ["a", "b"]}, judged([0, 1]))


def test_a_reference_under_another_key_is_copied_as_text() -> None:
    assert with_reference({"answer": 4}, "answer") == {"answer": 4, "reference_answer": "4"}
    assert with_reference({"answer": 0}, "answer")["reference_answer"] == "0"
    solution = "60 + 60 = 120\n#### 120"
    copied = with_reference({"answer": solution, "reference_answer": "5"}, "answer")
    assert copied == {"answer": solution, "reference_answer": "120", "previous": {"reference_answer": "5"}}
    assert with_reference(copied, "answer") == copied
    assert "reference_answer" not in with_reference({"answer": None, "reference_answer": "5"}, "answer")
    assert with_reference({"reference_answer": "5", "answer": "4"}, "reference_answer")["reference_answer"] == "5"
    with pytest.raises(MagpieError, match="`answer` is neither a text nor a number"):
        with_reference({"id": 1, "answer": ["4"]}, "answer")


def test_the_interval_is_wilsons() -> None:
    assert wilson(4, 8) == pytest.approx((0.2152, 0.7848), abs=1e-4)  # Wilson (1927), z = 1.96
    assert wilson(8, 8) == pytest.approx((0.6756, 1.0), abs=1e-4)
    assert wilson(0, 4)[0] == 0.0


def test_the_measured_difficulty_falls_as_the_pass_rate_rises() -> None:
    assert [difficulty(rate) for rate in (1.0, 0.8, 0.5, 0.25, 0.0)] == list(DIFFICULTIES)
    assert difficulty(None) is None


VERIFIED: dict[str, tuple[list[int | None], bool]] = {
    "two of three": ([0, 0, 1], True),
    "half of four": ([0, 0, 1, 2], True),
    "a tie of four": ([0, 0, 1, 1], False),
    "two alike are too few": ([0, 0], False),
    "less than half": ([0, 0, 1, 2, 3], False),
}


@pytest.mark.parametrize("which", VERIFIED)
def test_verified_is_a_majority_of_at_least_half_of_at_least_three(which: str) -> None:
    groups, expected = VERIFIED[which]
    record = verified({"instruction": "?", "responses": [""] * len(groups)}, judged(groups))
    assert is_verified(record) is expected


def record(groups: list[int | None], correct: list[bool | None] | None = None, **keys: Any) -> dict[str, Any]:
    responses = [f"{'long ' * (9 - i)}response {i}" for i in range(len(groups))]
    base = {"id": "p", "instruction": "?", "responses": responses, "reasoning": [f"r{i}" for i in range(len(groups))], **keys}
    return verified(base, judged(groups, correct))


def test_the_best_rewarded_of_the_majority_is_chosen() -> None:
    chosen, reason = with_response(record([0, 1, 1, 1], rewards=[9.0, 0.1, 0.3, None]), keep_unverified=False)
    assert (reason, chosen["response_index"], chosen["reasoning"]) == ("", 2, "r2")
    assert "responses" not in chosen
    assert chosen["previous"]["responses"][2] == chosen["response"]


def test_without_rewards_the_shortest_complete_one_is_chosen() -> None:
    finish = ["stop", "stop", "stop", "length"]
    chosen, _ = with_response(record([0, 1, 1, 1], finish_reason=finish), keep_unverified=False)
    assert (chosen["response_index"], chosen["finish_reason"]) == (2, "stop")


def test_with_a_reference_a_right_one_is_chosen_and_not_the_wrong_majority() -> None:
    wrong_majority = record([0, 0, 1], [False, False, True], reference_answer="7")
    assert with_response(wrong_majority, keep_unverified=False)[0]["response_index"] == 2
    none_right = record([0, 0, 1], [False, False, False], reference_answer="7")
    assert with_response(none_right, keep_unverified=False)[1] == "no_right_answer"


def test_without_a_majority_nothing_is_chosen_unless_asked_for() -> None:
    tie = record([0, 0, 1, 1])
    assert with_response(tie, keep_unverified=False)[1] == "no_majority"
    chosen, reason = with_response(tie, keep_unverified=True)
    assert (reason, chosen["response_index"], chosen["majority_answer"]) == ("", 3, None)


def test_a_record_with_one_response_keeps_it() -> None:
    single = verified({"instruction": "?", "response": "\\boxed{1}"}, judged([0]))
    assert with_response(single, keep_unverified=False) == (single, "")
    assert (single["agreement"], single["pass_rate"], single["difficulty_measured"]) == (None, None, None)


def test_a_job_is_made_of_one_response_or_several() -> None:
    assert job_of({"response": "a"}).responses == ["a"]  # type: ignore[union-attr]
    assert job_of({"responses": ["a", "b"], "reference_answer": "1"}).reference == "1"  # type: ignore[union-attr]
    assert job_of({"responses": ["a"], "reference_answer": "so $x=2$\n#### 2"}).reference == "2"  # type: ignore[union-attr]
    assert job_of({"instruction": "?"}) is job_of({"responses": []}) is None
    assert choose([], {"responses": []}) is None

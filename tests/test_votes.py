"""Votes: groups, majorities, ties, pass rates with their intervals, and the choice of a response."""

from __future__ import annotations

from typing import Any

import pytest

from magpie.records.schema import DIFFICULTIES
from magpie.verification.annotate import job_of, verified, with_response
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
    "unparsed ones have no vote": ([0, None, 0, None], ("a0", 1.0, 1.0)),
    "one answer": ([0], (None, None, None)),
    "one parsed answer": ([None, 0, None], (None, None, None)),
    "none": ([None, None], (None, None, None)),
}


@pytest.mark.parametrize("which", VOTES)
def test_a_vote_without_a_reference(which: str) -> None:
    groups, (answer, agreement, pass_rate) = VOTES[which]
    result = vote(judged(groups), has_reference=False)
    assert (result.answer, result.agreement, result.pass_rate) == (answer, agreement, pass_rate)
    assert (result.interval is None) == (pass_rate is None)


def test_the_pass_rate_is_the_share_right_where_there_is_a_reference() -> None:
    result = vote(judged([0, 0, 0, 1], [False, False, False, True]), has_reference=True)
    assert (result.answer, result.agreement, result.pass_rate) == ("a0", 0.75, 0.25)


def test_what_was_not_compared_counts_neither_right_nor_wrong() -> None:
    result = vote(judged([0, 0, 1, None], [True, None, False, False]), has_reference=True)
    assert result.pass_rate == 0.5
    assert vote(judged([0, 0], [True, None]), has_reference=True).pass_rate is None


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
    assert (reason, chosen["response_index"], chosen["answer"]) == ("", 3, None)


def test_a_record_with_one_response_keeps_it() -> None:
    single = verified({"instruction": "?", "response": "\\boxed{1}"}, judged([0]))
    assert with_response(single, keep_unverified=False) == (single, "")
    assert (single["agreement"], single["pass_rate"], single["difficulty_measured"]) == (None, None, None)


def test_a_job_is_made_of_one_response_or_several() -> None:
    assert job_of({"response": "a"}).responses == ["a"]  # type: ignore[union-attr]
    assert job_of({"responses": ["a", "b"], "reference_answer": "1"}).reference == "1"  # type: ignore[union-attr]
    assert job_of({"instruction": "?"}) is job_of({"responses": []}) is None
    assert choose([], {"responses": []}) is None

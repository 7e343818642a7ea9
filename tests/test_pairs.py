"""Pairs: which two responses, and why a problem gives none."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from magpie.common.console import MagpieError
from magpie.preferences.config import load_pair_settings
from magpie.preferences.pairs import STRATEGIES, Candidate, NoPair, Pair, PairMaker, Strategy, row_of, spread
from magpie.preferences.statistics import Statistics, longer_wins
from magpie.text.degeneration import _periodic, ends_in_loop

OF_ONE = STRATEGIES[:3]
LOOP = "Then 2 + 2 = 4, so we go on. " * 40


def record(groups: list[int | None], **more: Any) -> dict[str, Any]:
    """A verified record: a response's answer is its group's number."""
    texts = [f"Response {i}: {'so ' * 20}the answer is {group}." for i, group in enumerate(groups)]
    answers = [None if group is None else f"{group}" for group in groups]
    base = {"id": "p", "instruction": "What is it?", "responses": texts, "answers": answers, "answer_groups": groups}
    return base | {"is_correct": [None] * len(groups)} | more


def words(length: int) -> str:
    """So many characters that are no loop."""
    return " ".join(map(str, range(1000)))[:length]


def judged(correct: list[bool | None], groups: list[int | None], **more: Any) -> dict[str, Any]:
    return record(groups, is_correct=correct, reference_answer="0", **more)


def made(row: dict[str, Any], strategy: Strategy = "verified", wanted: int = 1, seed: int = 0, **settings: Any) -> list[Pair]:
    changed = msgspec.structs.replace(load_pair_settings(strategy), **settings)
    return PairMaker(strategy, changed, wanted=wanted, seed=seed).pairs(row)


def places(row: dict[str, Any], strategy: Strategy = "verified", **more: Any) -> tuple[int, int]:
    [pair] = made(row, strategy, **more)
    return pair.chosen.index, pair.rejected.index


def reason(row: dict[str, Any], strategy: Strategy = "verified", **settings: Any) -> str:
    with pytest.raises(NoPair) as refusal:
        made(row, strategy, **settings)
    return refusal.value.reason


def test_every_strategy_has_settings() -> None:
    assert [load_pair_settings(strategy).longest_ratio >= 1 for strategy in STRATEGIES] == [True] * 5


# --- verified, by the reference answer -------------------------------------------------------------------------------


def test_with_a_reference_answer_the_best_rewarded_right_stands_against_the_most_tempting_wrong_one() -> None:
    row = judged([True, False, True, False, False], [0, 1, 0, 2, 1], rewards=[0.1, 0.5, 0.3, 0.9, 0.7])
    assert places(row) == (2, 3)
    assert places(row, rejected="least") == (2, 3)  # the answer that was given most seldom
    assert places(row, chosen="shortest", rejected="tempting")[1] == 3
    assert made(row)[0].why == "reference"


def test_the_reference_answer_wins_over_a_majority() -> None:
    assert places(judged([False, False, False, True], [1, 1, 1, 0]))[0] == 3


def test_without_rewards_the_shortest_right_stands_against_the_most_frequent_wrong_one() -> None:
    row = judged([True, True, False, False, False], [0, 0, 1, 2, 2])
    row["responses"][0] += " And so on."
    [pair] = made(row)
    assert pair.chosen.index == 1
    assert pair.rejected.group == 2


def test_a_right_one_without_a_reward_comes_after_those_that_have_one() -> None:
    assert places(judged([True, True, False], [0, 0, 1], rewards=[None, -9.0, 1.0])) == (1, 2)


@pytest.mark.parametrize(
    ("correct", "groups", "why"),
    [
        ([True, True], [0, 0], "none_wrong"),
        ([False, False], [0, 1], "none_right"),
        ([None, None], [None, None], "not_compared"),
        ([True, None], [0, None], "none_wrong"),  # a time-out is no verdict
        ([True, False], [0, None], "rejected_unread_answer"),
        ([True, False], [0, 0], "same_answer"),
    ],
)
def test_what_a_reference_answer_refuses(correct: list[bool | None], groups: list[int | None], why: str) -> None:
    row = judged(correct, groups)
    row["answers"] = ["x" if group is None else answer for group, answer in zip(groups, row["answers"], strict=True)]
    assert reason(row) == why


def test_a_rejected_one_without_an_answer_only_where_it_is_asked_for() -> None:
    row = judged([True, False], [0, None])
    assert reason(row) == "rejected_no_answer"
    assert places(row, rejected_without_answer=True) == (0, 1)
    vote = record([0, 0, 0, None])
    assert reason(vote) == "all_agree"
    assert places(vote, rejected_without_answer=True)[1] == 3


def test_shares_are_of_all_that_was_asked_for() -> None:
    row = record([0, 0, 0, 1, None, None])
    [pair] = made(row)
    assert pair.vote_margin == pytest.approx(2 / 6)
    assert reason(row | {"lost_responses": 1}) == "low_agreement"  # 3 of 7
    assert reason(row | {"votes_asked": 8}) == "low_agreement"
    assert reason(record([0, 0, 0, 0, 1, 1, None, None]), least_margin=0.3) == "low_margin"  # 4 against 2 of 8, not of 6


# --- verified, by the vote -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([0, 0, 0, 0], "all_agree"),
        ([0, 0, 0, None], "all_agree"),
        ([0, 0, None, None], "few_votes"),
        ([None, None, None], "few_votes"),
        ([0, 1, 2], "low_agreement"),
        ([0, 0, 1, 1], "low_margin"),
        ([0, 0, 0, 1, 1], "low_margin"),  # 3 against 2 of 5
        ([0, 0, 0, 1, 2], (0, 3)),
        ([0, 0, 1], (0, 2)),
        ([0, 0, 0, 0, 1, 1, 2, 3], (0, 6)),  # 4 against 2 of 8: just enough
        ([0, 0, 0, 0, 1, 1, 1, 2], "low_margin"),
        ([0, 0, 0, 1, 2, 3, 4], "low_agreement"),  # 3 of 7
        ([0, 0, 0, 0, 1, 2, 3], (0, 4)),  # 4 of 7
    ],
)
def test_what_a_vote_is_worth(groups: list[int | None], expected: str | tuple[int, int]) -> None:
    row = record(groups)
    if isinstance(expected, str):
        assert reason(row) == expected
    else:
        [pair] = made(row)
        assert pair.chosen.group == 0
        assert pair.rejected.votes == min(groups.count(group) for group in set(groups) if group is not None)
        assert pair.why == "majority"


def test_by_vote_the_rejected_is_the_most_seldom_given_then_the_worst_rewarded() -> None:
    row = record([0, 0, 0, 0, 1, 1, 2, 3], rewards=[1, 2, 3, 4, -9, 9, 5, 6])
    assert places(row) == (3, 6)
    assert places(row, rejected_by_vote="tempting") == (3, 5)


def test_thresholds_hold_exactly_at_decimal_fractions() -> None:
    row = record([0] * 11 + [1] * 3 + list(range(2, 8)))
    assert made(row, least_agreement=0.55, least_margin=0.4)
    assert reason(row, least_agreement=0.56) == "low_agreement"
    assert reason(row, least_margin=0.41) == "low_margin"


# --- consensus and reward --------------------------------------------------------------------------------------------


def test_consensus_weighs_a_pair_with_its_vote_margin_and_looks_at_no_reward() -> None:
    groups = [0, 0, 0, 0, 0, 1, 1, 2]
    chosen = {places(record(groups, rewards=[float(i == n) for i in range(8)]), "consensus", seed=1) for n in range(8)}
    assert len(chosen) == 1
    [pair] = made(record(groups), "consensus")
    assert (pair.rejected.index, pair.vote_margin, pair.weight, pair.why) == (7, 4 / 8, 4 / 8, "consensus")
    assert made(record([0, 0, 0, 0, 1]))[0].weight == 1.0  # the other strategies do not weigh


def test_the_original_rule_never_takes_two_equal_answers_and_needs_a_margin() -> None:
    row = record([0, 1, 0, 2], rewards=[5.0, 3.0, 0.5, 1.0])
    assert places(row, "reward") == (0, 3)  # the worst rewarded has the best one's answer
    assert reason(row, "reward", least_reward_margin=5.0) == "low_reward_margin"
    assert places(row, "reward", least_reward_margin=3.9) == (0, 3)
    assert reason(record([0, 0, 0], rewards=[1.0, 2.0, 3.0]), "reward") == "same_answer"
    assert reason(record([0, 1], rewards=[1.0, 1.0]), "reward") in ("low_reward_margin", "same_answer")
    assert reason(record([0, 1], rewards=[None, 1.0]), "reward") == "no_rewards"


# --- what is in no pair ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", OF_ONE)
@pytest.mark.parametrize(
    ("text", "finish", "why"),
    [
        ("cut he", "length", "truncated"),
        ("round and round", "repetition", "looping"),
        (LOOP, "stop", "looping"),
        (LOOP, None, "looping"),
        (" \n", "stop", "empty"),
        ("stopped by the server", "abort", "unfinished"),
    ],
)
def test_unfit_responses_are_on_neither_side(strategy: Strategy, text: str, finish: str | None, why: str) -> None:
    rewards = [4.0, 3.0, 2.0, 1.0]
    for bad, side in ((3, "rejected"), (slice(0, 3), "chosen")):
        row = record([0, 0, 0, 1], rewards=rewards)
        row["finish_reason"] = [None] * 4 if finish is None else ["stop"] * 4
        for place in [3] if bad == 3 else [0, 1, 2]:
            row["responses"][place] = text + " " * place if why == "empty" else f"{place} {text}"
            row["finish_reason"][place] = finish
        found = reason(row, strategy)
        assert (
            found == f"{side}_{why}" if strategy != "reward" else found in (f"{side}_{why}", "same_answer", "low_reward_margin")
        )


def test_a_response_without_a_finish_reason_is_not_known_to_be_cut() -> None:
    assert places(record([0, 0, 0, 1])) == places(record([0, 0, 0, 1], finish_reason=["stop"] * 4))
    assert places(record([0, 0, 0, 1], finish_reason=[None] * 4))


def test_another_response_steps_in_for_one_that_is_unfit() -> None:
    row = judged([True, True, False, False], [0, 0, 1, 2], rewards=[9.0, 1.0, 9.0, 1.0])
    row["finish_reason"] = ["length", "stop", "length", "stop"]
    assert places(row) == (1, 3)


def test_lengths_are_within_the_ratio_chain_of_thought_included() -> None:
    row = judged([True, False], [0, 1])
    row["responses"] = [words(100), words(201)]
    assert reason(row) == "lengths_apart"
    row["responses"][1] = words(200)
    assert places(row) == (0, 1)
    row["reasoning"] = [words(400), None]
    assert reason(row) == "lengths_apart"
    without = PairMaker("verified", load_pair_settings("verified"), reasoning=False)
    assert without.pairs(row)[0].chosen.text == words(100)


def test_a_better_fitting_length_is_taken_before_the_problem_is_given_up() -> None:
    row = judged([True, False, False], [0, 1, 2], rewards=[1.0, 9.0, 2.0])
    row["responses"] = [words(100), words(500), words(120)]
    assert places(row) == (0, 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"responses": None}, "no_responses"),
        ({"responses": []}, "no_responses"),
        ({"answer_groups": None}, "not_verified"),
        ({"answer_groups": [0]}, "inconsistent_lists"),
        ({"rewards": [1.0]}, "inconsistent_lists"),
        ({"finish_reason": "stop"}, "inconsistent_lists"),
    ],
)
def test_records_that_say_too_little_are_refused(change: dict[str, Any], why: str) -> None:
    assert reason(record([0, 0, 0, 1]) | change) == why


def test_a_stage_that_was_left_out_is_an_error_that_names_it() -> None:
    row = record([0, 0, 1])
    with pytest.raises(MagpieError, match=r"gen_po_rewards\.py"):
        made(row, "reward")
    del row["answer_groups"]
    with pytest.raises(MagpieError, match=r"verify\.py"):
        made(row)


# --- several pairs, the seed, the row --------------------------------------------------------------------------------


def test_several_pairs_use_each_response_as_seldom_as_they_can() -> None:
    row = judged([True, True, True, False, False, False], [0, 0, 0, 1, 2, 3], rewards=[6.0, 5, 4, 3, 2, 1])
    pairs = [(pair.chosen.index, pair.rejected.index) for pair in made(row, wanted=3)]
    assert pairs == [(0, 3), (1, 4), (2, 5)]
    every = [(pair.chosen.index, pair.rejected.index) for pair in made(row, wanted=100)]
    assert len(every) == len(set(every)) == 9
    assert every[:3] == pairs


def test_a_response_that_is_there_twice_is_in_one_pair() -> None:
    row = judged([True, True, False, False], [0, 0, 1, 1])
    row["responses"] = ["right", "right", "wrong", "wrong"]
    assert len(made(row, wanted=9)) == 1


def test_the_seed_alone_decides_between_equals() -> None:
    row = record([0] * 6 + [1, 2])
    found = [tuple(places(row, "consensus", seed=seed)) for seed in range(30)]
    assert found == [tuple(places(row, "consensus", seed=seed)) for seed in range(30)]
    assert len(set(found)) > 5


def test_any_record_gives_allowed_pairs_or_a_reason() -> None:
    order = random.Random(3)
    reasons = set()
    for _ in range(1500):
        size = order.randint(1, 9)
        groups = [order.choice([None, 0, 0, 0, 1, 2]) for _ in range(size)]
        row = record(groups, rewards=[order.choice([None, round(order.gauss(0, 1), 1)]) for _ in range(size)])
        row["responses"] = [order.choice(["", "x" * order.randint(1, 40), f"a {i}"]) for i in range(size)]
        row["finish_reason"] = [order.choice(["stop", "stop", "stop", "length"]) for _ in range(size)]
        if order.random() < 0.5:
            row["reference_answer"], row["is_correct"] = "0", [None if g is None else g == 0 for g in groups]
        strategy = order.choice(OF_ONE)
        try:
            pairs = made(row, strategy, wanted=order.randint(1, 5))
        except NoPair as refusal:
            reasons.add(refusal.reason)
            continue
        for pair in pairs:
            one, other = pair.chosen, pair.rejected
            assert one.group != other.group and one.answer is not None and other.answer is not None
            assert row["finish_reason"][one.index] == row["finish_reason"][other.index] == "stop"
            assert (
                one.text.strip()
                and other.text.strip()
                and max(len(one.text), len(other.text)) <= 2 * min(len(one.text), len(other.text))
            )
            if row.get("reference_answer") and strategy == "verified":
                assert one.correct is True and other.correct is False
    assert {"low_margin", "none_right", "lengths_apart", "few_votes", "no_rewards"} <= reasons


def test_the_row_keeps_what_is_known_of_the_problem_and_restores_the_chain_of_thought() -> None:
    row = judged(
        [True, False, False], [0, 1, 1], rewards=[2.0, 1.0, 0.5], domain="algebra", agreement=2 / 3, majority_answer="1"
    )
    row["reasoning"] = ["Hm.", "No.", None]
    [pair] = made(row)
    out = row_of(row, pair, 0)
    assert out["prompt"] == [{"role": "user", "content": "What is it?"}]
    assert out["chosen"] == [{"role": "assistant", "content": f"<think>\nHm.\n</think>\n\n{row['responses'][0]}"}]
    assert out["rejected"][0]["content"].startswith("<think>\nNo.\n</think>\n\n")
    evidence = {key: value for key, value in out.items() if key not in ("prompt", "chosen", "rejected", "instruction")}
    assert evidence == {
        "id": "p",
        "domain": "algebra",
        "majority_answer": "1",
        "agreement": 2 / 3,
        "reference_answer": "0",
        "pair": 0,
        "chosen_index": 0,
        "rejected_index": 1,
        "answer_chosen": "0",
        "answer_rejected": "1",
        "score_chosen": 2.0,
        "score_rejected": 1.0,
        "votes_chosen": 1,
        "votes_rejected": 2,
        "vote_margin": -1 / 3,
        "pair_weight": 1.0,
        "why": "reference",
    }


# --- statistics ------------------------------------------------------------------------------------------------------


def candidate(length: int, *, correct: bool | None = None, reward: float | None = None) -> Candidate:
    return Candidate(0, "x" * length, "1", 0, correct, reward, "", 1, b"")


def test_the_figures_of_a_set_of_pairs() -> None:
    statistics = Statistics()
    assert statistics.figures() == {} and statistics.length_bias(0.6) == ""
    statistics.add(
        Pair(candidate(30, correct=True, reward=2.0), candidate(10, correct=False, reward=0.5), "reference", 0.5, 1.0)
    )
    statistics.add(Pair(candidate(10, correct=True), candidate(20, correct=True), "majority", None, 1.0))
    assert statistics.figures() == {
        "pairs_by": "reference 1, majority 1",
        "by_reference_answer": "right against wrong 50.0%, right against right 50.0% (of 2 pairs)",
        "mean_characters": "chosen 20, rejected 15",
        "longer_wins": 0.5,
        "mean_vote_margin": 0.5,
        "mean_reward_margin": 1.5,
    }


@pytest.mark.parametrize(
    ("longer", "shorter", "word"),
    [(80, 20, "longer"), (20, 80, "shorter"), (58, 42, ""), (3, 1, ""), (6, 0, "longer"), (50, 50, "")],
)
def test_a_length_that_gives_the_chosen_away_is_warned_of(longer: int, shorter: int, word: str) -> None:
    statistics = Statistics()
    for lengths, times in (((20, 10), longer), ((10, 20), shorter)):
        for _ in range(times):
            statistics.add(Pair(candidate(lengths[0]), candidate(lengths[1]), "majority", None, 1.0))
    warning = statistics.length_bias(0.6)
    assert f"the {word} text" in warning if word else warning == ""


def test_equal_lengths_count_half() -> None:
    assert [longer_wins(2, 1), longer_wins(1, 2), longer_wins(1, 1)] == [1.0, 0.0, 0.5]


def test_spreading_asks_for_no_more_than_there_is() -> None:
    assert spread([], 3) == []


# --- loops: the quick sign changes no verdict ------------------------------------------------------------------------


def by_definition(text: str) -> bool:
    """Whether an end of at least 200 characters has a period that fits six times, tried one by one."""
    return any(
        text[-length:][:-period] == text[-length:][period:]
        for period in range(1, len(text) // 6 + 1)
        for length in [max(200, 6 * period)]
        if length <= len(text)
    )


def test_the_quick_sign_of_a_loop_changes_no_verdict() -> None:
    order = random.Random(5)
    verdicts = []
    for _ in range(150):
        unit = "".join(order.choice("ab ") for _ in range(order.randint(1, 60)))
        text = "".join(order.choice("abc ") for _ in range(order.randint(0, 100))) + unit * order.randint(1, 12)
        text += unit[: order.randint(0, len(unit))] + "x" * (order.random() < 0.1)
        verdicts.append(_periodic(text))
        assert _periodic(text) is by_definition(text), text
    assert 20 < sum(verdicts) < 130
    assert ends_in_loop(LOOP)

"""Doubts: what responses say against their problem, and what only sounds like it."""

from __future__ import annotations

import pytest

from made_doubts import ALSO_HARMLESS, ALSO_UNSOLVABLE, HARMLESS, OPEN_HARMLESS, OPEN_UNSOLVABLE, UNSOLVABLE
from magpie.verification.annotate import verified
from magpie.verification.doubts import says_unsolvable
from magpie.verification.pool import Judgement


@pytest.mark.parametrize("response", [*UNSOLVABLE, *ALSO_UNSOLVABLE])
def test_a_response_that_says_so_is_found(response: str) -> None:
    assert says_unsolvable(response)
    assert says_unsolvable(f"<think>\nLet me see.\n</think>\n\nWe begin with what is given.\n\n{response}")


@pytest.mark.parametrize("response", [*HARMLESS, *ALSO_HARMLESS])
def test_a_harmless_one_is_left_alone(response: str) -> None:
    assert not says_unsolvable(response)


def test_what_is_not_there_is_a_doubt_in_whatever_words() -> None:
    assert not [text for text in OPEN_HARMLESS if says_unsolvable(text)]
    assert len([text for text in OPEN_UNSOLVABLE if says_unsolvable(text)]) >= 92  # of 100


def test_what_is_not_there_is_no_doubt_where_there_is_an_answer_all_the_same() -> None:
    assert says_unsolvable("The height was never supplied.")
    assert says_unsolvable("The height was never supplied.\n\n\\boxed{\\text{unknown}}")
    assert not says_unsolvable("The height was never supplied. By similarity it is $4$, and the answer is \\boxed{24}.")
    assert says_unsolvable("The problem is inconsistent. If $k$ were $1$, the answer would be \\boxed{24}.")


def test_musings_do_not_count_and_neither_does_an_answer_that_the_problem_asks_for() -> None:
    assert not says_unsolvable("<think>\nThe problem is inconsistent? No.\nThe problem is flawed.\n</think>\n\nIt is $4$.")
    offered = "What is $x$? (A) 1 (B) 2 (C) It cannot be determined from the information given."
    assert not says_unsolvable("(C). It cannot be determined from the information given.", offered)
    assert not says_unsolvable("The conditions are inconsistent.", "Is the system consistent?")


def test_shares_are_of_all_that_were_asked_for() -> None:
    def doubts(responses: list[str], groups: list[int | None], asked: int) -> dict[str, float | bool | None]:
        answers = [None if group is None else str(group) for group in groups]
        states = ["unparsed" if group is None else "parsed" for group in groups]
        record = {"instruction": "What?", "responses": responses, "votes_asked": asked}
        found = verified(record, Judgement(answers, states, groups, [None] * len(groups)))
        return found["doubts"]

    bad = UNSOLVABLE[0]
    assert doubts([bad, "1", "1"], [None, 1, 1], 4) == {"unsolvable": 0.25, "unparsed": 0.25, "no_majority": False}
    assert doubts([bad, bad, "1", "2"], [None, None, 1, 2], 4) == {"unsolvable": 0.5, "unparsed": 0.5, "no_majority": True}
    assert doubts(["1"], [1], 1) == {"unsolvable": 0.0, "unparsed": 0.0, "no_majority": None}

"""Cleaning on raw turns in the habits of several models (raw_turns.py)."""

from __future__ import annotations

import pytest

from magpie.cleaning.clean import clean
from raw_no_problems import NO_PROBLEMS
from raw_turns import LEAKING, PRESENTED, PROBLEMS


@pytest.mark.parametrize("text", PROBLEMS, ids=lambda text: repr(text[:40]))
def test_a_real_problem_in_unusual_dress_passes_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert (cleaned.text, cleaned.drop_reason) == (text, "")


@pytest.mark.parametrize(("problem", "leak"), LEAKING, ids=lambda text: repr(text[:40]))
def test_what_leaked_in_the_habits_of_other_models_is_cut(problem: str, leak: str) -> None:
    cleaned = clean(problem + leak)
    assert (cleaned.text, cleaned.drop_reason) == (problem, "")


@pytest.mark.parametrize(("heading", "problem"), PRESENTED, ids=lambda text: repr(text[:40]))
def test_what_presents_a_problem_is_taken_off(heading: str, problem: str) -> None:
    cleaned = clean(heading + problem)
    assert (cleaned.text, cleaned.drop_reason) == (problem, "")


@pytest.mark.parametrize("text", NO_PROBLEMS, ids=lambda text: repr(text[:40]))
def test_what_is_no_problem_is_dropped(text: str) -> None:
    assert clean(text).drop_reason

"""Conditions of filter.py --where, and the figures that verify.py prints."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie.common.console import MagpieError
from magpie.selection.where import Where
from magpie.verification.scores import Scores

RECORD: dict[str, Any] = {
    "pass_rate": 0.5,
    "domain": "algebra",
    "tags": ["a", "b"],
    "nothing": None,
    "text": "0.25",
    "deep": {"n": 3, "flag": True},
    "response": "x" * 40,
}
HOLDS: dict[str, bool | None] = {
    "pass_rate < 0.7": True,
    "pass_rate<0.5": False,
    "0.1 < pass_rate <= 0.5": True,
    "0.1 < pass_rate < 0.5": False,
    "text < 0.3 and text == 0.25": True,
    'domain in ["algebra", "geometry"]': True,
    "domain not in ['geometry']": True,
    'tags contains "a"': True,
    'tags contains "c"': False,
    '"gebr" in domain': True,
    "deep.n >= 3 and deep.flag == true": True,
    "deep.flag == 1": False,
    "response|length > 39 and tags|count == 2": True,
    "not (pass_rate > 0.7 or domain = 'geometry')": True,
    "not not pass_rate > 0.7": False,
    "pass_rate > 0.7 or pass_rate < 0.6 and domain != 'x'": True,
    "nothing < 1": None,
    "missing == 1": None,
    "not missing == 1": None,
    "missing == 1 or pass_rate == 0.5": True,
    "missing == 1 and pass_rate == 0.5": None,
    "missing == 1 and pass_rate == 1": False,
    "nothing == null and missing == null": True,
    "pass_rate != null": True,
    "missing != null": False,
    "nothing == missing": None,
    "-1 < pass_rate and 1e-3 < pass_rate": True,
}


@pytest.mark.parametrize("text", HOLDS)
def test_a_condition_is_true_false_or_not_known(text: str) -> None:
    reason, _ = Where(text).drop_reason(RECORD)
    assert reason == {True: "", False: "where", None: "not_known"}[HOLDS[text]]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "pass_rate",
            "pass_rate <",
            "< 0.7",
            "pass_rate < 0.7 and",
            "(pass_rate < 0.7",
            "pass_rate < 0.7)",
            "a b",
            "a ! b",
        ),
        *(
            "a == 'x",
            "a in [1, 2",
            "not",
            "a not 3",
            "a.b. == 1",
            "a|size > 1",
            "a == 1 == ",
            "__import__('os')",
            "a == 1; b == 2",
        ),
        *("a" * 2001, "(" * 60 + "a == 1" + ")" * 60, "not " * 60 + "a == 1", "3 == 0x10", "a == 1.2.3"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(MagpieError) as error:
        Where(text)
    assert "--where" in str(error.value) and "\n" not in str(error.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    with contextlib.suppress(MagpieError):
        Where(text).drop_reason(RECORD)


def test_values_that_cannot_be_compared_and_fields_that_nobody_has_are_errors() -> None:
    for text in ("domain < 3", "tags > 1", "pass_rate in 3"):
        with pytest.raises(MagpieError, match="Change the condition"):
            Where(text).drop_reason(RECORD)
    condition = Where("pass_rate < 1 or pasrate < 1")
    condition.drop_reason(RECORD)
    with pytest.raises(MagpieError, match="no record has `pasrate`"):
        condition.refuse_unknown_fields()


def record(*verdicts: bool | None, **more: Any) -> dict[str, Any]:
    groups = [0 if verdict else None for verdict in verdicts]
    return {"answer_groups": groups, "is_correct": list(verdicts), "reference_answer": "1", "answered": 0.5, **more}


@pytest.mark.parametrize("right", range(5))
def test_pass_at_k_is_the_share_of_all_choices_of_k_responses_with_a_right_one(right: int) -> None:
    verdicts = [True] * right + [False] * (4 - right)
    scores = Scores()
    scores.add(record(*verdicts))
    for k, value, problems in scores.pass_at():
        choices = list(itertools.combinations(verdicts, k))
        assert problems == 1 and value == pytest.approx(sum(map(any, choices)) / len(choices))
    assert [k for k, _, _ in scores.pass_at()] == [1, 2, 4]


def test_figures_are_shares_of_what_was_asked_for() -> None:
    scores = Scores()
    scores.add(record(True, False, lost_responses=2, agreement=0.5))
    scores.add(record(True, None))
    scores.add({"answer_groups": [0, 0], "is_correct": [None, None], "answered": 1.0, "agreement": 1.0})
    scores.add({"instruction": "not verified"})
    told = dict(scores.rows())
    assert told["right"] == "33.3% of 6 responses; 1 could not be compared"
    assert told["pass@1"] == "25.0% of 1 problems" and told["pass@4"] == "100.0% of 1 problems"
    assert told["agreement"] == "75.0% on average of 2" and told["answered"] == "66.7% on average of 3"

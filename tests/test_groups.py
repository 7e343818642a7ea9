"""Groups of equal answers do not depend on the order of the responses; all members are equal pairwise."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from magpie.verification.equality import Verdict, compare
from magpie.verification.groups import grouped, spelling


@cache
def equal(one: str, other: str) -> bool:
    return compare(one, other) is Verdict.RIGHT


def partition(answers: list[str], groups: list[int | None]) -> Counter[tuple[str, ...]]:
    """The groups as multisets of spellings; those that are in none, under their own mark."""
    names = {group for group in groups if group is not None}
    found = [tuple(sorted(a for a, g in zip(answers, groups, strict=True) if g == name)) for name in names]
    return Counter([*found, *((answer, "none") for answer, group in zip(answers, groups, strict=True) if group is None)])


def test_all_orders_of_five_answers_give_the_same_groups() -> None:
    orders = list(permutations(["0.1", "10%", "10", "10", "0.1"]))
    assert len(orders) == 120
    found = {frozenset(partition(list(order), grouped(order, equal)).items()) for order in orders}
    assert found == {frozenset({(("0.1", "0.1"), 1), (("10", "10"), 1), (("10%", "none"), 1)})}


def test_an_answer_equal_to_two_groups_goes_to_the_larger() -> None:
    for order in permutations(["0.1", "10%", "10", "10"]):
        assert partition(list(order), grouped(order, equal)) == Counter([("0.1",), ("10", "10", "10%")])


def test_what_is_no_answer_is_in_no_group() -> None:
    assert grouped([None, "1", None, "1.0", "2"], equal) == [None, 0, None, 0, 1]


def test_the_spelling_kept_is_the_most_frequent_then_the_first_in_sort_order() -> None:
    assert spelling(["1/2", "0.5", "0.5", "3"], [0, 0, 0, 1], 0) == "0.5"
    assert spelling(["1/2", "0.5", None], [0, 0, None], 0) == "0.5"


SPELLINGS = [
    "0.1",
    "10%",
    "10",
    "1/10",
    "10.0",
    "2",
    r"\frac{4}{2}",
    "x=2",
    "2 \\text{ cm}",
    "7",
    "700%",
    "7.0",
    "x",
    "y",
    "no",
]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(SPELLINGS), min_size=16, max_size=16), st.randoms())
def test_random_orders_of_sixteen_answers_give_the_same_groups(answers: list[str], random: object) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert partition(answers, grouped(answers, equal)) == partition(shuffled, grouped(shuffled, equal))


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=16), st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7))), st.randoms()
)
def test_any_relation_gives_groups_that_are_equal_pairwise(
    numbers: list[int], pairs: set[tuple[int, int]], random: object
) -> None:
    """Equality here is any symmetric relation: far worse than rules about answers."""

    def related(one: str, other: str) -> bool:
        return (int(one), int(other)) in pairs or (int(other), int(one)) in pairs

    answers = [str(number) for number in numbers]
    groups = grouped(answers, related)
    for (one, a), (other, b) in combinations(zip(answers, groups, strict=True), 2):
        assert a != b or a is None or one == other or related(one, other)
    shuffled = list(answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert partition(answers, groups) == partition(shuffled, grouped(shuffled, related))

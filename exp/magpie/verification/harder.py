"""Whether a problem is harder than another: the votes of both compared in waves, by a test with a known error.

A problem's rate is its leading answer's share of the requested votes. After 8, 16, 24 and 32 votes of each the rates
are compared by Fisher's exact test, one-sided, at levels of the O'Brien-Fleming kind that leave little to the first looks: of
problems that are not harder at most `ERROR` pass over all looks. tests/test_evolve.py simulates it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb

ERROR = 0.05
LEVELS = {8: 0.001, 16: 0.012, 24: 0.03, 32: 0.055}
"""Votes of each → the test's level at that look."""
GIVES_UP_FROM = 16
"""Votes from which a child whose rate is not lower is given up: it saves votes, and loses almost nothing."""
HARDER, NOT_HARDER, UNSOLVED, GO_ON = "harder", "not_harder", "unsolved", ""


@dataclass(frozen=True)
class Votes:
    """Votes on one problem: all requested, the largest group's, and whether that group leads alone."""

    asked: int
    largest: int
    leads: bool

    @property
    def rate(self) -> float:
        """The leading answer's share."""
        return self.largest / self.asked if self.leads else 0.0


def votes_of(groups: list[int | None], asked: int) -> Votes:
    """Return the votes in a judgement's groups; a single answer agrees with nothing, so it does not lead."""
    counts = sorted((groups.count(group) for group in {*groups} - {None}), reverse=True)
    largest, second, *_ = [*counts, 0, 0]
    return Votes(asked, largest, largest >= 2 and largest > second)


@lru_cache(maxsize=65536)
def p_value(parent: int, parent_asked: int, child: int, child_asked: int) -> float:
    """Return the probability of this few or fewer votes of the child if both rates are equal (Fisher's exact test)."""
    both = parent + child
    ways = sum(comb(child_asked, few) * comb(parent_asked, both - few) for few in range(max(0, both - parent_asked), child + 1))
    return ways / comb(parent_asked + child_asked, both)


def compared(parent: Votes, child: Votes) -> tuple[str, float]:
    """Return the verdict on a child after its last wave, and the test's p-value; `GO_ON` requests another wave.

    A child is harder if its rate is significantly lower; it must have a leading answer too, else its answer is unknown.
    """
    last = child.asked >= max(LEVELS)
    if not parent.leads:
        return (UNSOLVED if last else GO_ON), 1.0
    p = p_value(parent.largest, parent.asked, child.largest, child.asked)
    lower = child.largest * parent.asked < parent.largest * child.asked
    if lower and p <= LEVELS[child.asked]:
        return HARDER if child.leads else (UNSOLVED if last else GO_ON), p
    if last or (not lower and child.asked >= GIVES_UP_FROM):
        return NOT_HARDER, p
    return GO_ON, p

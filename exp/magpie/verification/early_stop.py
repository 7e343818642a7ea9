"""Votes that are stopped early: when they are, and what share of all votes the majority would have had.

The share among the votes that came says too much: they were stopped because the leader was ahead. What the first vote says was
not chosen by anybody, so it is right on average; averaged over all orders in which the same votes could have come without being
stopped before, it is just as right and varies the least (Rao and Blackwell; for `settled` it is Haldane's (m-1)/(n-1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb, sqrt
from typing import Any

from magpie.verification.pool import Judgement

NEVER, SETTLED, POSTERIOR, ALL = "never", "settled", "posterior", "all"
RULES = (SETTLED, POSTERIOR, NEVER)
THRESHOLD = 0.95
"""Of the leader's posterior: docs/LOG.md has what it saves and costs."""
FEWEST = 3
"""Fewer votes verify nothing."""
Z = 1.959964
"""Of a 95% interval."""


@dataclass(frozen=True)
class Rule:
    """A way to stop (`settled` or `posterior`) and the votes of a problem at most.

    `settled`: the leader has more than half of all votes, so no other can catch up, and gates up to a half are passed.
    `posterior`: that, or the leader's posterior is at `THRESHOLD`.
    """

    name: str
    votes: int

    def reason(self, leader: int, second: int, asked: int) -> str:
        """Return why no more votes are needed, or an empty text."""
        if 2 * leader > self.votes and asked >= min(FEWEST, self.votes):
            return SETTLED
        if self.name == POSTERIOR and asked >= FEWEST and surely_leads(leader, second) >= THRESHOLD:
            return POSTERIOR
        return "" if asked < self.votes else ALL

    def wave(self, leader: int, second: int, asked: int) -> int:
        """Return the fewest further votes after which there may be a reason to stop: none of them is asked for in vain."""
        return next(more for more in range(1, self.votes + 1) if self.reason(leader + more, second, asked + more))


@lru_cache(maxsize=4096)
def surely_leads(leader: int, second: int) -> float:
    """Return how probable it is that of two answers the leader's is the likelier: Beta(leader + 1, second + 1) above 1/2."""
    tosses = leader + second + 1
    return sum(comb(tosses, heads) for heads in range(leader + 1)) / 2**tosses


def tally(judgement: Judgement) -> tuple[int, int]:
    """Return the votes of the largest group and of its rival: all that differ, where it is in doubt which answers are equal."""
    groups = [group for group in judgement.groups if group is not None]
    counts = sorted((groups.count(group) for group in set(groups)), reverse=True)
    leader, second, *_ = [*counts, 0, 0]
    return leader, len(groups) - leader if judgement.doubts else second


def rule_of(record: dict[str, Any]) -> Rule | None:
    """Return the rule by which a record's votes were stopped, or might have been; None: all were asked for at once."""
    configs = record.get("gen_response_configs") or {}
    name, votes = configs.get("stop_when"), configs.get("num_responses")
    if not record.get("stop_reason") or name not in (SETTLED, POSTERIOR) or not isinstance(votes, int):
        return None
    return Rule(name, votes)


@dataclass(frozen=True)
class Shares:
    """The majority's share of all votes, as it is expected (None: not known) and within what it can still be; its interval."""

    expected: float | None
    within: float
    interval: list[float] | None


def shares(rule: Rule, groups: list[int | None], winner: int, asked: int) -> Shares:
    """Return the winner's shares after the `asked` votes that are in these groups; those that are not there are in none."""
    own = groups.count(winner)
    others = tuple(sorted(groups.count(group) for group in set(groups) if group not in (None, winner)))
    counts = (own, others, asked - own - sum(others))
    orders = _orders(rule, counts, first_is_own=False)
    expected = _orders(rule, counts, first_is_own=True) / orders if orders else None
    left = max(0, rule.votes - asked)
    within = min(max(own / asked if expected is None else expected, own / rule.votes), (own + left) / rule.votes)
    return Shares(expected, within, None if expected is None else wilson_of(expected, rule.wave(0, 0, 0)))


@lru_cache(maxsize=65536)
def _orders(rule: Rule, counts: tuple[int, tuple[int, ...], int], *, first_is_own: bool) -> int:
    """Return in how many orders these votes (the winner's, each other answer's, those without one) can come unstopped."""
    own, others, none = counts
    if own + sum(others) + none == 1:
        return int(own == 1 or not first_is_own)
    found = 0
    for before, ways in _before(own, others, none):
        leader, second, *_ = sorted([before[0], *before[1], 0, 0], reverse=True)
        if not rule.reason(leader, second, before[0] + sum(before[1]) + before[2]):
            found += ways * _orders(rule, before, first_is_own=first_is_own)
    return found


def _before(own: int, others: tuple[int, ...], none: int) -> list[tuple[tuple[int, tuple[int, ...], int], int]]:
    """Return what the votes can have been before the last one, and in how many ways."""
    found = [((own - 1, others, none), 1)] if own else []
    found += [((own, others, none - 1), 1)] if none else []
    for count in set(others):
        index = others.index(count)
        rest = others[:index] + others[index + 1 :]
        found.append(((own, tuple(sorted((*rest, count - 1))) if count > 1 else rest, none), others.count(count)))
    return found


def wilson_of(share: float, votes: int) -> list[float]:
    """Return the 95% Wilson interval of a share that is at least as exact as one of so many votes."""
    middle, spread = share + Z * Z / (2 * votes), Z * sqrt(share * (1 - share) / votes + Z * Z / (4 * votes * votes))
    low, high = ((middle + sign * spread) / (1 + Z * Z / votes) for sign in (-1, 1))
    return [round(max(0.0, low), 4), round(min(1.0, high), 4)]

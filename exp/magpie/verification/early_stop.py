"""Early stopping of votes: when to stop, and the majority's expected share of all votes.

The share among the cast votes is too high: they were stopped because the leader was ahead. Votes that are `settled` at
the n-th, the leader's m-th, are a sample of which the last was chosen: of the others (m-1)/(n-1) are the leader's, which is
right on average (Haldane 1945). After `posterior` the leader may differ from that of all votes, and no share is given.
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
"""For the leader's posterior: docs/LOG.md has its savings and costs."""
FEWEST = 3
"""Fewer votes verify nothing."""
Z = 1.959964
"""Of a 95% interval."""


@dataclass(frozen=True)
class Rule:
    """A stopping rule (`settled` or `posterior`) and the maximum votes of a problem.

    `settled`: the leader has more than half of all votes, so no other can catch up, and gates up to one half are passed.
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
        """Return the fewest further votes after which there may be a reason to stop: none of them is wasted."""
        return next(more for more in range(1, self.votes + 1) if self.reason(leader + more, second, asked + more))


@lru_cache(maxsize=4096)
def surely_leads(leader: int, second: int) -> float:
    """Return the probability that the leader is the likelier of two answers: Beta(leader + 1, second + 1) above 1/2."""
    tosses = leader + second + 1
    return sum(comb(tosses, heads) for heads in range(leader + 1)) / 2**tosses


def tally(judgement: Judgement) -> tuple[int, int]:
    """Return the votes of the largest group and of its rival: all that differ, if it is in doubt which answers are equal."""
    groups = [group for group in judgement.groups if group is not None]
    counts = sorted((groups.count(group) for group in set(groups)), reverse=True)
    leader, second, *_ = [*counts, 0, 0]
    return leader, len(groups) - leader if judgement.doubts else second


def rule_of(record: dict[str, Any]) -> Rule | None:
    """Return the rule by which a record's votes were or could have been stopped; None: all were requested at once."""
    configs = record.get("gen_response_configs") or {}
    name, votes = configs.get("stop_when"), configs.get("num_responses")
    if not record.get("stop_reason") or name not in (SETTLED, POSTERIOR) or not isinstance(votes, int):
        return None
    return Rule(name, votes)


@dataclass(frozen=True)
class Shares:
    """The majority's share of all votes: expected (None: unknown), clamped to its possible range; its interval."""

    expected: float | None
    within: float
    interval: list[float] | None


def shares(rule: Rule, own: int, asked: int) -> Shares:
    """Return the shares of the majority answer, with `own` of the requested votes."""
    most, left = rule.votes // 2 + 1, max(0, rule.votes - asked)
    expected = own / asked if not left else None
    if rule.name == SETTLED and own == most and asked > 1:
        expected = (most - 1) / (asked - 1)
    within = own / asked if expected is None else expected
    within = min(max(within, own / rule.votes), (own + left) / rule.votes)
    return Shares(expected, within, None if expected is None else wilson_of(expected, rule.wave(0, 0, 0)))


def wilson_of(share: float, votes: int) -> list[float]:
    """Return the 95% Wilson interval of a share that is at least as exact as one of so many votes."""
    middle, spread = share + Z * Z / (2 * votes), Z * sqrt(share * (1 - share) / votes + Z * Z / (4 * votes * votes))
    low, high = ((middle + sign * spread) / (1 + Z * Z / votes) for sign in (-1, 1))
    return [round(max(0.0, low), 4), round(min(1.0, high), 4)]

"""Votes: the joint verdict of several answers to one problem. A vote is a vote, never the truth.

Every share is of all requested responses: one without a final answer, or a lost one, agrees with none and is
not right. If votes may be stopped early (gen_res.py --stop_when), the majority's share is corrected: `early_stop.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from magpie.verification.config import load_difficulty_levels
from magpie.verification.early_stop import Rule, rule_of, shares
from magpie.verification.groups import spelling
from magpie.verification.pool import Judgement

FEWEST_ANSWERS, FEWEST_TO_VERIFY, LEAST_AGREEMENT = 2, 3, 0.5
"""One answer agrees with nothing; "verified" needs three answers and half of all requested to agree."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Vote:
    """The joint verdict of a problem's responses.

    `winner`: the majority's group, None on a tie; `majority_answer`: its spelling; `agreement`: the largest group's share;
    `answered`: the share with a final answer; `pass_rate`: the share that is right, with its `interval`.
    """

    winner: int | None
    majority_answer: str | None
    agreement: float | None
    answered: float
    pass_rate: float | None
    interval: list[float] | None


def asked_for(record: dict[str, Any], responses: int) -> int:
    """Return the number of responses requested for a problem, including lost ones; `responses` is how many it has."""
    return max(responses, record.get("votes_asked") or responses + (record.get("lost_responses") or 0))


def leaders(groups: Iterable[int | None]) -> tuple[int | None, int, int]:
    """Return the largest group (None on a tie), its votes, and those of the second; nothing for fewer than two answers."""
    counts = Counter(group for group in groups if group is not None)
    if counts.total() < FEWEST_ANSWERS:
        return None, 0, 0
    (winner, most), *rest = counts.most_common(2)
    second = rest[0][1] if rest else 0
    return winner if second < most else None, most, second


def votes_meant(record: dict[str, Any], responses: int) -> int:
    """Return the same, including those not requested after an early stop: a share of these is a lower bound."""
    rule = rule_of(record)
    return max(asked_for(record, responses), rule.votes if rule else 0)


def vote(judgement: Judgement, *, has_reference: bool, asked: int | None = None, rule: Rule | None = None) -> Vote:
    """Return the joint verdict of the responses, as shares of all requested (by default the existing ones).

    With a reference answer the pass rate is the share that is right (null if no answer could be compared with it), without one
    the share of the majority (null on a tie). Its interval is Wilson's at 95%: the lower end as if all that could not be
    compared were wrong, the upper end as if all of it were right. With the `rule` of an early stop the majority's share is
    the expected one of all votes, and the agreement is that, clamped to its possible range.
    """
    asked = asked or len(judgement.answers)
    answered = sum(answer is not None for answer in judgement.answers) / asked
    winner, most, _ = leaders(judgement.groups)
    answer = spelling(judgement.answers, judgement.groups, winner) if winner is not None else None
    if rule and winner is not None and not has_reference:
        share = shares(rule, most, asked)
        return Vote(winner, answer, share.within, answered, share.expected, share.interval)
    agreement = most / asked if most else None
    if rule and asked < rule.votes:  # stopped early: a rate of right ones cannot be computed from these
        return Vote(winner, answer, agreement, answered, None, None)
    right, unknown = _right(judgement) if has_reference else (None if winner is None else most, 0)
    if right is None:
        return Vote(winner, answer, agreement, answered, None, None)
    interval = [wilson(right, asked)[0], wilson(right + unknown, asked)[1]]
    return Vote(winner, answer, agreement, answered, right / asked, interval)


def _right(judgement: Judgement) -> tuple[int | None, int]:
    """Return how many are right (None: no answer could be compared with the reference), and how many are undecided."""
    verdicts = Counter(judgement.correct)
    pairs = zip(judgement.correct, judgement.answers, strict=True)
    compared = any(verdict is not None and answer is not None for verdict, answer in pairs)
    return (None if verdicts[None] and not compared else verdicts[True]), verdicts[None]


@lru_cache(maxsize=4096)
def wilson(right: int, judged: int) -> tuple[float, float]:
    """Return the 95% Wilson interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(right, judged).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


def is_verified(record: dict[str, Any]) -> bool:
    """Whether a record's vote counts as verified: a majority (no tie) of at least three answers, half of all requested."""
    parsed = sum(group is not None for group in record.get("answer_groups") or [])
    agreement = record.get("agreement")
    return record.get("majority_answer") is not None and parsed >= FEWEST_TO_VERIFY and (agreement or 0.0) >= LEAST_AGREEMENT


def is_right(record: dict[str, Any]) -> bool:
    """Return whether a record's answer equals its reference answer or, without one, has a clear majority."""
    if not record.get("reference_answer"):
        return is_verified(record)
    if record.get("why") == "reference":  # a pair
        return True
    verdicts, chosen = record.get("is_correct") or [], record.get("response_index")
    return bool(verdicts[chosen]) if chosen is not None and chosen < len(verdicts) else any(verdicts)


def difficulty(pass_rate: float | None) -> str | None:
    """Return the label of `configs/verify/difficulty.yaml` for a pass rate."""
    if pass_rate is None:
        return None
    levels = load_difficulty_levels()
    return next((level.label for level in levels if pass_rate >= level.least), levels[-1].label)


def choose(candidates: Sequence[int], record: dict[str, Any]) -> int | None:
    """Return which of the candidate responses to keep: the best rewarded, else the shortest complete, else the shortest."""
    if not candidates:
        return None
    responses = record["responses"]
    rewards = record.get("rewards") or []
    rewarded = [i for i in candidates if i < len(rewards) and rewards[i] is not None]
    if rewarded:
        return max(rewarded, key=lambda i: rewards[i])
    finish = record.get("finish_reason")
    complete = [i for i in candidates if not isinstance(finish, list) or finish[i] == "stop"]
    return min(complete or candidates, key=lambda i: len(responses[i]))

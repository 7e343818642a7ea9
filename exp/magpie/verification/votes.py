"""Votes: what several answers to one problem say together. A vote is a vote, never the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from magpie.verification.config import load_difficulty_levels
from magpie.verification.groups import spelling
from magpie.verification.pool import Judgement

FEWEST_ANSWERS, FEWEST_TO_VERIFY, LEAST_AGREEMENT = 2, 3, 0.5
"""Below two parsed answers nothing agrees; "verified" is an agreement of at least a half of at least three."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Vote:
    """The majority of a problem's answers. `winner`: its group, or None on a tie; `agreement`: the largest group's share."""

    winner: int | None
    agreement: float | None
    answer: str | None
    pass_rate: float | None
    interval: list[float] | None


def vote(judgement: Judgement, *, has_reference: bool) -> Vote:
    """Return what the answers that could be read say together.

    The pass rate is the share right against the reference answer, without one the share of the majority (null on a tie).
    """
    groups = [group for group in judgement.groups if group is not None]
    if len(groups) < FEWEST_ANSWERS:
        return Vote(None, None, None, None, None)
    (first, most), *rest = Counter(groups).most_common(2)
    winner = first if not rest or rest[0][1] < most else None
    answer = spelling(judgement.answers, judgement.groups, winner) if winner is not None else None
    right, judged = _passes(judgement, winner, most, len(groups), has_reference=has_reference)
    if right is None or judged < FEWEST_ANSWERS:
        return Vote(winner, most / len(groups), answer, None, None)
    return Vote(winner, most / len(groups), answer, right / judged, list(wilson(right, judged)))


def _passes(judgement: Judgement, winner: int | None, most: int, parsed: int, *, has_reference: bool) -> tuple[int | None, int]:
    if not has_reference:
        return (None if winner is None else most), parsed
    verdicts = [c for c, group in zip(judgement.correct, judgement.groups, strict=True) if group is not None and c is not None]
    return sum(verdicts), len(verdicts)


@lru_cache(maxsize=4096)
def wilson(right: int, judged: int) -> tuple[float, float]:
    """Return the 95% Wilson interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(right, judged).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


def is_verified(record: dict[str, Any]) -> bool:
    """Whether a record's vote counts as verified: a majority (no tie), at least half of at least three parsed answers."""
    parsed = sum(group is not None for group in record.get("answer_groups") or [])
    agreement = record.get("agreement")
    return record.get("answer") is not None and parsed >= FEWEST_TO_VERIFY and (agreement or 0.0) >= LEAST_AGREEMENT


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

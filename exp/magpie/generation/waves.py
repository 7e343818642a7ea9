"""Votes asked for in waves; between them the verify workers group the final answers."""

from __future__ import annotations

import asyncio

from magpie.verification.early_stop import ALL, Rule, tally
from magpie.verification.pool import Job, Verifier


class Waves:
    """How many votes a problem is asked for next, if any.

    Args:
        rule: when to stop.
        verifier: its workers group the final answers.
    """

    def __init__(self, rule: Rule, verifier: Verifier) -> None:
        self.rule, self._verifier = rule, verifier
        self.first = rule.wave(0, 0, 0)
        """Votes of the first wave."""

    async def next(self, solutions: list[str], asked: int) -> tuple[int, str]:
        """Return how many further votes to ask for, or 0 and why none.

        Args:
            solutions: the responses that are there.
            asked: votes that were asked for, lost ones too.
        """
        if asked >= self.rule.votes:
            return 0, ALL
        [(_, judgement)] = await asyncio.to_thread(lambda: list(self._verifier.judge_all([(0, Job(solutions))])))
        leader, second = tally(judgement)
        reason = self.rule.reason(leader, second, asked)
        return (0, reason) if reason else (self.rule.wave(leader, second, asked), "")

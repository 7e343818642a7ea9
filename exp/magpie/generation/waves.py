"""Votes requested in waves; between them the verify workers group the final answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from magpie.verification.early_stop import ALL, Rule, tally
from magpie.verification.pool import Job, Verifier


class _Identity(msgspec.Struct):
    id: str | int | None = None


class FirstVotes:
    """A job's single responses, kept and dropped ones, by their problem's id; only their offsets are in memory."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._at: dict[str | int | None, tuple[Path, int]] = {}
        for path in files:
            offset = 0
            for line in path.open("rb") if path.exists() else ():
                self._at[msgspec.json.decode(line, type=_Identity).id] = (path, offset)
                offset += len(line)

    def of(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the job's record of a problem, with its response; the record itself if there is none or it has a response."""
        if record.get("response") or record["id"] not in self._at:
            return record
        path, offset = self._at[record["id"]]
        with path.open("rb") as file:
            file.seek(offset)
            found: dict[str, Any] = msgspec.json.decode(file.readline())
        return found if found.get("instruction") == record["instruction"] else record


class Waves:
    """The number of votes to request next for a problem.

    Args:
        rule: when to stop.
        verifier: its workers group the final answers.
    """

    def __init__(self, rule: Rule, verifier: Verifier) -> None:
        self.rule, self._verifier = rule, verifier
        self.first = rule.wave(0, 0, 0)
        """Votes of the first wave."""

    def load(self) -> None:
        """Start the workers, which take seconds to load, while the first responses are generated."""
        self._verifier.load()

    async def next(self, solutions: list[str], asked: int) -> tuple[int, str]:
        """Return how many more votes to request, or 0 and the reason.

        Args:
            solutions: the responses so far.
            asked: votes requested so far, including lost ones.
        """
        if asked >= self.rule.votes:
            return 0, ALL
        [(_, judgement)] = await asyncio.to_thread(lambda: list(self._verifier.judge_all([(0, Job(solutions))])))
        leader, second = tally(judgement)
        reason = self.rule.reason(leader, second, asked)
        return (0, reason) if reason else (self.rule.wave(leader, second, asked), "")

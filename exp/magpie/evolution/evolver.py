"""The work on one problem: rewritten, gated and measured, round by round, until a child has the wanted pass rate."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magpie.cleaning.clean import as_record
from magpie.client.replies import Completion, Refused
from magpie.evolution.config import load_ways
from magpie.evolution.gates import gated, is_reworded
from magpie.generation.responses import Response, ResponseGenerator, as_lists, read_response
from magpie.generation.session import Session
from magpie.records.reading import identified, read_rows
from magpie.records.schema import INVALID
from magpie.runs.run import Run
from magpie.runs.stage import INSTRUCTION, open_lines
from magpie.tagging.validity import ValidityJudge
from magpie.verification.harder import ERROR, GO_ON, HARDER, LEVELS, UNSOLVED, Votes, compared, votes_of
from magpie.verification.pool import Job, Verifier

STILL_EASY, TOO_LONG, BAND_FULL, DUPLICATE = "still_easy", "prompt_too_long", "band_full", "duplicate"
MOST = max(LEVELS)
SLOTS = 4 * MOST
"""Slots of a round's replies in the run's log: the child, its votes, those of its second parent, the judge's verdict."""
CARRIED = ("domain", "target_domain", "language", "pre_query_template")
"""Keys that a child inherits from its parent."""
NO_VOTES = Votes(0, 0, leads=False)
PARTNERS = 1000
"""Problems that a second parent is drawn from."""


@dataclass(frozen=True)
class EvolveOptions:
    """Flags of evolve_ins.py: input, ways, rounds, wanted pass rates, number of problems in the band."""

    input_file: Path
    ways: list[str]
    rounds: int
    band: list[float]
    total: int | None
    language: str
    seed: int


@dataclass
class Problem:
    """A problem of a lineage with its votes, which are requested as needed."""

    id: str
    text: str
    ask: Callable[[int], Awaitable[Response | Refused]]
    replies: list[Response | Refused] = field(default_factory=list)
    votes: Votes = NO_VOTES

    @property
    def responses(self) -> list[Response]:
        """The votes that arrived and have a solution."""
        return [each for each in self.replies if isinstance(each, Response) and not each.drop_reason]

    async def grow(self, votes: int, verifier: Verifier) -> None:
        """Request votes up to a number, and count them all."""
        if len(self.replies) >= votes:
            return
        self.replies += await asyncio.gather(*(self.ask(n) for n in range(len(self.replies), votes)))
        job = Job([each.solution for each in self.responses])
        [(_, judgement)] = await asyncio.to_thread(lambda: list(verifier.judge_all([(0, job)])))
        self.votes = votes_of(judgement.groups, len(self.replies))


class Evolver:
    """Makes harder problems: a row of the input is one lineage.

    Args:
        options: the stage's flags.
        generator: requests rewritten problems and votes.
        verifier: its workers group the votes' final answers.
        judge: asks the model whether a child is valid; None: not judged.
    """

    def __init__(
        self, options: EvolveOptions, generator: ResponseGenerator, verifier: Verifier, judge: ValidityJudge | None
    ) -> None:
        self._options, self._generator, self._verifier, self._judge = options, generator, verifier, judge
        self._partners: list[dict[str, Any]] = []
        self._told: set[str] = set()
        self._in_band = 0

    def rows(self, run: Run) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the input's rows that are not finished, each with its index."""
        path = self._options.input_file
        self._told = {str(row["id"]) for row in run.so_far(kept=False)}  # a resumed run reports no child twice
        self._in_band = sum(row["evolution"]["in_band"] for row in run.so_far(kept=True))
        keys = ("instruction", "id", *CARRIED)
        pool = (row.record for row in read_rows(path, INSTRUCTION) if row.record)
        self._partners = [{key: record.get(key) for key in keys} for record, _ in zip(pool, range(PARTNERS), strict=False)]
        for index, row in open_lines(run, path):
            yield index, identified(row, path)

    async def work(self, session: Session, item: tuple[int, dict[str, Any]]) -> None:
        """Follow one lineage to a child of the wanted pass rate, or through all rounds."""
        index, record = item
        lineage = Lineage(self, session, index, record)
        best: dict[str, Any] | None = None
        last, why = record, BAND_FULL
        for number in range(1, self._options.rounds + 1):
            if lineage.is_hopeless or (self._options.total and self._in_band >= self._options.total):
                break
            self._tell(session, index, last, why)
            last, why = await lineage.round(number)
            if not why:  # harder: earlier harder ones are between it and the root
                if best:
                    self._tell(session, index, best, STILL_EASY)
                best, last, why = last, record, BAND_FULL
                if best["evolution"]["pass_rate"] <= self._options.band[1]:
                    break
        if best is None:
            session.drop(index, last, why)
            return
        self._tell(session, index, last, why)
        self._in_band += best["evolution"]["in_band"]
        session.keep(index, best, [])

    def _tell(self, session: Session, index: int, child: dict[str, Any], reason: str) -> None:
        """Write a failed child to the dropped file, once; the lineage continues."""
        if reason != BAND_FULL and child["id"] not in self._told:
            session.drop(index, child, reason, replaced=True)

    # --- what a lineage requests -----------------------------------------------------------------------------------------

    def way(self, record_id: str, number: int) -> str:
        """Return a round's way: each is used once before any is repeated."""
        ways = list(self._options.ways)
        random.Random(f"{self._options.seed}/{record_id}").shuffle(ways)
        return ways[(number - 1) % len(ways)]

    def partner(self, record: dict[str, Any], number: int) -> dict[str, Any]:
        """Return a second parent: of the same domain, if possible."""
        others = [one for one in self._partners if one["instruction"] != record["instruction"]] or self._partners
        near = [one for one in others if one.get("domain") == record.get("domain")] or others
        return random.Random(f"{self._options.seed}/{record['id']}/{number}").choice(near)

    def problem(self, session: Session, index: int, first: int, identity: str, text: str) -> Problem:
        """Return a problem whose votes are in a row's slots from `first` on."""
        prompt, room = self._generator.prompt(session, text)
        there = session.partials(index)

        async def ask(number: int) -> Response | Refused:
            if completion := there.get(first + number):
                return read_response(completion, session.template)
            if room < 1:
                return Refused(TOO_LONG, f"{len(prompt)} tokens")
            return await self._generator.one(session, prompt, room, index, first + number)

        return Problem(identity, text, ask)

    async def rewritten(self, session: Session, index: int, slot: int, way: str, parents: list[str]) -> Response | Refused:
        """Return the model's harder problem."""
        if completion := session.partials(index).get(slot):
            return read_response(completion, session.template)
        prompt = session.template.prompt(session.template.escape_special_tokens(load_ways().ask(way, parents)))
        room = (session.client.context or 1 << 62) - len(prompt)
        if room < 1:
            return Refused(TOO_LONG, f"{len(prompt)} tokens")
        return await self._generator.one(session, prompt, room, index, slot)

    async def validity(self, session: Session, index: int, slot: int, text: str) -> dict[str, str | None]:
        """Return the model's verdict on a problem as a key of the record (null: its votes are undecided)."""
        if self._judge is None:
            return {}
        if kept := session.partials(index).get(slot):
            return {"validity": kept.text or None}
        asked: list[Completion] = []
        verdict = await self._judge.ask(session, text, asked)
        found = "" if isinstance(verdict, str) else verdict["validity"] or ""
        tokens = sum(each.prompt_tokens for each in asked), sum(each.completion_tokens for each in asked)
        session.keep_partial(index, slot, Completion(found, "stop", *tokens, token_ids=None))
        return {"validity": found or None}

    async def measured(self, parents: list[Problem], child: Problem) -> tuple[str, float]:
        """Return whether a child is harder than all its parents, with the test's largest p-value, votes in waves."""
        for votes in LEVELS:
            await asyncio.gather(*(each.grow(votes, self._verifier) for each in (child, *parents)))
            found = [compared(parent.votes, child.votes) for parent in parents]
            verdicts = [verdict for verdict, _ in found]
            p = max(p for _, p in found)
            if all(verdict == HARDER for verdict in verdicts):
                return HARDER, p
            if failed := next((each for each in verdicts if each not in (HARDER, GO_ON)), ""):
                return failed, p
        return UNSOLVED, 1.0  # never: the last wave decides

    @property
    def band(self) -> list[float]:
        """The wanted pass rates, from and to."""
        return self._options.band

    @property
    def configs(self) -> dict[str, Any]:
        """How the votes were sampled."""
        return self._generator.configs

    @property
    def language(self) -> str:
        """The language of problems that pass."""
        return self._options.language


class Lineage:
    """A problem of the input and its descendants, round by round."""

    def __init__(self, evolver: Evolver, session: Session, index: int, record: dict[str, Any]) -> None:
        self._evolver, self._session, self._index, self._root = evolver, session, index, record
        self._parent = evolver.problem(session, index, 1, str(record["id"]), record["instruction"])
        self._ancestors: list[dict[str, Any]] = []
        self._tried: list[str] = [record["instruction"]]
        self.is_hopeless = False
        """No response solves the parent, so nothing can be shown to be harder."""

    async def round(self, number: int) -> tuple[dict[str, Any], str]:
        """Return a round's child as a record, and why it is dropped (empty: it is kept)."""
        evolver, session, index = self._evolver, self._session, self._index
        way, first = evolver.way(str(self._root["id"]), number), number * SLOTS
        parents = [self._parent]
        if load_ways().ways[way].parents > 1:
            other = evolver.partner(self._root, number)
            parents.append(evolver.problem(session, index, first + 2 * MOST, str(other["id"]), other["instruction"]))
        child = self._record(number, way, parents)
        reply = await evolver.rewritten(session, index, first, way, [parent.text for parent in parents])
        if isinstance(reply, Refused):
            return child | {"instruction": ""}, reply.reason
        if reply.drop_reason or reply.finish_reason != "stop":
            return child | {"instruction": reply.solution}, reply.drop_reason or f"rewriting_{reply.finish_reason}"
        cleaned, reason = gated(reply.solution, [parent.text for parent in parents], evolver.language)
        child = as_record(child | {"instruction": reply.solution}, cleaned)
        if not reason and any(is_reworded(cleaned.text, tried) for tried in self._tried):
            reason = DUPLICATE
        self._tried.append(cleaned.text)
        if reason:
            return child, reason
        child |= await evolver.validity(session, index, first + SLOTS - 1, cleaned.text)
        if child.get("validity") == INVALID:
            return child, INVALID
        return await self._measured(child, parents, first)

    async def _measured(self, child: dict[str, Any], parents: list[Problem], first: int) -> tuple[dict[str, Any], str]:
        problem = self._evolver.problem(self._session, self._index, first + 1, child["id"], child["instruction"])
        verdict, p = await self._evolver.measured(parents, problem)
        child["evolution"] |= {
            "parents": [{"id": each.id, "instruction": each.text} | _told(each.votes) for each in parents],
            **_told(problem.votes),
            "test": f"Fisher's exact test, one-sided, after {', '.join(map(str, LEVELS))} votes of each",
            "p_value": round(p, 6),
            "error": ERROR,
            "lineage": self._ancestors,
        }
        self.is_hopeless = verdict == UNSOLVED and not self._parent.votes.leads
        if verdict != HARDER:
            return child, verdict
        low, high = self._evolver.band
        child["evolution"]["in_band"] = low <= problem.votes.rate <= high
        self._ancestors = [*self._ancestors, _ancestor(self._parent, child["evolution"]["way"])]
        self._parent = problem
        lists = as_lists(problem.responses)
        votes = {**lists, "votes_asked": problem.votes.asked}
        return child | votes | {"gen_response_configs": self._evolver.configs}, ""

    def _record(self, number: int, way: str, parents: list[Problem]) -> dict[str, Any]:
        carried = {key: self._root[key] for key in CARRIED if key in self._root}
        return {
            "id": f"{self._root['id']}-e{number}",
            "instruction": "",
            **carried,
            "parent_ids": [parent.id for parent in parents],
            "evolution": {
                "way": way,
                "round": number,
                "generation": len(self._ancestors) + 1,
                "model": self._evolver.configs["output_generator"],
            },
            "created": int(time.time()),
        }


def _told(votes: Votes) -> dict[str, Any]:
    return {"votes": votes.asked, "agreeing": votes.largest, "pass_rate": round(votes.rate, 4)}


def _ancestor(problem: Problem, way: str) -> dict[str, Any]:
    return {"id": problem.id, "instruction": problem.text, "pass_rate": round(problem.votes.rate, 4), "then": way}

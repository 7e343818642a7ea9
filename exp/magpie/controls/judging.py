"""The labels of controls, read from the files of a job, and whether they are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from magpie.controls.gym import load_families, scored
from magpie.records.schema import is_control
from magpie.verification.equality import Verdict, cheaply
from magpie.verification.extract import final_answer
from magpie.verification.pool import Job, Limits, Verifier
from magpie.verification.votes import asked_for

Pair = tuple[str, str]
"""An answer, and the exact one."""


@dataclass(frozen=True)
class Seen:
    """A control as a stage left it; `label` is its record's answer, in a pair that of the chosen response."""

    control: dict[str, Any]
    label: str | None
    rejected: str | None
    answers: tuple[str | None, ...]
    asked: int
    agreement: float | None
    pass_rate: float | None
    difficulty: str | None
    domain: str
    reason: str

    @property
    def exact(self) -> str:
        """The exact answer."""
        return str(self.control["answer"])


def seen(record: dict[str, Any]) -> Seen:
    """Return the relevant part of a control's record."""
    control, is_pair = record["control"], "chosen" in record
    answers = record.get("answers")
    if answers is None:
        texts = record.get("responses") or [record.get("response") or ""]
        answers = [final_answer(text) if text else None for text in texts]
    label = record.get("answer_chosen") if is_pair else record.get("majority_answer")
    if label is None and not is_pair:
        index = 0 if len(answers) == 1 else record.get("response_index")
        label = answers[index] if index is not None and index < len(answers) else None
    known = load_families().get(control["family"])
    return Seen(
        control,
        label,
        record.get("answer_rejected"),
        tuple(answers),
        asked_for(record, len(answers)),
        record.get("agreement"),
        record.get("pass_rate"),
        record.get("difficulty_measured"),
        record.get("domain") or (known.domain if known else "not known"),
        record.get("drop_reason") or "",
    )


def seen_in(path: Path) -> Iterator[Seen]:
    """Yield the controls in a file of a job; nothing if there is no such file."""
    if path.exists():
        with path.open("rb") as lines:
            for line in lines:
                if b'"control"' in line:  # few rows are controls: the others are not decoded
                    record = msgspec.json.decode(line, type=dict[str, Any])
                    if is_control(record):
                        yield seen(record)


class Verdicts:
    """Whether answers equal the exact ones; None: unknown. Most are decided by their texts, without starting a worker."""

    def __init__(self) -> None:
        self._known: dict[Pair, bool | None] = {}

    def add(self, controls: Iterable[Seen]) -> None:
        """Judge all answers of controls."""
        given = [(answer, one.exact) for one in controls for answer in {one.label, one.rejected, *one.answers} if answer]
        pairs = [pair for pair in dict.fromkeys(given) if pair not in self._known]
        hard = []
        for pair in pairs:
            verdict = cheaply(pair[1], pair[0])
            self._known[pair] = _as_bool(verdict)
            if verdict is None:
                hard.append(pair)
        if hard:
            with Verifier(Limits(workers=1)) as verifier:
                jobs = ((pair, Job([f"\\boxed{{{pair[0]}}}"], pair[1])) for pair in hard)
                self._known |= {pair: judgement.correct[0] for pair, judgement in verifier.judge_all(jobs)}

    def of(self, one: Seen, answer: str | None) -> bool | None:
        """Return whether an answer of a control is right; None also if there is no answer."""
        return self._known.get((answer, one.exact)) if answer else None

    def rate(self, one: Seen) -> float | None:
        """Return the share of all responses that are right; None if one of them could not be judged."""
        found = [self.of(one, answer) if answer else False for answer in one.answers]
        return None if None in found or not one.asked else sum(map(bool, found)) / one.asked

    def beside_scorers(self, controls: Iterable[Seen]) -> Iterator[tuple[Seen, str, bool, bool]]:
        """Yield each judged answer with our verdict and that of reasoning-gym's scorer, if it has one."""
        for one in controls:
            for answer in sorted({answer for answer in (*one.answers, one.label) if answer}):
                ours = self.of(one, answer)
                theirs = None if ours is None else scored(one.control, answer)
                if ours is not None and theirs is not None:
                    yield one, answer, ours, theirs


def _as_bool(verdict: Verdict | None) -> bool | None:
    return {Verdict.RIGHT: True, Verdict.WRONG: False}.get(verdict) if verdict else None

"""verify.py's work on each record of a run, and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from magpie.records.schema import REFERENCE_COLUMNS
from magpie.runs.run import Run
from magpie.runs.stage import open_rows
from magpie.verification.annotate import REFERENCE, job_of, verified, with_reference, with_response
from magpie.verification.models import PassRates
from magpie.verification.pool import Job, Judgement, Verifier

Item = tuple[int, dict[str, Any], Judgement]


class Verification:
    """The stage's work on a record, and its counts.

    Args:
        run: the stage's run.
        input_file: its input.
        reference_key: the key of the right answers.
        choose: make one of the responses the response.
        keep_unverified: with `choose`, choose from all responses if there is no majority.
    """

    def __init__(self, run: Run, input_file: Path, *, reference_key: str, choose: bool, keep_unverified: bool) -> None:
        self._run, self._input_file, self._choose, self._keep_unverified = run, input_file, choose, keep_unverified
        self._reference_key = reference_key
        self.states: Counter[str] = Counter()
        self.references = 0
        """Records with a reference answer."""
        self.rates = PassRates()
        self._unread: Counter[str] = Counter()

    def items(self, verifier: Verifier) -> Iterator[Item]:
        """Yield the unfinished records with their judgements; a record without a response is dropped on the way."""
        for (index, record), judgement in verifier.judge_all(self._jobs()):
            self.states.update(judgement.states)
            yield index, record, judgement

    def _jobs(self) -> Iterator[tuple[tuple[int, dict[str, Any]], Job]]:
        for index, record in open_rows(self._run, self._input_file):
            record = with_reference(record, self._reference_key)
            if record.get(REFERENCE):
                self.references += 1
            else:
                self._unread.update(key for key in REFERENCE_COLUMNS if record.get(key) not in (None, ""))
            if job := job_of(record):
                yield (index, record), job
            else:
                self._run.drop(index, record, "no_response")

    def advice(self) -> str:
        """Return a hint if responses or right answers are under keys other than those read, or an empty text."""
        if self._run.totals.dropped["no_response"] and not self._run.totals.written:
            return "no record has a response. If a column holds it, name it: --columns response=COLUMN --overwrite"
        if self._unread:
            [(key, count)] = self._unread.most_common(1)
            return (
                f"{count:,} records have no `{self._reference_key}`, but `{key}`. If that is the right answer, compare the "
                f"responses with it: --reference_key {key} --overwrite"
            )
        if self.references or self._reference_key == REFERENCE:
            return ""
        return f"no record of this session has `{self._reference_key}`"

    def finished(self, record: dict[str, Any], judgement: Judgement) -> tuple[dict[str, Any], str]:
        """Return the record to write, and why it is dropped (empty: it is kept)."""
        record = verified(record, judgement)
        self.rates.add(record)
        return with_response(record, keep_unverified=self._keep_unverified) if self._choose else (record, "")

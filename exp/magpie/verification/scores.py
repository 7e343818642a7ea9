"""Overall figures of a file of verified records: right, agreement, answered, pass@k."""

from __future__ import annotations

from collections import Counter
from math import comb, fsum
from typing import Any

from magpie.verification.annotate import REFERENCE
from magpie.verification.early_stop import rule_of
from magpie.verification.votes import asked_for


class Scores:
    """The figures of the added records, each a share of all requested responses."""

    def __init__(self) -> None:
        self.records = self.responses = self.right = self.compared_with = self.unknown = 0
        self._agreement: list[float] = []
        self._answered: list[float] = []
        self._counts: Counter[tuple[int, int]] = Counter()
        """(Responses, right ones) → number of problems, of those whose responses were all requested and compared."""

    def add(self, record: dict[str, Any]) -> None:
        """Count a record."""
        if record.get("answer_groups") is None:
            return
        verdicts, asked = record.get("is_correct") or [], asked_for(record, len(record["answer_groups"]))
        self.records += 1
        self.responses += asked
        self._answered.append(record.get("answered") or 0.0)
        if record.get("agreement") is not None:
            self._agreement.append(record["agreement"])
        if not record.get(REFERENCE):
            return
        right, unknown = verdicts.count(True), verdicts.count(None)
        self.right, self.unknown, self.compared_with = self.right + right, self.unknown + unknown, self.compared_with + asked
        rule = rule_of(record)
        if not unknown and not (rule and asked < rule.votes):
            self._counts[asked, right] += 1

    def rows(self) -> list[tuple[str, str]]:
        """Return the figures in words, for a summary."""
        rows = []
        if self.compared_with:
            unknown = f"; {self.unknown:,} could not be compared" if self.unknown else ""
            rows.append(("right", f"{self.right / self.compared_with:.1%} of {self.compared_with:,} responses{unknown}"))
        rows += [(f"pass@{k}", f"{value:.1%} of {problems:,} problems") for k, value, problems in self.pass_at()]
        if self._agreement:
            rows.append(
                ("agreement", f"{fsum(self._agreement) / len(self._agreement):.1%} on average of {len(self._agreement):,}")
            )
        if self._answered:
            rows.append(("answered", f"{fsum(self._answered) / len(self._answered):.1%} on average of {self.records:,}"))
        return rows

    def pass_at(self) -> list[tuple[int, float, int]]:
        """Return k, the unbiased estimate of pass@k and its number of problems: k = 1, 2, 4, … and the most that all have."""
        if not self._counts:
            return []
        most = max(asked for asked, _ in self._counts)
        found = []
        for k in sorted({1 << power for power in range(most.bit_length())} | {most}):
            counts = {pair: count for pair, count in self._counts.items() if pair[0] >= k}
            problems = sum(counts.values())
            rates = fsum(count * (1 - comb(asked - right, k) / comb(asked, k)) for (asked, right), count in counts.items())
            found.append((k, rates / problems, problems))
        return found

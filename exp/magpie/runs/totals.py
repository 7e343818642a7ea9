"""What a run counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from magpie.runs.run_file import per_kept_record


@dataclass
class Totals:
    """Counts of a whole run, over all its sessions."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Dropped records by reason."""
    written: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    rows: int | None = None
    """Rows of the output, where a record may give several (or the output's rows are no records)."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """A stage's own figures, by name."""
    spent: dict[str, int] = field(default_factory=dict)
    """Tokens of this run and of all that led to its input, once it is complete."""

    @property
    def tokens_per_kept_record(self) -> dict[str, float]:
        """Those tokens for each record that was written."""
        return per_kept_record(self.spent, self.written)

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens per second of running time."""
        return self.completion_tokens / self.seconds if self.seconds else 0.0

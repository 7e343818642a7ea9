"""The counts of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from magpie.runs.run_file import per_kept_record


@dataclass
class Totals:
    """Counts of a whole run, over all its sessions."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Dropped records by reason."""
    written: int = 0
    settled: int = 0
    """Records whose votes were decided before all were requested."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    rows: int | None = None
    """Rows of the output, if a record may give several (or the output's rows are not records)."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """A stage's own figures, by name."""
    spent: dict[str, int] = field(default_factory=dict)
    """Tokens of this run and of all that led to its input, once it is complete."""

    @property
    def tokens_per_kept_record(self) -> dict[str, float]:
        """Those tokens per written record."""
        return per_kept_record(self.spent, self.written)

    def words(self, before: Mapping[str, int], ceiling: Mapping[str, float], seconds: float) -> list[str]:
        """Return how many votes are settled, the tokens per kept record so far, and what the ceiling leaves.

        Args:
            before: tokens that led to the run's input.
            ceiling: the run's limits (`RunFile.ceiling`).
            seconds: the run's time so far.
        """
        tokens, limits = self.prompt_tokens + self.completion_tokens, dict(ceiling)
        words = [f"{self.settled:,} settled"] if self.settled else []
        if tokens and self.written:
            words.append(f"{(tokens + sum(before.values())) / self.written:,.0f} tokens per kept record so far")
        spent = self.prompt_tokens * limits.pop("prompt_price", 0.0) + self.completion_tokens * limits.pop(
            "completion_price", 0.0
        )
        taken = {"tokens": tokens, "seconds": seconds, "dollars": spent / 1e6}
        left = [f"{max(0.0, limit - taken[name]):,.{2 * (name == 'dollars')}f} {name}" for name, limit in limits.items()]
        return words + ([f"the ceiling leaves {', '.join(left)}"] if left else [])

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens per second of running time."""
        return self.completion_tokens / self.seconds if self.seconds else 0.0

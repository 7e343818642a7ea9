"""Statistics of pairs: margins, lengths, shares of right versus wrong, and length bias."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from magpie.preferences.pairs import Pair

STANDARD_ERRORS = 2.0
"""Standard errors from one half above which a share counts as bias."""


@dataclass
class Statistics:
    """Running sums over pairs, in constant memory."""

    pairs: int = 0
    why: Counter[str] = field(default_factory=Counter)
    truths: Counter[str] = field(default_factory=Counter)
    chosen_characters: int = 0
    rejected_characters: int = 0
    longer_wins: float = 0.0
    vote_margins: list[float] = field(default_factory=lambda: [0.0, 0.0])
    reward_margins: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Number and sum, as in `vote_margins`."""

    def add(self, pair: Pair) -> None:
        """Count a pair."""
        chosen, rejected = pair.chosen, pair.rejected
        self.pairs += 1
        self.why[pair.why] += 1
        self.chosen_characters += len(chosen.text)
        self.rejected_characters += len(rejected.text)
        self.longer_wins += longer_wins(len(chosen.text), len(rejected.text))
        if chosen.correct is not None and rejected.correct is not None:
            self.truths[f"{_word(chosen.correct)} against {_word(rejected.correct)}"] += 1
        if pair.vote_margin is not None:
            _count(self.vote_margins, pair.vote_margin)
        if chosen.reward is not None and rejected.reward is not None:
            _count(self.reward_margins, chosen.reward - rejected.reward)

    def figures(self) -> dict[str, Any]:
        """Return the statistics by name, without those that have no data."""
        if not self.pairs:
            return {}
        found: dict[str, Any] = {"pairs_by": _listed(self.why)}
        if judged := self.truths.total():
            shares = ", ".join(f"{words} {count / judged:.1%}" for words, count in self.truths.most_common())
            found["by_reference_answer"] = f"{shares} (of {judged:,} pairs)"
        found["mean_characters"] = (
            f"chosen {self.chosen_characters / self.pairs:,.0f}, rejected {self.rejected_characters / self.pairs:,.0f}"
        )
        found["longer_wins"] = round(self.longer_wins / self.pairs, 4)
        for name, (number, total) in (("vote_margin", self.vote_margins), ("reward_margin", self.reward_margins)):
            if number:
                found[f"mean_{name}"] = round(total / number, 4)
        return found

    def length_bias(self, limit: float) -> str:
        """Return a warning if length predicts the chosen one in a share above `limit` and above chance, else an empty text."""
        if not self.pairs:
            return ""
        longer = self.longer_wins / self.pairs
        share, which = max((longer, "longer"), (1 - longer, "shorter"))
        if share <= limit or share - 0.5 <= STANDARD_ERRORS * 0.5 / math.sqrt(self.pairs):
            return ""
        return (
            f"length bias: in {share:.0%} of the pairs the {which} text is the chosen one, so a model may learn to write "
            f"{which} texts. Lower longest_ratio in configs/pairs, or balance the pairs"
        )


def longer_wins(chosen: int, rejected: int) -> float:
    """Return 1 if the longer of two is the chosen one, 0 if the shorter is, 0.5 if they are equally long."""
    return 0.5 if chosen == rejected else float(chosen > rejected)


def _word(correct: bool) -> str:
    return "right" if correct else "wrong"


def _count(sums: list[float], value: float) -> None:
    sums[0] += 1
    sums[1] += value


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())

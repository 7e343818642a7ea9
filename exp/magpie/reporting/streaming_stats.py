"""Counters and histograms of a stream, in constant memory."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

from magpie.common.reservoir import Reservoir

MOST_LABELS, LABEL_CHARACTERS = 200, 60
NUMBERS_KEPT, LARGEST, DRAWN_BARS, HISTOGRAM_BARS = 4000, 1e15, 12, 24
OTHERS = "(others)"

Bar = tuple[str, int]


class Labels(Counter[str]):
    """Counts of labels; labels beyond the limit count as "other"."""

    def count(self, label: Any) -> str:
        """Count a label, and return the name that it counts under."""
        name = str(label)[:LABEL_CHARACTERS]
        name = name if name in self or len(self) < MOST_LABELS else OTHERS
        self[name] += 1
        return name


class Numbers:
    """Numbers of a stream: counts between edges, mean and quantiles.

    Args:
        edges: of the bars, the last one inclusive; numbers outside count in the first and the last bar.
            None: the bars are drawn from a sample.
        seed: of the sample, from which the quantiles are computed.
    """

    def __init__(self, edges: Sequence[float] | None, seed: int) -> None:
        self._edges = edges
        self._bars = [0] * (len(edges) - 1) if edges else []
        self._sample: Reservoir[float] = Reservoir(NUMBERS_KEPT, seed)
        self._sum = 0.0
        self.least, self.most = float("inf"), float("-inf")

    def count(self, value: Any) -> None:
        """Count a number; anything else, and impossible values, are ignored."""
        if type(value) not in (float, int) or abs(value) > LARGEST:
            return
        self._sum += value
        self.least, self.most = min(self.least, value), max(self.most, value)
        self._sample.offer(lambda: float(value))
        if self._edges:
            self._bars[min(max(bisect_right(self._edges, value) - 1, 0), len(self._bars) - 1)] += 1

    def __len__(self) -> int:
        return self._sample.seen

    @property
    def mean(self) -> float:
        """The mean."""
        return self._sum / max(len(self), 1)

    def quantile(self, share: float) -> float:
        """Return a quantile of the sample: exact up to NUMBERS_KEPT numbers."""
        ordered = sorted(self._sample.kept)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def bars(self) -> list[Bar]:
        """Return the bars without empty ones at both ends: the lower edge of each, and its count."""
        edges, counts = self._edges, self._bars
        if not edges:
            edges, counts = self._drawn()
        used = [index for index, count in enumerate(counts) if count]
        return [(f"{edges[i]:,.6g}", counts[i]) for i in range(used[0], used[-1] + 1)] if used else []

    def histogram(self, limit: float | None = None) -> tuple[float, float, list[int]]:
        """Return bars of equal width over nearly all of the sample: the lowest edge, the width, and the counts.

        Args:
            limit: minimum end of the last bar.
        """
        low, high = min(self.quantile(0.005), 0.0) if limit else self.quantile(0.005), max(self.quantile(0.995), limit or 0.0)
        step = _round_step((high - low) / HISTOGRAM_BARS)
        first, last = math.floor(low / step), max(math.ceil(high / step) - 1, math.floor(low / step))
        counts = [0] * (last - first + 1)
        for value in self._sample.kept:
            counts[min(max(math.floor(value / step) - first, 0), len(counts) - 1)] += 1
        scale = len(self) / len(self._sample.kept)
        return first * step, step, [round(count * scale) for count in counts]

    def _drawn(self) -> tuple[list[float], list[int]]:
        low, high = self.quantile(0.005), self.quantile(0.995)
        step = _round_step((high - low) / DRAWN_BARS)
        first, last = math.floor(low / step), math.floor(high / step)
        edges = [step * index for index in range(first, last + 2)]
        counts = [0] * (last - first + 1)
        for value in self._sample.kept:
            counts[min(max(math.floor(value / step) - first, 0), len(counts) - 1)] += 1
        scale = len(self) / len(self._sample.kept)
        return edges, [round(count * scale) for count in counts]


def _round_step(step: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that is not below a step."""
    if step <= 1e-12:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * times for times in (1, 2, 5, 10, 20) if power * times >= step * 0.999)

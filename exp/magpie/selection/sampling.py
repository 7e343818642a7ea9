"""The choice among kept records: the best, balanced shares, a shuffled order."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from magpie.common.console import MagpieError, log
from magpie.records.schema import is_control
from magpie.runs.one_pass import Stream
from magpie.selection.rules import field_reader, is_number, short_json

if TYPE_CHECKING:
    import numpy as np

MAX_LABELS = 1000
"""Distinct values that a balanced field may have."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Selection:
    """Records that passed the rules, spooled to a temporary file until the choice is made.

    Memory: about 40 bytes per record. Use it as a context manager.

    Args:
        folder: of the temporary file, which is unlinked.
        balance: the field whose values are balanced, if any.
        by: the number to rank by, highest first unless `ascending`; at random (`seed`) if there is none.
        top: maximum number of chosen records, controls aside.
        shuffle: write the chosen ones in a random order.
    """

    def __init__(
        self, folder: Path, *, balance: str | None, by: str | None, top: int | None, ascending: bool, shuffle: bool, seed: int
    ) -> None:
        self._balance, self._by, self._top, self._ascending = balance, by, top, ascending
        self._shuffle, self._seed = shuffle, seed
        self._groups, self._scores, self._ends = array("i"), array("d"), array("q", [0])
        self._real = array("b")
        self._labels: dict[Any, int] = {}
        self._read_group = field_reader(balance) if balance else None
        self._read_score = field_reader(by) if by else None
        self._spool = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115

    def __enter__(self) -> Selection:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add(self, out: Stream, record: dict[str, Any]) -> None:
        """Spool the stream's current record, or drop it if it lacks the value to balance or rank by.

        Raises:
            MagpieError: the value is not a label, or not a number.
        """
        group, score = 0, 0.0
        if self._read_group:
            label = self._read_group(record)
            if label is None or label is msgspec.UNSET:
                out.drop_unchanged(f"no_{self._balance}", "it cannot be balanced")
                return
            group = self._group(label, record)
        if self._read_score:
            value = self._read_score(record)
            if value is None or value is msgspec.UNSET:
                out.drop_unchanged(f"no_{self._by}", "it cannot be ranked")
                return
            if not is_number(value):
                raise MagpieError(
                    f"--by {self._by}: the record {record.get('id')!r} has {short_json(value)} there, not a number"
                )
            score = float(value)
        line = out.unchanged()
        self._spool.write(line)
        self._groups.append(group)
        self._real.append(not is_control(record))
        self._scores.append(score if self._ascending else -score)
        self._ends.append(self._ends[-1] + len(line))

    def _group(self, label: Any, record: dict[str, Any]) -> int:
        if isinstance(label, (list, dict)):
            raise MagpieError(
                f"--balance {self._balance}: the record {record.get('id')!r} has {short_json(label)}, not a label"
            )
        if label not in self._labels and len(self._labels) == MAX_LABELS:
            raise MagpieError(
                f"--balance {self._balance}: more than {MAX_LABELS} different values. Choose a label, like domain"
            )
        return self._labels.setdefault(label, len(self._labels))

    def write(self, out: Stream) -> None:
        """Write the chosen records, and drop the others."""
        import numpy as np

        groups, ends, real = np.asarray(self._groups), np.asarray(self._ends), np.asarray(self._real, dtype=bool)
        scores = np.asarray(self._scores) if self._by else None
        if not len(groups):
            return
        chosen = choose(groups, scores, real, balance=self._balance is not None, top=self._top, seed=self._seed)
        order = np.arange(len(groups))
        if self._shuffle:
            order = np.random.default_rng([self._seed, 1]).permutation(len(groups))
        self._spool.flush()
        reason = "not_in_top" if self._top is not None else "balanced"
        for index in order:
            line = os.pread(self._spool.fileno(), int(ends[index + 1] - ends[index]), int(ends[index]))
            if chosen[index]:
                out.keep_line(line)
            else:
                out.drop(_decode(line), reason)
        if self._balance:
            counts = Counter(groups[chosen].tolist())
            log.info("%s: %s", self._balance, ", ".join(f"{label} {counts[i]:,}" for label, i in self._labels.items()))


def choose(
    groups: np.ndarray, scores: np.ndarray | None, real: np.ndarray, *, balance: bool, top: int | None, seed: int
) -> np.ndarray:
    """Return a boolean mask of the chosen records.

    Args:
        groups: the balanced value of each record, as an index.
        scores: lowest first, ties by position; None: at random.
        real: whether a record counts. A control does not: it is chosen if it ranks before the last chosen real one of
            its group, so that it has passed the same selection.
        balance: take the same number from each group: the size of the smallest, or an even share of `top`.
        top: maximum number of chosen records that count.
        seed: of the random order.
    """
    import numpy as np

    rank = np.random.default_rng([seed, 0]).permutation(len(groups)) if scores is None else np.argsort(scores, kind="stable")
    if not balance:
        groups = np.zeros_like(groups)
    sizes = np.bincount(groups[real], minlength=groups.max() + 1)
    quotas = np.full(len(sizes), sizes[sizes > 0].min(initial=len(groups))) if top is None else shares(sizes, top)
    by_group = rank[np.argsort(groups[rank], kind="stable")]
    counted = np.cumsum(real[by_group]) - real[by_group]  # real ones before each
    before = np.empty(len(groups), dtype=np.int64)
    before[by_group] = counted - (np.cumsum(sizes) - sizes)[groups[by_group]]
    return (before < quotas[groups]) | (~real & (quotas >= sizes)[groups])


def shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """Return how many to take from each group: as evenly as their sizes allow; the first groups get the remainder."""
    import numpy as np

    quotas = np.zeros_like(sizes)
    left = min(total, int(sizes.sum()))
    while left:
        open_groups = np.flatnonzero(quotas < sizes)
        if left < len(open_groups):
            quotas[open_groups[:left]] += 1
            break
        step = min(left // len(open_groups), int((sizes - quotas)[open_groups].min()))
        quotas[open_groups] += step
        left -= step * len(open_groups)
    return quotas

"""Groups of equal answers, independent of the order of the responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence


def grouped(answers: Sequence[str | None], equal: Callable[[str, str], bool]) -> list[int | None]:
    """Return every answer's group, numbered in the order of first members; None for one in no group.

    All members of a group are pairwise equal. Equality need not be transitive (0.1, 10% and 10): an answer that is equal to
    members of two groups goes to the larger, on a tie to none. `equal` is asked once per pair of spellings, in sort order.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    spellings = sorted(counts)
    near: dict[str, set[str]] = {one: {one} for one in spellings}
    for i, one in enumerate(spellings):
        for other in spellings[i + 1 :]:
            if equal(one, other):
                near[one].add(other)
                near[other].add(one)
    cores: dict[frozenset[str], list[str]] = {}
    for one in spellings:
        if all(near[one] <= near[other] for other in near[one]):  # all that equal it equal one another
            cores.setdefault(frozenset(near[one]), []).append(one)
    groups = list(cores.values())
    members = {one: index for index, group in enumerate(groups) for one in group}
    sizes = [sum(counts[one] for one in group) for group in groups]
    joined = {
        one: _largest([i for i, group in enumerate(groups) if near[one].issuperset(group)], sizes)
        for one in spellings
        if one not in members
    }
    for one, index in joined.items():
        rivals = [other for other, i in joined.items() if i == index and other not in near[one]]
        if index is not None and all(counts[one] > counts[other] for other in rivals):
            members[one] = index
    return _numbered([members.get(answer) if answer is not None else None for answer in answers])


def _largest(indices: Sequence[int], sizes: Sequence[int]) -> int | None:
    best = max((sizes[i] for i in indices), default=0)
    largest = [i for i in indices if sizes[i] == best]
    return largest[0] if len(largest) == 1 else None


def _numbered(names: Sequence[Hashable | None]) -> list[int | None]:
    order = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return [None if name is None else order[name] for name in names]


def spelling(answers: Sequence[str | None], groups: Sequence[int | None], group: int) -> str:
    """Return the most frequent spelling of a group's answer, on a tie the first in sort order."""
    counts = Counter(answer for answer, g in zip(answers, groups, strict=True) if g == group and answer is not None)
    return min(counts, key=lambda answer: (-counts[answer], answer))

"""What a card says of where a dataset's problems are from: a model wrote them, or they are somebody's own data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """`about`: what the rows are; `tags`: the hub's; `languages`: the hub's names of them, None if unknown; `unlicensed`."""

    about: str
    tags: tuple[str, ...]
    languages: list[str] | None
    unlicensed: str


def origin_of(*, written: bool, languages: Iterable[Any]) -> Origin:
    """Return the origin of problems that models have `written`, in English as they were asked to, or of others.

    Of other problems only the labels of their `languages` tell what they are in.
    """
    if written:
        return Origin(
            "Mathematics problems that language models wrote from scratch, with answers: the "
            "[Magpie](https://arxiv.org/abs/2406.08464) method.",
            ("math", "reasoning", "synthetic", "magpie"),
            ["en"],
            "No license is set (export.py --license). Check the output terms of the models listed below.",
        )
    found = {str(label).lower() for label in languages}
    return Origin(
        "Mathematics problems with answers, as their source had them: no model is named that wrote the problems.",
        ("math", "reasoning"),
        sorted(label for label in found if len(label) == 2) or None,
        "No license is set (export.py --license). Check the terms of the data that these rows are from.",
    )

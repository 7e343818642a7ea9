"""Names of persons in a story: two stories that differ only in these are the same problem.

A name counts only with a verb of persons and a capital inside a sentence: a wrong name would make
two things the same (Klein and Möbius, Fahrenheit and Celsius).
"""

from __future__ import annotations

import calendar
import re

from magpie.similarity.lexicon import stem

_VERB = (
    r"(?:has|had|have|buys?|bought|gets?|got|wants?|needs?|gives?|gave|makes?|made|takes?|took|walks?|walked|runs?|ran|earns?|"
    r"earned|spends?|spent|works?|worked|eats?|ate|sells?|sold|reads?|plays?|bakes?|saves?|drives?|owns?|picks?|picked|"
    r"(?:is|was) (?:\d|older|younger|twice))"
)
_PERSON = re.compile(rf"\b([A-Z][a-z]{{1,14}}) {_VERB}\b|\b(?:does|did|will|can) ([A-Z][a-z]{{1,14}}) [a-z]")
_INSIDE = re.compile(r"(?<=[a-z,] )(?<!\ba )(?<!\ban )(?<!\bthe )[A-Z][a-z]{1,14}\b")
_NEVER = frozenset([*calendar.day_name, *calendar.month_name])
PRONOUNS = {"he": "he", "him": "he", "his": "he", "she": "she", "her": "she"}
"""Pronouns by person."""


def persons_of(text: str) -> frozenset[str]:
    """Return the names of persons in a text, as stems."""
    named = {name for pair in _PERSON.findall(text) for name in pair if name} & set(_INSIDE.findall(text))
    return frozenset(stem(name.lower()) for name in named - _NEVER)

"""`configs/verify`: words and units of final answers, doubts about problems, and the levels of measured difficulty."""

from __future__ import annotations

from functools import cache

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load
from magpie.records.schema import DIFFICULTIES


class AnswerWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/verify/answers.yaml`: units, and words of answers by their meaning."""

    units: dict[str, str]
    nothing: frozenset[str]
    stop_words: frozenset[str]
    negations: frozenset[str]
    quantifiers: frozenset[str]
    exclusive: list[frozenset[str]]
    synonyms: dict[str, str]
    numbers: dict[str, int]
    fractions: dict[str, int]
    short_words: frozenset[str]

    @property
    def known(self) -> set[str]:
        """Words with a meaning of their own, which are not names."""
        return {
            *self.units,
            *self.nothing,
            *self.negations,
            *self.quantifiers,
            *self.stop_words,
            *self.numbers,
            *self.short_words,
        }


class Spellings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/verify/spellings.yaml`: characters and patterns of answers, and their normal forms."""

    characters: dict[str, str]
    commands: frozenset[str]
    parser: list[tuple[str, str]]
    rules: dict[str, list[tuple[str, str]]]


class DoubtWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/verify/doubts.yaml`: how a response says that its problem cannot be solved, as patterns for one sentence."""

    words: dict[str, list[str]]
    says: list[str]
    """Verdicts on the problem."""
    lacks: list[str]
    """Something missing or undecided: a doubt in a response without a definite answer."""
    unless: list[str]
    """A sentence with one of these does not count."""
    despite: list[str]
    """The same, for `lacks` only."""
    asked: list[str]
    """A problem with one of these asks for it."""


class DifficultyLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of `configs/verify/difficulty.yaml`: a label and its minimum pass rate."""

    label: str
    least: float


@cache
def load_answer_words() -> AnswerWords:
    """Return the words and units of answers."""
    return load(config_path("verify", "answers.yaml"), AnswerWords)


@cache
def load_spellings() -> Spellings:
    """Return the rewritings of answers."""
    return load(config_path("verify", "spellings.yaml"), Spellings)


@cache
def load_doubt_words() -> DoubtWords:
    """Return the patterns of doubts."""
    return load(config_path("verify", "doubts.yaml"), DoubtWords)


@cache
def load_difficulty_levels() -> list[DifficultyLevel]:
    """Return the levels of measured difficulty, easiest first.

    Raises:
        MagpieError: a label is unknown.
    """
    levels = load(config_path("verify", "difficulty.yaml"), list[DifficultyLevel])
    if unknown := [level.label for level in levels if level.label not in DIFFICULTIES]:
        raise MagpieError(f"configs/verify/difficulty.yaml: no label {unknown[0]!r}; expected one of {', '.join(DIFFICULTIES)}")
    return levels

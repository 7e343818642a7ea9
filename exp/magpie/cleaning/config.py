"""`configs/cleaning.yaml`: limits and words for cleaning problems."""

from __future__ import annotations

from functools import cache

import msgspec

from magpie.config.load import config_path, load


class CleaningLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How short and how long a problem may be, and how much of a sample is looked at; in characters."""

    fewest_characters: int
    most_characters: int
    looked_at: int


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verbs that ask, by what they ask for."""

    closed: str
    proof: str
    open: str


class Cleaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/cleaning.yaml`: limits, and lists of words separated by commas."""

    limits: CleaningLimits
    asking: Asking
    interjections: str
    answer_headings: str
    problem_headings: str
    still_problem: str
    we_state: str
    no_verbs: str
    announces: str
    explains: str
    mathematics: str

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words that make a text mathematics."""
        return _words(self.mathematics)


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


@cache
def load_cleaning() -> Cleaning:
    """Return how problems are cleaned."""
    return load(config_path("cleaning.yaml"), Cleaning)

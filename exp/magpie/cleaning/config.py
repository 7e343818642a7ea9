"""`configs/cleaning.yaml`: limits and words for cleaning problems."""

from __future__ import annotations

from functools import cache

import msgspec

from magpie.config.load import config_path, load


class CleaningLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Minimum and maximum length of a problem, and how much of a sample is read; in characters."""

    fewest_characters: int
    most_characters: int
    looked_at: int


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verbs of questions, by kind of problem."""

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
    announces: str
    mathematics: str
    quantities: str
    programming: str
    talk: str
    writing: str


@cache
def load_cleaning() -> Cleaning:
    """Return the limits and words for cleaning."""
    return load(config_path("cleaning.yaml"), Cleaning)

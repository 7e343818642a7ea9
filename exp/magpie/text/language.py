"""The language of a text without its formulas."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from magpie.text.latex import find_formulas

_COMMAND = re.compile(r"\\[a-zA-Z]+")
FEWEST_WORDS, LEAST_ENGLISH = 20, 0.1
"""Below 20 words outside formulas a language detector is unreliable; above, a confidence under 0.1 is not English."""

ENGLISH = frozenset(
    (
        *("the", "and", "that", "what", "how", "find", "with", "are", "for", "if", "by", "such"),
        *("many", "which", "this", "from", "each", "has", "have", "she", "they", "there", "then", "than"),
        *("determine", "given", "let", "where", "does", "can", "be", "it", "when", "all", "show", "two", "number"),
    )
)
SURELY_ENGLISH = 0.15
"""Purely English words; with this many, the detector, slow and unreliable on short texts, is not needed."""
NO_WORDS = "zxx"
"""ISO 639-2's code of a text without linguistic content: formulas alone."""
LANGUAGE_CHARACTERS = 4000
LEAST_ENGLISH_SHORT = 0.05
LANGUAGES = (
    *("English", "Chinese", "Spanish", "German", "French", "Japanese", "Russian", "Portuguese", "Italian", "Dutch", "Polish"),
    *("Turkish", "Persian", "Arabic", "Korean", "Vietnamese", "Indonesian", "Czech", "Ukrainian", "Greek", "Hungarian"),
    *("Swedish", "Romanian", "Danish", "Finnish", "Bulgarian", "Slovak", "Hebrew", "Thai", "Hindi", "Bengali", "Croatian"),
    "Bokmal",
)
"""Languages that tagging chooses from: among all 75 of lingua's, a problem of a few words is Latin, Ganda or Tagalog."""


def looks_english(text: str) -> bool:
    """Return whether a text may be English; with too few words to tell, it may."""
    words = _without_formulas(text)
    letters = [c for c in words if c.isalpha()]
    if letters and sum(c.isascii() for c in letters) < 0.5 * len(letters):
        return False
    split = _split(words)
    if len(split) < FEWEST_WORDS or _surely_english(split):
        return True
    detector, english = _detector()
    return bool(detector.compute_language_confidence(words, english) >= LEAST_ENGLISH)


def has_english(text: str) -> bool:
    """Return whether one of the most frequent English words is in a text, which few words can tell."""
    return any(word in ENGLISH for word in _split(_without_formulas(text)))


def _without_formulas(text: str) -> str:
    return _COMMAND.sub(" ", " ".join(find_formulas(text).outside()))


def _split(words: str) -> list[str]:
    return [word for word in words.lower().split() if any(c.isalpha() for c in word)]


def _surely_english(split: list[str]) -> bool:
    return sum(word in ENGLISH for word in split) >= SURELY_ENGLISH * max(len(split), 1)


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language of a text without its formulas, or NO_WORDS.

    On a few words a detector only guesses: a short text that may well be English counts as English.
    """
    words = _without_formulas(text[:LANGUAGE_CHARACTERS])
    if not any(len(word) > 1 and word.isalpha() for word in re.findall(r"\w+", words)):
        return NO_WORDS
    split = _split(words)
    if _surely_english(split):
        return "en"
    detector, english = _tagging_detector()
    found = detector.compute_language_confidence_values(words)
    may_be_english = any(each.language == english and each.value >= LEAST_ENGLISH_SHORT for each in found)
    if len(split) < FEWEST_WORDS and may_be_english:
        return "en"
    return str(found[0].language.iso_code_639_1.name).lower()


@cache
def _tagging_detector() -> tuple[Any, Any]:
    """Return a detector of full accuracy (600 MB) for LANGUAGES, and English."""
    from lingua import Language, LanguageDetectorBuilder

    languages = [getattr(Language, name.upper()) for name in LANGUAGES]
    return LanguageDetectorBuilder.from_languages(*languages).build(), Language.ENGLISH


@cache
def _detector() -> tuple[Any, Any]:
    from lingua import Language, LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build(), Language.ENGLISH

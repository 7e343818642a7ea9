"""What can be told from a generated text alone: its chain of thought, a loop, a sample that a wrong prefix would give."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any

OPEN, CLOSE = "<think>", "</think>"
LOOP_WINDOW, LOOP_LENGTH, LOOP_REPEATS = 4000, 200, 6
"""A loop: the text ends in at least 200 characters that repeat one unit at least 6 times; the last 4,000 are looked at."""
LOOP_SIGN = 30
"""The last 30 characters of a loop stand in it before, one unit earlier: where they do not, there is none."""
LEAKED_TOKEN = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>]{1,60}｜>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?s>|<begin_of_|<eot_id>|"
    r"^(?:user|assistant|system)\s*\n",
    re.MULTILINE,
)
FORMULA = re.compile(r"\$\$.{0,2000}?\$\$|\$[^$\n]{0,500}\$|\\\(.{0,500}?\\\)|\\\[.{0,2000}?\\\]|\\[a-zA-Z]+", re.DOTALL)
FEWEST_WORDS, LEAST_ENGLISH = 20, 0.1
"""Below 20 words outside formulas a detector of languages says little; above, under 0.1 is not English."""

ENGLISH = frozenset(
    {
        "the",
        "and",
        "that",
        "what",
        "how",
        "find",
        "with",
        "are",
        "for",
        "if",
        "by",
        "such",
        "many",
        "which",
        "this",
        "from",
        "each",
        "has",
        "have",
        "she",
        "they",
        "there",
        "then",
        "than",
        "determine",
        "given",
        "let",
        "where",
        "does",
        "can",
        "be",
        "it",
        "when",
        "all",
        "show",
        "two",
        "number",
    }
)
SURELY_ENGLISH = 0.15
"""Words that no other language has as its own; so many of them need no detector, which is slow and errs on short texts."""
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
"""What the tagging of languages chooses from: with all 75 of lingua's a problem of a few words is Latin, Ganda or Tagalog."""


def split_reasoning(text: str, *, forced_think: bool = False) -> tuple[str | None, str | None]:
    """Split a model's text into its chain of thought and its solution, whichever of the two tags is missing.

    Args:
        text: what the model wrote.
        forced_think: whether the template had opened the chain of thought already.

    Returns:
        (reasoning, solution). No chain of thought: (None, text). One that never ended: (reasoning, None).
    """
    before, closed, after = text.partition(CLOSE)
    opened = before.lstrip().startswith(OPEN)
    reasoning = before.lstrip().removeprefix(OPEN).strip()
    if closed:
        return reasoning or None, after.strip()
    if opened or forced_think:
        return reasoning, None
    return None, text.strip()


def machine_readable(text: str) -> str:
    """Return what a program is to read of a model's text: without its chain of thought, and out of a block of code."""
    said = split_reasoning(text)[1] or ""
    return said.removeprefix("```json").removeprefix("```").removesuffix("```").strip()


def ends_in_loop(text: str, *, cut: bool = False) -> bool:
    """Whether a text ends in the same unit again and again. Of a text that was `cut`, numbers in the unit may change."""
    tail = text[-LOOP_WINDOW:]
    return _periodic(tail) or (cut and _periodic(re.sub(r"\d+", "0", tail)))


def _periodic(text: str) -> bool:
    """Whether an end of the text has at least `LOOP_LENGTH` characters and a period that fits `LOOP_REPEATS` times.

    The prefix function (Knuth, Morris, Pratt) of the reversed text gives the least period of every one of its ends.
    """
    if text[-LOOP_SIGN:] not in text[:-1]:
        return False
    backwards = text[::-1]
    border = [0] * len(backwards)
    for i in range(1, len(backwards)):
        k = border[i - 1]
        while k and backwards[i] != backwards[k]:
            k = border[k - 1]
        border[i] = k + (backwards[i] == backwards[k])
        length = i + 1
        if length >= LOOP_LENGTH and (length - border[i]) * LOOP_REPEATS <= length:
            return True
    return False


def sample_defect(text: str, finish_reason: str, added_tokens: Collection[str]) -> str:
    """Return what shows that a problem is junk (the mark of a wrong prefix), or an empty text."""
    if not text.strip():
        return "empty"
    if LEAKED_TOKEN.search(text) or any(token in text for token in added_tokens if len(token) > 3):
        return "template tokens"
    if ends_in_loop(text, cut=finish_reason == "length"):
        return "repeats itself"
    if finish_reason == "length":
        return "never ends"
    if not looks_english(text):
        return "not English"
    return ""


def looks_english(text: str) -> bool:
    """Whether a text may be English: too few words to tell count as English."""
    words = FORMULA.sub(" ", text)
    letters = [c for c in words if c.isalpha()]
    if letters and sum(c.isascii() for c in letters) < 0.5 * len(letters):
        return False
    split = _split(words)
    if len(split) < FEWEST_WORDS or _surely_english(split):
        return True
    detector, english = _detector()
    return bool(detector.compute_language_confidence(words, english) >= LEAST_ENGLISH)


def _split(words: str) -> list[str]:
    return [word for word in words.lower().split() if any(c.isalpha() for c in word)]


def _surely_english(split: list[str]) -> bool:
    return sum(word in ENGLISH for word in split) >= SURELY_ENGLISH * max(len(split), 1)


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language of a text without its formulas, or NO_WORDS.

    On a few words a detector only guesses: a short text that may well be English counts as English.
    """
    words = FORMULA.sub(" ", text[:LANGUAGE_CHARACTERS])
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

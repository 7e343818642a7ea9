"""The decision whether two texts are the same mathematics problem.

Markup ("$…$" or "\\(…\\)"), wording ("Find" or "Determine") and instructions ("Express your answer…") do not make another
problem; other numbers, other formulas or another question about the same formula do. `compare` checks pairs that embeddings,
MinHash or n-grams proposed; all functions are pure, and linear in the texts' length.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

from magpie.similarity.lexicon import lexicon, stem
from magpie.similarity.normalize import NormalizedProblem


def compare(a: NormalizedProblem, b: NormalizedProblem, cosine: float) -> tuple[bool, float, str]:
    """Return whether two problems are the same, their similarity (0 to 1), and the reason.

    Args:
        a, b: the problems, in any order.
        cosine: of their embeddings.
    """
    if a.key == b.key:
        return bool(a.key), 1.0, "same text" if a.key else "no words to compare"
    limits = lexicon().config.thresholds
    words, other_words = _content_words(a, b), _content_words(b, a)
    shared = _overlap(words, other_words)
    score = round(limits.cosine_share * cosine + (1 - limits.cosine_share) * shared, 4)
    if not a.key or not b.key:
        return False, score, "no words to compare"
    if not numbers_agree(a, b):
        return False, score, "other numbers"
    strict = bool(a.formulas or b.formulas) or shared >= limits.near_words
    if (words.keys() ^ other_words.keys()) & _contrasts(strict=strict):
        return False, score, "another question"
    if a.formulas != b.formulas or not _one_contains_other(a.lone_variables, b.lone_variables):
        return False, score, "other formulas"
    if shared >= limits.near_words:
        alike = a.lone_numbers == b.lone_numbers and a.optional_numbers == b.optional_numbers
        return alike, score, "nearly the same words" if alike else "numbers in other places"
    if (a.formulas or b.formulas) and shared < limits.formula_words and not _one_contains_other(words, other_words):
        return False, score, "another question"
    return _paraphrase(a, b, cosine, score)


def _content_words(a: NormalizedProblem, b: NormalizedProblem) -> Counter[str]:
    """Return one text's words without those that only name what both texts' formulas show ("the equation", "the integral")."""
    if not (a.formulas and b.formulas):
        return a.words
    named = {word for word, symbol in lexicon().config.symbol_names.items() if symbol in a.symbols and symbol in b.symbols}
    silent = _labels() | {stem(word) for word in named} | ({"int"} if "integral" in named else set())
    return Counter({word: count for word, count in a.words.items() if word not in silent})


def numbers_agree(a: NormalizedProblem, b: NormalizedProblem) -> bool:
    """Return True if both texts have the same numbers; with formulas, equally often.

    Without formulas one text may have a number word up to four that the other lacks ("the two cars", "both").
    """
    if a.formulas or b.formulas:
        extra = (a.numbers - b.numbers) + (b.numbers - a.numbers)
        return not extra or all(number in (a.optional_numbers | b.optional_numbers) for number in extra)
    missing = a.numbers.keys() - b.numbers.keys() - b.optional_numbers
    added = b.numbers.keys() - a.numbers.keys() - a.optional_numbers
    return (not missing and added <= b.spelled_numbers) or (not added and missing <= a.spelled_numbers)


def _one_contains_other(a: Counter[str], b: Counter[str]) -> bool:
    """Return True if one contains the other: "solve" is contained in "solve for x", but "solve for x" not in "solve for y"."""
    return not (a.keys() - b.keys() and b.keys() - a.keys())


def _paraphrase(a: NormalizedProblem, b: NormalizedProblem, cosine: float, score: float) -> tuple[bool, float, str]:
    """Compare two texts with the same numbers in other words."""
    limits = lexicon().config.thresholds
    if cosine < limits.least_cosine:
        return False, score, "other words"
    few = len(a.numbers.keys() & b.numbers.keys()) < 2
    if score < (limits.paraphrase_few if few else limits.paraphrase):
        return False, score, "other words"
    return True, score, "same numbers, other words"


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    """Return the share of the two texts' words that both have (weighted Jaccard)."""
    either = (a | b).total()
    return (a & b).total() / either if either else 1.0


@cache
def _contrasts(*, strict: bool) -> frozenset[str]:
    """Return the stems of contrast words; `strict` (formulas, or nearly the same wording) adds the soft ones."""
    known = lexicon()
    left_out = () if strict else known.config.soft_contrasts
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.contrasts if word not in left_out)


@cache
def _labels() -> frozenset[str]:
    known = lexicon()
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.labels)

"""The decision whether two texts are the same mathematics problem.

Near copies, whose token sequences are similar once variables are renamed, are the same only if everything relevant is equal
and in the same order: no list of forbidden differences is ever complete, and whoever changes a problem leaves most of it as
it was. Texts in other words must have the same numbers and formulas and ask for the same; then their embeddings decide.
`compare` checks pairs that embeddings, MinHash or n-grams proposed; all functions are pure.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter

from magpie.similarity.lexicon import lexicon, stem
from magpie.similarity.near_copies import (
    WORDS,
    Sequence,
    counting,
    equal_renamed,
    equal_shifted,
    near_copies,
    shifted,
)
from magpie.similarity.normalize import NormalizedProblem
from magpie.similarity.number_words import is_optional
from magpie.verification.equality import Verdict, cheaply

MANY = 4
"""Different numbers, half of them not small, that two problems hardly share by chance."""
BESIDE = 3
"""Tokens on either side of a number that show its role in a text."""
MOST_NUMBERS = 30
"""Maximum numbers of a text examined for this."""
ANSWERED_NUMBERS = 3
"""Different numbers that two problems with the same answer must share if their words may be distant."""


def same_answers(one: str | None, other: str | None) -> bool | None:
    """Return whether two problems have the same answer; None if one is missing, or if the texts alone do not decide."""
    verdict = cheaply(one, other) if one and other else None
    return None if verdict in (None, Verdict.UNPARSED) else verdict == Verdict.RIGHT


def compare(a: NormalizedProblem, b: NormalizedProblem, cosine: float, answers: bool | None = None) -> tuple[bool, float, str]:
    """Return whether two problems are the same, their similarity (0 to 1), and the reason.

    Args:
        a, b: the problems, in any order.
        cosine: of their embeddings.
        answers: whether they have the same answer, None if that is not known.
    """
    if a.key == b.key:
        return bool(a.key), 1.0, "same text" if a.key else "no words to compare"
    limits = lexicon().config.thresholds
    silent = _silent(a, b)
    words, other_words = _content_words(a, silent), _content_words(b, silent)
    score = round(limits.cosine_share * cosine + (1 - limits.cosine_share) * _overlap(words, other_words), 4)
    if not a.key or not b.key or answers is False:
        return False, score, "other answers" if a.key and b.key else "no words to compare"
    if numbers_agree(a, b):
        names = a.persons | b.persons
        one, other = counting(a.sequence, silent, names), counting(b.sequence, silent, names)
        if equal_renamed(one, other):
            return True, score, "same text, variables renamed"
        if near_copies(one, other):
            if shifted(one, other) or equal_shifted(*_readings(a, b, silent, cosine)):
                return True, score, "same text, shifted"
            return False, score, "nearly the same text"
        if _opposed(words, other_words):
            return False, score, "another question"
        if same_formulas(a, b):
            return _paraphrase(a, b, cosine, score, answered=answers is True)
    return _by_value(a, b, silent, cosine, score)


# --- formulas by value ---------------------------------------------------------------------------------------------------


def _readings(a: NormalizedProblem, b: NormalizedProblem, silent: frozenset[str], cosine: float) -> tuple[Sequence, Sequence]:
    """Return both texts with formulas as values if these are the same, else nothing."""
    if cosine < lexicon().config.thresholds.least_cosine or not (a.formulas and b.formulas):
        return [], []
    readings = [(a.by_value, b.by_value)]
    if not _variables(a) & _variables(b):  # swapping x and y matters
        readings.append((a.by_value_ranked, b.by_value_ranked))
    for one, other in readings:
        if one.values and one.values == other.values:
            return counting(one.sequence, silent), counting(other.sequence, silent)
    return [], []


def _variables(problem: NormalizedProblem) -> set[str]:
    return {token for kind, token in problem.tokens if kind == "variable"}


def _by_value(
    a: NormalizedProblem, b: NormalizedProblem, silent: frozenset[str], cosine: float, score: float
) -> tuple[bool, float, str]:
    """Compare two texts whose formulas or numbers are written differently."""
    one, other = _readings(a, b, silent, cosine)
    different = "other formulas" if numbers_agree(a, b) else "other numbers"
    outside = [Counter(part for part in text if part[0] not in WORDS) for text in (one, other)]
    if not one or outside[0] != outside[1]:
        return False, score, different
    if near_copies(one, other):
        equal = equal_shifted(one, other)
        return equal, score, "same formulas in another form" if equal else "nearly the same text"
    if _opposed(_content_words(a, silent), _content_words(b, silent)):
        return False, score, "another question"
    return _paraphrase(a, b, cosine, score)


# --- other words ------------------------------------------------------------------------------------------------------


def same_formulas(a: NormalizedProblem, b: NormalizedProblem) -> bool:
    """Return True if two texts have the same formulas, perhaps with other variables in the same order."""
    if _telling(a.formulas) == _telling(b.formulas):
        return _one_contains_other(a.lone_variables, b.lone_variables)
    one, other = ([(kind, token) for kind, token in problem.sequence if kind in _OF_FORMULAS] for problem in (a, b))
    return equal_renamed(one, other)


def _telling(formulas: Counter[str]) -> Counter[str]:
    """Return the formulas without those of prose: "40 percent", "5 m"."""
    return Counter({formula: count for formula, count in formulas.items() if not _IN_PROSE.fullmatch(formula)})


_IN_PROSE = re.compile(r"[\d/ ]+(?:percent|degree|euro|[a-zA-Z]{1,2})?|[a-zA-Z]?'?")
_OF_FORMULAS = frozenset(["number", "symbol", "variable"])


_NUMBERS = frozenset([stem("number")])


def _silent(a: NormalizedProblem, b: NormalizedProblem) -> frozenset[str]:
    """Return the words that only name what both texts' formulas show ("the equation", "the integral")."""
    if not (a.formulas and b.formulas):
        return _NUMBERS
    named = {word for word, symbol in lexicon().config.symbol_names.items() if symbol in a.symbols and symbol in b.symbols}
    return _NUMBERS | lexicon().labels | {stem(word) for word in named} | ({"int"} if "integral" in named else set())


def _content_words(problem: NormalizedProblem, silent: frozenset[str]) -> Counter[str]:
    return Counter({word: count for word, count in problem.words.items() if word not in silent})


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


def _paraphrase(
    a: NormalizedProblem, b: NormalizedProblem, cosine: float, score: float, *, answered: bool = False
) -> tuple[bool, float, str]:
    """Compare two texts with the same numbers in other words."""
    limits = lexicon().config.thresholds
    if cosine < limits.least_cosine:
        return False, score, "other words"
    both = a.numbers.keys() & b.numbers.keys()
    shared, telling = len(both), sum(not is_optional(number) for number in both)
    if answered and shared >= ANSWERED_NUMBERS:
        return True, score, "same numbers and answer"
    if _exchanged(a, b):
        return False, score, "numbers in other places"
    many = shared >= MANY and telling >= MANY // 2
    least = limits.paraphrase_few if shared < 2 else limits.paraphrase_many if many else limits.paraphrase
    if score < least:
        return False, score, "other words"
    return True, score, "same numbers, other words"


def _exchanged(a: NormalizedProblem, b: NormalizedProblem) -> bool:
    """Return True if two numbers of prose are in reverse order, and by adjacent words have each other's role."""
    if a.formulas or b.formulas:
        return False
    one, other = _beside(a), _beside(b)
    order = {number: at for at, number in enumerate(other)}
    for x, y in itertools.combinations([number for number in one if number in order][:MOST_NUMBERS], 2):
        if order[x] < order[y]:
            continue
        (x1, y1), (x2, y2) = ((text[x] - text[y], text[y] - text[x]) for text in (one, other))
        if x1 & y2 | y1 & x2 and not x1 & x2 | y1 & y2:
            return True
    return False


def _beside(problem: NormalizedProblem) -> dict[str, set[str]]:
    """Return the words next to each number that occurs once."""
    found, sequence = dict[str, set[str]](), problem.sequence
    for at, (kind, token) in enumerate(sequence):
        if kind == "number" and problem.numbers[token] == 1:
            around = sequence[max(0, at - BESIDE) : at + BESIDE + 1]
            found[token] = {word for other, word in around if other == "word"}
    return found


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    """Return the share of the texts' words that both have (weighted Jaccard)."""
    either = (a | b).total()
    return (a & b).total() / either if either else 1.0


def _opposed(a: Counter[str], b: Counter[str]) -> bool:
    """Return True if each has a word of a group of opposites that the other lacks, or only one is restrictive."""
    if any(a.keys() & group - b.keys() and b.keys() & group - a.keys() for group in lexicon().opposites):
        return True
    return any(a.keys().isdisjoint(group) != b.keys().isdisjoint(group) for group in lexicon().restrictions)

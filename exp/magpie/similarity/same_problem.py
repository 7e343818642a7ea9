"""Whether two texts are the same mathematics problem.

Layout ("$…$" or "\\(…\\)"), wording ("Find" or "Determine") and instructions ("Express your answer…") make no other problem;
other numbers, other formulas or another question about the same formula do. `same_problem` is the check of two texts that an
embedding, shared hashes or n-grams brought together; all functions are pure, and linear in the texts' length.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

from magpie.similarity.lexicon import stem, tables
from magpie.similarity.normalize import Reading, read


def normalise(text: str) -> str:
    """Return a problem's text in the one writing that all its layouts share: two texts with the same one are the same."""
    return read(text).text


def key(text: str) -> str:
    """Return the normalised text without the spaces that a layout may put anywhere: what exact matching compares."""
    return read(text).key


def numbers(text: str) -> Counter[str]:
    """Return the numbers (`1/2` for 0.5, one half, \\frac12) and the variables of a problem, with how often each is used."""
    reading = read(text)
    variables = Counter(piece for run in reading.runs for piece in run if piece.isalpha())
    return reading.numbers + reading.letters + variables


def same_problem(a: str, b: str, cosine: float) -> tuple[bool, float, str]:
    """Return whether two texts are the same problem, how like they are (0 to 1), and why.

    Args:
        a, b: the texts, in any order.
        cosine: of their embeddings.
    """
    return compare(read(a), read(b), cosine)


def compare(a: Reading, b: Reading, cosine: float) -> tuple[bool, float, str]:
    """Return what `same_problem` does, for texts that have been read already."""
    if a.key == b.key:
        return bool(a.key), 1.0, "same text" if a.key else "no words to compare"
    limits = tables().config.thresholds
    words, other_words = _telling(a, b), _telling(b, a)
    shared = _shared(words, other_words)
    score = round(limits.cosine_share * cosine + (1 - limits.cosine_share) * shared, 4)
    if not a.key or not b.key:
        return False, score, "no words to compare"
    if not numbers_agree(a, b):
        return False, score, "other numbers"
    strict = bool(a.runs or b.runs) or shared >= limits.near_words
    if (words.keys() ^ other_words.keys()) & _contrasts(strict=strict):
        return False, score, "another question"
    if a.runs != b.runs or not _one_sided(a.letters, b.letters):
        return False, score, "other formulas"
    if shared >= limits.near_words:
        alike = a.figures == b.figures and a.soft == b.soft
        return alike, score, "nearly the same words" if alike else "numbers in other places"
    if (a.runs or b.runs) and shared < limits.formula_words and not _one_sided(words, other_words):
        return False, score, "another question"
    return _paraphrase(a, b, cosine, score)


def _telling(a: Reading, b: Reading) -> Counter[str]:
    """Return one text's words without those that only name what the formulas of both show ("the equation", "the integral")."""
    if not (a.runs and b.runs):
        return a.words
    named = {word for word, symbol in tables().config.symbol_names.items() if symbol in a.symbols and symbol in b.symbols}
    silent = _labels() | {stem(word) for word in named} | ({"int"} if "integral" in named else set())
    return Counter({word: count for word, count in a.words.items() if word not in silent})


def numbers_agree(a: Reading, b: Reading) -> bool:
    """Whether every number of one text is in the other; how often, where there are formulas.

    Without formulas one of the two may count what the other does not ("the two cars", "both"): in words, up to four.
    """
    if a.runs or b.runs:
        extra = (a.numbers - b.numbers) + (b.numbers - a.numbers)
        return not extra or all(number in (a.soft | b.soft) for number in extra)
    missing, added = a.numbers.keys() - b.numbers.keys() - b.soft, b.numbers.keys() - a.numbers.keys() - a.soft
    return (not missing and added <= b.spelled) or (not added and missing <= a.spelled)


def _one_sided(a: Counter[str], b: Counter[str]) -> bool:
    """Whether one of the two has all that the other has: "solve for x" may say no more than "solve", but not "for y"."""
    return not (a.keys() - b.keys() and b.keys() - a.keys())


def _paraphrase(a: Reading, b: Reading, cosine: float, score: float) -> tuple[bool, float, str]:
    """Judge two texts with the same numbers in other words."""
    limits = tables().config.thresholds
    if cosine < limits.least_cosine:
        return False, score, "other words"
    few = len(a.numbers.keys() & b.numbers.keys()) < 2
    if score < (limits.paraphrase_few if few else limits.paraphrase):
        return False, score, "other words"
    return True, score, "same numbers, other words"


def _shared(a: Counter[str], b: Counter[str]) -> float:
    """Return which share of the two texts' words both have."""
    either = (a | b).total()
    return (a & b).total() / either if either else 1.0


@cache
def _contrasts(*, strict: bool) -> frozenset[str]:
    """Return the words that change a problem: in formulas and nearly the same wording (`strict`), and in any wording."""
    known = tables()
    left_out = () if strict else known.config.soft_contrasts
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.contrasts if word not in left_out)


@cache
def _labels() -> frozenset[str]:
    known = tables()
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.labels)

"""The decision whether two texts are the same mathematics problem.

Near copies, whose token sequences are much alike once variables are renamed, are the same only if all that counts is equal
and in the same order: no list of forbidden differences is ever complete, and whoever changes a problem leaves most of it as
it was. Texts in other words must have the same numbers and formulas and ask for the same; then their embeddings decide.
`compare` checks pairs that embeddings, MinHash or n-grams proposed; all functions are pure.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

from magpie.similarity.letters import letter_of
from magpie.similarity.lexicon import lexicon, stem
from magpie.similarity.normalize import NAMED_BY_LETTER, NormalizedProblem
from magpie.similarity.number_words import is_optional
from magpie.verification.equality import Verdict, cheaply

MANY = 4
"""Different numbers, half of them no small ones, that two problems hardly have in common by chance."""
BESIDE = 3
"""Tokens on either side of a number that tell its part in a text."""
MOST_NUMBERS = 30
"""Numbers of a text that are looked at for this."""
Sequence = list[tuple[str, str]]
ANSWERED_NUMBERS = 3
"""Different numbers that two problems with the same answer have in common, if their words may be distant."""


def same_answers(one: str | None, other: str | None) -> bool | None:
    """Return whether two problems have the same answer; None where one is missing, or where their texts alone do not tell."""
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
        one, other = _counting(a.sequence, silent), _counting(b.sequence, silent)
        if _near_copies(one, other):
            if _equal_renamed(one, other):
                return True, score, "same text, variables renamed"
            readings = ((one, other), _ranked(one, other), _unnamed(one, other), _readings(a, b, silent, cosine))
            if any(_equal_shifted(*pair) for pair in readings):
                return True, score, "same text, shifted"
            return False, score, "nearly the same text"
        if _opposed(words, other_words):
            return False, score, "another question"
        if _same_formulas(a, b):
            return _paraphrase(a, b, cosine, score, answered=answers is True)
    return _by_value(a, b, silent, cosine, score)


# --- near copies ------------------------------------------------------------------------------------------------------


def _counting(sequence: Iterable[tuple[str, str]], silent: frozenset[str]) -> Sequence:
    """Return one text's sequence without words that only name what both texts' formulas show ("the equation")."""
    return [(kind, token) for kind, token in sequence if kind != "word" or token not in silent]


def _near_copies(a: Sequence, b: Sequence) -> bool:
    """Return True if two texts are much alike, or differ in few places."""
    from rapidfuzz.distance import Indel

    limits = lexicon().config.thresholds
    shapes = [["" if kind == "variable" else token for kind, token in sequence] for sequence in (a, b)]
    if Indel.normalized_similarity(*shapes) >= limits.near_copy:
        return True
    places = blocks = 0
    for step in Indel.opcodes(*shapes):
        blocks = blocks + 1 if step.tag != "equal" else 0
        places += blocks == 1
    return places <= limits.near_places


def _equal_renamed(a: Sequence, b: Sequence) -> bool:
    """Return True if two sequences are equal up to the names of their variables."""
    if len(a) != len(b):
        return False
    pairs: dict[str, str] = {}
    for (kind, token), (other_kind, other) in zip(a, b, strict=True):
        if kind != other_kind or (kind != "variable" and token != other):
            return False
        if kind == "variable" and pairs.setdefault(token, other) != other:
            return False
    return _is_renaming(pairs, _fixed(a) | _fixed(b))


def _equal_shifted(a: Sequence, b: Sequence) -> bool:
    """Return True if two sequences are equal but for words that present, and for the places of clauses and formulas.

    "What is B if A?" is "A. What is B?"; "find the real x with A" is "solve A over the real numbers".
    """
    if not a or not b:
        return False
    counts = [Counter(token for _, token in sequence) for sequence in (a, b)]
    extra = [(one - other).keys() for one, other in (counts, counts[::-1])]
    labels = _labels()
    permitted = _presenting() | (frozenset() if extra[0] & labels and extra[1] & labels else labels)
    one, other = (
        [
            part
            for part in sequence
            if (part[1] not in permitted or counts[0][part[1]] == counts[1][part[1]])
            and not (part[1] in _moving() and counts[0][part[1]] == counts[1][part[1]] == 1)
        ]
        for sequence in (a, b)
    )
    if Counter(one) != Counter(other):
        return not any(kind == "formula" for kind, _ in one) and _equal_renamed(one, other)
    if one == other or _rotated(one, other):
        return True
    (words, runs), (other_words, other_runs) = _parted(one), _parted(other)
    single = len(runs) == len(other_runs) == 1
    if words != other_words and not (single and _rotated(words, other_words)):
        return False
    return _ordered(runs) == _ordered(other_runs)


def _ranked(one: Sequence, other: Sequence) -> tuple[Sequence, Sequence]:
    """Return both with variables in the order of their first use, if they have none in common: x and y in other places matter."""
    names = [list(dict.fromkeys(token for kind, token in sequence if kind == "variable")) for sequence in (one, other)]
    if len(names[0]) != len(names[1]) or set(names[0]) & set(names[1]) or _fixed(one) or _fixed(other):
        return [], []
    ranks = dict(zip(names[1], names[0], strict=True))
    return one, [(kind, ranks.get(token, token) if kind == "variable" else token) for kind, token in other]


def _unnamed(one: Sequence, other: Sequence) -> tuple[Sequence, Sequence]:
    """Return both, without a name that only one text gives to an expression, and that is not used: I = …, p(x) = …."""
    equations = [sum(token == "=" for _, token in sequence) for sequence in (one, other)]
    if equations[0] < equations[1]:
        return _unnamed(other, one)
    counts = Counter(token for kind, token in one if kind == "variable")
    for at, (kind, token) in enumerate(one):
        if kind == "variable" and counts[token] == 1 and (at == 0 or one[at - 1][0] in _WORDS):
            end = at + 1 + (one[at + 1 : at + 2] != [("symbol", "=")])
            if one[end : end + 1] == [("symbol", "=")] and one[end - 1][0] == "variable" and equations[0] > equations[1]:
                return one[:at] + one[end + 1 :], other
    return [], []


LEAST_TEXT = 4
"""Tokens of a text whose clauses may change places."""


def _rotated(one: Sequence, other: Sequence) -> bool:
    """Return True if the beginning of one text, with a word at least, is the end of the other."""
    if len(one) < LEAST_TEXT or len(one) != len(other):
        return False
    words = [kind in _WORDS for kind, _ in one]
    return any(
        any(words[:at]) and any(words[at:]) and one[at:] + one[:at] == other for at in range(1, len(one)) if one[at] == other[0]
    )


def _parted(sequence: Sequence) -> tuple[Sequence, list[Sequence]]:
    """Return the words, and the runs of everything else."""
    runs = [list(run) for word, run in itertools.groupby(sequence, key=lambda part: part[0] in _WORDS) if not word]
    return [part for part in sequence if part[0] in _WORDS], runs


def _ordered(runs: list[Sequence]) -> tuple[Sequence, Counter[str]]:
    """Return what is not in words in order, and the equations apart: conditions have no order."""
    parts = list(itertools.chain.from_iterable(runs))
    equations = [part for part in parts if part[0] == "formula" and part[1][0] in "=<!"]
    return [part for part in parts if part not in equations], Counter(token for _, token in equations)


_WORDS = frozenset(["word", "light"])


def _is_renaming(pairs: dict[str, str], fixed: set[str]) -> bool:
    """Return True if no two variables become one, and those that both texts have stay: x and y in other places matter."""
    new = set(pairs.values())
    moved = {one for one, other in pairs.items() if one != other}
    return len(new) == len(pairs) and not moved & (new | fixed) and not fixed & {pairs[one] for one in moved}


def _fixed(sequence: Sequence) -> set[str]:
    """Return the letters that mean something by themselves: e, groups and graphs with an index (S_4, K_6), x beside "axis"."""
    count = Counter(token for kind, token in sequence if kind == "variable")
    found = {token for token in count if letter_of(token) in "ei"}
    for (kind, token), (next_kind, following) in itertools.pairwise(sequence):
        if kind == "variable" and (
            following in NAMED_BY_LETTER or (next_kind == "number" and count[token] == 1 and letter_of(token).isupper())
        ):
            found.add(token)
    return found


# --- formulas by value ---------------------------------------------------------------------------------------------------


def _readings(a: NormalizedProblem, b: NormalizedProblem, silent: frozenset[str], cosine: float) -> tuple[Sequence, Sequence]:
    """Return both texts with formulas as values where these are the same, else nothing."""
    if cosine < lexicon().config.thresholds.least_cosine or not (a.formulas and b.formulas):
        return [], []
    readings = [(a.by_value, b.by_value)]
    if not _variables(a) & _variables(b):  # x and y in other places matter
        readings.append((a.by_value_ranked, b.by_value_ranked))
    for one, other in readings:
        if one.values and one.values == other.values:
            return _counting(one.sequence, silent), _counting(other.sequence, silent)
    return [], []


def _variables(problem: NormalizedProblem) -> set[str]:
    return {token for kind, token in problem.tokens if kind == "variable"}


def _by_value(
    a: NormalizedProblem, b: NormalizedProblem, silent: frozenset[str], cosine: float, score: float
) -> tuple[bool, float, str]:
    """Compare two texts whose formulas or numbers differ as they are written."""
    one, other = _readings(a, b, silent, cosine)
    different = "other formulas" if numbers_agree(a, b) else "other numbers"
    outside = [Counter(part for part in text if part[0] not in _WORDS) for text in (one, other)]
    if not one or outside[0] != outside[1]:
        return False, score, different
    if _near_copies(one, other):
        equal = _equal_shifted(one, other)
        return equal, score, "same formulas in another form" if equal else "nearly the same text"
    if _opposed(_content_words(a, silent), _content_words(b, silent)):
        return False, score, "another question"
    return _paraphrase(a, b, cosine, score)


# --- other words ------------------------------------------------------------------------------------------------------


def _same_formulas(a: NormalizedProblem, b: NormalizedProblem) -> bool:
    """Return True if two texts have the same formulas, perhaps with other variables in the same order."""
    if _telling(a.formulas) == _telling(b.formulas):
        return _one_contains_other(a.lone_variables, b.lone_variables)
    one, other = ([(kind, token) for kind, token in problem.sequence if kind in _OF_FORMULAS] for problem in (a, b))
    return _equal_renamed(one, other)


def _telling(formulas: Counter[str]) -> Counter[str]:
    """Return the formulas without what stands in prose: "40 percent", "5 m"."""
    return Counter({formula: count for formula, count in formulas.items() if not _IN_PROSE.fullmatch(formula)})


_IN_PROSE = re.compile(r"[\d/ ]+(?:percent|degree|euro|[a-zA-Z]{1,2})?|[a-zA-Z]?'?")
_OF_FORMULAS = frozenset(["number", "symbol", "variable"])


_NUMBERS = frozenset([stem("number")])


def _silent(a: NormalizedProblem, b: NormalizedProblem) -> frozenset[str]:
    """Return the words that only name what both texts' formulas show ("the equation", "the integral")."""
    if not (a.formulas and b.formulas):
        return _NUMBERS
    named = {word for word, symbol in lexicon().config.symbol_names.items() if symbol in a.symbols and symbol in b.symbols}
    return _NUMBERS | _labels() | {stem(word) for word in named} | ({"int"} if "integral" in named else set())


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
    """Return True if two numbers of prose are in the other order, and the words beside them say that each has the other's part."""
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
    """Return the words beside each number that occurs once."""
    found, sequence = dict[str, set[str]](), problem.sequence
    for at, (kind, token) in enumerate(sequence):
        if kind == "number" and problem.numbers[token] == 1:
            around = sequence[max(0, at - BESIDE) : at + BESIDE + 1]
            found[token] = {word for other, word in around if other == "word"}
    return found


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    """Return the share of the two texts' words that both have (weighted Jaccard)."""
    either = (a | b).total()
    return (a & b).total() / either if either else 1.0


def _opposed(a: Counter[str], b: Counter[str]) -> bool:
    """Return True if each text has a word of a group of opposites that the other has not."""
    return any(a.keys() & group - b.keys() and b.keys() & group - a.keys() for group in _opposites())


@cache
def _opposites() -> list[frozenset[str]]:
    known = lexicon()
    return [frozenset(known.synonyms.get(word) or stem(word) for word in group) for group in known.config.opposites]


@cache
def _presenting() -> frozenset[str]:
    known = lexicon()
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.presenting)


@cache
def _moving() -> frozenset[str]:
    known = lexicon()
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.moving)


@cache
def _labels() -> frozenset[str]:
    known = lexicon()
    return frozenset(known.synonyms.get(word) or stem(word) for word in known.config.labels)

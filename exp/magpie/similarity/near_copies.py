"""Near copies: texts whose token sequences are much alike once variables and persons are renamed.

They are the same problem only if everything relevant is equal and in the same order. What may differ is listed (`presenting`,
`labels`, `moving` in `configs/likeness.yaml`); what may not is not.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

from magpie.similarity.letters import letter_of
from magpie.similarity.lexicon import lexicon
from magpie.similarity.normalize import NAMED_BY_LETTER
from magpie.similarity.persons import PRONOUNS

Sequence = list[tuple[str, str]]
"""(kind, token) of the relevant tokens of a text, in order."""
LEAST_TEXT = 4
"""Maximum tokens of a text whose clauses may change places."""
WORDS = frozenset(["word", "light", "name"])
_RENAMED = frozenset(["variable", "name"])
_PRONOUNS = frozenset(PRONOUNS.values())


def counting(sequence: Iterable[tuple[str, str]], silent: frozenset[str], names: frozenset[str] = frozenset()) -> Sequence:
    """Return a text's sequence with names, and without words that only name what both texts' formulas show ("the equation")."""
    return [
        ("name", PRONOUNS.get(token, token)) if token in names or token in PRONOUNS else (kind, token)
        for kind, token in sequence
        if kind != "word" or token not in silent
    ]


def near_copies(a: Sequence, b: Sequence) -> bool:
    """Return True if two texts are very similar, or differ in few places."""
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


def equal_renamed(a: Sequence, b: Sequence) -> bool:
    """Return True if two sequences are equal up to the names of their variables."""
    if len(a) != len(b):
        return False
    pairs: dict[str, str] = {}
    for (kind, token), (other_kind, other) in zip(a, b, strict=True):
        if kind != other_kind or (kind not in _RENAMED and token != other):
            return False
        if kind in _RENAMED and pairs.setdefault(token, other) != other:
            return False
    return _is_renaming(pairs, _fixed(a) | _fixed(b))


def equal_shifted(a: Sequence, b: Sequence) -> bool:
    """Return True if two sequences are equal except for presenting words and the positions of clauses and formulas.

    "What is B if A?" is "A. What is B?"; "find the real x with A" is "solve A over the real numbers".
    """
    if not a or not b:
        return False
    known = lexicon()
    counts = [Counter(token for _, token in sequence) for sequence in (a, b)]
    extra = [(one - other).keys() for one, other in (counts, counts[::-1])]
    permitted = known.presenting
    for kind in (known.labels, _PRONOUNS):
        permitted = permitted - kind if extra[0] & kind and extra[1] & kind else permitted | kind
    one, other = (
        [
            part
            for part in sequence
            if (part[1] not in permitted or counts[0][part[1]] == counts[1][part[1]])
            and not (part[1] in known.moving and counts[0][part[1]] == counts[1][part[1]] == 1)
        ]
        for sequence in (a, b)
    )
    if Counter(one) != Counter(other):
        return not any(kind == "formula" for kind, _ in one) and equal_renamed(one, other)
    if one == other or _rotated(one, other):
        return True
    (words, runs), (other_words, other_runs) = _parted(one), _parted(other)
    single = len(runs) == len(other_runs) == 1
    if words != other_words and not (single and _rotated(words, other_words)):
        return False
    return _ordered(runs) == _ordered(other_runs)


def shifted(one: Sequence, other: Sequence) -> bool:
    """Return True if two sequences are equal_shifted unchanged, with variables renamed, or without a name that only one has."""
    return equal_shifted(one, other) or any(equal_shifted(*change(one, other)) for change in (_ranked, _unnamed))


def _ranked(one: Sequence, other: Sequence) -> tuple[Sequence, Sequence]:
    """Return both with variables by first use, if they share none: swapping x and y matters."""
    names = [
        list(dict.fromkeys(part for part in sequence if part[0] in _RENAMED and part[1] not in _PRONOUNS))
        for sequence in (one, other)
    ]
    if len(names[0]) != len(names[1]) or set(names[0]) & set(names[1]) or _fixed(one) or _fixed(other):
        return [], []
    ranks = dict(zip(names[1], names[0], strict=True))
    return one, [ranks.get(part, part) for part in other]


def _unnamed(one: Sequence, other: Sequence) -> tuple[Sequence, Sequence]:
    """Return both, without a name that only one text gives to an expression, and that is not used: I = …, p(x) = …."""
    equations = [sum(token == "=" for _, token in sequence) for sequence in (one, other)]
    if equations[0] < equations[1]:
        return _unnamed(other, one)
    counts = Counter(token for kind, token in one if kind == "variable")
    for at, (kind, token) in enumerate(one):
        if kind == "variable" and counts[token] == 1 and (at == 0 or one[at - 1][0] in WORDS):
            end = at + 1 + (one[at + 1 : at + 2] != [("symbol", "=")])
            if one[end : end + 1] == [("symbol", "=")] and one[end - 1][0] == "variable" and equations[0] > equations[1]:
                return one[:at] + one[end + 1 :], other
    return [], []


def _rotated(one: Sequence, other: Sequence) -> bool:
    """Return True if the beginning of one text, at least one word, is the end of the other."""
    if len(one) < LEAST_TEXT or len(one) != len(other):
        return False
    words = [kind in WORDS for kind, _ in one]
    return any(
        any(words[:at]) and any(words[at:]) and one[at:] + one[:at] == other for at in range(1, len(one)) if one[at] == other[0]
    )


def _parted(sequence: Sequence) -> tuple[Sequence, list[Sequence]]:
    """Return the words, and the runs of everything else."""
    runs = [list(run) for word, run in itertools.groupby(sequence, key=lambda part: part[0] in WORDS) if not word]
    return [part for part in sequence if part[0] in WORDS], runs


def _ordered(runs: list[Sequence]) -> tuple[Sequence, Counter[str]]:
    """Return the non-words in order, and the equations separately: conditions have no order."""
    parts = list(itertools.chain.from_iterable(runs))
    equations = [part for part in parts if part[0] == "formula" and part[1][0] in "=<!"]
    return [part for part in parts if part not in equations], Counter(token for _, token in equations)


def _is_renaming(pairs: dict[str, str], fixed: set[str]) -> bool:
    """Return True if no two become one, and those in both texts stay: swapping x and y matters.

    "He" becomes "she" only where a person has another name.
    """
    new = set(pairs.values())
    moved = {one for one, other in pairs.items() if one != other}
    if moved & _PRONOUNS:
        new, moved = new - _PRONOUNS, moved - _PRONOUNS
        if all(len(one) == 1 for one in moved) or len({pairs.get(one) for one in _PRONOUNS}) < len(_PRONOUNS):
            return False
        pairs = {one: other for one, other in pairs.items() if one not in _PRONOUNS}
    return len(new) == len(pairs) and not moved & (new | fixed) and not fixed & {pairs[one] for one in moved}


def _fixed(sequence: Sequence) -> set[str]:
    """Return the letters that mean something by themselves: e, groups and graphs with an index (S_4, K_6), x next to "axis"."""
    count = Counter(token for kind, token in sequence if kind == "variable")
    found = {token for token in count if letter_of(token) in "ei"}
    for (kind, token), (next_kind, following) in itertools.pairwise(sequence):
        if kind == "variable" and (
            following in NAMED_BY_LETTER or (next_kind == "number" and count[token] == 1 and letter_of(token).isupper())
        ):
            found.add(token)
    return found

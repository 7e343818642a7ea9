"""Formulas by their values at a random point modulo a prime, which do not depend on order and form.

Functions and powers whose exponent is not a small number are opaque: their value is a hash of their arguments' values. In a
formula without variables the numbers stand for themselves as variables do, since 2 + 6 is another task than 3 + 5. A formula
that cannot be parsed has no value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from magpie.similarity.letters import VARIABLE, letter_of
from magpie.similarity.lexicon import lexicon

PRIME = (1 << 61) - 1
MAX_TOKENS = 120
"""Longer formulas have no value."""
MAX_EXPONENT = 12
_MIRRORED = {">": "<", ">=": "<=", "=": "=", "!=": "!=", "<": "<", "<=": "<="}
_NEVER = "abcdkmnrstxyz"
"""Letters that are variables even before a bracket: x(x-8)."""
_ENDS = frozenset([")", "+", "-", "/", *_MIRRORED])


_FOLLOWED = re.compile(rf"([{VARIABLE}])\s*([('+\-=<>^_*/\d{VARIABLE})])?")


class _UnknownError(Exception):
    """A formula that cannot be parsed."""


def value_of(tokens: Sequence[str], names: dict[str, str], called: frozenset[str]) -> str | None:
    """Return a formula's value, independent of order and form, or None.

    Args:
        tokens: of the formula.
        names: what each variable counts as.
        called: variables that are functions.
    """
    if not 3 <= len(tokens) <= MAX_TOKENS:
        return None
    literal = not any(token[0].isalpha() for token in tokens if token not in lexicon().functions)
    reader = _Reader(list(tokens), names, called, literal)
    try:
        sides, relations = [reader.sum()], list[str]()
        while not reader.done and reader.next in _MIRRORED:
            relations.append(reader.take())
            sides.append(reader.sum())
        if not reader.done:
            return None
        return _relation(sides, relations) if relations else f"{sides[0]}:{_numbers(tokens)}"
    except (_UnknownError, RecursionError):
        return None


def as_equation(value: str) -> str:
    """Return the value of `F = 0` for that of an expression F; of a relation its own."""
    number, colon, _ = value.partition(":")
    return f"={min(int(number), -int(number) % PRIME)}" if colon else value


def _relation(sides: list[int], relations: list[str]) -> str:
    if len(relations) > 1:
        return "".join(f"{side}{relation}" for side, relation in zip(sides, [*relations, ""], strict=True))
    relation, difference = _MIRRORED[relations[0]], sides[0] - sides[1]
    if relations[0] in (">", ">="):
        difference = -difference
    if relation in ("=", "!="):
        return f"{relation}{min(difference % PRIME, -difference % PRIME)}"
    return f"{relation}{difference % PRIME}"


def _numbers(tokens: Sequence[str]) -> str:
    """Return the numbers of an expression: expanded and factored forms are different tasks."""
    return " ".join(sorted(token for token in tokens if token[0].isdigit() and token not in ("1", "2", "10", "100")))


def _hashed(*parts: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") % PRIME


@dataclass
class _Reader:
    """A recursive descent over the tokens; each method returns a value modulo PRIME."""

    tokens: list[str]
    names: dict[str, str]
    called: frozenset[str]
    literal: bool
    at: int = 0
    bars: bool = False

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)

    @property
    def next(self) -> str:
        return "" if self.done else self.tokens[self.at]

    def take(self) -> str:
        """Consume and return the next token."""
        if self.done:
            raise _UnknownError
        self.at += 1
        return self.tokens[self.at - 1]

    def sum(self) -> int:
        """Read terms with their signs."""
        sign = -1 if self.next == "-" else 1
        self.at += self.next in ("+", "-")
        total = sign * self.product()
        while self.next in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            total += sign * self.product()
        return total % PRIME

    def product(self) -> int:
        """Read adjacent factors and divisors."""
        found = self.factor()
        while not self.done and (self.next == "/" or self.next not in _ENDS) and not self._closes():
            if self.next == "/":
                self.at += 1
                found *= _inverse(self.factor())
            else:
                found = found * self.factor()
            found %= PRIME
        return found

    def _closes(self) -> bool:
        return self.bars and self.next == "|"

    def factor(self) -> int:
        """Read one factor with its power."""
        token = self.next
        value = self.atom()
        if self.next != "^":
            return value if not (self.literal and token.isdigit()) else _bare(token)
        self.at += 1
        negative = self.next == "-"
        self.at += negative
        exponent = self.tokens[self.at] if not self.done else ""
        if exponent.isdigit() and int(exponent) <= MAX_EXPONENT:
            self.at += 1
            value = pow(value, int(exponent), PRIME)
        else:
            value = _hashed("^", value, self.factor())
        if negative:
            value = _hashed("inverse", value)
        return value

    def atom(self) -> int:
        """Read a number, a variable, a function with its argument, or a bracket."""
        token = self.take()
        if token in ("(", "|"):
            outside, self.bars = self.bars, token == "|"
            value = self.sum()
            if self.take() != (")" if token == "(" else "|"):
                raise _UnknownError
            self.bars = outside
            return value if token == "(" else _hashed("|", min(value, PRIME - value))
        if token[0].isdigit():
            return _number(token, literal=self.literal)
        if token in ("lim", "int", "summation", "prod", "iint", "binom", "mod") or not token.isalpha():
            raise _UnknownError
        if token in lexicon().functions or token in self.called:
            return _hashed(self.names.get(token, token), self._argument())
        index = self.take() if token in VARIABLE and self.next.isdigit() else ""  # x_2: no product is written like this
        return _hashed(self.names.get(token, token), index)

    def _argument(self) -> int:
        """Read a function's argument: a bracket, or factors up to the next function or sign."""
        if self.next == "(":
            return self.factor()
        value = self.factor()
        known = lexicon().functions | self.called
        while not self.done and self.next not in _ENDS | known and self.next not in ("|", "("):
            value = value * self.factor() % PRIME
        return value


def _inverse(value: int) -> int:
    if value % PRIME == 0:
        raise _UnknownError
    return pow(value, -1, PRIME)


def _number(token: str, *, literal: bool) -> int:
    if literal:
        return _hashed("number", token)
    above, _, below = token.partition("/")
    if len(token) > 60 or not above.isdigit() or not (below or "1").isdigit():
        raise _UnknownError
    return int(above) * _inverse(int(below or "1")) % PRIME


def _bare(token: str) -> int:
    """Return the value of a number in a formula of numbers: a square is that of its root, 100 = 10^2."""
    value = int(token) if len(token) <= 20 else 0
    root = isqrt(value)
    return pow(_hashed("number", str(root)), 2, PRIME) if value > 1 and root * root == value else _hashed("number", token)


def functions_of(plain: str) -> frozenset[str]:
    """Return the variables of a plain text that are functions: in formulas a bracket or a prime always follows."""
    found: dict[str, set[bool]] = {}
    for match in _FOLLOWED.finditer(plain):
        if match[2]:
            found.setdefault(match[1], set()).add(match[2] in "('")
    return frozenset(variable for variable, kinds in found.items() if kinds == {True} and letter_of(variable) not in _NEVER)

"""Conditions that a user writes on the command line: `pass_rate < 0.7 and domain in ["algebra", "geometry"]`.

A small language, parsed here and never executed as a program. A field that a record lacks makes a comparison unknown, neither
true nor false: only `== null` and `!= null` test for it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import msgspec

from magpie.common.console import MagpieError, printable
from magpie.selection.rules import field_reader, is_number, key_of, short_json

LONGEST, DEEPEST = 2000, 40
Truth = bool | None
Condition = Callable[[dict[str, Any]], Truth]
Value = Callable[[dict[str, Any]], Any]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<name>[^\W\d][\w.]*(?:\|(?:length|count))?)
    |(?P<sign><=|>=|==|!=|<>|[<>=()\[\],]))""",
    re.VERBOSE,
)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_EQUAL, _UNEQUAL = ("==", "="), ("!=", "<>")
_WORDS = {"true": True, "false": False, "null": None, "none": None}


class Where:
    """A condition on records.

    Raises:
        MagpieError: it cannot be parsed; names the position.
    """

    def __init__(self, text: str) -> None:
        self.text, self._at, self._depth = text, 0, 0
        self.fields: dict[str, bool] = {}
        """Each named field, and whether a record had it."""
        self._tokens = self._read()
        self._holds = self._either()
        if self._at < len(self._tokens):
            raise self._error("the end, `and` or `or` is missing here")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a record that it reads."""
        return tuple(map(key_of, self.fields))

    def drop_reason(self, record: dict[str, Any]) -> tuple[str, str]:
        """Return the reason and the detail of a drop, or two empty texts for a record for which the condition is true.

        Raises:
            MagpieError: a field has a value that cannot be compared like this.
        """
        try:
            truth = self._holds(record)
        except TypeError as error:
            raise MagpieError(
                f"--where '{self.text}': {error} in the record {record.get('id')!r}. Change the condition"
            ) from None
        if truth:
            return "", ""
        if truth is None:
            return "not_known", f"a field of --where '{self.text}' is missing"
        return "where", f"not so: {self.text}"

    def refuse_unknown_fields(self) -> None:
        """Raise a MagpieError where no record had a field: it is misspelt, or its stage was not run."""
        if missing := [name for name, seen in self.fields.items() if not seen]:
            raise MagpieError(
                f"--where '{self.text}': no record has `{missing[0]}`. Check its name, or run the stage that makes it"
            )

    # --- reading ---------------------------------------------------------------------------------------------------------

    def _read(self) -> list[tuple[str, str, int]]:
        if len(self.text) > LONGEST:
            raise MagpieError(f"--where: longer than {LONGEST:,} characters. Write rules into a file of --config")
        tokens, at = [], 0
        while self.text[at:].strip():
            found = _TOKEN.match(self.text, at)
            if not found:
                raise MagpieError(f"--where '{printable(self.text)}': what is `{printable(self.text[at:].strip(), 20)}`?")
            tokens.append((str(found.lastgroup), found[str(found.lastgroup)], at))
            at = found.end()
        return tokens

    def _error(self, what: str) -> MagpieError:
        place = self._tokens[self._at][2] if self._at < len(self._tokens) else len(self.text)
        return MagpieError(
            f"--where '{printable(self.text)}', character {place + 1}: {what}. Like: pass_rate < 0.7 and agreement > 0.5"
        )

    def _next(self, *wanted: str) -> str:
        """Consume and return the next word or sign if it is one of these, else return an empty text."""
        if self._at < len(self._tokens):
            kind, text, _ = self._tokens[self._at]
            if kind in ("name", "sign") and text in wanted:
                self._at += 1
                return text
        return ""

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._next("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda record: _any(part(record) for part in parts)

    def _both(self) -> Condition:
        parts = [self._negated()]
        while self._next("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else lambda record: _all(part(record) for part in parts)

    def _negated(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error("too many levels")
        try:
            if self._next("not"):
                inner = self._negated()
                return lambda record: None if (truth := inner(record)) is None else not truth
            if self._next("("):
                inner = self._either()
                if not self._next(")"):
                    raise self._error("a `)` is missing here")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        left, parts = self._value(), []
        while sign := self._sign():
            right = self._value()
            parts.append(_compared(sign, left, right))
            left = right
        if not parts:
            raise self._error("a comparison is missing here: < <= > >= == != in contains")
        return parts[0] if len(parts) == 1 else lambda record: _all(part(record) for part in parts)

    def _sign(self) -> str:
        if self._next("not"):
            if not self._next("in"):
                raise self._error("`in` is missing after `not`")
            return "not in"
        return self._next(*_ORDERS, *_EQUAL, *_UNEQUAL, "in", "contains")

    def _value(self) -> Value:
        if self._next("["):
            values = [self._value()]
            while self._next(","):
                values.append(self._value())
            if not self._next("]"):
                raise self._error("a `]` is missing here")
            return lambda record: [value(record) for value in values]
        kind, text, _ = self._tokens[self._at] if self._at < len(self._tokens) else ("", "", 0)
        if kind not in ("number", "text", "name") or text in ("and", "or", "in", "contains"):
            raise self._error("a field or a value is missing here")
        self._at += 1
        if kind == "name" and text.lower() not in _WORDS:
            return self._field(text)
        constant = _WORDS[text.lower()] if kind == "name" else text[1:-1] if kind == "text" else float(text)
        return _null if constant is None else lambda _: constant

    def _field(self, name: str) -> Value:
        try:
            read = field_reader(name)
        except ValueError as error:
            raise self._error(f"`{name}`: {error}") from error
        self.fields.setdefault(name, False)

        def value(record: dict[str, Any]) -> Any:
            found = read(record)
            if found is msgspec.UNSET:
                return None
            self.fields[name] = True
            return found

        return value


def _null(record: dict[str, Any]) -> None:
    """Be the constant null."""


def _compared(sign: str, left: Value, right: Value) -> Condition:
    asks_null = sign in (*_EQUAL, *_UNEQUAL)

    def holds(record: dict[str, Any]) -> Truth:
        one, other = left(record), right(record)
        if one is None or other is None:
            return ((one is other) is (sign in _EQUAL)) if asks_null and _null in (left, right) else None
        return _holds(sign, one, other)

    return holds


def _holds(sign: str, one: Any, other: Any) -> bool:
    if sign == "contains":
        one, other, sign = other, one, "in"
    if sign in ("in", "not in"):
        if isinstance(other, str) and isinstance(one, str):
            return (one in other) is (sign == "in")
        if not isinstance(other, list):
            raise TypeError(f"{short_json(other)} is not a list")
        return any(entry is not None and _same(one, entry) for entry in other) is (sign == "in")
    if sign in _ORDERS:
        first, second = _number(one), _number(other)
        if first is None or second is None:
            raise TypeError(f"{short_json(one)} {sign} {short_json(other)} cannot be compared")
        return _ORDERS[sign](first, second)
    return _same(one, other) is (sign in _EQUAL)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_number(one) is not is_number(other):  # a CSV file has only texts
        one, other = _number(one), _number(other)
        return one is not None and one == other
    return bool(one == other)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if is_number(value) else None


def _all(truths: Any) -> Truth:
    found = list(truths)
    return False if False in found else None if None in found else True


def _any(truths: Any) -> Truth:
    found = list(truths)
    return True if True in found else None if None in found else False

"""Filter rules of `configs/filters`, as a decision on a record."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec

from magpie.common.console import MagpieError
from magpie.records.schema import OLD_VOTE
from magpie.selection.config import Condition, FilterPreset, Rule

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}
Read = Callable[[dict[str, Any]], Any]
Check = tuple[Rule, str, Read | None, Callable[[Any], bool], bool, Callable[[dict[str, Any]], bool] | None, str]
"""A rule, its field, the field's reader (None: a plain key), the test, whether it accepts null, exceptions, description."""


class Filter:
    """The compiled rules of a preset.

    Raises:
        MagpieError: a rule's value does not fit its operator; `name` is the origin of the rules.
    """

    def __init__(self, preset: FilterPreset, name: str) -> None:
        self._name = name
        if not preset.rules:
            raise MagpieError(f"{name}: no rules in it")
        self._checks = [self._check(rule, number) for number, rule in enumerate(preset.rules, 1)]
        self._marking = [
            (rule, field_reader(rule.field)) for rule in preset.rules if rule.missing == "mark" or isinstance(rule.unless, dict)
        ]
        conditions = [rule.when.field for rule in preset.rules if rule.when]
        fields = [*conditions, *(field for rule in preset.rules for field in (rule.field, *rule.exceptions))]
        self.keys = tuple(key_of(field) for field in fields)
        """The keys of a record that the rules read."""

    def _check(self, rule: Rule, number: int) -> Check:
        if rule.field == OLD_VOTE and rule.made_by == "verify.py":
            raise MagpieError(self._renamed(rule))
        try:
            read = field_reader(rule.field)
            plain, not_asked = key_of(rule.field) == rule.field, _not_met(rule.when) if rule.when else None
            test = _test(rule)
            words = "" if rule.op == "exists" else _words(rule)
            return rule, rule.field, None if plain else read, test, _names_null(rule), not_asked, words
        except ValueError as error:
            raise MagpieError(f"{self._name}, rule {number} ({rule.field} {rule.op}): {error}") from error

    def drop_reason(self, record: dict[str, Any]) -> tuple[str, str]:
        """Return the reason and the detail of a drop, or two empty texts for a record that is kept.

        Raises:
            MagpieError: a field is missing or has a type that the operator does not accept.
        """
        for rule, key, read, holds, takes_null, not_asked, words in self._checks:
            if rule.unless and _is_excepted(record, rule.exceptions):
                continue
            try:
                if not_asked and not_asked(record):
                    continue
                value = read(record) if read else record.get(key, msgspec.UNSET)
                if value is msgspec.UNSET or (value is None and not takes_null):
                    if value is msgspec.UNSET and key == OLD_VOTE and "majority_answer" in record:
                        raise MagpieError(self._renamed(rule))
                    if rule.missing not in ("keep", "mark"):
                        return self._missing(rule, record)
                elif not holds(value):
                    return rule.reason, f"{rule.field} is {short_json(value)}; {words}"
            except TypeError:
                raise MagpieError(
                    f"{self._name}: the rule '{rule.reason}' ({rule.field} {rule.op}) does not fit what the record "
                    f"{record.get('id')!r} has in `{rule.field.partition('|')[0]}`. Change the rule"
                ) from None
        return "", ""

    def not_judged(self, record: dict[str, Any]) -> list[str]:
        """Return the fields that a kept record lacks and whose rules mark this."""
        return [rule.field for rule, read in self._marking if read(record) in (None, msgspec.UNSET)]

    def _renamed(self, rule: Rule) -> str:
        return (
            f"{self._name}: the rule '{rule.reason}' reads `{OLD_VOTE}`, and what verify.py writes is `majority_answer` now. "
            "Change its `field`"
        )

    def _missing(self, rule: Rule, record: dict[str, Any]) -> tuple[str, str]:
        if rule.op == "exists":
            return rule.reason, f"{rule.field} is missing"
        if rule.missing == "drop":
            return f"no_{rule.field.partition('|')[0]}", f"{rule.field} is missing; {_words(rule)}"
        made = f"Make it with {rule.made_by}" if rule.made_by else "Run the stage that makes it"
        raise MagpieError(
            f"the record {record.get('id')!r} has no `{rule.field}`, which {self._name} needs ({rule.reason}). {made}, or set "
            "the rule's `missing` to drop or keep"
        )


def _is_excepted(record: dict[str, Any], unless: dict[str, list[Any]]) -> bool:
    found = {key: record.get(key) for key in unless}
    return any(value is not None and (not unless[key] or value in unless[key]) for key, value in found.items())


def key_of(field: str) -> str:
    """Return the key of a record that holds a rule's field."""
    return field.partition("|")[0].partition(".")[0]


def field_reader(field: str) -> Read:
    """Return a function that reads a field from a record, or gives UNSET.

    Raises:
        ValueError: the field is malformed.
    """
    path, _, form = field.partition("|")
    if not all(keys := path.split(".")):
        raise ValueError("the field's name is not a key or a dotted path")
    if form not in ("", "length", "count"):
        raise ValueError(f"|{form} is not one of |length, |count")
    key, inner = keys[0], keys[1:]

    def plain(record: dict[str, Any]) -> Any:
        return record.get(key, msgspec.UNSET)

    def deep(record: dict[str, Any]) -> Any:
        value: Any = record.get(key, msgspec.UNSET)
        for step in inner:
            value = value.get(step, msgspec.UNSET) if isinstance(value, dict) else msgspec.UNSET
        return value

    base = deep if inner else plain

    def formed(record: dict[str, Any]) -> Any:
        value = base(record)
        if value is None or value is msgspec.UNSET:
            return value
        if not isinstance(value, list if form == "count" else (str, list)):
            raise TypeError
        return len(value) if form == "length" else sum(entry is not None for entry in value)

    return formed if form else base


def _not_met(when: Condition) -> Callable[[dict[str, Any]], bool]:
    """Return a test for records that are known not to meet a condition."""
    rule = Rule(field=when.field, op=when.op, value=when.value, reason="when", missing="drop")
    read, holds = field_reader(when.field), _test(rule)

    def not_met(record: dict[str, Any]) -> bool:
        value = read(record)
        return value is not None and value is not msgspec.UNSET and not holds(value)

    return not_met


def _test(rule: Rule) -> Callable[[Any], bool]:
    """Return the test of a rule; it raises TypeError for a value that the operator does not accept.

    Raises:
        ValueError: the rule's value does not fit its operator.
    """
    value, op = rule.value, rule.op
    if op == "exists":
        if value is not msgspec.UNSET or rule.missing in ("keep", "mark"):
            raise ValueError("`exists` has no `value`, and its `missing` must be error or drop")
        return lambda _: True
    if value is msgspec.UNSET:
        raise ValueError("`value` is missing")
    if op in _ORDERS:
        return _ordered(_ORDERS[op], value)
    if op in ("in", "not_in"):
        return _among(value, wanted=op == "in")
    if op in ("ends_with", "not_ends_with"):
        return _ending(value, wanted=op == "ends_with")
    if op in ("contains", "not_contains"):
        return _containing(value, wanted=op == "contains")
    return lambda found: _same(found, value) is (op == "eq")


def _ordered(compare: Callable[[Any, Any], bool], limit: Any) -> Callable[[Any], bool]:
    if not is_number(limit):
        raise ValueError("`value` must be a number")

    def holds(found: Any) -> bool:
        if not is_number(found):
            raise TypeError
        return compare(found, limit)

    return holds


def _among(values: Any, *, wanted: bool) -> Callable[[Any], bool]:
    if not isinstance(values, list) or not values:
        raise ValueError("`value` must be a list")
    if all(isinstance(value, str) for value in values):
        texts = frozenset(values)
        return lambda found: (isinstance(found, str) and found in texts) is wanted
    return lambda found: any(_same(found, value) for value in values) is wanted


def _ending(endings: Any, *, wanted: bool) -> Callable[[Any], bool]:
    texts = tuple(endings) if isinstance(endings, list) else (endings,)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("`value` must be a text or a list of texts")

    def holds(found: Any) -> bool:
        if not isinstance(found, str):
            raise TypeError
        return found.endswith(texts) is wanted

    return holds


def _containing(part: Any, *, wanted: bool) -> Callable[[Any], bool]:
    def holds(found: Any) -> bool:
        if isinstance(found, list):
            return any(_same(entry, part) for entry in found) is wanted
        if not isinstance(found, str) or not isinstance(part, str):
            raise TypeError
        return (part in found) is wanted

    return holds


def _same(found: Any, value: Any) -> bool:
    """Return True if two JSON values are equal; true is not 1."""
    return bool(found == value) and isinstance(found, bool) == isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return True for a JSON number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _names_null(rule: Rule) -> bool:
    return rule.value is None or (isinstance(rule.value, list) and None in rule.value)


def short_json(value: Any) -> str:
    """Return a value as JSON of at most 60 characters, for messages."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"


def _words(rule: Rule) -> str:
    return f"the rule: {rule.op} {short_json(rule.value)}"

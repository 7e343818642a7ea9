"""How stages read a user's columns: the problem, the response, the right answer, an id.

A shape only adds keys: the user's columns stay as they are. Values under a key that is filled in, or of another type than
the record's, go into `previous`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from magpie.common.console import MagpieError
from magpie.records.schema import Record
from magpie.records.values import READERS, Reader, is_id, parsed, plain, turns_of

PROBLEMS = ("instruction", "problem", "question", "query", "prompt", "messages", "conversations", "conversation", "chosen")
RESPONSES = (
    "response",
    "solution",
    "generated_solution",
    "output",
    "completion",
    "generation",
    "messages",
    "conversations",
    "conversation",
)
SEVERAL = ("generations", "completions")
"""Columns read as `responses` if they hold lists of texts."""
REFERENCES = ("reference_answer", "answer", "expected_answer", "final_answer", "ground_truth", "reward_model.ground_truth")
IDS = ("id", "conversation_id", "uuid", "unique_id", "problem_id", "question_id")
GENERIC: dict[str, tuple[str, ...]] = {
    "instruction": PROBLEMS,
    "response": RESPONSES,
    "reference_answer": REFERENCES,
    "id": IDS,
}
"""Key → the columns read as it, in any case: the first that the file has."""


class KnownSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of configs/columns: datasets whose columns are known.

    `sets`: their ids on the hub; `has`: columns that identify them; `says`: column → texts, one of which identifies
    them; `columns`: key of a record → column (a dotted path; empty: none), or several; `empty`: column → texts that mean
    nothing; `vote`: column → its texts if the right answer is only a vote (null: no text); `steps`: the column with a
    response in pieces; `ids_repeat`: several rows have one id.
    """

    has: list[str] = []
    says: dict[str, list[str]] = {}
    columns: dict[str, str | list[str]] = {}
    sets: list[str] = []
    empty: dict[str, list[str]] = {}
    vote: dict[str, list[str | None]] = {}
    steps: str = ""
    ids_repeat: bool = False


@dataclass(frozen=True)
class Shape:
    """How the rows of one file become records."""

    columns: Mapping[str, str | list[str]]
    empty: Mapping[str, Sequence[str]]
    vote: Mapping[str, Sequence[str | None]]
    steps: str
    makes_ids: bool
    replaces_ids: bool
    stem: str

    @cached_property
    def _readers(self) -> list[tuple[Reader, str, str, list[str], bool]]:
        listed = [(key, column if isinstance(column, list) else [column]) for key, column in self.columns.items()]
        return [
            (READERS.get(key, plain), key, _named(names), names, isinstance(self.columns[key], list)) for key, names in listed
        ]

    def told(self) -> str:
        """Return in words which columns are read as which keys."""
        words = [f"{_named(column)} as `{key}`" for key, column in self.columns.items()]
        made = f"ids are generated ({self.stem}-{1:06d} …)" if self.makes_ids else ""
        return "; ".join(filter(None, [f"reads {', '.join(words)}" if words else "", made]))

    def record(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        """Return the record of a row.

        Raises:
            ValueError: a column's value does not fit its key; names it.
        """
        found: dict[str, Any] = {}
        for read, key, named, names, several in self._readers:
            values = [value for name in names if (value := self._value(row, name)) is not None]
            found |= read(key, named, values if several else values[0] if values else None)
        if "reference_answer" in found and any(dig(row, name) in texts for name, texts in self.vote.items()):
            found["majority_answer"] = found.pop("reference_answer")
        found |= {name: None for name, texts in self.empty.items() if name in Record.__annotations__ and row.get(name) in texts}
        if self.replaces_ids or not is_id(found.get("id", row.get("id"))):
            found["id"] = f"{self.stem}-{number:06d}"
            if (own := found.get("original_id") or row.get("id")) is not None and isinstance(own, str | int):
                found["original_id"] = own
        record = _filled(row, found)
        return _fitting(record, found) if self.columns else record

    def _value(self, row: dict[str, Any], name: str) -> Any:
        value = dig(row, name)
        if name == self.steps and isinstance(value, list):
            return "\n\n".join(str(step).strip("\n") for step in value)
        return None if value in self.empty.get(name, ()) else value


def dig(row: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, through objects and texts that are JSON objects; None: nothing."""
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        if isinstance(value, str) and value.startswith("{"):
            value = parsed(value)
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def shape_of(
    row: dict[str, Any], given: Mapping[str, str], known: Callable[[], Sequence[KnownSet]], *, hub_id: str, stem: str
) -> Shape | None:
    """Return how rows with columns like these become records, or None if they already are records.

    Raises:
        MagpieError: --columns names a column that does not exist.
    """
    for key, column in given.items():
        if column and column not in row and dig(row, column) is None:
            raise MagpieError(f"--columns {key}={column}: no column `{column}`; there are {', '.join(row)[:300]}")
    native = isinstance(row.get("instruction"), str) and not ("output" in row and "response" not in row)
    matching = [one for one in known() if _is_of(row, one, hub_id, native=native)]
    if native and not given and not matching and is_id(row.get("id")):
        return None
    columns: dict[str, str | list[str]] = dict(given)
    for one in matching:
        columns = one.columns | columns
    written = {name.strip().casefold(): name for name in row} | {name: name for name in row}
    columns |= {} if native else _several(row, written, columns)
    for key, names in GENERIC.items():
        if native and key != "id":  # records: there `answer` and the like are the user's own
            continue
        names = tuple(written.get(name, name) for name in names)
        taken = key in columns or (key in row and is_id(row[key]) if key == "id" else _is_text(row.get(key)))
        if not taken and (name := next((name for name in names if _may_be(key, dig(row, name))), "")):
            columns[key] = name
    if "responses" in columns or isinstance(row.get("responses"), list):
        columns = {key: column for key, column in columns.items() if key != "response" or key in given}
    repeats = any(one.ids_repeat for one in matching)
    named_id = bool(columns.get("id")) if "id" in columns else is_id(row.get("id"))
    if repeats and columns.get("id"):
        columns["original_id"] = columns.pop("id")
    columns = {key: column for key, column in columns.items() if column}
    empty = {name: texts for one in matching for name, texts in one.empty.items()}
    vote = next((one.vote for one in matching if one.vote), {})
    steps = next((one.steps for one in matching if one.steps), "")
    shape = Shape(
        columns, empty, vote, steps, makes_ids=repeats or not named_id, replaces_ids=repeats or given.get("id") == "", stem=stem
    )
    return shape if shape.columns or shape.makes_ids else None


def _several(row: dict[str, Any], written: Mapping[str, str], columns: Mapping[str, Any]) -> dict[str, str]:
    """Return the column that is read as `responses`, if there is no response yet."""
    found = [written[name] for name in SEVERAL if name in written and _are_texts(row[written[name]])]
    taken = {"response", "responses"} & {*columns, *written}
    return {"responses": found[0]} if found and not taken else {}


def _is_of(row: dict[str, Any], one: KnownSet, hub_id: str, *, native: bool) -> bool:
    if native and one.columns.get("instruction") not in (None, "instruction"):
        return False  # what such a set has elsewhere is already found, and the rest is the user's own
    says = not native and any(row.get(name) in texts for name, texts in one.says.items())
    return says or hub_id in one.sets or (bool(one.has) and all(name in row for name in one.has))


def _named(column: str | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in ([column] if isinstance(column, str) else column))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _may_be(key: str, value: Any) -> bool:
    """Return whether a column with this value is read as a key without being named."""
    if key == "id":
        return is_id(value)
    if key == "reference_answer":
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    return bool(turns_of(value)) if isinstance(value, list) else isinstance(value, str)


def _filled(row: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the keys that were found; their old values go into `previous`."""
    aside = {key: row[key] for key, value in found.items() if row.get(key) is not None and row[key] != value}
    return row | found | _previous(row, aside)


def _fitting(record: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return a record without values of a wrong type for our keys: those go into `previous`.

    Raises:
        ValueError: such a value was filled in.
    """
    while True:
        try:
            msgspec.convert(record, Record)
        except msgspec.ValidationError as error:
            key = str(error).partition("`$.")[2].partition("`")[0].partition(".")[0].partition("[")[0]
            if key in found or key == "previous" or key not in record:
                raise ValueError(str(error).replace("$.", "")) from error
            aside = {key: record.pop(key)}
            record |= _previous(record, aside)
        else:
            return record


def _previous(record: dict[str, Any], aside: dict[str, Any]) -> dict[str, Any]:
    if not aside:
        return {}
    before = record.get("previous")
    return {"previous": aside | ({"previous": before} if before else {})}

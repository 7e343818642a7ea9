"""Reading and validating files of records.

A data file is JSON Lines, UTF-8, one object a line. Reading also takes a JSON array (the older data sets), and either of
them compressed with gzip (`.gz`) or zstd (`.zst`). Everything is read as a stream: memory does not grow with the file.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, cast, get_type_hints

import msgspec
import xxhash

from magpie.common.console import MagpieError
from magpie.records.json_array import elements
from magpie.records.schema import OLD_VOTE, Record, read_old_vote
from magpie.records.zstd import ZstdFile

RAW_TEXT_LIMIT = 2000
"""Characters of a malformed line that its dropped row keeps."""


class Row(msgspec.Struct, frozen=True):
    """One row of an input file: its record, or why there is none. `line` counts from 1 (in an array: the element)."""

    line: int
    record: dict[str, Any] | None
    problem: str = ""
    data: bytes = b""
    """The row's bytes in the file."""

    @property
    def raw(self) -> str:
        """The row's text, cut to what the dropped file keeps."""
        return self.data[:RAW_TEXT_LIMIT].decode("utf-8", "replace")


Keys = tuple[str, ...] | None
"""Keys that a row must have; None: it is no record, and may have any keys of any type."""
Decode = Callable[[bytes], Any]
LONGEST_NUMBER = 4300
"""Digits of a whole number that Python reads (`sys.int_info.default_max_str_digits`)."""
_DIGITS = re.compile(rb"\d\d")
_decode_line: Decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def known_keys(further: tuple[str, ...] = ()) -> Decode:
    """Return a decoder of rows to the keys of `Record` and `further` alone, which checks types on the way.

    For stages that only read records, or make something else of them: it takes two thirds of the time. Skipped keys need only
    be valid JSON.
    """
    hints = get_type_hints(Record) | {key: Any for key in (*further, OLD_VOTE) if key not in Record.__annotations__}
    decode = msgspec.json.Decoder(TypedDict("Known", hints, total=False)).decode  # type: ignore[operator]

    def decode_known(data: bytes) -> Any:
        if not data.isascii():
            str(data, "utf-8")  # skipped texts are not validated by the decoder
        return decode(data)

    return decode_known


def _type_problem(error: msgspec.ValidationError) -> str:
    return str(error).replace("$.", "")


def _validate(value: Any, required: Keys, *, typed: bool) -> str:
    """Return the fault of a decoded record, or an empty text; `typed` skips the check of types, done already."""
    if not isinstance(value, dict):
        return f"expected an object, got {type(value).__name__}"
    if required is None:
        return ""
    for key in required:
        if key not in value:
            return f"the key `{key}` is missing"
    if typed:
        return ""
    try:
        msgspec.convert(value, Record)
    except msgspec.ValidationError as error:
        return _type_problem(error)
    return ""


def _long_number(data: bytes) -> str:
    """Return the fault of a row with a number that is too long for Python's json to read again, or an empty text."""
    if len(data) <= LONGEST_NUMBER or not _DIGITS.search(data[:: LONGEST_NUMBER // 2]):
        return ""  # a longer number has two digits among every half number's first bytes
    try:
        json.loads(data)
    except ValueError as error:
        return f"not JSON: {error}"
    return ""


def _decompressed(path: Path, raw: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if path.suffix == ".zst":
        return cast("BinaryIO", ZstdFile(raw))
    return raw


def _row(number: int, data: bytes, required: Keys, known: Decode | None, ending: str = "") -> Row:
    """Return the row of a line or of an array's element; `ending` is the fault of its end, if any."""
    try:
        value = known(data) if known else _decode_line(data)
    except msgspec.ValidationError as error:
        value, problem = None, _type_problem(error) if known else f"not JSON: {error}{ending}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        value, problem = None, f"not JSON: {error}{ending}"
    else:
        problem = _validate(value, required, typed=known is not None) or _long_number(data)
        if not problem:
            read_old_vote(value)
    return Row(number, None if problem else value, problem, data)


def _array_rows(stream: BinaryIO, required: Keys, known: Decode | None, path: Path) -> Iterator[Row]:
    number = 0
    try:
        for number, element in enumerate(elements(stream), 1):
            yield _row(number, element.strip(), required, known)
    except ValueError as error:
        raise MagpieError(
            f"{path}: the JSON array is broken after element {number} ({error}). Mend it, or convert it to JSON Lines"
        ) from error


def _line_rows(stream: BinaryIO, required: Keys, known: Decode | None) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield _row(number, line, required, known, "" if line.endswith(b"\n") else " (torn: the last line has no end)")


def _rows(path: Path, required: Keys, known: Decode | None, raw: BinaryIO) -> Iterator[Row]:
    stream = io.BufferedReader(cast("io.RawIOBase", _decompressed(path, raw)), 1 << 20)
    head = stream.peek(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if stream.peek(3).startswith(b"\xef\xbb\xbf"):
        stream.read(3)  # a byte order mark
    yield from _array_rows(stream, required, known, path) if head.startswith(b"[") else _line_rows(stream, required, known)


def read_rows(path: Path, required: Keys = ("instruction",), known: Decode | None = None) -> Iterator[Row]:
    """Yield a file's rows in order, malformed ones too. Blank lines are not rows. `known`: see `known_keys`.

    Raises:
        MagpieError: the file cannot be read at all (missing, a folder, broken compression, a broken array).
    """
    with open_input(path) as file:
        try:
            yield from _rows(path, required, known, file)
        except _compression_errors(path) as error:
            raise MagpieError(f"{path}: broken compression ({error}). Make the file again") from error


def _compression_errors(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix != ".zst":
        return (gzip.BadGzipFile, EOFError, zlib.error)
    import zstandard

    return (zstandard.ZstdError, EOFError)


def open_input(path: Path) -> io.BufferedReader:
    """Open an input file, or raise a `MagpieError` that names the fault of its path."""
    if not path.exists():
        raise MagpieError(f"{path}: no such file. Check --input_file")
    if path.is_dir():
        raise MagpieError(f"{path}: this is a folder. Name a file inside it")
    if not path.is_file():
        raise MagpieError(f"{path}: a pipe or a device, which can be read only once. Write it into a file first, and name that")
    return path.open("rb")


@dataclass(frozen=True)
class InputSummary:
    """The result of one pass over an input: its rows, the malformed ones among them, and the file's fingerprint."""

    rows: int
    malformed: int
    fingerprint: str


def check_input(path: Path, *, skip_malformed: bool, required: Keys = ("instruction",)) -> InputSummary:
    """Read the whole input once, before anything expensive is started, in about 16 bytes of memory per record.

    Raises:
        MagpieError: see `checked_rows`.
    """
    malformed = rows = 0
    for row in checked_rows(path, skip_malformed=skip_malformed, required=required):
        rows += 1
        malformed += row.record is None
    return InputSummary(rows, malformed, fingerprint(path))


def checked_rows(
    path: Path, *, skip_malformed: bool, required: Keys = ("instruction",), known: Decode | None = None
) -> Iterator[Row]:
    """Yield a file's rows, and check them on the way; some errors are raised at the end only.

    Raises:
        MagpieError: the file is missing, empty, has a malformed row (unless `skip_malformed`) or an id twice.
    """
    identities = array("q")
    malformed = rows = 0
    for row in read_rows(path, required, known):
        rows += 1
        if row.record is None:
            malformed += 1
            if not skip_malformed:
                raise MagpieError(
                    f"{path}, line {row.line}: {row.problem}. Mend the line, or use --skip_malformed to put such lines "
                    "into the dropped file"
                )
        elif row.record.get("id") is not None:
            identities.append(identity_of(row.record))
        yield row
    if rows == malformed:
        raise MagpieError(f"{path}: {'no usable record in it' if rows else 'the file is empty'}. Check --input_file")
    _refuse_repeated_ids(path, identities, required)


def fingerprint(path: Path) -> str:
    """Return a hash of a file's bytes."""
    digest = xxhash.xxh3_128()
    with open_input(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def identity_of(record: dict[str, Any]) -> int:
    """Return a hash of 64 bits of a record's id, the text "7" and the number 7 apart; valid in this process only.

    The pairs of one problem have its id: there the pair's number counts too.
    """
    identity, pair = record["id"], record.get("pair")
    text = identity if type(identity) is str else f"\0{identity}"
    return hash(text) if pair is None else hash((text, pair))


def _refuse_repeated_ids(path: Path, identities: array[int], required: Keys) -> None:
    import numpy as np

    unique, counts = np.unique(np.frombuffer(identities, dtype=np.int64), return_counts=True)
    if len(unique) == len(identities):
        return
    repeated = set(unique[counts > 1][:1].tolist())
    lines = [
        (row.line, row.record["id"])
        for row in read_rows(path, required)
        if row.record and row.record.get("id") is not None and identity_of(row.record) in repeated
    ]
    raise MagpieError(
        f"{path}: {len(identities) - len(unique)} ids are used again, first {lines[0][1]!r} in lines {lines[0][0]} and "
        f"{lines[1][0]}. Give every record its own id"
    )


def stem_of(path: Path) -> str:
    """Return a data file's name without its endings: `X_ins.jsonl.gz` → `X_ins`."""
    name = path.name
    for suffix in (".gz", ".zst", ".jsonl", ".json"):
        name = name.removesuffix(suffix)
    return name

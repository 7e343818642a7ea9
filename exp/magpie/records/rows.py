"""The rows of one file of any format: decoded, checked, numbered.

JSON Lines, UTF-8, one object per line; a JSON array (the older datasets), also inside an object (`{"data": […]}`); tables
(tables.py); UTF-16; compressed with gzip or zstd. Everything is read as a stream: memory does not grow with the file.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, cast, get_args, get_type_hints

import msgspec

from magpie.common.console import MagpieError
from magpie.records.json_array import SomethingBehind, elements
from magpie.records.schema import OLD_VOTE, Record, read_old_vote
from magpie.records.tables import BadRow, form_of, table_rows
from magpie.records.utf16 import Utf16File, is_utf16
from magpie.records.zstd import ZstdFile

RAW_TEXT_LIMIT = 2000
"""Characters of a malformed line that its dropped row keeps."""


class Row(msgspec.Struct, frozen=True):
    """One row of an input file: its record, or why there is none. `line` counts from 1 (in an array or a table: the row)."""

    line: int
    record: dict[str, Any] | None
    problem: str = ""
    data: bytes = b""
    """The row's bytes in the file."""
    is_line: bool = False

    @property
    def unit(self) -> str:
        """What `line` counts: lines, or the rows of an array or a table, which have other lines."""
        return "line" if self.is_line else "row"

    @property
    def place(self) -> str:
        """Where the row is, in words."""
        return f"{self.unit} {self.line}"

    @property
    def raw(self) -> str:
        """The row's text, cut to what the dropped file keeps."""
        return self.data[:RAW_TEXT_LIMIT].decode("utf-8", "replace")


Keys = tuple[str, ...] | None
"""Keys that a row must have; None: it is not a record, and may have any keys of any type."""
Decode = Callable[[bytes], Any]
LONGEST_NUMBER = 4300
"""Maximum digits of an integer that Python reads (`sys.int_info.default_max_str_digits`)."""
_DIGITS = re.compile(rb"\d\d")
_decode_line: Decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def as_bytes(value: Any) -> bytes:
    """Return a table's row as JSON, or as Python shows it where it holds what JSON has not."""
    try:
        return encode(value)
    except (TypeError, ValueError):
        return repr(value).encode("utf-8", "replace")


def known_keys(further: tuple[str, ...] = ()) -> Decode:
    """Return a decoder of rows to the keys of only `Record` and `further`, which checks types on the way.

    For stages that only read records or turn them into something else: it takes two thirds of the time. Skipped keys need only
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


def fault_of(value: Any, required: Keys, *, typed: bool) -> str:
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
    """Return the fault of a row with a number too long for Python's json to read, or an empty text."""
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


def _row(number: int, data: bytes, required: Keys, known: Decode | None, ending: str = "", *, is_line: bool = False) -> Row:
    """Return the row of a line or of an array's element; `ending` is the fault of its end, if any."""
    try:
        value = known(data) if known else _decode_line(data)
    except msgspec.ValidationError as error:
        value, problem = None, _type_problem(error) if known else f"not JSON: {error}{ending}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        value, problem = None, f"not JSON: {error}{ending}"
    else:
        problem = fault_of(value, required, typed=known is not None) or _long_number(data)
        if not problem:
            read_old_vote(value)
    return Row(number, None if problem else value, problem, data, is_line)


def _array_rows(stream: BinaryIO, required: Keys, known: Decode | None, path: Path, *, inside: bool) -> Iterator[Row]:
    number = 0
    try:
        for number, element in enumerate(elements(stream), 1):
            yield _row(number, element.strip(), required, known)
    except ValueError as error:
        if inside and isinstance(error, SomethingBehind):
            return
        raise MagpieError(
            f"{path}: the JSON array is broken after element {number} ({error}). Fix it, or convert it to JSON Lines"
        ) from error


def _line_rows(stream: BinaryIO, required: Keys, known: Decode | None) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            torn = "" if line.endswith(b"\n") else " (torn: the last line is incomplete)"
            yield _row(number, line, required, known, torn, is_line=True)


_WRAPPED = re.compile(
    rb'\{(?:\s*"[^"\\]{1,80}"\s*:\s*(?:"[^"\\]{0,200}"|[\w.+-]{1,40})\s*,){0,8}\s*"(?:data|rows|records|examples|items|problems|train)"\s*:\s*(?=\[\s*\{)'
)
"""The beginning of an object that only wraps an array of rows."""


def _json_rows(path: Path, required: Keys, known: Decode | None, stream: io.BufferedReader[Any]) -> Iterator[Row]:
    if stream.peek(3).startswith(b"\xef\xbb\xbf"):
        stream.read(3)  # a byte order mark
    head = stream.peek(4096)
    wrapped = _WRAPPED.match(head.lstrip())
    if wrapped:
        stream.read(len(head) - len(head.lstrip()) + wrapped.end())
    if wrapped or head.lstrip().startswith(b"["):
        return _array_rows(stream, required, known, path, inside=bool(wrapped))
    if head.partition(b"\n")[0].strip() in (b"{", b'{"'):
        raise MagpieError(f"{path}: JSON over several lines. Write one object per line (jq -c), or an array of them")
    return _line_rows(stream, required, known)


@cache
def _typed_keys() -> dict[str, bool]:
    """Return the keys of a record that do not hold only texts, and whether they may hold one."""
    hints = {key: get_args(hint) for key, hint in get_type_hints(Record).items()}
    return {key: str in kinds for key, kinds in hints.items() if kinds and {*kinds} - {str, type(None)}}


def _read_cells(row: dict[str, Any]) -> None:
    """Convert, in place, the cells of a CSV file under keys of numbers, lists and the like."""
    for key in _typed_keys().keys() & row.keys():
        if _typed_keys()[key] and not row[key].startswith("["):
            continue
        with contextlib.suppress(msgspec.DecodeError):  # else: a user's own text
            row[key] = _decode_line(row[key]) if row[key] else None


def _table_rows(path: Path, form: str, stream: io.BufferedReader[Any], required: Keys) -> Iterator[Row]:
    for number, value in enumerate(table_rows(path, form, stream), 1):
        if isinstance(value, BadRow):
            yield Row(number, None, str(value))
            continue
        if form in ("csv", "tsv"):
            _read_cells(value)
        try:
            data = b"" if required is None else encode(value)  # else what becomes of it is encoded
            problem = fault_of(value, required, typed=False)
        except (TypeError, ValueError) as error:  # a type that JSON lacks, half a surrogate pair
            yield Row(number, None, f"JSON cannot hold it ({error})")
            continue
        yield Row(number, None if problem else value, problem, data)


def file_rows(path: Path, required: Keys, known: Decode | None) -> Iterator[Row]:
    """Yield the unchanged rows of one file, malformed ones too.

    Raises:
        MagpieError: it cannot be read at all.
    """
    with open_input(path) as file:
        try:
            stream = io.BufferedReader(cast("io.RawIOBase", _decompressed(path, file)), 1 << 20)
            if is_utf16(stream.peek(4)):
                stream = io.BufferedReader(cast("io.RawIOBase", Utf16File(path, stream)), 1 << 20)
            form = form_of(path, stream.peek(4096))
            if form == "json":
                yield from _json_rows(path, required, known, stream)
            else:
                yield from _table_rows(path, form, stream, required)
        except _compression_errors(path) as error:
            raise MagpieError(f"{path}: broken compression ({error}). Recreate the file") from error


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
        raise MagpieError(
            f"{path}: a pipe or a device, which can be read only once. Write it into a file, or use --input_file -"
        )
    return path.open("rb")

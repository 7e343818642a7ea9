"""The record: every key with its type, reading, validating and writing.

A data file is JSON Lines, UTF-8, one object a line. Reading also takes a JSON array (the older data sets), and either of
them compressed with gzip (`.gz`) or zstd (`.zst`). Everything is read as a stream: memory does not grow with the file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, cast

import msgspec

from magpie.console import MagpieError

DOMAINS = ("algebra", "calculus", "geometry", "statistics", "number_theory", "discrete")
RAW_TEXT_LIMIT = 2000
"""Characters of a malformed line that its dropped row keeps."""


class Record(TypedDict, total=False):
    """Every key that a stage writes. Other keys pass through untouched; null always means "not known"."""

    id: str | int
    # gen_ins.py
    instruction: str
    pre_query_template: str | None
    target_domain: str | None
    template_id: str | None
    gen_input_configs: dict[str, Any] | None
    created: int | None
    # gen_res.py: one response, or lists as long as `responses`
    response: str | None
    responses: list[str] | None
    reasoning: str | list[str] | None
    finish_reason: str | list[str] | None
    prompt_tokens: int | None
    completion_tokens: int | list[int] | None
    gen_response_configs: dict[str, Any] | None
    previous: dict[str, Any] | None
    # any stage, in its …_dropped file
    drop_reason: str | None
    drop_detail: str | None


@dataclass(frozen=True)
class Row:
    """One row of an input file: its record, or why there is none. `line` counts from 1 (in an array: the element)."""

    line: int
    record: dict[str, Any] | None
    problem: str = ""
    raw: str = ""


_decode_line = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def _validate(value: Any, required: tuple[str, ...]) -> str:
    """Return what is wrong with a decoded record, or an empty text."""
    if not isinstance(value, dict):
        return f"expected an object, got {type(value).__name__}"
    for key in required:
        if key not in value:
            return f"the key `{key}` is missing"
    try:
        msgspec.convert(value, Record)
    except msgspec.ValidationError as error:
        return str(error).replace("$.", "")
    return ""


def _unwritable(value: Any) -> str:
    """Return why a value that ijson let through could not be written again (half a surrogate pair, say)."""
    try:
        encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
        return str(error)
    return ""


def _decompressed(path: Path, raw: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if path.suffix == ".zst":
        import zstandard

        return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return raw


def _array_rows(stream: BinaryIO, required: tuple[str, ...], path: Path) -> Iterator[Row]:
    import ijson

    number = 0
    try:
        for number, value in enumerate(ijson.items(stream, "item", use_float=True), 1):
            problem = _validate(value, required) or _unwritable(value)
            yield Row(number, None if problem else value, problem, str(value)[:RAW_TEXT_LIMIT] if problem else "")
    except ijson.JSONError as error:
        raise MagpieError(
            f"{path}: the JSON array is broken after element {number} ({str(error).splitlines()[0]}). "
            "Mend it, or convert it to JSON Lines"
        ) from error


def _line_rows(stream: BinaryIO, required: tuple[str, ...]) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            value = _decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            torn = "" if line.endswith(b"\n") else " (torn: the last line has no end)"
            yield Row(number, None, f"not JSON: {error}{torn}", line[:RAW_TEXT_LIMIT].decode("utf-8", "replace"))
            continue
        problem = _validate(value, required)
        raw = line[:RAW_TEXT_LIMIT].decode("utf-8", "replace") if problem else ""
        yield Row(number, None if problem else value, problem, raw)


def _rows(path: Path, required: tuple[str, ...], raw: BinaryIO) -> Iterator[Row]:
    stream = io.BufferedReader(cast("io.RawIOBase", _decompressed(path, raw)), 1 << 20)
    head = stream.peek(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if stream.peek(3).startswith(b"\xef\xbb\xbf"):
        stream.read(3)  # a byte order mark
    yield from _array_rows(stream, required, path) if head.startswith(b"[") else _line_rows(stream, required)


def read_rows(path: Path, required: tuple[str, ...] = ("instruction",)) -> Iterator[Row]:
    """Yield a file's rows in order, malformed ones too. Blank lines are not rows.

    Raises:
        MagpieError: the file cannot be read at all (missing, a folder, broken compression, a broken array).
    """
    with open_input(path) as file:
        try:
            yield from _rows(path, required, file)
        except (gzip.BadGzipFile, EOFError, *_zstd_errors(path)) as error:
            raise MagpieError(f"{path}: broken compression ({error}). Make the file again") from error


def _zstd_errors(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix != ".zst":
        return ()
    import zstandard

    return (zstandard.ZstdError,)


def open_input(path: Path) -> BinaryIO:
    """Open an input file, or raise a `MagpieError` that says what is wrong with its path."""
    if not path.exists():
        raise MagpieError(f"{path}: no such file. Check --input_file")
    if path.is_dir():
        raise MagpieError(f"{path}: this is a folder. Name a file inside it")
    return path.open("rb")


@dataclass(frozen=True)
class InputSummary:
    """What one pass over an input told: rows, malformed ones among them, and the file's fingerprint."""

    rows: int
    malformed: int
    fingerprint: str


def check_input(path: Path, *, skip_malformed: bool, required: tuple[str, ...] = ("instruction",)) -> InputSummary:
    """Read the whole input once, before anything expensive is started, in about 16 bytes of memory a record.

    Raises:
        MagpieError: the file is missing, empty, has a malformed row (unless `skip_malformed`) or an id twice.
    """
    identities = array("q")
    malformed = rows = 0
    for row in read_rows(path, required):
        rows += 1
        if row.record is None:
            malformed += 1
            if not skip_malformed:
                raise MagpieError(
                    f"{path}, line {row.line}: {row.problem}. Mend the line, or use --skip_malformed to put such lines "
                    "into the dropped file"
                )
        elif "id" in row.record:
            identities.append(_identity(row.record))
    if rows == malformed:
        raise MagpieError(f"{path}: {'no usable record in it' if rows else 'the file is empty'}. Check --input_file")
    _refuse_repeated_ids(path, identities, required)
    return InputSummary(rows, malformed, fingerprint(path))


def fingerprint(path: Path) -> str:
    """Return a hash of a file's bytes."""
    with open_input(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _identity(record: dict[str, Any]) -> int:
    return hash((type(record["id"]), record["id"]))


def _refuse_repeated_ids(path: Path, identities: array[int], required: tuple[str, ...]) -> None:
    import numpy as np

    unique, counts = np.unique(np.frombuffer(identities, dtype=np.int64), return_counts=True)
    if len(unique) == len(identities):
        return
    repeated = set(unique[counts > 1][:1].tolist())
    lines = [
        (row.line, row.record["id"])
        for row in read_rows(path, required)
        if row.record and "id" in row.record and _identity(row.record) in repeated
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

"""Reading and validating files of records.

Stages write JSON Lines. A user's input (`Source`) may have any format (rows.py, tables.py), may have other
columns than a record (shapes.py), and may be a dataset in a folder or on the hub.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from magpie.common.console import MagpieError, log
from magpie.records.rows import Decode, Keys, Row, as_bytes, encode, fault_of, file_rows, open_input
from magpie.records.shapes import Shape, shape_of
from magpie.records.source import Source
from magpie.records.tables import JSON, PACKED, TABLES, files_of, load_hub

LOOKED_AT = 100
"""First rows of a file that decide what its columns are."""


def _all_rows(path: Path, required: Keys, known: Decode | None) -> Iterator[Row]:
    """Return the unchanged rows of a file, of all files of a dataset, or of a hub dataset."""
    if isinstance(path, Source) and path.hub_id:
        return _hub_rows(path, required)
    files = _parts(path)
    return file_rows(files[0], required, known) if len(files) == 1 else _rows_of_all(files, required, known)


def _hub_rows(path: Source, required: Keys) -> Iterator[Row]:
    for number, value in enumerate(load_hub(path.hub_id, path.split, "--input_file"), 1):
        problem = fault_of(value, required, typed=False)
        yield Row(number, None if problem else value, problem, encode(value))


def _rows_of_all(files: list[Path], required: Keys, known: Decode | None) -> Iterator[Row]:
    before = 0
    for file in files:
        number = 0
        for row in file_rows(file, required, known):
            number = row.line
            yield msgspec.structs.replace(row, line=before + number)
        before += number


def _parts(path: Path) -> list[Path]:
    return files_of(path, getattr(path, "split", None)) if path.is_dir() else [path]


def read_rows(path: Path, required: Keys = ("instruction",), known: Decode | None = None) -> Iterator[Row]:
    """Return a file's rows in order, malformed ones too. Blank lines are not rows. `known`: see `known_keys`.

    The rows of a `Source` become records, whatever its columns are called.

    Raises:
        MagpieError: the file cannot be read at all (missing, a folder, broken compression, a broken array or table).
    """
    shape = _shape(path, required) if isinstance(path, Source) and required is not None else None
    if shape is None:
        return _all_rows(path, required, known)
    return (_shaped(row, shape, required) for row in _all_rows(path, None, None))


def _shape(path: Source, required: tuple[str, ...]) -> Shape | None:
    first: dict[str, Any] = {}
    good = [row.record for row in islice(_all_rows(path, None, None), LOOKED_AT) if isinstance(row.record, dict)]
    for record in good:  # a column may begin with nulls
        first |= {name: value for name, value in record.items() if first.get(name) is None}
    if not good:
        return None
    stem = stem_of(Path(path.hub_id.partition(":")[0] or path))
    hub = path.hub_id.partition(":")[0]
    shape = shape_of(first, path.columns, path.known, hub_id=hub, stem=stem)
    if "instruction" in required and "instruction" not in first and not (shape and "instruction" in shape.columns):
        found = ", ".join(f"{name} ({type(value).__name__})" for name, value in first.items())
        raise MagpieError(
            f"{path}: the key `instruction` is missing, and no column can be read as it: {found[:300]}. "
            f"{_remedy(good)}: --columns instruction=COLUMN"
        )
    if shape and shape.told():
        shown = "standard input" if path.spooled else path
        _say(f"{shown}: {shape.told()}" + ("" if path.columns or not shape.columns else ". --columns changes that"))
    return shape


def _remedy(rows: list[dict[str, Any]]) -> str:
    """Return the remedy; the rows may be inside the only object of a file."""
    for name, value in rows[0].items() if len(rows) == 1 else ():
        if isinstance(value, list) and value and isinstance(value[0], dict) and not {"role", "from"} & value[0].keys():
            return f"Take the rows out of the object (jq -c '.{name}[]'), or name it"
    return "Name it"


@cache
def _say(text: str) -> None:
    log.info("%s", text)


def _shaped(row: Row, shape: Shape, required: Keys) -> Row:
    if row.record is None:
        return row
    try:
        record = shape.record(row.record, row.line)
        if not (problem := fault_of(record, required, typed=bool(shape.columns))):
            return Row(row.line, record, "", encode(record), row.is_line)
    except (TypeError, ValueError) as error:
        problem = str(error)
    return Row(row.line, None, problem, row.data or as_bytes(row.record), row.is_line)


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
    """Yield a file's rows, and check them on the way; some errors are raised only at the end.

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
                    f"{path}, {row.place}: {row.problem}. Fix the {row.unit}, or pass --skip_malformed to put such "
                    f"{row.unit}s into the dropped file"
                )
        elif row.record.get("id") is not None:
            identities.append(identity_of(row.record))
        yield row
    if rows == malformed:
        raise MagpieError(f"{path}: {'no usable record in it' if rows else 'the file is empty'}. Check --input_file")
    _refuse_repeated_ids(path, identities, required)


def fingerprint(path: Path) -> str:
    """Return a hash of the bytes of a file or of all files of a dataset, or of a hub dataset's metadata."""
    digest = xxhash.xxh3_128()
    if isinstance(path, Source) and path.hub_id:
        found = load_hub(path.hub_id, path.split, "--input_file")
        digest.update(f"{path.hub_id} {found.split} {found.num_rows} {found.info.dataset_size} {found._fingerprint}".encode())
        return digest.hexdigest()
    for part in _parts(path):
        with open_input(part) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def identity_of(record: dict[str, Any]) -> int:
    """Return a 64-bit hash of a record's id (the text "7" and the number 7 differ); valid in this process only.

    Pairs of one problem share its id: for them the pair's number counts too.
    """
    identity, pair = record["id"], record.get("pair")
    text = identity if type(identity) is str else f"\0{identity}"
    return hash(text) if pair is None else hash((text, pair))


def _refuse_repeated_ids(path: Path, identities: array[int], required: Keys) -> None:
    import numpy as np

    ordered = np.frombuffer(identities, dtype=np.int64)
    ordered.sort()
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(again):
        return
    repeated = set(again[:1].tolist())
    rows = [
        (row, row.record["id"])
        for row in read_rows(path, required)
        if row.record and row.record.get("id") is not None and identity_of(row.record) in repeated
    ]
    raise MagpieError(
        f"{path}: {len(again):,} ids occur twice, first {rows[0][1]!r} in {rows[0][0].unit}s "
        f"{rows[0][0].line} and {rows[1][0].line}. Give every record its own id, or have ids generated: --columns id="
    )


def identified(row: Row, path: Path) -> dict[str, Any]:
    """Return a row's record with an id: its own, else one built from the file's name and the line."""
    record = row.record or {}
    if record.get("id") is not None:
        return record
    made = {"id": f"{stem_of(path)}-{row.line:06d}"}
    return made | record | made


def stem_of(path: Path) -> str:
    """Return a data file's name without its endings: `X_ins.jsonl.gz` and `X_ins.parquet` → `X_ins`."""
    name = path.name
    for suffix in (*PACKED, *JSON, *TABLES):
        name = name.removesuffix(suffix)
    return name

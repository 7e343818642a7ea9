"""Rows of formats other than JSON: Parquet, Arrow, CSV and TSV (PyArrow, streamed), and datasets in a folder or on the hub."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from magpie.common.console import MagpieError

if TYPE_CHECKING:
    import datasets
    import pyarrow

BATCH = 512
"""Rows held as Python objects at a time."""
CSV_BLOCK = 16 << 20
"""Bytes of a CSV file read at a time; no row may be longer."""
TABLES = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".csv": "csv", ".tsv": "tsv"}
JSON = (".jsonl", ".json", ".ndjson")
PACKED = (".gz", ".zst")
MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow"}
FOREIGN = {
    b"PK\x03\x04": "an Excel file or a zip archive: save the table as CSV or Parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save the table as CSV",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"\x80\x04\x95": "a Python pickle, which is never loaded: save it as JSON Lines or Parquet",
    b"BZh": "compressed with bzip2: unpack it, or use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz: unpack it, or use gzip or zstd",
    b"\x1f\x8b": "compressed with gzip: give it a name that ends in .gz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: give it a name that ends in .zst",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: fetch that with git lfs pull",
    b"<": "a web page or XML, perhaps of a download that failed: fetch the file again",
    b"%PDF": "a PDF: save its table as CSV",
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class BadRow(Exception):
    """A row without a record; says why."""


def form_of(path: Path, head: bytes) -> str:
    """Return the format of a file by its name, else by its first bytes: parquet, arrow, csv, tsv or json.

    Raises:
        MagpieError: it is another program's format, and cannot be read.
    """
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise MagpieError(f"{path}: {what}")
    found = next((form for magic, form in MAGIC.items() if head.startswith(magic)), "")
    suffix = (path.with_suffix("") if path.suffix in PACKED else path).suffix.lower()
    form = found or TABLES.get(suffix, "")
    if form in ("parquet", "arrow") and path.suffix in PACKED:
        raise MagpieError(f"{path}: {form.title()} inside {path.suffix}: unpack it, for it is compressed itself")
    if form or suffix in JSON:
        return form or "json"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    line = text.partition(b"\n")[0]
    if not text or text[:1] in b"{[" or not (b"\t" in line or b"," in line):
        return "json"
    return "tsv" if b"\t" in line else "csv"


def table_rows(path: Path, form: str, stream: io.BufferedReader[Any]) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a table, each a mapping of its columns.

    Raises:
        MagpieError: it is broken, or its format is not the one that its name says.
    """
    import pyarrow

    try:
        if form == "parquet":
            yield from _parquet(path)
        elif form == "arrow":
            yield from _arrow(path)
        else:
            yield from _csv(stream, "\t" if form == "tsv" else _delimiter(stream))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300].replace("UTF8", "UTF-8")
        remedy = "Save it in UTF-8" if "UTF-8" in why else "Recreate the file"
        if "straddling" in why or "block size" in why:
            why, remedy = f"a row is longer than {CSV_BLOCK >> 20} MiB, or a quote has no end", "Fix it, or save it as Parquet"
        raise MagpieError(
            f"{path}: no readable {form.upper() if 'sv' in form else form.title()} file ({why}). {remedy}"
        ) from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        _refuse_same_names(file.schema_arrow)
        for batch in file.iter_batches(BATCH, use_threads=False):
            yield from batch.to_pylist()


def _refuse_same_names(schema: pyarrow.Schema) -> None:
    if len(set(schema.names)) < len(schema.names):
        raise ValueError("two columns have one name")


def _arrow(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as mapped:
        if mapped.read(6) == b"ARROW1":
            file = pyarrow.ipc.open_file(mapped)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            mapped.seek(0)
            file = batches = pyarrow.ipc.open_stream(mapped)
        _refuse_same_names(file.schema)
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                yield from batch.slice(start, BATCH).to_pylist()


def _delimiter(stream: io.BufferedReader[Any]) -> str:
    """Return the separator of a CSV file's header."""
    header = stream.peek(4096).partition(b"\n")[0].decode("utf-8", "replace")
    return next((sign for sign in ",;\t|" if sign in header), ",")


def _csv(stream: BinaryIO, delimiter: str) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a CSV file with every value as text."""
    import pyarrow
    from pyarrow import csv

    bad: dict[int, BadRow] = {}

    def refuse(row: csv.InvalidRow) -> str:
        text = " ".join(row.text[:200].split())
        bad[row.number - 1] = BadRow(f"{row.actual_columns} columns instead of {row.expected_columns}: {text}")
        return "skip"

    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse)
    convert = csv.ConvertOptions(default_column_type=pyarrow.string(), strings_can_be_null=False)
    reader = csv.open_csv(stream, csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK), parse, convert)
    _refuse_same_names(reader.schema)
    number = 1
    for batch in reader:
        for start in range(0, batch.num_rows, BATCH):
            for row in batch.slice(start, BATCH).to_pylist():
                while number in bad:
                    yield bad.pop(number)
                    number += 1
                yield row
                number += 1
    yield from bad.values()


# --- datasets ---------------------------------------------------------------------------------------------------------


def splits_of(folder: Path) -> dict[str, list[Path]]:
    """Return the splits of a dataset in a folder: as `datasets` saves it, or Parquet, CSV, JSON Lines files."""
    splits: dict[str, list[Path]] = {}
    saved = [state.parent for state in (folder / "state.json", *sorted(folder.glob("*/state.json"))) if state.exists()]
    for one in saved:
        splits["train" if one == folder else one.name] = sorted(one.glob("*.arrow"))
    if not saved:
        for path in sorted((*folder.glob("*"), *folder.glob("data/*"))):
            if path.is_file() and _is_data(path):
                splits.setdefault(_SHARD.sub("", path.name.partition(".")[0]), []).append(path)
    return splits


def files_of(folder: Path, split: str | None) -> list[Path]:
    """Return the files of a split of a dataset in a folder.

    Raises:
        MagpieError: there are none, or several splits and none of them is named.
    """
    splits = splits_of(folder)
    if not splits:
        raise MagpieError(f"{folder}: this is a folder without a dataset. Name a file inside it")
    if split is None and len(splits) > 1:
        raise MagpieError(
            f"{folder}: this is a folder with several files or splits ({', '.join(splits)[:200]}). Name one: --split"
        )
    chosen = next(iter(splits)) if split is None else split
    if chosen not in splits:
        raise MagpieError(f"{folder}: no split '{chosen}' in it; it has {', '.join(splits)[:200]}. Check --split")
    return splits[chosen]


def _is_data(path: Path) -> bool:
    inner = path.with_suffix("") if path.suffix in PACKED else path
    beside = (".run.json", "dataset_info.json", "job.json", "croissant.json")
    return inner.suffix in (*TABLES, *JSON) and not path.name.endswith(beside)


def load_hub(
    name: str, split: str | None, flag: str, *, revision: str | None = None, gated: bool = False, shown: str = "", see: str = ""
) -> datasets.Dataset:
    """Download a split of a hub dataset and return it; `name` may end in `:config`.

    Args:
        shown: the name that the user gave (default: `name`).
        see: where a wrong split would be corrected.

    Raises:
        MagpieError: there is none, it may not be read, or the hub cannot be reached; begins with `flag`.
    """
    import datasets
    from httpx2 import HTTPError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the error is reported below
    repo, _, config = name.partition(":")
    name = shown or name
    try:
        found = datasets.load_dataset(repo, config or None, split=split, revision=revision)
    except (GatedRepoError, datasets.exceptions.DatasetNotFoundError) as error:
        if gated or isinstance(error, GatedRepoError) or "gated" in str(error):
            what = (
                f"access to {repo} is granted manually: request it on https://huggingface.co/datasets/{repo}, then "
                "`.venv/bin/hf auth login`, or set HF_TOKEN"
            )
        else:
            what = f"the hub has no dataset {repo} that you may read. Check the name, or set HF_TOKEN"
        raise MagpieError(f"{flag} {name}: {what}") from error
    except (ConnectionError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        raise MagpieError(
            f"{flag} {name}: no such file, and the hub cannot be reached ({' '.join(str(error).split())[:200]}). Check the "
            f"network, or download the file elsewhere and name it: {flag} FILE"
        ) from error
    except (ValueError, datasets.exceptions.DatasetsError) as error:  # no such split or configuration
        raise MagpieError(f"{flag} {name}: {' '.join(str(error).split())[:300]}{see}") from error
    if isinstance(found, datasets.DatasetDict):
        if len(found) > 1:
            raise MagpieError(f"{flag} {name}: several splits ({', '.join(found)}). Name one with --split")
        found = next(iter(found.values()))
    return found

"""Writing a dataset's rows: Parquet or JSON Lines under an explicit schema, one file per split."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from magpie.common.console import MagpieError
from magpie.export.formats import METADATA
from magpie.records.rows import encode

if TYPE_CHECKING:
    import pyarrow as pa

FILE_TYPES = ("parquet", "jsonl")
BATCH = 1000
"""Rows buffered for one row group."""


def arrow_type(kind: Any) -> pa.DataType:
    """Return a column's type (magpie.export.formats says how it is written) as pyarrow has it."""
    import pyarrow as pa

    if isinstance(kind, list):
        return pa.list_(arrow_type(kind[0]))
    if isinstance(kind, dict):
        return pa.struct([(name, arrow_type(inner)) for name, inner in kind.items()])
    return {"string": pa.string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}[kind]


def card_features(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the columns as `dataset_info: features:` of a dataset card has them."""

    def body(kind: Any) -> dict[str, Any]:
        if isinstance(kind, list):
            inner = body(kind[0])
            return {"list": inner.get("dtype") or inner["struct"]}
        if isinstance(kind, dict):
            return {"struct": card_features(kind)}
        return {"dtype": "float64" if kind == "double" else kind}

    return [{"name": name, **body(kind)} for name, kind in columns.items()]


def split_of(group: str, test_share: float, seed: int) -> str:
    """Return `test` or `train`: always the same for a group, regardless of the rest of the dataset."""
    return "test" if xxhash.xxh3_64_intdigest(group.encode(), seed) < test_share * 2**64 else "train"


class TableWriter(AbstractContextManager["TableWriter"]):
    """Writes `data/SPLIT.parquet` or `data/SPLIT.jsonl` in a folder; a split without rows has no file.

    A column without a value in any row is left out. Most have one in the first rows or in none: where a later row is the first
    to have one, a Parquet file that has been begun is copied under the wider schema, row group by row group.
    """

    def __init__(self, folder: Path, columns: dict[str, Any], file_type: str) -> None:
        self._data, self._declared, self._type = folder / "data", columns, file_type
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._files: dict[str, Any] = {}
        self._has: dict[str, list[str]] = {}
        self.counts: dict[str, int] = {}
        self._data.mkdir()

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that have a value in any row of any split."""
        found = set().union(*self._has.values())
        return {name: kind for name, kind in self._declared.items() if name in found}

    def write(self, split: str, row: dict[str, Any]) -> None:
        """Write a row of a split; ids become texts, because a column has one type."""
        for name in ("id", "conversation_id"):
            if name in row and row[name] is not None:
                row[name] = str(row[name])
        self.counts[split] = self.counts.get(split, 0) + 1
        pending = self._pending.setdefault(split, [])
        pending.append(row)
        if len(pending) == BATCH:
            self._flush(split)

    def _flush(self, split: str) -> None:
        rows = self._pending.pop(split, [])
        had = self._has.get(split, [])
        names = [name for name in self._declared if name in had or any(row[name] is not None for row in rows)]
        if names != had:
            self._widen(split, names)
        if self._type == "jsonl":
            self._files[split].write(b"".join(encode({name: row[name] for name in names}) + b"\n" for row in rows))
        elif rows:
            self._files[split].write_table(self._table(rows, names))

    def _widen(self, split: str, names: list[str]) -> None:
        """Begin a split's file, or continue it with more columns."""
        had, self._has[split] = self._has.get(split), names
        path = self._data / f"{split}.{self._type}"
        if self._type == "jsonl":
            if had is None:
                self._files[split] = path.open("wb")
            return
        narrow = path.with_suffix(".narrow")
        if had is not None:
            self._files[split].close()
            path.rename(narrow)
        self._files[split] = self._parquet(path, names)
        if had is not None:
            self._copy(narrow, self._files[split], names)
            narrow.unlink()

    def _copy(self, narrow: Path, wide: Any, names: list[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._schema(names)
        with pq.ParquetFile(narrow) as source:
            for number in range(source.num_row_groups):
                table = source.read_row_group(number)
                for name in set(names) - set(table.column_names):
                    table = table.append_column(schema.field(name), pa.nulls(table.num_rows, schema.field(name).type))
                wide.write_table(table.select(names))

    def _parquet(self, path: Path, names: list[str]) -> Any:
        import pyarrow.parquet as pq

        labels = [name for name in METADATA if name in names]  # long texts that differ gain nothing from a dictionary
        return pq.ParquetWriter(path, self._schema(names), compression="snappy", use_dictionary=labels)

    def _schema(self, names: list[str]) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([(name, arrow_type(self._declared[name])) for name in names])

    def _table(self, rows: list[dict[str, Any]], names: list[str]) -> pa.Table:
        import pyarrow as pa

        arrays, schema = [], self._schema(names)
        for field in schema:
            try:
                arrays.append(pa.array([row[field.name] for row in rows], field.type))
            except (pa.ArrowException, OverflowError) as error:
                raise MagpieError(f"column `{field.name}`: {error}") from error
        return pa.Table.from_arrays(arrays, schema=schema)

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            for split in list(self._pending):
                self._flush(split)
            for split in self.counts:  # the splits have the same columns
                if self._type == "parquet" and self._has[split] != list(self.columns):
                    self._widen(split, list(self.columns))
        for file in self._files.values():
            file.close()

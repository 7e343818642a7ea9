"""Writing a data set's rows: Parquet or JSON Lines under an explicit schema, a file a split."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import xxhash

from magpie.common.console import MagpieError
from magpie.export.formats import METADATA
from magpie.records.rows import encode

if TYPE_CHECKING:
    import pyarrow as pa

FILE_TYPES = ("parquet", "jsonl")
BATCH = 1000
"""Rows that are held before they become a row group."""


def arrow_type(kind: Any) -> pa.DataType:
    """Return a column's type (magpie.export.formats says how it is written) as pyarrow has it."""
    import pyarrow as pa

    if isinstance(kind, list):
        return pa.list_(arrow_type(kind[0]))
    if isinstance(kind, dict):
        return pa.struct([(name, arrow_type(inner)) for name, inner in kind.items()])
    return {"string": pa.string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}[kind]


def card_features(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the columns as `dataset_info: features:` of a data card has them."""

    def body(kind: Any) -> dict[str, Any]:
        if isinstance(kind, list):
            inner = body(kind[0])
            return {"list": inner.get("dtype") or inner["struct"]}
        if isinstance(kind, dict):
            return {"struct": card_features(kind)}
        return {"dtype": "float64" if kind == "double" else kind}

    return [{"name": name, **body(kind)} for name, kind in columns.items()]


def split_of(group: str, test_share: float, seed: int) -> str:
    """Return `test` or `train`: always the same for a group, whatever else is in the data set."""
    return "test" if xxhash.xxh3_64_intdigest(group.encode(), seed) < test_share * 2**64 else "train"


class TableWriter(AbstractContextManager["TableWriter"]):
    """Writes `data/SPLIT.parquet` or `data/SPLIT.jsonl` in a folder; a split without rows has no file."""

    def __init__(self, folder: Path, columns: dict[str, Any], file_type: str) -> None:
        self._data, self._columns, self._type = folder / "data", columns, file_type
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._files: dict[str, Any] = {}
        self._stack = ExitStack()
        self.counts: dict[str, int] = {}
        self._data.mkdir()

    def write(self, split: str, row: dict[str, Any]) -> None:
        """Take a row of a split; ids become texts, for a column has one type."""
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
        if not rows:
            return
        if self._type == "jsonl":
            file: BinaryIO = self._file(split)
            file.write(b"".join(encode(row) + b"\n" for row in rows))
        else:
            self._file(split).write_table(self._table(rows))

    def _file(self, split: str) -> Any:
        if split not in self._files:
            path = self._data / f"{split}.{self._type}"
            self._files[split] = self._stack.enter_context(path.open("wb") if self._type == "jsonl" else self._parquet(path))
        return self._files[split]

    def _parquet(self, path: Path) -> Any:
        import pyarrow.parquet as pq

        labels = [name for name in METADATA if name in self._columns]  # long texts that differ gain nothing from a dictionary
        return pq.ParquetWriter(path, self._schema(), compression="snappy", use_dictionary=labels)

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([(name, arrow_type(kind)) for name, kind in self._columns.items()])

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        import pyarrow as pa

        arrays, schema = [], self._schema()
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
        self._stack.close()

"""A folder of kept records and their vectors, with which later datasets are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from magpie.common.console import MagpieError, log
from magpie.common.files import write_atomically
from magpie.compute.vector_index import VectorIndex
from magpie.records.rows import encode

if TYPE_CHECKING:
    import numpy as np


class IndexedRecord(msgspec.Struct, frozen=True):
    """A record of an earlier run."""

    id: str | int
    instruction: str


class _Contents(msgspec.Struct, frozen=True):
    """`index.json`, which names the other files. It is written last, so a kill leaves either the old state or the new one."""

    model: str
    rows: int
    made_for: int
    vectors: str
    records: str


@dataclass
class IndexFolder:
    """The kept records of earlier runs with their vectors; `--index` names it."""

    path: Path
    records: list[IndexedRecord]
    index: VectorIndex | None

    @classmethod
    def open(cls, path: Path, model: str) -> IndexFolder:
        """Open a folder, or return an empty index if there is none.

        Raises:
            MagpieError: it belongs to another embedding model, is not an index, or is broken.
        """
        if not path.exists():
            return cls(path, [], None)
        try:
            contents = msgspec.json.decode((path / "index.json").read_bytes(), type=_Contents)
        except (OSError, msgspec.DecodeError) as error:
            raise MagpieError(
                f"--index {path}: not an index folder ({error}). Name a new folder, or one that --index created"
            ) from error
        if contents.model != model:
            raise MagpieError(
                f"--index {path} holds vectors of {contents.model}, not of {model}: they cannot be compared. Use "
                f"--embedding_model {contents.model}, or another folder"
            )
        try:
            lines = (path / contents.records).read_bytes().splitlines()
            records = [msgspec.json.decode(line, type=IndexedRecord) for line in lines]
            index = VectorIndex.read(path / contents.vectors, made_for=contents.made_for)
        except (OSError, RuntimeError, msgspec.DecodeError) as error:
            raise MagpieError(f"--index {path}: broken ({error}). Rebuild it from its datasets") from error
        if not len(records) == len(index) == contents.rows:
            raise MagpieError(f"--index {path}: broken ({len(records)} records, {len(index)} vectors). Rebuild it")
        return cls(path, records, index)

    def extend(self, records: list[IndexedRecord], vectors: np.ndarray, model: str) -> None:
        """Append records with their vectors and save the folder."""
        if not records and self.index is not None:
            return
        self.records = self.records + records
        if self.index is None:
            self.index = VectorIndex(vectors)
        else:
            self.index.add(vectors)
        self.path.mkdir(parents=True, exist_ok=True)
        count = len(self.records)
        contents = _Contents(model, count, self.index.made_for, f"vectors-{count}.faiss", f"records-{count}.jsonl")
        self.index.write(self.path / contents.vectors)
        write_atomically(self.path / contents.records, map(encode, self.records))
        write_atomically(self.path / "index.json", [encode(contents)])
        for old in [*self.path.glob("vectors-*.faiss"), *self.path.glob("records-*.jsonl")]:
            if old.name not in (contents.vectors, contents.records):
                old.unlink()
        log.info("%s: %d records (%d new)", self.path, len(self.records), len(records))

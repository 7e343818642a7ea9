"""A cache of embeddings, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magpie.common.console import MagpieError, resumes

if TYPE_CHECKING:
    import numpy as np
BUSY_SECONDS = 60.0
PAGE_BYTES = 16_384
"""A page holds ten vectors of dimension 384; with the default of 4,096 bytes each takes a page or more."""


class VectorCache:
    """Vectors by key in an SQLite file with a write-ahead log: several processes may share it, and no kill breaks it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._database.execute(f"PRAGMA page_size={PAGE_BYTES}")  # for a new file; an existing one keeps its page size
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        except sqlite3.Error as error:
            raise MagpieError(f"{path}: not a usable cache of embeddings ({error}). Delete it, or name another file") from error
        resumes()

    def get(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, np.ndarray]]:
        """Yield the cached vectors among these keys, each with its key."""
        import numpy as np

        for start in range(0, len(keys), 500):  # SQLite's limit of parameters is 999 in old builds
            some = keys[start : start + 500]
            query = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(some))})"  # noqa: S608 - only placeholders
            for key, vector in self._database.execute(query, some):
                yield key, np.frombuffer(vector, dtype=np.float32)

    def put(self, vectors: Iterable[tuple[bytes, np.ndarray]]) -> None:
        """Store vectors; one that another process stored meanwhile is kept."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            rows = [(key, vector.tobytes()) for key, vector in vectors]
            self._database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

"""Merging jobs and shards: the file of a job, the names of sources, ids that stay unique."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError
from magpie.records.reading import checked_rows, identity_of, stem_of
from magpie.runs.jobs import job_file
from magpie.runs.shards import is_shard, whole_of

POINTERS = ("duplicate_of", "min_similar_conversation_id")
"""Keys that hold another record's id; null is not an id."""


@dataclass(frozen=True)
class Source:
    """An input: the file, and the `source` of its records."""

    name: str
    path: Path


def labelled(paths: list[Path], stage: str | None) -> list[Source]:
    """Return the inputs with distinct names: the job's or the file's, with the folder if two are equal.

    Raises:
        MagpieError: no such file, a folder that is not a job, the same file twice.
    """
    files = [(input_file(path, stage), path.resolve().name if path.is_dir() else stem_of(path)) for path in paths]
    seen: set[Path] = set()
    for file, _ in files:
        if file.resolve() in seen:
            raise MagpieError(f"{file} is named twice. Name every input once")
        seen.add(file.resolve())
        if is_shard(file):
            raise MagpieError(
                f"{file} is a shard of a file. Put all of them together first: concat.py --shards {whole_of(file)}"
            )
    counts = Counter(name for _, name in files)
    sources = [Source(name if counts[name] == 1 else f"{file.resolve().parent.name}.{name}", file) for file, name in files]
    shared = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
    if shared:
        raise MagpieError(f"two inputs are called {shared[0]}: rename a file or its folder, because records are marked with it")
    return sources


def input_file(path: Path, stage: str | None) -> Path:
    """Return the file itself, or the selected file of a job's folder."""
    if path.is_dir():
        return job_file(path, stage)
    if not path.exists():
        raise MagpieError(f"{path}: no such file or folder. Check --inputs")
    return path


def join(record: dict[str, Any], source: str, line: int, *, prefix: bool) -> dict[str, Any]:
    """Return a record for the merged file; one without id gets its line number."""
    identity = record.get("id")
    merged = record if record.get("source") is not None else record | {"source": source}
    if identity is None:
        return {**merged, "id": f"{source}/line-{line:06d}"}
    if not prefix:
        return merged
    pointers = {key: f"{source}/{record[key]}" for key in POINTERS if record.get(key) is not None}
    original = record.get("original_id")
    return merged | pointers | {"id": f"{source}/{identity}", "original_id": identity if original is None else original}


def refuse_shared_ids(sources: list[Source], *, skip_malformed: bool) -> None:
    """Raise a MagpieError if two sources share an id: 8 bytes of memory per record."""
    import numpy as np

    hashes = []
    for source in sources:
        rows = checked_rows(source.path, skip_malformed=skip_malformed)
        found = array("q", (identity_of(row.record) for row in rows if row.record and row.record.get("id") is not None))
        hashes.append(np.unique(np.frombuffer(found, dtype=np.int64)))
    for i, one in enumerate(sources):
        for j in range(i + 1, len(sources)):
            shared = np.intersect1d(hashes[i], hashes[j], assume_unique=True)
            if len(shared):
                example = _first_of(one.path, set(shared.tolist()))
                raise MagpieError(
                    f"{one.path} and {sources[j].path} share {len(shared):,} ids, the first {example!r}. Use --ids prefix, or "
                    "leave one out"
                )


def _first_of(path: Path, identities: set[int]) -> Any:
    rows = (row.record for row in checked_rows(path, skip_malformed=True) if row.record)
    return next(record["id"] for record in rows if record.get("id") is not None and identity_of(record) in identities)

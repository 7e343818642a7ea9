"""Benchmarks: the test sets that a dataset must not contain, read from files or from the Hugging Face hub.

Their texts stay in memory and are never written. A row is identified by the benchmark's name and its index in the file, from 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, log
from magpie.records.reading import fingerprint, read_rows, stem_of
from magpie.records.tables import JSON, PACKED, TABLES, load_hub
from magpie.similarity.config import BenchmarkEntry, BenchmarkList

FILES = (*TABLES, *JSON, *PACKED)
ID_COLUMNS = ("id", "unique_id")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's problems, in order.

    Attributes:
        source: the file's name, or the hub dataset with its split.
        revision: of a hub dataset: the commit; of a file: the hash of its bytes.
        fingerprint: a hash of the problems; part of a run's identity.
        texts: one per row, empty where the row has no problem.
        ids: the benchmark's own ids, or None.
        private: the problems must not be copied anywhere.
        path: the file, or None.
    """

    name: str
    source: str
    revision: str | None
    texts: list[str] = field(repr=False)
    ids: list[str | int | None] = field(repr=False)
    private: bool = False
    path: Path | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of the problems in their order."""
        digest = hashlib.blake2b(digest_size=16)
        for text in self.texts:
            digest.update(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        return digest.hexdigest()


def load_benchmarks(names: list[str], known: BenchmarkList, column: str | None = None) -> list[Benchmark]:
    """Read the benchmarks of --benchmarks: files, names of `configs/benchmarks.yaml` or hub ids.

    Args:
        names: as the user wrote them.
        known: `configs/benchmarks.yaml`.
        column: the problem's column of a benchmark without an entry (default: the first of `known.columns` that exists).

    Raises:
        MagpieError: a benchmark does not exist, cannot be read, is empty or lacks the column, or two have the same name.
    """
    found = [_load(name, known, column) for name in names]
    for benchmark in found:
        if sum(other.name == benchmark.name for other in found) > 1:
            raise MagpieError(f"--benchmarks: two are called '{benchmark.name}'. Name it once, or rename one of the files")
    return found


def _load(name: str, known: BenchmarkList, column: str | None) -> Benchmark:
    path = Path(name)
    columns = [column] if column else known.columns
    if path.exists():
        return _from_file(path, columns, known.canaries)
    entry = known.benchmarks.get(_canonical_name(name))
    if entry:
        return _from_hub(_canonical_name(name), entry, known.canaries)
    if name.count("/") == 1 and not name.endswith(FILES) and not name.startswith((".", "~", "/")):
        by_repo = {entry.repo.lower(): (known_name, entry) for known_name, entry in known.benchmarks.items()}
        short, entry = by_repo.get(name.lower(), (name, BenchmarkEntry(repo=name, columns=columns)))
        return _from_hub(short, entry, known.canaries)
    raise MagpieError(
        f"--benchmarks {name}: no such file, and not a name of configs/benchmarks.yaml ({', '.join(known.benchmarks)}). "
        "Give a file (.jsonl, .json, .csv, .parquet), one of these names, or a hub id (owner/name)"
    )


def _canonical_name(name: str) -> str:
    """Return a name in the form of `configs/benchmarks.yaml`: `MATH-500` → `math500`."""
    return "".join(c for c in name.lower() if c.isalnum())


# --- files ---------------------------------------------------------------------------------------------------------


def _from_file(path: Path, columns: list[str], canaries: list[str]) -> Benchmark:
    name = stem_of(path)
    texts, ids, marked = _texts(_file_rows(path), str(path), columns, canaries)
    return Benchmark(name, path.name, fingerprint(path), texts, ids, marked, path)


def _file_rows(path: Path) -> Iterator[dict[str, Any]]:
    for row in read_rows(path, None):
        if row.record is None:
            raise MagpieError(f"{path}, {row.place}: {row.problem}. Fix the benchmark")
        yield row.record


# --- the hub -------------------------------------------------------------------------------------------------------


def _from_hub(name: str, entry: BenchmarkEntry, canaries: list[str]) -> Benchmark:
    log.info("reading %s (%s) from the hub", name, entry.repo)
    revision = entry.revision or _newest(entry.repo)
    configs: list[str | None] = [*entry.configs] or [None]
    rows = (row for config in configs for row in _hub_rows(name, entry, config, revision))
    source = f"{entry.repo} ({entry.split})"
    texts, ids, marked = _texts(rows, source, entry.columns, canaries)
    return Benchmark(name, source, revision, texts, ids, entry.private or marked)


def _newest(repo: str) -> str | None:
    """Return the newest commit of a hub dataset, or None if the hub is unreachable; loading then fails with the reason."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return HfApi().dataset_info(repo, timeout=20).sha
    except (HfHubHTTPError, HFValidationError, OSError):
        return None


def _hub_rows(name: str, entry: BenchmarkEntry, config: str | None, revision: str | None) -> Iterator[dict[str, Any]]:
    repo = f"{entry.repo}:{config}" if config else entry.repo
    rows = load_hub(
        *(repo, entry.split, "--benchmarks"),
        revision=revision,
        gated=entry.gated,
        shown=f"{name} ({repo})",
        see=". See configs/benchmarks.yaml",
    )
    _problem_column(f"{entry.repo} ({entry.split})", entry.columns, rows.column_names)
    yield from rows.select_columns(
        [column for column in rows.column_names if column in (*entry.columns, *ID_COLUMNS, "canary")]
    )


# --- both ----------------------------------------------------------------------------------------------------------


def _problem_column(source: str, columns: list[str], existing: Iterable[str]) -> str:
    """Return the first of `columns` that exists.

    Raises:
        MagpieError: none does.
    """
    names = [name for name in existing if isinstance(name, str)]
    written = {name.strip().casefold(): name for name in reversed(names)} | {name: name for name in names}
    for column in columns:
        if column in written:
            return written[column]
    wanted = " or ".join(f"`{column}`" for column in columns)
    raise MagpieError(
        f"{source}: no column {wanted}; it has {', '.join(names)[:300]}. Name the problem's with --problem_column"
    )


def _texts(
    rows: Iterable[dict[str, Any]], source: str, columns: list[str], canaries: list[str]
) -> tuple[list[str], list[str | int | None], bool]:
    """Return the problems (from the first of `columns` that exists), the benchmark's own ids, and whether it has a canary.

    Raises:
        MagpieError: there are no rows, none of the columns, or no texts.
    """
    texts: list[str] = []
    ids: list[str | int | None] = []
    marked, column = False, ""
    keys: list[str] = []
    for row in rows:
        column = column or _problem_column(source, columns, row)
        keys = keys or [name for key in ID_COLUMNS for name in row if str(name).strip().casefold() == key]
        value = row.get(column)
        texts.append(value.strip() if isinstance(value, str) else "")
        ids.append(next((row[key] for key in keys if isinstance(row.get(key), str | int)), None))
        marked = marked or any(mark in value for value in row.values() if isinstance(value, str) for mark in canaries)
    if not any(texts):
        what = f"`{column}` holds no text in its {len(texts)} rows" if texts else "it has no rows"
        raise MagpieError(f"{source}: the benchmark is empty ({what}). Check --benchmarks and --problem_column")
    if blank := texts.count(""):
        log.warning("%s: %d of %d rows have no problem and are left out", source, blank, len(texts))
    return texts, ids, marked

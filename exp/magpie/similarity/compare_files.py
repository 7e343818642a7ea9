"""Files of problems compared with each other: reading, ranking, and the keys that each record gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.common.console import MagpieError, log
from magpie.compute.embedding import Embedder
from magpie.compute.executors import LOCAL, Executor
from magpie.compute.index_folder import IndexedRecord, IndexFolder
from magpie.compute.large_arrays import slices, zeros
from magpie.compute.vector_index import Partitions
from magpie.records.reading import checked_rows, stem_of
from magpie.records.schema import QUALITIES
from magpie.similarity.dedup import DENSE_NEIGHBOURS, NEIGHBOURS, Groups, find_duplicates, neighbour_pairs

if TYPE_CHECKING:
    import numpy as np

HUMAN_ROLES = ("human", "user")
DENSE_AT_ONCE = 16_384
"""Texts of dense regions whose neighbours are processed together: 100 MB."""
LEAST_COSINE = 0.5
"""Neighbours below it are not compared; `configs/likeness.yaml` requires more of a paraphrase."""


def problem_of(record: dict[str, Any], where: str) -> str:
    """Return the problem of a record or of a ShareGPT conversation (the first human turn).

    Raises:
        MagpieError: there is no problem; `where` names the file and the line.
    """
    if isinstance(problem := record.get("instruction"), str):
        return problem
    turns = record.get("conversations")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") in HUMAN_ROLES and isinstance(turn.get("value"), str):
            return str(turn["value"])
    raise MagpieError(
        f"{where}: neither `instruction` nor `conversations` with a human turn; there are {', '.join(record)[:300]}. "
        "Name the problem's column: --columns instruction=COLUMN"
    )


def answer_of(record: dict[str, Any]) -> str | None:
    """Return a record's reference answer, or its majority answer, or None."""
    found = (record.get(name) for name in ("reference_answer", "majority_answer"))
    return next((answer for answer in found if isinstance(answer, str) and answer.strip()), None)


def rank_of(record: dict[str, Any]) -> tuple[int, int, float]:
    """Return the sort key that decides which member of a group is kept, smaller is better: verified, quality, reward."""
    correct = record.get("is_correct") or []
    verified = 0 if any(value is True for value in correct) else 1 if record.get("majority_answer") is not None else 2
    quality = record.get("input_quality")
    reward = record.get("instruct_reward")
    return (
        verified,
        -QUALITIES.index(quality) if quality in QUALITIES else 1,
        -float(reward) if reward is not None else float("inf"),
    )


def _id_order(identity: str | int) -> tuple[int, int, str]:
    """Return the sort key of an id: whole numbers by value (also as text), then other texts."""
    text = str(identity)
    return (0, int(text), "") if text.isdecimal() and len(text) < 20 else (1, 0, text)


@dataclass
class Problems:
    """Problems in the order of their files; `files` maps a path and a row (malformed ones counted) to the problem's index."""

    texts: list[str] = field(default_factory=list)
    ids: list[str | int] = field(default_factory=list)
    ranks: list[tuple[Any, ...]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    files: dict[Path, dict[int, int]] = field(default_factory=dict)

    def add(self, text: str, identity: str | int, origin: str, rank: tuple[Any, ...], answer: str | None = None) -> None:
        """Append a problem."""
        self.answers.append(answer)
        self.texts.append(text)
        self.ids.append(identity)
        self.origins.append(origin)
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        self.ranks.append((*rank, *_id_order(identity), digest))

    def read(self, path: Path, *, earlier: bool, skip_malformed: bool) -> None:
        """Append the problems of a file; those of an earlier dataset rank before all others."""
        rows = self.files[path] = {}
        for index, row in enumerate(checked_rows(path, skip_malformed=skip_malformed, required=())):
            if row.record is None:
                continue
            text = problem_of(row.record, f"{path}, {row.place}")
            identity = row.record.get("id")
            identity = row.record.get("conversation_id") if identity is None else identity
            rows[index] = len(self.texts)
            name = f"{stem_of(path)}:{index}" if not isinstance(identity, str | int) else identity
            self.add(text, name, str(path), (0 if earlier else 1, *rank_of(row.record)), answer_of(row.record))

    def order(self) -> np.ndarray:
        """Return each problem's rank, from the best (0) to the worst, independent of the order of the files."""
        import numpy as np

        order = np.empty(len(self.texts), dtype=np.int64)
        order[sorted(range(len(self.texts)), key=lambda index: (self.ranks[index], index))] = np.arange(len(self.texts))
        return order


@dataclass(frozen=True)
class Compared:
    """The result of a comparison: `problems` holds the earlier ones first, then the inputs' from index `begin`.

    `known`: ids and texts that are already in the index folder; `nearest`, `repeats`, `earliest`: Magpie's three values of each
    input problem (see `_neighbour_values`).
    """

    problems: Problems
    vectors: np.ndarray
    begin: int
    known: frozenset[tuple[str | int, str]]
    groups: Groups
    nearest: np.ndarray
    repeats: np.ndarray
    earliest: np.ndarray

    def of(self, path: Path, index: int) -> dict[str, Any]:
        """Return the new keys of the record at a row of a file (malformed rows counted)."""
        problem = self.problems.files[path][index]
        at, ids, kept = problem - self.begin, self.problems.ids, int(self.groups.kept[problem])
        distance = float(self.nearest[at])
        return {
            "min_neighbor_distance": None if distance < 0 else distance,
            "repeat_count": int(self.repeats[at]),
            "min_similar_conversation_id": ids[int(self.earliest[at])] if self.repeats[at] else None,
            "duplicate_of": None if kept == problem else ids[kept],
            "duplicate_evidence": None if kept == problem else self._evidence(problem, kept),
        }

    def _evidence(self, problem: int, kept: int) -> dict[str, Any]:
        origin = self.problems.origins[kept]
        return {
            "how": self.groups.how[problem],
            "why": self.groups.why[problem],
            "score": round(float(self.groups.score[problem]), 4),
            "cosine": round(float(self.groups.cosine[problem]), 4),
        } | ({"file": origin} if origin != self.problems.origins[problem] else {})

    def new(self) -> tuple[list[IndexedRecord], np.ndarray]:
        """Return the kept records that no index contains yet, with their vectors."""
        import numpy as np

        problems, kept = self.problems, self.groups.kept
        new = [
            index
            for index in range(self.begin, len(problems.texts))
            if kept[index] == index and (problems.ids[index], problems.texts[index]) not in self.known
        ]
        records = [IndexedRecord(problems.ids[index], problems.texts[index]) for index in new]
        return records, self.vectors[np.array(new, dtype=np.int64)]


def compare_files(
    inputs: Sequence[Path],
    against: Sequence[Path],
    embedder: Embedder,
    folder: IndexFolder | None,
    *,
    distance: float,
    skip_malformed: bool,
    workers: Executor = LOCAL,
) -> Compared:
    """Read all files, embed their problems and find the duplicates among them."""
    own = Problems()
    for path in inputs:
        own.read(path, earlier=False, skip_malformed=skip_malformed)
    present = set(zip(own.ids, own.texts, strict=True))
    earlier = Problems()
    for path in against:
        earlier.read(path, earlier=True, skip_malformed=skip_malformed)
    known = folder.records if folder else []
    old = [index for index, record in enumerate(known) if (record.id, record.instruction) not in present]
    for index in old:  # without records of the inputs from an earlier run: no problem is a duplicate of itself
        earlier.add(known[index].instruction, known[index].id, str(folder.path) if folder else "", (0, 0, 0, 0.0))
    others = f" and with {len(earlier.texts):,} earlier ones" if earlier.texts else ""
    log.info("comparing %s problems with each other%s", f"{len(own.texts):,}", others)
    vectors = embedder.encode(own.texts)
    before = [embedder.encode(earlier.texts[: len(earlier.texts) - len(old)])] if against else []
    if folder and folder.index is not None:
        before.append(folder.index.vectors()[old])
    held = frozenset((record.id, record.instruction) for record in known)
    all_vectors = _stack([*before, vectors], embedder.scratch) if before else vectors
    del vectors, before
    return _compared(own, earlier, all_vectors, held, distance, workers, embedder.scratch)


def _stack(arrays: list[np.ndarray], scratch: Path | None) -> np.ndarray:
    """Return the arrays of vectors concatenated, memory-mapped if they are large."""
    found = zeros((sum(map(len, arrays)), arrays[0].shape[1]), "float32", scratch)
    start = 0
    for array in arrays:
        found[start : start + len(array)] = array
        start += len(array)
    return found


def _compared(
    own: Problems,
    earlier: Problems,
    all_vectors: np.ndarray,
    known: frozenset[Any],
    distance: float,
    workers: Executor,
    scratch: Path | None,
) -> Compared:
    import numpy as np

    begin = len(earlier.texts)
    vectors = all_vectors[begin:]
    both = Problems(*(getattr(earlier, name) + getattr(own, name) for name in ("texts", "ids", "ranks", "origins", "answers")))
    both.files = {path: {row: index + begin for row, index in rows.items()} for path, rows in own.files.items()}
    nearest, repeats, earliest, pairs = _neighbour_values(own.texts, vectors, distance, workers, scratch)
    found = [pairs + begin]
    if begin:
        cosines, rows = Partitions(all_vectors[:begin], scratch=scratch).search(vectors, NEIGHBOURS, workers)
        found.append(neighbour_pairs(np.arange(begin, begin + len(vectors)), cosines, rows, least=LEAST_COSINE))
    groups = find_duplicates(both.texts, both.order(), all_vectors, np.concatenate(found), workers, both.answers)
    return Compared(both, all_vectors, begin, known, groups, nearest, repeats, earliest + begin)


def _neighbour_values(
    texts: Sequence[str], vectors: np.ndarray, distance: float, workers: Executor, scratch: Path | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return Magpie's three values of each text, and the pairs of neighbours.

    The values are the squared distance to the nearest other text (-1: there is none), the number of others within `distance`,
    and the index of the first of these and the text itself. Equal texts are searched once and counted each.
    """
    import numpy as np

    first, group, count = _distinct(texts)
    everyone = np.arange(len(first))
    partitions = Partitions(vectors, first, scratch=scratch)
    cosines, rows = partitions.search(vectors, NEIGHBOURS + 1, workers, first)
    least = 1 - distance / 2
    near, close_count, others = np.empty_like(first), np.empty_like(first), np.empty(len(first), dtype=np.float32)
    for chunk in slices(len(first)):
        near[chunk], close_count[chunk] = _within(everyone[chunk], cosines[chunk], rows[chunk], least, count, first)
        others[chunk] = np.where(rows[chunk] == everyone[chunk, None], -1.0, cosines[chunk]).max(axis=1, initial=-1.0)
    pairs = [first[neighbour_pairs(everyone, cosines, rows, least=LEAST_COSINE)]]
    dense = np.flatnonzero(cosines[:, -1] > least) if len(first) > NEIGHBOURS + 1 else np.zeros(0, dtype=np.int64)
    del cosines, rows
    more_cosines, more_rows = partitions.search(vectors, DENSE_NEIGHBOURS, workers, first[dense])
    for chunk in slices(len(dense), DENSE_AT_ONCE):
        which = dense[chunk]
        near[which], close_count[which] = _within(which, more_cosines[chunk], more_rows[chunk], least, count, first)
        pairs.append(first[neighbour_pairs(which, more_cosines[chunk], more_rows[chunk], least=least)])
    closest = np.where(count > 1, 0.0, np.where(others > -1.0, np.maximum(2 - 2 * others, 0.0), -1.0))
    earliest = np.minimum(near, first)[group]
    return closest[group], close_count[group], earliest, np.concatenate(pairs)


def _distinct(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each distinct text's first index (ascending), each text's index among these, and the distinct texts' counts."""
    import numpy as np

    digests = np.array(
        [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts], dtype="V16"
    )
    _, first, group, count = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    by_first = np.argsort(first)  # in the order of the texts: their vectors are read sequentially from disk
    position = np.empty_like(by_first)
    position[by_first] = np.arange(len(by_first))
    return first[by_first], position[group], count[by_first]


def _within(
    queries: np.ndarray, cosines: np.ndarray, rows: np.ndarray, least: float, count: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each query's first text among the other neighbours above `least`, and the number of these and its equals."""
    import numpy as np

    close = (rows >= 0) & (cosines > least) & (rows != queries[:, None])
    near = np.where(close, first[rows], np.iinfo(np.int64).max).min(axis=1, initial=np.iinfo(np.int64).max)
    return near, np.where(close, count[rows], 0).sum(axis=1) + count[queries] - 1

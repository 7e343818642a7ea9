"""Files of problems compared with each other: reading them, who ranks before whom, and what each record is given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.common.console import MagpieError, log
from magpie.compute.embedding import Embedder
from magpie.compute.executors import HERE, Workers
from magpie.compute.index_folder import IndexedRecord, IndexFolder
from magpie.compute.large_arrays import parts, room_for
from magpie.compute.vector_index import Partitions
from magpie.records.reading import checked_rows, stem_of
from magpie.records.schema import QUALITIES
from magpie.similarity.dedup import CROWDED_NEIGHBOURS, NEIGHBOURS, Groups, find_duplicates, neighbour_pairs

if TYPE_CHECKING:
    import numpy as np

HUMAN = ("human", "user")
CROWDED_AT_ONCE = 16_384
"""Texts in crowds whose neighbours are looked at together: 100 MB of them."""
LEAST_COSINE = 0.5
"""Neighbours further away are not looked at; `configs/likeness.yaml` asks for more before it takes a paraphrase."""


def problem_of(record: dict[str, Any], where: str) -> str:
    """Return the problem of a record or of a ShareGPT conversation: what the human says first."""
    if isinstance(problem := record.get("instruction"), str):
        return problem
    turns = record.get("conversations")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") in HUMAN and isinstance(turn.get("value"), str):
            return str(turn["value"])
    raise MagpieError(f"{where}: neither `instruction` nor `conversations` with a turn of the human. Check --input_file")


def rank_of(record: dict[str, Any]) -> tuple[int, int, float]:
    """Return what decides which member of a group is kept, smaller is better: verified, quality, reward."""
    correct = record.get("is_correct") or []
    verified = 0 if any(value is True for value in correct) else 1 if record.get("answer") is not None else 2
    quality = record.get("input_quality")
    reward = record.get("instruct_reward")
    return (
        verified,
        -QUALITIES.index(quality) if quality in QUALITIES else 1,
        -float(reward) if reward is not None else float("inf"),
    )


def _id_order(identity: str | int) -> tuple[int, int, str]:
    """Return a key that sorts ids: whole numbers by value (also inside texts of digits), then texts."""
    text = str(identity)
    return (0, int(text), "") if text.isdecimal() and len(text) < 20 else (1, 0, text)


@dataclass
class Problems:
    """Problems in the order of their files; `files` holds (path, first row) of each, and rows that are malformed count."""

    texts: list[str] = field(default_factory=list)
    ids: list[str | int] = field(default_factory=list)
    ranks: list[tuple[Any, ...]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    files: dict[Path, dict[int, int]] = field(default_factory=dict)

    def add(self, text: str, identity: str | int, origin: str, rank: tuple[Any, ...]) -> None:
        """Append a problem."""
        self.texts.append(text)
        self.ids.append(identity)
        self.origins.append(origin)
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        self.ranks.append((*rank, *_id_order(identity), digest))

    def read(self, path: Path, *, earlier: bool, skip_malformed: bool) -> None:
        """Append the problems of a file; those of an earlier data set rank before all others."""
        places = self.files[path] = {}
        for index, row in enumerate(checked_rows(path, skip_malformed=skip_malformed, required=())):
            if row.record is None:
                continue
            text = problem_of(row.record, f"{path}, line {row.line}")
            identity = row.record.get("id")
            identity = row.record.get("conversation_id") if identity is None else identity
            places[index] = len(self.texts)
            name = f"{stem_of(path)}:{index}" if not isinstance(identity, str | int) else identity
            self.add(text, name, str(path), (0 if earlier else 1, *rank_of(row.record)))

    def order(self) -> np.ndarray:
        """Return each problem's place from the best to the worst, whatever the order of the files."""
        import numpy as np

        order = np.empty(len(self.texts), dtype=np.int64)
        order[sorted(range(len(self.texts)), key=lambda place: (self.ranks[place], place))] = np.arange(len(self.texts))
        return order


@dataclass(frozen=True)
class Compared:
    """What the comparison found for every problem: `problems` holds the earlier ones first, then the inputs' from `begin`."""

    problems: Problems
    vectors: np.ndarray
    begin: int
    known: frozenset[tuple[str | int, str]]
    groups: Groups
    nearest: np.ndarray
    repeats: np.ndarray
    earliest: np.ndarray

    def of(self, path: Path, index: int) -> dict[str, Any]:
        """Return the keys of a record: its file, and its row there (malformed ones counted)."""
        place = self.problems.files[path][index]
        at, ids, kept = place - self.begin, self.problems.ids, int(self.groups.kept[place])
        distance = float(self.nearest[at])
        return {
            "min_neighbor_distance": None if distance < 0 else distance,
            "repeat_count": int(self.repeats[at]),
            "min_similar_conversation_id": ids[int(self.earliest[at])] if self.repeats[at] else None,
            "duplicate_of": None if kept == place else ids[kept],
            "duplicate_evidence": None if kept == place else self._evidence(place, kept),
        }

    def _evidence(self, place: int, kept: int) -> dict[str, Any]:
        origin = self.problems.origins[kept]
        return {
            "how": self.groups.how[place],
            "why": self.groups.why[place],
            "score": round(float(self.groups.score[place]), 4),
            "cosine": round(float(self.groups.cosine[place]), 4),
        } | ({"file": origin} if origin != self.problems.origins[place] else {})

    def new(self) -> tuple[list[IndexedRecord], np.ndarray]:
        """Return the kept records that no index holds yet, with their vectors."""
        import numpy as np

        problems, kept = self.problems, self.groups.kept
        places = [
            place
            for place in range(self.begin, len(problems.texts))
            if kept[place] == place and (problems.ids[place], problems.texts[place]) not in self.known
        ]
        records = [IndexedRecord(problems.ids[place], problems.texts[place]) for place in places]
        return records, self.vectors[np.array(places, dtype=np.int64)]


def compare_files(
    inputs: Sequence[Path],
    against: Sequence[Path],
    embedder: Embedder,
    folder: IndexFolder | None,
    *,
    distance: float,
    skip_malformed: bool,
    workers: Workers = HERE,
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
    old = [place for place, record in enumerate(known) if (record.id, record.instruction) not in present]
    for place in old:  # a record of the inputs that an earlier run put there is no duplicate of itself
        earlier.add(known[place].instruction, known[place].id, str(folder.path) if folder else "", (0, 0, 0, 0.0))
    log.info("comparing %d problems with each other and with %d earlier ones", len(own.texts), len(earlier.texts))
    vectors = embedder.encode(own.texts)
    before = [embedder.encode(earlier.texts[: len(earlier.texts) - len(old)])] if against else []
    if folder and folder.index is not None:
        before.append(folder.index.vectors()[old])
    held = frozenset((record.id, record.instruction) for record in known)
    everything = _stacked([*before, vectors], embedder.scratch) if before else vectors
    del vectors, before
    return _compared(own, earlier, everything, held, distance, workers, embedder.scratch)


def _stacked(pieces: list[np.ndarray], scratch: Path | None) -> np.ndarray:
    """Return arrays of vectors one below the other."""
    found = room_for((sum(map(len, pieces)), pieces[0].shape[1]), "float32", scratch)
    start = 0
    for piece in pieces:
        found[start : start + len(piece)] = piece
        start += len(piece)
    return found


def _compared(
    own: Problems,
    earlier: Problems,
    everything: np.ndarray,
    known: frozenset[Any],
    distance: float,
    workers: Workers,
    scratch: Path | None,
) -> Compared:
    import numpy as np

    begin = len(earlier.texts)
    vectors = everything[begin:]
    both = Problems(earlier.texts + own.texts, earlier.ids + own.ids, earlier.ranks + own.ranks, earlier.origins + own.origins)
    both.files = {path: {row: place + begin for row, place in rows.items()} for path, rows in own.files.items()}
    nearest, repeats, earliest, pairs = _neighbours(own.texts, vectors, distance, workers, scratch)
    found = [pairs + begin]
    if begin:
        cosines, rows = Partitions(everything[:begin], scratch=scratch).search(vectors, NEIGHBOURS, workers)
        found.append(neighbour_pairs(np.arange(begin, begin + len(vectors)), cosines, rows, least=LEAST_COSINE))
    groups = find_duplicates(both.texts, both.order(), everything, np.concatenate(found), workers)
    return Compared(both, everything, begin, known, groups, nearest, repeats, earliest + begin)


def _neighbours(
    texts: Sequence[str], vectors: np.ndarray, distance: float, workers: Workers, scratch: Path | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return Magpie's three values for every text (the nearest other's squared distance, how many are within `distance`, the
    first of these and itself), and the pairs of neighbours. Equal texts are searched once and counted as often as they are.
    """
    import numpy as np

    first, group, count = _distinct(texts)
    everyone = np.arange(len(first))
    partitions = Partitions(vectors, first, scratch=scratch)
    cosines, rows = partitions.search(vectors, NEIGHBOURS + 1, workers, first)
    least = 1 - distance / 2
    near, crowd, others = np.empty_like(first), np.empty_like(first), np.empty(len(first), dtype=np.float32)
    for part in parts(len(first)):
        near[part], crowd[part] = _within(everyone[part], cosines[part], rows[part], least, count, first)
        others[part] = np.where(rows[part] == everyone[part, None], -1.0, cosines[part]).max(axis=1, initial=-1.0)
    pairs = [first[neighbour_pairs(everyone, cosines, rows, least=LEAST_COSINE)]]
    crowded = np.flatnonzero(cosines[:, -1] > least) if len(first) > NEIGHBOURS + 1 else np.zeros(0, dtype=np.int64)
    del cosines, rows
    more_cosines, more_rows = partitions.search(vectors, CROWDED_NEIGHBOURS, workers, first[crowded])
    for part in parts(len(crowded), CROWDED_AT_ONCE):
        which = crowded[part]
        near[which], crowd[which] = _within(which, more_cosines[part], more_rows[part], least, count, first)
        pairs.append(first[neighbour_pairs(which, more_cosines[part], more_rows[part], least=least)])
    closest = np.where(count > 1, 0.0, np.where(others > -1.0, np.maximum(2 - 2 * others, 0.0), -1.0))
    earliest = np.minimum(near, first)[group]
    return closest[group], crowd[group], earliest, np.concatenate(pairs)


def _distinct(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first place of each different text, ascending, every text's place among these, and how often each is there."""
    import numpy as np

    digests = np.array(
        [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts], dtype="V16"
    )
    _, first, group, count = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    turn = np.argsort(first)  # in the order of the texts: their vectors are read from the disk one after the other
    place = np.empty_like(turn)
    place[turn] = np.arange(len(turn))
    return first[turn], place[group], count[turn]


def _within(
    queries: np.ndarray, cosines: np.ndarray, rows: np.ndarray, least: float, count: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first text among the other neighbours closer than a cosine, and how many records these and its equals are."""
    import numpy as np

    close = (rows >= 0) & (cosines > least) & (rows != queries[:, None])
    near = np.where(close, first[rows], np.iinfo(np.int64).max).min(axis=1, initial=np.iinfo(np.int64).max)
    return near, np.where(close, count[rows], 0).sum(axis=1) + count[queries] - 1

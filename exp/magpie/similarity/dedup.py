"""Groups of the same problem, and which member of each is kept.

Three steps bring texts together: the same normalised text, shared word shingles (MinHash), and near embeddings. The last two
only propose; `likeness.compare` decides. Going through the problems from the best to the worst, each is kept unless it is the
same problem as one that is kept already: a member is like the kept one, never only like a chain of neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie.compute.executors import HERE, Workers
from magpie.compute.large_arrays import parts
from magpie.compute.vector_index import Partitions
from magpie.similarity.normalize import Reading, read
from magpie.similarity.number_words import may_be_lost
from magpie.similarity.same_problem import compare

if TYPE_CHECKING:
    import numpy as np

NEIGHBOURS = 16
"""Neighbours by embedding that are looked at."""
CROWDED_NEIGHBOURS = 500
"""The same where all of them are within the distance: Magpie's --search_space_size."""
PERMUTATIONS, BANDS = 64, 16
"""MinHash: 16 bands of 4 bring two texts together that share half of their shingles with probability 0.64, 70% with 0.99."""
SHINGLE = 2
"""Words in a shingle."""
CHUNK, JUDGED = 2_000, 10_000
"""Texts whose shingles are in memory at a time, and pairs that are judged together: one worker's part."""
EXACT, NEAR, SEMANTIC = "exact", "minhash", "embedding"


@dataclass(frozen=True)
class Groups:
    """For every problem: the kept one of its group (perhaps itself), how they were found to be the same, and how close."""

    kept: np.ndarray
    how: list[str]
    why: list[str]
    score: np.ndarray
    cosine: np.ndarray


def find_duplicates(
    texts: Sequence[str],
    order: np.ndarray,
    vectors: np.ndarray,
    pairs: np.ndarray | None = None,
    workers: Workers = HERE,
) -> Groups:
    """Return the groups among texts.

    Args:
        texts: the problems.
        order: int64, the place of each among all from the best (0) to the worst.
        vectors: their embeddings, float32 of length 1.
        pairs: neighbours by embedding, shape (p, 2), where they are known already.
        workers: who reads, searches and compares; who is kept is decided here.
    """
    import numpy as np

    keys, shown, digests = _all_fingerprints(texts, workers)
    first = _best_of_each(keys, order)
    heads = np.flatnonzero(first == np.arange(len(texts)))
    if pairs is None:
        cosines, rows = Partitions(vectors).search(vectors, NEIGHBOURS, workers)
        pairs = neighbour_pairs(np.arange(len(texts)), cosines, rows)
    proposed = {SEMANTIC: pairs, NEAR: _bucket_pairs(heads, digests[heads], order)}
    better, worse, sources = _unique_pairs(proposed, first, order)
    possible = shown[better] == shown[worse]
    edges = _judged(texts, vectors, better[possible], worse[possible], sources[possible], order, workers)
    return _groups(len(texts), first, edges, order, vectors)


def neighbour_pairs(queries: np.ndarray, cosines: np.ndarray, rows: np.ndarray, *, least: float = -1.0) -> np.ndarray:
    """Return what a search found as pairs (query, row), shape (p, 2): a row and itself is none."""
    import numpy as np

    found = [np.zeros((0, 2), dtype=np.int64)]
    for part in parts(len(queries)):
        wanted = (rows[part] >= 0) & (rows[part] != queries[part, None]) & (cosines[part] >= least)
        lines, places = np.nonzero(wanted)
        found.append(np.stack([queries[part][lines], rows[part][lines, places]], axis=1))
    return np.concatenate(found)


# --- what is compared -------------------------------------------------------------------------------------------------


def _all_fingerprints(texts: Sequence[str], workers: Workers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the fingerprints of all texts."""
    import numpy as np

    keys, shown = np.empty(len(texts), dtype="V16"), np.empty(len(texts), dtype=np.uint64)
    digests = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    for place, found in workers.map(fingerprints, chunks):
        part = slice(place * CHUNK, (place + 1) * CHUNK)
        keys[part], shown[part], digests[part] = found
    return keys, shown, digests


def fingerprints(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of every text a hash of its normalised form, a hash of the numbers that no rewording loses, and its MinHash."""
    import numpy as np
    from rensa import RMinHash  # type: ignore[import-untyped]

    readings = [read(text) for text in texts]
    keys = np.array([_hash(reading.key or text, 16) for reading, text in zip(readings, texts, strict=True)], dtype="V16")
    shown = np.array([int.from_bytes(_hash(_fixed_numbers(reading), 8), "big") for reading in readings], dtype=np.uint64)
    shingles = []
    for reading in readings:
        words = reading.text.split()
        shingles.append([" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))])
    return keys, shown, np.asarray(RMinHash.digests_from_token_sets(shingles, num_perm=PERMUTATIONS, seed=1), dtype=np.uint32)


def _hash(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=size).digest()


def _fixed_numbers(reading: Reading) -> str:
    return " ".join(sorted(number for number in reading.numbers if not may_be_lost(number)))


def _best_of_each(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return for every text the best one with the same key."""
    import numpy as np

    _, group = np.unique(keys, return_inverse=True)
    best_first = np.argsort(order, kind="stable")
    heads = np.full(group.max(initial=-1) + 1, -1, dtype=np.int64)
    heads[group[best_first[::-1]]] = best_first[::-1]  # the last one written is the best
    return heads[group]


def _bucket_pairs(heads: np.ndarray, digests: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return pairs of texts that share a band of MinHash values: each with the best of its bucket, and with the next better."""
    import numpy as np

    if len(heads) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    by_rank = np.argsort(order[heads], kind="stable")
    heads, digests = heads[by_rank], digests[by_rank]
    found = []
    for band in np.split(digests, BANDS, axis=1):
        band = np.ascontiguousarray(band).view(f"V{band.shape[1] * 4}").ravel()
        _, bucket = np.unique(band, return_inverse=True)
        members = np.argsort(bucket, kind="stable")  # within a bucket from the best to the worst
        begins = np.flatnonzero(np.diff(bucket[members], prepend=-1))
        sizes = np.diff(np.append(begins, len(members)))
        first = np.repeat(members[begins], sizes)
        inside = np.ones(len(members), dtype=bool)
        inside[begins] = False
        found += [np.stack([first[inside], members[inside]], axis=1)]
        found += [np.stack([members[np.flatnonzero(inside) - 1], members[inside]], axis=1)]
    return heads[np.unique(np.concatenate(found), axis=0)]


def _unique_pairs(
    proposed: dict[str, np.ndarray], first: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (better, worse, source) for every two heads of exact groups that were brought together, each pair once."""
    import numpy as np

    sources = np.concatenate([np.full(len(pairs), place) for place, pairs in enumerate(proposed.values())])
    pairs = first[np.concatenate(list(proposed.values()))].reshape(-1, 2)
    swapped = order[pairs[:, 0]] > order[pairs[:, 1]]
    pairs[swapped] = pairs[swapped][:, ::-1]
    code = pairs[:, 0] * len(first) + pairs[:, 1]
    _, at = np.unique(code, return_index=True)
    at = at[pairs[at, 0] != pairs[at, 1]]
    return pairs[at, 0], pairs[at, 1], sources[at]


@dataclass(frozen=True)
class _Edges:
    """Pairs that are the same problem, sorted from the best worse member to the worst."""

    better: np.ndarray
    worse: np.ndarray
    score: np.ndarray
    how: list[str]
    why: list[str]


def _judged(
    texts: Sequence[str],
    vectors: np.ndarray,
    better: np.ndarray,
    worse: np.ndarray,
    sources: np.ndarray,
    order: np.ndarray,
    workers: Workers,
) -> _Edges:
    """Return the pairs that are the same problem; their texts are read in turn, so that each is read about once."""
    import numpy as np

    turn = np.lexsort((order[better], order[worse]))
    better, worse, sources = better[turn], worse[turn], sources[turn]
    cosines = pair_cosines(vectors, better, worse)

    def turns() -> Iterator[list[tuple[str, str, float]]]:
        for part in parts(len(better), JUDGED):
            columns = (column[part].tolist() for column in (better, worse, cosines))
            yield [(texts[one], texts[other], cosine) for one, other, cosine in zip(*columns, strict=True)]

    found = sorted(
        (place * JUDGED + within, score, reason)
        for place, same in workers.map(same_pairs, turns())
        for within, score, reason in same
    )
    same = np.array([place for place, _, _ in found], dtype=np.int64)
    how = [(SEMANTIC, NEAR)[source] for source in sources[same].tolist()]
    scores = np.array([score for _, score, _ in found], dtype=np.float64)
    return _Edges(better[same], worse[same], scores, how, [reason for _, _, reason in found])


def same_pairs(pairs: Sequence[tuple[str, str, float]]) -> list[tuple[int, float, str]]:
    """Return of pairs (text, text, cosine) those that are the same problem: (place, score, why)."""
    judged = (compare(read(one), read(other), cosine) for one, other, cosine in pairs)
    return [(place, score, why) for place, (same, score, why) in enumerate(judged) if same]


def pair_cosines(vectors: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows."""
    import numpy as np

    found = np.empty(len(one), dtype=np.float32)
    for part in parts(len(one)):
        found[part] = np.einsum("ij,ij->i", vectors[one[part]], vectors[other[part]])
    return np.minimum(found, 1.0)


# --- who is kept ------------------------------------------------------------------------------------------------------


def _groups(count: int, first: np.ndarray, edges: _Edges, order: np.ndarray, vectors: np.ndarray) -> Groups:
    import numpy as np

    kept_head, edge = keep_best(count, edges.better, edges.worse, edges.score, order)
    kept = kept_head[first]
    used = edge[first]  # the pair that made the text's head a duplicate, or -1
    how, why, score = [], [], np.ones(count)
    for place, pair in enumerate(used.tolist()):
        if pair >= 0:
            how.append(edges.how[pair])
            why.append(edges.why[pair])
            score[place] = edges.score[pair]
        else:
            exact = bool(kept[place] != place)
            how.append(EXACT if exact else "")
            why.append("same text" if exact else "")
    return Groups(kept, how, why, score, pair_cosines(vectors, kept, np.arange(count)))


def keep_best(
    count: int, better: np.ndarray, worse: np.ndarray, score: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `count` items the kept one that it is like (itself: it is kept) and the pair that says so (or -1).

    An item is kept unless it is paired with a better one that is kept; of several the likest counts, then the best. One pass
    over the pairs from the best item to the worst: what is kept above is known by then.
    """
    import numpy as np

    turn = np.lexsort((order[better], -score, order[worse]))
    kept_of, pair_of = np.arange(count), np.full(count, -1, dtype=np.int64)
    taken = bytearray(count)
    for one, other, pair in zip(better[turn].tolist(), worse[turn].tolist(), turn.tolist(), strict=True):
        if not taken[other] and not taken[one]:
            taken[other] = 1
            kept_of[other], pair_of[other] = one, pair
    return kept_of, pair_of


def duplicates_by_vector(vectors: np.ndarray, order: np.ndarray, least_cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for every vector the kept one that it is like, and their cosine: for data of which only vectors are there."""
    import numpy as np

    cosines, rows = Partitions(vectors).search(vectors, NEIGHBOURS)
    pairs = neighbour_pairs(np.arange(len(vectors)), cosines, rows, least=least_cosine)
    del cosines, rows
    swapped = order[pairs[:, 0]] > order[pairs[:, 1]]
    pairs[swapped] = pairs[swapped][:, ::-1]
    pairs = np.unique(pairs, axis=0)
    closeness = pair_cosines(vectors, pairs[:, 0], pairs[:, 1])
    kept, _ = keep_best(len(vectors), pairs[:, 0], pairs[:, 1], closeness, order)
    return kept, pair_cosines(vectors, kept, np.arange(len(vectors)))

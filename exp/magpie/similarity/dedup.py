"""Groups of the same problem, and which member of each is kept.

Candidate pairs come from equal normalised texts, shared word shingles (MinHash) and near embeddings. The last two only
propose; `same_problem.compare` decides. From the best problem to the worst, each is kept unless it is the same as one already
kept: every member is similar to the kept one, not merely linked to it by a chain of neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from magpie.compute.executors import LOCAL, Executor
from magpie.compute.large_arrays import slices
from magpie.compute.vector_index import Partitions
from magpie.similarity.normalize import NormalizedProblem, normalize
from magpie.similarity.number_words import is_optional
from magpie.similarity.same_problem import compare, same_answers

if TYPE_CHECKING:
    import numpy as np

NEIGHBOURS = 16
"""Neighbours by embedding that are candidates."""
DENSE_NEIGHBOURS = 500
"""The same in dense regions, where all NEIGHBOURS are within the distance: Magpie's --search_space_size."""
PERMUTATIONS, BANDS = 64, 16
"""MinHash: 16 bands of 4 propose two texts that share half of their shingles with probability 0.64, 70% with 0.99."""
SHINGLE = 2
"""Words per shingle."""
TEXTS_PER_CHUNK, PAIRS_PER_CHUNK = 2_000, 10_000
"""Texts that are fingerprinted, and pairs that are compared, in one task of a worker."""
EXACT, NEAR, SEMANTIC = "exact", "minhash", "embedding"
Candidate = tuple[str, str, float, str | None, str | None]
"""Two texts, the cosine of their embeddings, and the answers that their records have."""
_normalized = lru_cache(maxsize=65_536)(normalize)
"""Cached: a text is in several pairs."""


@dataclass(frozen=True)
class Groups:
    """For each problem the kept one of its group (perhaps itself), the evidence, and the similarity."""

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
    workers: Executor = LOCAL,
    answers: Sequence[str | None] | None = None,
) -> Groups:
    """Return the groups among texts.

    Args:
        texts: the problems.
        order: int64, the rank of each problem, from the best (0) to the worst.
        vectors: their embeddings, float32 of length 1.
        pairs: neighbours by embedding, shape (p, 2), if already known.
        workers: normalise, search and compare; this process decides which problems are kept.
        answers: of each problem, verified or by vote, or None: two different ones forbid a merge.
    """
    import numpy as np

    keys, number_hashes, minhashes = _fingerprints_of_all(texts, workers)
    first = _best_of_each(keys, order)
    representatives = np.flatnonzero(first == np.arange(len(texts)))
    if pairs is None:
        cosines, rows = Partitions(vectors).search(vectors, NEIGHBOURS, workers)
        pairs = neighbour_pairs(np.arange(len(texts)), cosines, rows)
    proposed = {SEMANTIC: pairs, NEAR: _bucket_pairs(representatives, minhashes[representatives], order)}
    better, worse, sources = _unique_pairs(proposed, first, order)
    possible = number_hashes[better] == number_hashes[worse]
    known = answers or [None] * len(texts)
    edges = _compare_candidates(texts, known, vectors, better[possible], worse[possible], sources[possible], order, workers)
    return _group(len(texts), first, edges, order, vectors)


def neighbour_pairs(queries: np.ndarray, cosines: np.ndarray, rows: np.ndarray, *, least: float = -1.0) -> np.ndarray:
    """Return the results of a search as pairs (query, row), shape (p, 2), without pairs of a row and itself."""
    import numpy as np

    found = [np.zeros((0, 2), dtype=np.int64)]
    for chunk in slices(len(queries)):
        wanted = (rows[chunk] >= 0) & (rows[chunk] != queries[chunk, None]) & (cosines[chunk] >= least)
        query, column = np.nonzero(wanted)
        found.append(np.stack([queries[chunk][query], rows[chunk][query, column]], axis=1))
    return np.concatenate(found)


# --- fingerprints -----------------------------------------------------------------------------------------------------


def _fingerprints_of_all(texts: Sequence[str], workers: Executor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the fingerprints of all texts."""
    import numpy as np

    keys, number_hashes = np.empty(len(texts), dtype="V16"), np.empty(len(texts), dtype=np.uint64)
    minhashes = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    chunks = [texts[start : start + TEXTS_PER_CHUNK] for start in range(0, len(texts), TEXTS_PER_CHUNK)]
    for index, found in workers.map(fingerprints, chunks):
        chunk = slice(index * TEXTS_PER_CHUNK, (index + 1) * TEXTS_PER_CHUNK)
        keys[chunk], number_hashes[chunk], minhashes[chunk] = found
    return keys, number_hashes, minhashes


def fingerprints(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a hash of each normalised text, a hash of its numbers that no paraphrase omits, and its MinHash."""
    import numpy as np
    from rensa import RMinHash  # type: ignore[import-untyped]

    normalized = [_normalized(text) for text in texts]
    keys = np.array([_hash(problem.key or text, 16) for problem, text in zip(normalized, texts, strict=True)], dtype="V16")
    number_hashes = np.array(
        [int.from_bytes(_hash(_fixed_numbers(problem), 8), "big") for problem in normalized], dtype=np.uint64
    )
    shingles = []
    for problem in normalized:
        words = problem.text.split()
        shingles.append([" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))])
    minhashes = RMinHash.digests_from_token_sets(shingles, num_perm=PERMUTATIONS, seed=1)
    return keys, number_hashes, np.asarray(minhashes, dtype=np.uint32)


def _hash(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=size).digest()


def _fixed_numbers(problem: NormalizedProblem) -> str:
    return " ".join(sorted(number for number in problem.numbers if not is_optional(number)))


def _best_of_each(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return for each text the best one with the same key."""
    import numpy as np

    _, group = np.unique(keys, return_inverse=True)
    best_first = np.argsort(order, kind="stable")
    representatives = np.full(group.max(initial=-1) + 1, -1, dtype=np.int64)
    representatives[group[best_first[::-1]]] = best_first[::-1]  # the last write is the best
    return representatives[group]


def _bucket_pairs(representatives: np.ndarray, minhashes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return pairs of texts that share a band of MinHash values: each with the best in its bucket, and with the next better."""
    import numpy as np

    if len(representatives) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    by_rank = np.argsort(order[representatives], kind="stable")
    representatives, minhashes = representatives[by_rank], minhashes[by_rank]
    found = []
    for band in np.split(minhashes, BANDS, axis=1):
        band = np.ascontiguousarray(band).view(f"V{band.shape[1] * 4}").ravel()
        _, bucket = np.unique(band, return_inverse=True)
        members = np.argsort(bucket, kind="stable")  # in each bucket from the best to the worst
        begins = np.flatnonzero(np.diff(bucket[members], prepend=-1))
        sizes = np.diff(np.append(begins, len(members)))
        first = np.repeat(members[begins], sizes)
        inside = np.ones(len(members), dtype=bool)
        inside[begins] = False
        found += [np.stack([first[inside], members[inside]], axis=1)]
        found += [np.stack([members[np.flatnonzero(inside) - 1], members[inside]], axis=1)]
    return representatives[np.unique(np.concatenate(found), axis=0)]


def _unique_pairs(
    proposed: dict[str, np.ndarray], first: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (better, worse, source) of the proposed pairs, mapped to the representatives of exact groups, each pair once."""
    import numpy as np

    sources = np.concatenate([np.full(len(pairs), index) for index, pairs in enumerate(proposed.values())])
    pairs = first[np.concatenate(list(proposed.values()))].reshape(-1, 2)
    swapped = order[pairs[:, 0]] > order[pairs[:, 1]]
    pairs[swapped] = pairs[swapped][:, ::-1]
    code = pairs[:, 0] * len(first) + pairs[:, 1]
    _, at = np.unique(code, return_index=True)
    at = at[pairs[at, 0] != pairs[at, 1]]
    return pairs[at, 0], pairs[at, 1], sources[at]


@dataclass(frozen=True)
class _Edges:
    """Pairs that are the same problem, sorted by the rank of the worse member."""

    better: np.ndarray
    worse: np.ndarray
    score: np.ndarray
    how: list[str]
    why: list[str]


def _compare_candidates(
    texts: Sequence[str],
    answers: Sequence[str | None],
    vectors: np.ndarray,
    better: np.ndarray,
    worse: np.ndarray,
    sources: np.ndarray,
    order: np.ndarray,
    workers: Executor,
) -> _Edges:
    """Return the pairs that are the same problem; compared in sorted order, so that the cache still holds their texts."""
    import numpy as np

    sequence = np.lexsort((order[better], order[worse]))
    better, worse, sources = better[sequence], worse[sequence], sources[sequence]
    cosines = pair_cosines(vectors, better, worse)

    def chunks_of_pairs() -> Iterator[list[Candidate]]:
        for chunk in slices(len(better), PAIRS_PER_CHUNK):
            columns = (column[chunk].tolist() for column in (better, worse, cosines))
            yield [
                (texts[one], texts[other], cosine, answers[one], answers[other])
                for one, other, cosine in zip(*columns, strict=True)
            ]

    found = sorted(
        (index * PAIRS_PER_CHUNK + within, score, reason)
        for index, same in workers.map(same_pairs, chunks_of_pairs())
        for within, score, reason in same
    )
    same = np.array([index for index, _, _ in found], dtype=np.int64)
    how = [(SEMANTIC, NEAR)[source] for source in sources[same].tolist()]
    scores = np.array([score for _, score, _ in found], dtype=np.float64)
    return _Edges(better[same], worse[same], scores, how, [reason for _, _, reason in found])


def same_pairs(pairs: Sequence[Candidate]) -> list[tuple[int, float, str]]:
    """Return the same problems among pairs (text, text, cosine, answers) as (index of the pair, score, reason)."""
    compared = (
        compare(_normalized(one), _normalized(other), cosine, same_answers(*answers)) for one, other, cosine, *answers in pairs
    )
    return [(index, score, why) for index, (same, score, why) in enumerate(compared) if same]


def pair_cosines(vectors: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows."""
    import numpy as np

    found = np.empty(len(one), dtype=np.float32)
    for chunk in slices(len(one)):
        found[chunk] = np.einsum("ij,ij->i", vectors[one[chunk]], vectors[other[chunk]])
    return np.minimum(found, 1.0)


# --- the kept problems ------------------------------------------------------------------------------------------------


def _group(count: int, first: np.ndarray, edges: _Edges, order: np.ndarray, vectors: np.ndarray) -> Groups:
    import numpy as np

    kept_head, edge = keep_best(count, edges.better, edges.worse, edges.score, order)
    kept = kept_head[first]
    used = edge[first]  # the pair that made the text's representative a duplicate, or -1
    how, why, score = [], [], np.ones(count)
    for index, pair in enumerate(used.tolist()):
        if pair >= 0:
            how.append(edges.how[pair])
            why.append(edges.why[pair])
            score[index] = edges.score[pair]
        else:
            exact = bool(kept[index] != index)
            how.append(EXACT if exact else "")
            why.append("same text" if exact else "")
    return Groups(kept, how, why, score, pair_cosines(vectors, kept, np.arange(count)))


def keep_best(
    count: int, better: np.ndarray, worse: np.ndarray, score: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `count` items the kept one that it is the same as (itself if kept), and the deciding pair (or -1).

    An item is kept unless it is paired with a better one that is kept; of several the most similar counts, then the best. One
    pass over the pairs from the best item to the worst: whether a better one is kept is known by then.
    """
    import numpy as np

    sequence = np.lexsort((order[better], -score, order[worse]))
    kept_of, pair_of = np.arange(count), np.full(count, -1, dtype=np.int64)
    taken = bytearray(count)
    for one, other, pair in zip(better[sequence].tolist(), worse[sequence].tolist(), sequence.tolist(), strict=True):
        if not taken[other] and not taken[one]:
            taken[other] = 1
            kept_of[other], pair_of[other] = one, pair
    return kept_of, pair_of

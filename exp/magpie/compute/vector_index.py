"""Nearest neighbours among unit vectors, by FAISS, in memory or in a folder that later runs extend.

Up to `FLAT_MOST` vectors every pair is compared. Beyond, the vectors are put into lists around centroids (IVF) and only the
nearest lists are searched; their vectors are kept whole, so that every cosine is exact and only a neighbour can be missed.
More than `PARTITION` vectors are searched in partitions, one index after the other, so that none need hold them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.compute.executors import HERE, Workers
from magpie.compute.large_arrays import parts, room_for

if TYPE_CHECKING:
    import numpy as np

FLAT_MOST, GPU_FLAT_MOST = 30_000, 1_000_000
"""Vectors up to which all are compared. At 50,000 two cores need as long for that as for lists; a GPU has no need of lists."""
LISTS_A_ROOT = 6
"""Lists: this many times √N (FAISS's guide: 4 to 16)."""
LISTS_SEARCHED = 8
"""Lists searched a query: finds 99.6% of copies at cosine 0.95–0.999 among vectors without any clusters, the hardest case."""
TRAINING_VECTORS_A_LIST, TRAINING_ROUNDS = 40, 6
GROWTH = 4
"""An index that has grown by this factor since its lists were made gets new ones."""
QUERIES_AT_ONCE, QUERIES_A_CORE = 4096, 1024
"""Queries of a worker's part, and of these on one core: the same everywhere, whatever the number of cores."""
SEARCH_CORES = 16
"""Cores of a worker that searches: it holds a partition's whole index."""
PARTITION = 2_000_000
"""Vectors of a partition: 3 GB a worker, where they have 384 numbers. Half as large, twice as many lists are searched."""


class _Queries:
    """Rows of vectors in parts, each copied when it is asked for."""

    def __init__(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        self._vectors, self._rows = vectors, rows

    def __len__(self) -> int:
        return -(-len(self._rows) // QUERIES_AT_ONCE)

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in parts(len(self._rows), QUERIES_AT_ONCE):
            yield self._vectors[self._rows[part]]


class VectorIndex:
    """Vectors in the order in which they were added, and the search for the nearest of them."""

    def __init__(self, vectors: np.ndarray, *, flat_most: int | None = None) -> None:
        """Build an index of unit vectors, float32, shape (n, d)."""
        self._flat_most = flat_most or (GPU_FLAT_MOST if _gpus() else FLAT_MOST)
        self._made_for = len(vectors)
        self._index: Any = self._build(vectors)
        self._gpu: Any = None

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def _build(self, vectors: np.ndarray) -> Any:
        import faiss
        import numpy as np

        count, dimension = vectors.shape
        flat = faiss.IndexFlatIP(dimension)
        if count <= self._flat_most:
            flat.add(vectors)
            return flat
        lists = int(LISTS_A_ROOT * count**0.5)
        index = faiss.IndexIVFFlat(flat, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.min_points_per_centroid = TRAINING_ROUNDS, 1
        index.cp.max_points_per_centroid = TRAINING_VECTORS_A_LIST
        index.nprobe = LISTS_SEARCHED
        sample = np.random.default_rng(0).choice(count, min(count, lists * TRAINING_VECTORS_A_LIST), replace=False)
        index.train(vectors[np.sort(sample)])
        index.add(vectors)
        return index

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors; the lists are made anew when they no longer fit the number."""
        import numpy as np

        total = len(self) + len(vectors)
        outgrown = total > self._flat_most and (self.is_flat or total > GROWTH * self._made_for)
        self._gpu = None
        if outgrown:
            self._index, self._made_for = self._build(np.concatenate([self.vectors(), vectors])), total
        elif len(vectors):
            self._index.add(vectors)

    @property
    def is_flat(self) -> bool:
        """Whether every vector is compared."""
        import faiss

        return isinstance(self._index, faiss.IndexFlat)

    def vectors(self) -> np.ndarray:
        """Return all vectors in their order."""
        import numpy as np

        if not len(self):
            return np.zeros((0, self._index.d), dtype=np.float32)
        if not self.is_flat:
            self._index.make_direct_map(True)
        found: np.ndarray = self._index.reconstruct_n(0, len(self))
        return found

    def search(
        self, queries: np.ndarray, neighbours: int, workers: Workers = HERE, rows: np.ndarray | None = None
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield (which of the queries, cosines, rows) of the nearest vectors, in parts and in any order of them.

        The nearest come first, of equally near ones the first row; row -1 with cosine -1: there is none.

        Args:
            queries: unit vectors, float32, shape (n, d).
            neighbours: how many at most.
            workers: who searches.
            rows: which of `queries` are meant (default: all).
        """
        import numpy as np

        wanted = _Queries(queries, np.arange(len(queries)) if rows is None else rows)
        work = partial(self._nearest, min(neighbours, len(self)))
        for place, (cosines, found) in workers.map(work, wanted, cores=SEARCH_CORES, gpu=_gpus() > 0):
            start = place * QUERIES_AT_ONCE
            yield slice(start, start + len(found)), cosines, found

    def _nearest(self, neighbours: int, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        cosines, rows = self._found_on_gpu(queries, neighbours) or self._found_on_cores(queries, neighbours)
        return _nearest_first(np.minimum(np.where(rows < 0, -1.0, cosines), 1.0), rows)

    def _found_on_cores(self, queries: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """Search on several cores, the same number of queries on each at a time.

        FAISS's own threads change a cosine's last bits with their number, and wait for one another on a busy machine.
        """
        import faiss
        import numpy as np

        def search(part: slice) -> tuple[np.ndarray, np.ndarray]:
            found: tuple[np.ndarray, np.ndarray] = self._index.search(queries[part], neighbours)
            return found

        pieces = list(parts(len(queries), QUERIES_A_CORE))
        with ThreadPoolExecutor(
            min(len(pieces), faiss.omp_get_max_threads()), initializer=faiss.omp_set_num_threads, initargs=(1,)
        ) as pool:
            cosines, rows = zip(*pool.map(search, pieces), strict=True)
        return np.concatenate(cosines), np.concatenate(rows)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_gpu": None}

    def _found_on_gpu(self, queries: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Search a copy of the index on the GPUs, where FAISS can use any."""
        import faiss

        if not _gpus():
            return None
        if self._gpu is None:
            self._gpu = faiss.index_cpu_to_all_gpus(self._index)
        found: tuple[np.ndarray, np.ndarray] = self._gpu.search(queries, neighbours)
        return found

    # --- on disk ----------------------------------------------------------------------------------------------------

    def write(self, path: Path) -> None:
        """Write the FAISS index to a file."""
        import faiss

        if not self.is_flat:
            self._index.make_direct_map(False)
        faiss.write_index(self._index, str(path))

    @classmethod
    def read(cls, path: Path, *, made_for: int) -> VectorIndex:
        """Read what `write` wrote."""
        import faiss
        import numpy as np

        index = cls(np.zeros((0, 1), dtype=np.float32))
        index._index, index._made_for = faiss.read_index(str(path)), made_for
        return index

    @property
    def made_for(self) -> int:
        """How many vectors there were when the lists were made."""
        return self._made_for


def _nearest_first(cosines: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    turn = np.lexsort((rows, -cosines), axis=1)
    return np.take_along_axis(cosines, turn, 1), np.take_along_axis(rows, turn, 1)


class Partitions:
    """Vectors searched in partitions: only one partition's index is there at a time, here and with every worker."""

    def __init__(self, vectors: np.ndarray, rows: np.ndarray | None = None, *, scratch: Path | None = None) -> None:
        """Name the vectors.

        Args:
            vectors: unit vectors, float32, shape (n, d).
            rows: which of them are searched, ascending (default: all).
            scratch: folder for results that are too large for the memory.
        """
        import numpy as np

        self._vectors = vectors
        self._rows = np.arange(len(vectors)) if rows is None else rows
        self._scratch = scratch
        self._made: tuple[int, VectorIndex] | None = None

    def search(
        self, queries: np.ndarray, neighbours: int, workers: Workers = HERE, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (cosines, places) of the nearest vectors, shapes (q, k); a place is that of a row in `rows` of this object.

        The nearest come first, of equally near ones the first place; place -1 with cosine -1: there is none. `queries` and
        `rows` are as in `VectorIndex.search`.
        """
        import numpy as np

        shape = (len(queries) if rows is None else len(rows), min(neighbours, len(self._rows)))
        cosines = room_for(shape, "float32", self._scratch)
        places = room_for(shape, "int64", self._scratch)
        cosines[:], places[:] = -1.0, -1
        for start in range(0, len(self._rows), PARTITION):
            for part, near, found in self._index(start).search(queries, neighbours, workers, rows):
                _keep_nearest(cosines[part], places[part], near, np.where(found < 0, -1, found + start))
        return cosines, places

    def _index(self, start: int) -> VectorIndex:
        if self._made is None or self._made[0] != start:
            self._made = None  # before the next one is made: there is room for one
            self._made = start, VectorIndex(self._vectors[self._rows[start : start + PARTITION]])
        return self._made[1]


def _keep_nearest(cosines: np.ndarray, places: np.ndarray, more_cosines: np.ndarray, more_places: np.ndarray) -> None:
    """Put the nearest of two findings into the first, shapes (q, k) and (q, at most k)."""
    import numpy as np

    both = np.concatenate([cosines, more_cosines], axis=1), np.concatenate([places, more_places], axis=1)
    nearest, at = _nearest_first(*both)
    cosines[:], places[:] = nearest[:, : cosines.shape[1]], at[:, : cosines.shape[1]]


def _gpus() -> int:
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0

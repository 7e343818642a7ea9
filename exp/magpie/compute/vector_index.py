"""Nearest neighbours among unit vectors, by FAISS.

Up to `FLAT_MOST` vectors every pair is compared. Above that, vectors are assigned to lists around centroids (IVF) and only the
nearest lists are searched; vectors are stored uncompressed, so every cosine is exact, but a neighbour can be missed.
More than `PARTITION` vectors are searched in partitions, one index after the other, so that no index holds them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie.compute.executors import LOCAL, Executor
from magpie.compute.large_arrays import slices, zeros

if TYPE_CHECKING:
    import numpy as np

FLAT_MOST, GPU_FLAT_MOST = 30_000, 1_000_000
"""Vectors up to which every pair is compared. At 50,000 that takes two cores as long as lists do; a GPU does without lists."""
LISTS_PER_ROOT = 6
"""Lists per √N (FAISS's guide: 4 to 16)."""
LISTS_SEARCHED = 8
"""Lists searched per query: finds 99.6% of copies at cosine 0.95–0.999 among vectors without clusters, the hardest case."""
TRAINING_VECTORS_PER_LIST, TRAINING_ROUNDS = 40, 6
GROWTH = 4
"""An index that has grown by this factor since its lists were built is rebuilt."""
QUERIES_PER_CHUNK, QUERIES_PER_CORE = 4096, 1024
"""Queries per chunk, and of these on one core: independent of the number of cores, for identical results."""
SEARCH_CORES = 16
"""Cores of a searching worker, which holds a partition's whole index."""
PARTITION = 2_000_000
"""Vectors per partition: 3 GB per worker at dimension 384. With half of that, twice as many lists would be searched."""


class _Queries:
    """Rows of vectors in chunks, each copied when it is consumed."""

    def __init__(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        self._vectors, self._rows = vectors, rows

    def __len__(self) -> int:
        return -(-len(self._rows) // QUERIES_PER_CHUNK)

    def __iter__(self) -> Iterator[np.ndarray]:
        for chunk in slices(len(self._rows), QUERIES_PER_CHUNK):
            yield self._vectors[self._rows[chunk]]


class VectorIndex:
    """A searchable list of vectors, in the order in which they were added."""

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
        lists = int(LISTS_PER_ROOT * count**0.5)
        index = faiss.IndexIVFFlat(flat, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.min_points_per_centroid = TRAINING_ROUNDS, 1
        index.cp.max_points_per_centroid = TRAINING_VECTORS_PER_LIST
        index.nprobe = LISTS_SEARCHED
        sample = np.random.default_rng(0).choice(count, min(count, lists * TRAINING_VECTORS_PER_LIST), replace=False)
        index.train(vectors[np.sort(sample)])
        index.add(vectors)
        return index

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors; the lists are rebuilt when there are too few for the vectors."""
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
        """True if every pair is compared."""
        import faiss

        return isinstance(self._index, faiss.IndexFlat)

    def vectors(self) -> np.ndarray:
        """Return all vectors, float32, shape (n, d)."""
        import numpy as np

        if not len(self):
            return np.zeros((0, self._index.d), dtype=np.float32)
        if not self.is_flat:
            self._index.make_direct_map(True)
        found: np.ndarray = self._index.reconstruct_n(0, len(self))
        return found

    def search(
        self, queries: np.ndarray, neighbours: int, executor: Executor = LOCAL, rows: np.ndarray | None = None
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield (slice of the queries, cosines, rows) of the nearest vectors for each chunk of queries, in any order.

        The nearest come first; ties are in the order of rows. Row -1 with cosine -1 stands for no neighbour.

        Args:
            queries: unit vectors, float32, shape (n, d).
            neighbours: number of neighbours, at most.
            executor: searches.
            rows: the rows of `queries` to search for (default: all).
        """
        import numpy as np

        wanted = _Queries(queries, np.arange(len(queries)) if rows is None else rows)
        work = partial(self._nearest, min(neighbours, len(self)))
        for index, (cosines, found) in executor.map(work, wanted, cores=SEARCH_CORES, gpu=_gpus() > 0):
            start = index * QUERIES_PER_CHUNK
            yield slice(start, start + len(found)), cosines, found

    def _nearest(self, neighbours: int, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        cosines, rows = self._search_on_gpu(queries, neighbours) or self._search_on_cores(queries, neighbours)
        return _nearest_first(np.minimum(np.where(rows < 0, -1.0, cosines), 1.0), rows)

    def _search_on_cores(self, queries: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """Search on several cores, a fixed number of queries at a time on each.

        With FAISS's own threads the last bits of a cosine depend on their number, and they wait for one another on a busy
        machine.
        """
        import faiss
        import numpy as np

        def search(chunk: slice) -> tuple[np.ndarray, np.ndarray]:
            found: tuple[np.ndarray, np.ndarray] = self._index.search(queries[chunk], neighbours)
            return found

        parts = list(slices(len(queries), QUERIES_PER_CORE))
        with ThreadPoolExecutor(
            min(len(parts), faiss.omp_get_max_threads()), initializer=faiss.omp_set_num_threads, initargs=(1,)
        ) as pool:
            cosines, rows = zip(*pool.map(search, parts), strict=True)
        return np.concatenate(cosines), np.concatenate(rows)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_gpu": None}

    def _search_on_gpu(self, queries: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Search a copy of the index on the GPUs; None if FAISS can use none."""
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
        """The number of vectors when the lists were built."""
        return self._made_for


def _nearest_first(cosines: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    order = np.lexsort((rows, -cosines), axis=1)
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(rows, order, 1)


class Partitions:
    """Vectors searched in partitions: this process and every worker hold one partition's index at a time."""

    def __init__(self, vectors: np.ndarray, rows: np.ndarray | None = None, *, scratch: Path | None = None) -> None:
        """Name the vectors.

        Args:
            vectors: unit vectors, float32, shape (n, d).
            rows: the rows to search in, ascending (default: all).
            scratch: folder for results that are too large for main memory.
        """
        import numpy as np

        self._vectors = vectors
        self._rows = np.arange(len(vectors)) if rows is None else rows
        self._scratch = scratch
        self._made: tuple[int, VectorIndex] | None = None

    def search(
        self, queries: np.ndarray, neighbours: int, executor: Executor = LOCAL, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (cosines, positions) of the nearest vectors, shapes (q, k); a position is an index into this object's `rows`.

        The nearest come first; ties are in the order of positions. Position -1 with cosine -1 stands for no neighbour. The
        arguments are those of `VectorIndex.search`.
        """
        import numpy as np

        shape = (len(queries) if rows is None else len(rows), min(neighbours, len(self._rows)))
        cosines = zeros(shape, "float32", self._scratch)
        positions = zeros(shape, "int64", self._scratch)
        cosines[:], positions[:] = -1.0, -1
        for start in range(0, len(self._rows), PARTITION):
            for chunk, near, found in self._index(start).search(queries, neighbours, executor, rows):
                _keep_nearest(cosines[chunk], positions[chunk], near, np.where(found < 0, -1, found + start))
        return cosines, positions

    def _index(self, start: int) -> VectorIndex:
        if self._made is None or self._made[0] != start:
            self._made = None  # before the next one is built: memory holds only one
            self._made = start, VectorIndex(self._vectors[self._rows[start : start + PARTITION]])
        return self._made[1]


def _keep_nearest(cosines: np.ndarray, positions: np.ndarray, more_cosines: np.ndarray, more_positions: np.ndarray) -> None:
    """Merge two search results, shapes (q, k) and (q, at most k), into the first, keeping the nearest."""
    import numpy as np

    both = np.concatenate([cosines, more_cosines], axis=1), np.concatenate([positions, more_positions], axis=1)
    nearest, merged = _nearest_first(*both)
    cosines[:], positions[:] = nearest[:, : cosines.shape[1]], merged[:, : cosines.shape[1]]


def _gpus() -> int:
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0

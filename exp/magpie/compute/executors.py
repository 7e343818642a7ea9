"""Functions mapped over chunks: one after the other in this process, or on a Ray cluster (`--ray`).

Both executors get the same chunks and call the same functions, so the results are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

NEW = "new"
"""--ray without an address: a cluster of this machine alone, for this run."""
MODEL_CORES = 4
"""Cores of a worker with a model on a CPU: with more they wait for one another."""


class Executor(Protocol):
    """Maps a function over chunks."""

    def map(self, work: Callable[[T], R], chunks: Iterable[T], *, cores: int = 1, gpu: bool = False) -> Iterator[tuple[int, R]]:
        """Yield (index of the chunk, result of `work`) for every chunk, in any order.

        Args:
            work: can be pickled; what it loads at its first call stays in the worker.
            chunks: consumed as workers become free.
            cores: CPU cores of one worker, at most.
            gpu: a worker needs a GPU of its own, if the cluster has any.
        """


class LocalExecutor:
    """Works in this process."""

    def map(self, work: Callable[[T], R], chunks: Iterable[T], *, cores: int = 1, gpu: bool = False) -> Iterator[tuple[int, R]]:
        """Yield the results in the order of the chunks; see `Executor`."""
        for index, chunk in enumerate(chunks):
            yield index, work(chunk)


LOCAL = LocalExecutor()


@contextlib.contextmanager
def executor_at(address: str | None) -> Iterator[Executor]:
    """Yield the executor of a Ray cluster until the block ends: a local one without an address, a new cluster for `NEW`.

    Raises:
        MagpieError: the cluster cannot be joined, or it fails.
    """
    if not address:
        yield LOCAL
        return
    from magpie.compute.ray_executor import joined

    with joined(address) as executor:
        yield executor

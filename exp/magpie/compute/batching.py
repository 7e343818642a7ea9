"""Batches of texts of about the same length, so that next to nothing is padding, and their way through a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def by_tokens(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the indices of texts in batches, the longest first: `budget` tokens each at most, padding counted, or one text."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
    while order:
        count = max(1, budget // max(lengths[order[0]], 1))
        yield order[:count]
        order = order[count:]


def for_each_batch(batches: Sequence[T], work: Callable[[T], None], device: str) -> None:
    """Call `work` (torch's inference mode is on) with every batch, on a CPU several at a time, each on one core.

    One batch on all cores makes them wait for one another after every operation, which was 3.6 to 7 times slower for embeddings
    on a busy machine (docs/LOG.md).
    """
    import torch

    def inferred(batch: T) -> None:
        with torch.inference_mode():
            work(batch)

    cores = torch.get_num_threads()
    if device != "cpu" or cores == 1 or len(batches) == 1:
        for batch in batches:
            inferred(batch)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(inferred, batches))
    finally:
        torch.set_num_threads(cores)

"""Batches of texts of similar length, so that there is little padding, and their way through a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def by_tokens(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of the indices of texts, the longest texts first.

    Args:
        lengths: the tokens of each text.
        budget: tokens of a batch with its padding, at most; a longer text is a batch by itself.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
    while order:
        count = max(1, budget // max(lengths[order[0]], 1))
        yield order[:count]
        order = order[count:]


def for_each_batch(batches: Sequence[T], work: Callable[[T], None], device: str) -> None:
    """Call `work` with every batch in torch's inference mode; on a CPU several at a time, each on one core.

    With one batch on all cores these wait for one another after every operation, which was 3.6 to 7 times slower for embeddings
    on a busy machine (docs/LOG.md).
    """
    import torch

    def in_inference_mode(batch: T) -> None:
        with torch.inference_mode():
            work(batch)

    cores = torch.get_num_threads()
    if device != "cpu" or cores == 1 or len(batches) == 1:
        for batch in batches:
            in_inference_mode(batch)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(in_inference_mode, batches))
    finally:
        torch.set_num_threads(cores)

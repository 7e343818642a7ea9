"""Work on many items at once: as many as the servers accept, until the ceiling is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from magpie.client import pool as pools
from magpie.client.ceiling import Ceiling

T = TypeVar("T")


async def work_on_all(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], pool: pools.EndpointPool, ceiling: Ceiling
) -> None:
    """Work on every item; see `Client.for_each`."""
    source = iter(items)
    workers: set[asyncio.Task[None]] = set()

    async def worker() -> None:
        for item in source:
            if not await ceiling.allows_more(work, item):
                return

    try:
        async with asyncio.TaskGroup() as group:
            while True:
                for _ in range(pool.capacity - len(workers)):  # more when a server has been added
                    workers.add(group.create_task(worker()))
                wait = max(0.0, min(pools.POLL_SECONDS, ceiling.seconds_left))
                finished, workers = await asyncio.wait(workers, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if ceiling.seconds_left <= 0:
                    ceiling.require_room()
                if finished:  # no item is left, or one has failed
                    break
    except BaseExceptionGroup as group_error:
        raise _first_leaf(group_error) from None


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

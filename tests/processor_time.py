"""Bounds of processor time that hold however busy the machine is: in units of a piece of work that is timed beside them."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable

TRIES = 3
TEXT = "The sum of 12 and 30 is 42, whose factors are 2, 3 and 7. " * 2_000
WORD = re.compile(r"\w+|[^\w\s]")


def check_takes(most: float, work: Callable[[], object]) -> None:
    """Fail where `work` takes more than so many units (one is about 10 ms on a processor of 2020) whenever it is tried."""
    taken = []
    while not taken or min(taken) >= most:
        assert len(taken) < TRIES, f"it took {min(taken):.1f} units, {most} are allowed"
        taken.append(seconds(work) / seconds(_unit))


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of `work` alone: not of other threads, nor of the garbage that the tests before left."""
    gc.disable()
    try:
        started = time.thread_time()
        work()
        return time.thread_time() - started
    finally:
        gc.enable()


def _unit() -> None:
    sorted({word.lower() for word in WORD.findall(TEXT)} | set(TEXT.split()))

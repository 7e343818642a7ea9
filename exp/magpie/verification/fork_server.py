"""The process that the workers are forked from."""

from __future__ import annotations

import signal
from multiprocessing import forkserver, resource_tracker
from typing import Any


def start_fork_server(context: Any) -> None:
    """Start the process that workers are forked from; Ctrl-C, which reaches all of the terminal's processes, is for us only.

    Return once it has loaded what they need: a worker that starts when we are gone would print errors.
    """
    resource_tracker.ensure_running()  # else it is started below, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()  # which inherits what is blocked, as do the workers
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    first = context.Process(target=int)
    first.start()
    first.join()

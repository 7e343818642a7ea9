"""The executor of a Ray cluster.

Each chunk goes to a worker that holds what the work needs (a model, an index); a chunk whose worker or machine dies goes to
another one. Ray itself spills to disk what does not fit into its memory. Workers are actors, which keep their GPU; the process
of a task is given another one from chunk to chunk, while its model stays where it is (docs/LOG.md).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from magpie.common.console import Interrupted, MagpieError, again, log, printable
from magpie.compute.executors import NEW

T = TypeVar("T")
R = TypeVar("R")

PATIENCE_SECONDS = 120.0
"""Longest wait for a first free CPU or GPU."""
MOST_DEATHS = 4
"""Workers that may die on one chunk before it is considered the cause."""
CONNECT_SECONDS = 10.0


class RayExecutor:
    """Works on the Ray cluster that this process has joined."""

    def map(self, work: Callable[[T], R], chunks: Iterable[T], *, cores: int = 1, gpu: bool = False) -> Iterator[tuple[int, R]]:
        """Yield the results as they come, from all machines; see `Executor`."""
        import ray

        most = operator.length_hint(chunks, 1 << 30)
        if gpu and ray.cluster_resources().get("GPU", 0) and ray.available_resources().get("GPU", 0) < 1:
            log.info("all GPUs of the Ray cluster are held by others (a model's server?): working on its CPUs")
            gpu = False
        count, options = _worker_resources([node["Resources"] for node in ray.nodes() if node["Alive"]], cores, gpu=gpu)
        worker_class = ray.remote(_Worker).options(**options, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD")
        workers: list[Any] = [worker_class.remote() for _ in range(min(count, most))]
        try:
            yield from _Calls(workers, ray.put(work), chunks, gpu="num_gpus" in options).results()
        finally:
            for worker in workers:
                ray.kill(worker)


def _worker_resources(nodes: list[dict[str, float]], cores: int, *, gpu: bool) -> tuple[int, dict[str, Any]]:
    """Return the number of workers that fit on the nodes, and the resources of each."""
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpu and gpus:
        return gpus, {"num_cpus": 1, "num_gpus": 1}
    sizes = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not sizes:
        raise MagpieError(
            "the Ray cluster has no CPU for its jobs (--num-cpus=0 everywhere?). Add a node: ray start --address=…"
        )
    cores = min(cores, *sizes)
    return sum(size // cores for size in sizes), {"num_cpus": cores}


class _Worker:
    """A Ray actor that holds the work."""

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Return as soon as the worker runs."""

    def do(self, shared: list[Any], chunk: Any) -> Any:
        """Return the result of a chunk; `shared` holds the reference to the work, which is fetched once."""
        import ray

        if self._work is None:
            self._work = ray.get(shared[0])
        return self._work(chunk)


class _Calls:
    """The pending calls of the workers, and the chunks that are left.

    Ray restarts a dead worker when there is room, but would keep its chunks waiting for that; here they go to any free worker.
    A lost call is followed by a call that returns as soon as its worker runs again.
    """

    def __init__(self, workers: list[Any], work: Any, chunks: Iterable[Any], *, gpu: bool) -> None:
        self._work = [work]
        self._pending: dict[Any, tuple[Any, tuple[int, Any] | None]] = {
            worker.ready.remote(): (worker, None) for worker in workers
        }
        self._chunks = iter(enumerate(chunks))
        self._left: list[tuple[int, Any]] = []
        self._idle: list[Any] = []
        self._deaths: Counter[int] = Counter()
        self._needed = "GPU" if gpu else "CPU"

    def results(self) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) of every chunk as they come."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        while self._chunk_is_left() or any(item for _, item in self._pending.values()):
            while self._idle and self._chunk_is_left():
                worker, next_item = self._idle.pop(), self._left.pop()
                self._pending[worker.do.remote(self._work, next_item[1])] = (worker, next_item)
            call = self._next_finished()
            worker, item = self._pending.pop(call)
            try:
                result = ray.get(call)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, MagpieError) else error from None
            except RayError as error:
                self._handle_loss(item, error)
                self._pending[worker.ready.remote()] = (worker, None)
            else:
                self._idle.append(worker)
                if item:
                    yield item[0], result

    def _chunk_is_left(self) -> bool:
        """Return whether there is a chunk to hand out."""
        if not self._left:
            self._left += itertools.islice(self._chunks, 1)
        return bool(self._left)

    def _next_finished(self) -> Any:
        """Wait until a call is finished or lost, and return it.

        Raises:
            MagpieError: no worker has found a free CPU or GPU in time.
        """
        import ray

        while self._pending:
            calls, _ = ray.wait(list(self._pending), timeout=PATIENCE_SECONDS)
            if calls:
                return calls[0]
            if not any(item for _, item in self._pending.values()):
                break
        raise MagpieError(
            f"the Ray cluster has had no free {self._needed} for {PATIENCE_SECONDS:.0f} seconds: other jobs hold them, or its "
            f"machines are gone (ray status shows both). Wait for them, or leave out --ray; {again()}"
        )

    def _handle_loss(self, item: tuple[int, Any] | None, error: Exception) -> None:
        """Put the chunk of a lost call back.

        Raises:
            MagpieError: the chunk has cost too many workers, or the worker cannot start.
        """
        from ray.exceptions import ActorUnavailableError

        lines = str(error).strip().splitlines() or [type(error).__name__]
        if item is None and not isinstance(error, ActorUnavailableError):  # this worker cannot start, nor would another
            raise MagpieError(
                f"a worker of the Ray cluster cannot start ({printable(lines[-1], 300)}). Every machine needs this project in "
                "the same folder, set up there (bash scripts/setup.sh)"
            ) from error
        if item is None:
            return
        log.info("a worker of the Ray cluster was lost; its chunk goes to another one")
        self._deaths[item[0]] += 1
        if self._deaths[item[0]] >= MOST_DEATHS:
            raise MagpieError(
                f"{MOST_DEATHS} workers of the Ray cluster died on the same chunk ({printable(lines[0], 300)}). Is there too "
                f"little memory? Ray's logs (/tmp/ray/session_latest/logs) say more; {again()}"
            ) from error
        self._left.append(item)


# --- joining a cluster ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined(address: str) -> Iterator[RayExecutor]:
    """Join the Ray cluster at an address, or start one for `NEW`, and yield its executor until the block ends.

    Raises:
        MagpieError: it cannot be joined, or it fails.
    """
    with _keep_signal_handlers():
        _join(address)
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        yield RayExecutor()
    except RayTaskError:  # an error in our own code keeps its traceback
        raise
    except KeyboardInterrupt as why:  # Ray forgets which signal it was
        raise Interrupted(str(why) or "by a signal") from None
    except RayError as error:
        reason = printable(str(error).strip() or type(error).__name__, 300)
        raise MagpieError(f"the Ray cluster failed ({reason}). Ray's logs say more; {again()}") from error
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore our signal handlers after Ray has installed its own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _join(address: str) -> None:
    """Join a cluster, or start one, with no output of Ray's on the terminal.

    Raises:
        MagpieError: it cannot be joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # every line: we report dead workers ourselves
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == NEW:
        settings |= {"address": "local", "include_dashboard": False}
    else:
        _refuse_unreachable(address)
        settings["address"] = address
    try:
        ray.init(**settings)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MagpieError(
            f"the Ray cluster {address!r} cannot be joined ({reason}). Is a node of it on this machine (ray start "
            "--address=HEAD:6379), of the same versions of Ray and Python? Or run without --ray and RAY_ADDRESS"
        ) from error


def _refuse_unreachable(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself would try for minutes.

    Raises:
        MagpieError: it is not an address, or nothing listens there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise MagpieError(f"--ray {address}: not an address of a Ray cluster. Give HOST:6379 (no ray://), or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise MagpieError(
            f"no Ray cluster answers at {address} ({error}). Start it (ray start --head --port=6379), or name another one in "
            "--ray or RAY_ADDRESS"
        ) from error

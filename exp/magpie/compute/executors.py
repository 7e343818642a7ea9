"""Work in parts: one after the other in this process, or on a Ray cluster (`--ray`).

Both get the same parts and call the same functions, so the results are the same. On a cluster each part goes to a worker that
holds what the work needs (a model, an index); a part whose worker or machine dies goes to another one. Ray itself moves to disk
what its memory cannot hold.
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
from pathlib import Path
from typing import Any, Protocol, TypeVar

from magpie.common.console import Interrupted, MagpieError, again, log, printable

PROJECT = Path(__file__).resolve().parents[3]
T = TypeVar("T")
R = TypeVar("R")

NEW = "new"
"""--ray without an address: a cluster of this machine alone, for this run."""
PATIENCE = 120.0
"""Seconds to wait for a first free CPU or GPU."""
MOST_DEATHS = 4
"""Workers that may die over one part: after that the part is the reason."""
REACH_SECONDS = 10.0
MODEL_CORES = 4
"""Cores of a worker with a model on a CPU: more wait for one another."""


class Workers(Protocol):
    """Who does work in parts."""

    def map(self, work: Callable[[T], R], parts: Iterable[T], *, cores: int = 1, gpu: bool = False) -> Iterator[tuple[int, R]]:
        """Yield (the part's place, what `work` makes of it) for every part, in any order.

        Args:
            work: can be pickled; what it loads at its first call stays with the worker.
            parts: are asked for when there is somebody to do them.
            cores: CPU cores of one worker, at most.
            gpu: a worker needs a GPU of its own, if the cluster has any.
        """


class Here:
    """This process."""

    def map(self, work: Callable[[T], R], parts: Iterable[T], *, cores: int = 1, gpu: bool = False) -> Iterator[tuple[int, R]]:
        """Do the parts in their order; see `Workers`."""
        for place, part in enumerate(parts):
            yield place, work(part)


HERE = Here()


@contextlib.contextmanager
def workers_at(address: str | None) -> Iterator[Workers]:
    """Give the workers of a Ray cluster until the block ends: of this process without an address, of a new one for `NEW`."""
    if not address:
        yield HERE
        return
    with _handlers_kept():
        _join(address)
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        yield Cluster()
    except RayTaskError:  # of ours: with its traceback
        raise
    except KeyboardInterrupt as why:  # Ray forgets which signal it was
        raise Interrupted(str(why) or "by a signal") from None
    except RayError as error:
        reason = printable(str(error).strip() or type(error).__name__, 300)
        raise MagpieError(f"the Ray cluster failed ({reason}). Ray's logs say more; {again()}") from error
    finally:
        ray.shutdown()


class Cluster:
    """The Ray cluster that this process has joined."""

    def map(self, work: Callable[[T], R], parts: Iterable[T], *, cores: int = 1, gpu: bool = False) -> Iterator[tuple[int, R]]:
        """Do the parts on all machines; see `Workers`."""
        import ray

        most = operator.length_hint(parts, 1 << 30)
        if gpu and ray.cluster_resources().get("GPU", 0) and ray.available_resources().get("GPU", 0) < 1:
            log.info("all GPUs of the Ray cluster are held by others (a model's server?): working on its CPUs")
            gpu = False
        number, resources = _division([node["Resources"] for node in ray.nodes() if node["Alive"]], cores, gpu=gpu)
        kind = ray.remote(_Worker).options(**resources, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD")
        workers: list[Any] = [kind.remote() for _ in range(min(number, most))]
        try:
            yield from _Calls(workers, ray.put(work), parts, gpu="num_gpus" in resources).results()
        finally:
            for worker in workers:
                ray.kill(worker)


def _division(nodes: list[dict[str, float]], cores: int, *, gpu: bool) -> tuple[int, dict[str, Any]]:
    """Return how many workers machines have room for, and what each of them takes."""
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
    """Holds the work, in a process of its own on some machine of the cluster."""

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Answer once the worker is there."""

    def do(self, shared: list[Any], part: Any) -> Any:
        """Do a part; `shared` holds the reference to the work, which is fetched once."""
        import ray

        if self._work is None:
            self._work = ray.get(shared[0])
        return self._work(part)


class _Calls:
    """The calls that workers have not answered yet, and the parts that are left.

    Ray starts a dead worker again when there is room, but would leave its parts waiting for that; here they go to whoever is
    free. A call that is lost is followed by the question whether its worker is there again.
    """

    def __init__(self, workers: list[Any], work: Any, parts: Iterable[Any], *, gpu: bool) -> None:
        self._work = [work]
        self._open: dict[Any, tuple[Any, tuple[int, Any] | None]] = {
            worker.ready.remote(): (worker, None) for worker in workers
        }
        self._parts = iter(enumerate(parts))
        self._left: list[tuple[int, Any]] = []
        self._idle: list[Any] = []
        self._deaths: Counter[int] = Counter()
        self._needed = "GPU" if gpu else "CPU"

    def results(self) -> Iterator[tuple[int, Any]]:
        """Yield (place, result) of every part as they come."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        while self._is_left() or any(item for _, item in self._open.values()):
            while self._idle and self._is_left():
                worker, part = self._idle.pop(), self._left.pop()
                self._open[worker.do.remote(self._work, part[1])] = (worker, part)
            call = self._answered()
            worker, item = self._open.pop(call)
            try:
                result = ray.get(call)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, MagpieError) else error from None
            except RayError as error:
                self._lost(item, error)
                self._open[worker.ready.remote()] = (worker, None)
            else:
                self._idle.append(worker)
                if item:
                    yield item[0], result

    def _is_left(self) -> bool:
        """Whether there is a part to hand out."""
        if not self._left:
            self._left += itertools.islice(self._parts, 1)
        return bool(self._left)

    def _answered(self) -> Any:
        """Wait for a call that is answered or lost."""
        import ray

        while self._open:
            calls, _ = ray.wait(list(self._open), timeout=PATIENCE)
            if calls:
                return calls[0]
            if not any(item for _, item in self._open.values()):
                break
        raise MagpieError(
            f"the Ray cluster has had no free {self._needed} for {PATIENCE:.0f} seconds: other jobs hold them, or its machines "
            f"are gone (ray status shows both). Wait for them, or leave out --ray; {again()}"
        )

    def _lost(self, item: tuple[int, Any] | None, error: Exception) -> None:
        """Put the part of a lost call back, unless it has cost too many workers already."""
        from ray.exceptions import ActorUnavailableError

        lines = str(error).strip().splitlines() or [type(error).__name__]
        if item is None and not isinstance(error, ActorUnavailableError):  # it cannot start, nor would another
            raise MagpieError(
                f"a worker of the Ray cluster cannot start ({printable(lines[-1], 300)}). Every machine needs this project in "
                f"the same folder ({PROJECT}), with the same packages"
            ) from error
        if item is None:
            return
        log.info("a worker of the Ray cluster was lost; its part goes to another one")
        self._deaths[item[0]] += 1
        if self._deaths[item[0]] >= MOST_DEATHS:
            raise MagpieError(
                f"{MOST_DEATHS} workers of the Ray cluster died over the same part ({printable(lines[0], 300)}). Is there too "
                f"little memory? Ray's logs (/tmp/ray/session_latest/logs) say more; {again()}"
            ) from error
        self._left.append(item)


# --- joining ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put our handlers of signals back behind Ray, which brings its own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _join(address: str) -> None:
    """Join a cluster, or start one, without a word of Ray's on the terminal.

    Raises:
        MagpieError: it cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # every line: that a worker died is said by us
    import ray

    paths = os.pathsep.join(filter(None, [str(PROJECT / "exp"), os.environ.get("PYTHONPATH")]))
    settings: dict[str, Any] = {
        "runtime_env": {"env_vars": {"PYTHONPATH": paths}},
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
    }
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
    """Stop at an address where nobody listens: Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise MagpieError(f"--ray {address}: not an address of a Ray cluster. It is like HOST:6379 (no ray://), or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise MagpieError(
            f"no Ray cluster answers at {address} ({error}). Start it (ray start --head --port=6379), or name another one in "
            "--ray or RAY_ADDRESS"
        ) from error

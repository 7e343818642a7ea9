"""Several servers of one model on the machines of a Ray cluster, listed in a file for as long as they are up.

Ray chooses the machines, holds their GPUs and starts a worker again that has died; in each worker a `server.Server` holds the
engine, with a seed of its own. The stages read the list again when it changes (`--base_url @FILE`).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, log, printable
from magpie.common.files import write_atomically
from magpie.compute.executors import NEW, workers_at
from magpie.models.hardware import Machine, this_machine
from magpie.serving.engine import has_gpu
from magpie.serving.parallelism import Layout
from magpie.serving.server import Server

WATCH_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""How long the first worker may wait for its place before somebody is told."""
PASSED_ON = re.compile(r"(VLLM|NCCL|GLOO|HF_HOME|HF_HUB_OFFLINE)(?!.*(KEY|TOKEN))")
"""Variables of the environment that the workers get: settings of the engine, no secrets (Ray shows them)."""
Make = Callable[[int, str, Layout | None], Server]
Decide = Callable[[Machine], Layout]


@dataclass
class _Replica:
    """One of the servers, from outside: its worker, the call that it has not answered, and where it is up."""

    place: int
    worker: Any
    starts: int = 0
    call: Any = None
    url: str = ""
    failures: int = 0


class Replicas:
    """A context manager around several servers; what it offers a command is what `server.Server` does.

    Args:
        count: how many.
        make: returns the server of a number (for its seed and its logs), a host's address and a layout (None: the machine has
            no GPU, and lays the model out itself); runs on the worker's machine.
        list_file: the file of their URLs.
        decide: returns how each goes onto the GPUs of a node, or refuses.
        api_key: the key of all of them.
        ray: address of the cluster (`clusters.workers_at`).
        max_restarts: how often in a row one of them is started again.
    """

    def __init__(
        self, count: int, make: Make, *, list_file: Path, decide: Decide, api_key: str, ray: str | None, max_restarts: int
    ) -> None:
        self._count, self._make, self._list_file, self._decide = count, make, list_file, decide
        self._ray, self._max_restarts = ray or NEW, max_restarts
        self.api_key = api_key
        self._stack = contextlib.ExitStack()
        self._replicas: list[_Replica] = []
        self._stopping = threading.Event()
        self._first = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.failed = threading.Event()
        self.failure = ""

    headless = False

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use the servers."""
        where = {"MAGPIE_BASE_URL": f"@{self._list_file.resolve()}", "MAGPIE_API_KEY": self.api_key}
        return where | {"MAGPIE_SERVE_PID": str(os.getpid())}

    def __enter__(self) -> Replicas:
        with contextlib.ExitStack() as stack:
            stack.enter_context(workers_at(self._ray))
            place = self._placed()
            self._list_file.parent.mkdir(parents=True, exist_ok=True)
            self._write()
            stack.callback(self._list_file.unlink, missing_ok=True)
            stack.callback(self._end)
            self._begin(place)
            self._watcher.start()
            waited = 0.0
            while not (self._first.wait(WATCH_SECONDS) or self.failed.is_set()):
                waited += WATCH_SECONDS
                if waited == PATIENCE_SECONDS:
                    log.info("no server is up yet; `ray status` shows whether the cluster has room for them")
            if self.failed.is_set():
                raise MagpieError(self.failure)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _placed(self) -> Layout | None:
        """Return how each server goes onto a node's GPUs, before any is started; None: no node has one.

        Raises:
            MagpieError: it does not fit on a node, or not so many do on the cluster.
        """
        nodes = _gpu_nodes()
        if not nodes:
            return None
        place = self._decide(_machine_of(*nodes[0]))
        room = sum(gpus // place.gpus for _, gpus in nodes)
        if room < self._count:
            raise MagpieError(
                f"the Ray cluster has no room for {self._count} servers of {place.gpus} GPU(s) each: its nodes have "
                f"{', '.join(str(gpus) for _, gpus in nodes)} GPU(s). Use --replicas {room}, more nodes, or fewer GPUs for "
                "each (--tensor_parallel)"
                if room
                else f"a server needs {place.gpus} GPU(s), and no node of the Ray cluster has them"
            )
        log.info("%d servers of %d GPU(s) each; the Ray cluster has room for %d", self._count, place.gpus, room)
        return place

    def _begin(self, place: Layout | None) -> None:
        import ray

        resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": place.gpus} if place else {"num_cpus": 1}
        settings = {"max_restarts": -1, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        own = {"runtime_env": {"env_vars": {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}}}
        kind = ray.remote(ReplicaWorker).options(**resources, **settings, **own)
        for number in range(self._count):
            replica = _Replica(number, kind.remote(self._make, place))
            self._replicas.append(replica)
            self._start(replica)

    def _start(self, replica: _Replica) -> None:
        """Have a replica's server started, under a number that none had before: with its seed come other samples."""
        replica.url = ""
        replica.call = replica.worker.start.remote(replica.place + self._count * replica.starts)
        replica.starts += 1

    def _end(self) -> None:
        import ray

        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for replica in self._replicas:
            ray.kill(replica.worker)  # its engine goes with it

    # --- watching ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Watch until the end; a watcher that fails must not do so unseen."""
        try:
            self._watch_on()
        except Exception as error:  # noqa: BLE001 (it is a thread: nobody else would hear of it)
            log.exception("watching the servers failed")
            self.failure = f"nobody watches the servers any more ({type(error).__name__}: see above)"
            self.failed.set()

    def _watch_on(self) -> None:
        import ray

        while not self._stopping.wait(WATCH_SECONDS):
            calls = {replica.call: replica for replica in self._replicas if replica.call is not None}
            if not calls:
                self.failure = f"all {self._count} servers have failed; their logs say why (see above)"
                self.failed.set()
                return
            answered, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
            for call in answered:
                self._hear(calls[call])

    def _hear(self, replica: _Replica) -> None:
        """Take a worker's answer: that its server is up, that it has failed, or that the worker itself is gone."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

        try:
            said = ray.get(replica.call)
        except RayTaskError as error:
            self._has_failed(replica, printable(str(error.cause or error), 1500))
        except RayError as error:
            if replica.url:
                log.warning("the worker of %s is gone (%s); Ray starts another one", replica.url, type(error).__name__)
            if replica.url or isinstance(error, ActorUnavailableError):  # not there yet: it is asked again
                self._start(replica)
            else:  # it cannot start, or died while its server was starting
                self._has_failed(replica, printable(str(error).strip().splitlines()[-1], 500))
        else:
            if replica.url:
                self._has_failed(replica, said)
            else:
                replica.url, replica.failures = said, 0
                replica.call = replica.worker.until_failed.remote()
                log.info("server %d of %d is up: %s", replica.place + 1, self._count, said)
                self._first.set()
        self._write()

    def _has_failed(self, replica: _Replica, why: str) -> None:
        replica.failures += 1
        log.warning("server %d of %d: %s", replica.place + 1, self._count, why)
        if replica.failures > self._max_restarts:
            replica.call, replica.url = None, ""
        else:
            self._start(replica)

    def _write(self) -> None:
        write_atomically(self._list_file, [replica.url.encode() for replica in self._replicas if replica.url])


class ReplicaWorker:
    """Holds a server, in a process of its own on some machine of the cluster."""

    def __init__(self, make: Make, place: Layout | None) -> None:
        self._make, self._place, self._stack = make, place, contextlib.ExitStack()
        self._server: Server | None = None

    def start(self, number: int) -> str:
        """Start a server, in place of the one before, and return its URL."""
        from ray.util import get_node_ip_address

        self._stack.close()
        if not has_gpu():  # as many threads as Ray has given cores, wherever the system puts them: neighbours have theirs
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        self._server = self._stack.enter_context(self._make(number, get_node_ip_address(), self._place))
        return self._server.url

    def until_failed(self) -> str:
        """Return why the server is gone for good, once it is."""
        assert self._server is not None  # noqa: S101
        self._server.failed.wait()
        return self._server.failure


def _gpu_nodes() -> list[tuple[str, int]]:
    """Return the cluster's nodes with GPUs and how many Ray may give of each, the largest first."""
    import ray

    found = [(node["NodeID"], int(node["Resources"].get("GPU", 0))) for node in ray.nodes() if node["Alive"]]
    return sorted((node for node in found if node[1]), key=lambda node: -node[1])


def _machine_of(node: str, gpus: int) -> Machine:
    """Return a node's machine, with those of its GPUs that Ray may give.

    Raises:
        MagpieError: nothing there tells of them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_calls": 1, "scheduling_strategy": there}  # no GPU: others may hold them
    machine: Machine = ray.get(ray.remote(**options)(_all_gpus).remote())
    if not machine.gpus:
        raise MagpieError(
            f"Ray has {gpus} GPU(s) on a node where nvidia-smi tells of none. Does it work there? Else ray start --num-gpus=0"
        )
    return Machine(machine.gpus[:gpus], machine.memory_gb)


def _all_gpus() -> Machine:
    """Return the machine of a task with all its GPUs: Ray hides those that it has not given to it."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    return this_machine()


def new_key() -> str:
    """Return a key for all the servers: the user's, or a new one."""
    return os.environ.get("MAGPIE_API_KEY", "").strip() or secrets.token_urlsafe(24)

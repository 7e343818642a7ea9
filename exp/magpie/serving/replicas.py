"""Several servers of one model on the machines of a Ray cluster, listed in a file for as long as they are up.

Ray chooses the machines, reserves their GPUs and restarts a worker that has died. In each worker a `server.Server` runs the
engine, with a seed of its own. The stages reread the list when it changes (`--base_url @FILE`).
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
from magpie.compute.executors import NEW, executor_at
from magpie.models.hardware import Machine, this_machine
from magpie.serving.engine import has_gpu
from magpie.serving.parallelism import Layout
from magpie.serving.server import MADE_WITH, Server

WATCH_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""Time that the first worker waits for resources before the user gets a hint."""
PASSED_ON = re.compile(r"(VLLM|NCCL|GLOO|HF_HOME|HF_HUB_OFFLINE)(?!.*(KEY|TOKEN))")
"""Environment variables that the workers get: settings of the engine, no secrets (Ray shows them)."""
MakeServer = Callable[[int, str, Layout | None], Server]
ChooseLayout = Callable[[Machine], Layout]


@dataclass
class _Replica:
    """One of the servers, from outside: its worker, the pending call, and its URL while it is up."""

    index: int
    worker: Any
    starts: int = 0
    call: Any = None
    url: str = ""
    failures: int = 0


class Replicas:
    """Several servers, with the interface of `server.Server` that a command needs; a context manager.

    Args:
        count: number of servers.
        make: returns a server, given its number (for its seed and its logs), the address of its host and its layout (None: the
            machine has no GPU and chooses the layout itself); runs on the worker's machine.
        list_file: receives their URLs.
        told: the file in which the first of them records the provenance of responses.
        choose_layout: returns the layout of each on the GPUs of a node, or raises a MagpieError if it does not fit.
        api_key: the key of all of them.
        ray: address of the cluster (`executors.executor_at`).
        max_restarts: restarts of one of them in a row before it counts as failed.
    """

    def __init__(
        self,
        count: int,
        make: MakeServer,
        *,
        list_file: Path,
        told: Path,
        choose_layout: ChooseLayout,
        api_key: str,
        ray: str | None,
        max_restarts: int,
    ) -> None:
        self._count, self._make, self._list_file, self._choose_layout = count, make, list_file, choose_layout
        self._ray, self._max_restarts = ray or NEW, max_restarts
        self.api_key, self._told = api_key, told
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
        """The variables that a program needs to use the servers."""
        where = {"MAGPIE_BASE_URL": f"@{self._list_file.resolve()}", "MAGPIE_API_KEY": self.api_key}
        return where | {"MAGPIE_SERVE_PID": str(os.getpid()), MADE_WITH: str(self._told)}

    def __enter__(self) -> Replicas:
        with contextlib.ExitStack() as stack:
            stack.enter_context(executor_at(self._ray))
            layout = self._layout()
            self._list_file.parent.mkdir(parents=True, exist_ok=True)
            self._write()
            stack.callback(self._list_file.unlink, missing_ok=True)
            stack.callback(self._stop)
            self._start_all(layout)
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

    def _layout(self) -> Layout | None:
        """Return the layout of each server on a node's GPUs, before any is started; None: no node has a GPU.

        Raises:
            MagpieError: a server does not fit on a node, or not all of them fit on the cluster.
        """
        nodes = _gpu_nodes()
        if not nodes:
            return None
        layout = self._choose_layout(_machine_of(*nodes[0]))
        room = sum(gpus // layout.gpus for _, gpus in nodes)
        if room < self._count:
            raise MagpieError(
                f"the Ray cluster has no room for {self._count} servers of {layout.gpus} GPU(s) each: its nodes have "
                f"{', '.join(str(gpus) for _, gpus in nodes)} GPU(s). Use --replicas {room}, more nodes, or fewer GPUs for "
                "each (--tensor_parallel)"
                if room
                else f"a server needs {layout.gpus} GPU(s), and no node of the Ray cluster has them"
            )
        log.info("%d servers of %d GPU(s) each; the Ray cluster has room for %d", self._count, layout.gpus, room)
        return layout

    def _start_all(self, layout: Layout | None) -> None:
        import ray

        resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": layout.gpus} if layout else {"num_cpus": 1}
        settings = {"max_restarts": -1, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        own = {"runtime_env": {"env_vars": {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}}}
        worker_class = ray.remote(ReplicaWorker).options(**resources, **settings, **own)
        for number in range(self._count):
            replica = _Replica(number, worker_class.remote(self._make, layout))
            self._replicas.append(replica)
            self._start(replica)

    def _start(self, replica: _Replica) -> None:
        """Start a replica's server under an unused number: its seed must give new samples."""
        replica.url = ""
        replica.call = replica.worker.start.remote(replica.index + self._count * replica.starts)
        replica.starts += 1

    def _stop(self) -> None:
        import ray

        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for replica in self._replicas:
            ray.kill(replica.worker)  # its engine ends with it

    # --- watching ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Watch until the end, and report a failure of the watcher itself."""
        try:
            self._watch_calls()
        except Exception as error:  # noqa: BLE001 (a thread: nothing else would report it)
            log.exception("watching the servers failed")
            self.failure = f"the servers are no longer watched ({type(error).__name__}: see above)"
            self.failed.set()

    def _watch_calls(self) -> None:
        import ray

        while not self._stopping.wait(WATCH_SECONDS):
            calls = {replica.call: replica for replica in self._replicas if replica.call is not None}
            if not calls:
                self.failure = f"all {self._count} servers have failed; their logs say why (see above)"
                self.failed.set()
                return
            finished, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
            for call in finished:
                self._handle(calls[call])

    def _handle(self, replica: _Replica) -> None:
        """Handle a finished call: the server is up, the server has failed, or the worker itself is gone."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

        try:
            result = ray.get(replica.call)
        except RayTaskError as error:
            self._handle_failure(replica, printable(str(error.cause or error), 1500))
        except RayError as error:
            if replica.url:
                log.warning("the worker of %s is gone (%s); Ray starts another one", replica.url, type(error).__name__)
            if replica.url or isinstance(error, ActorUnavailableError):  # not there yet: poll again
                self._start(replica)
            else:  # the worker cannot start, or died while its server was starting
                self._handle_failure(replica, printable(str(error).strip().splitlines()[-1], 500))
        else:
            if replica.url:
                self._handle_failure(replica, result)
            else:
                replica.url, replica.failures = result, 0
                replica.call = replica.worker.until_failed.remote()
                log.info("server %d of %d is up: %s", replica.index + 1, self._count, result)
                self._first.set()
        self._write()

    def _handle_failure(self, replica: _Replica, reason: str) -> None:
        replica.failures += 1
        log.warning("server %d of %d: %s", replica.index + 1, self._count, reason)
        if replica.failures > self._max_restarts:
            replica.call, replica.url = None, ""
        else:
            self._start(replica)

    def _write(self) -> None:
        write_atomically(self._list_file, [replica.url.encode() for replica in self._replicas if replica.url])


class ReplicaWorker:
    """A Ray actor that holds one server."""

    def __init__(self, make: MakeServer, layout: Layout | None) -> None:
        self._make, self._layout, self._stack = make, layout, contextlib.ExitStack()
        self._server: Server | None = None

    def start(self, number: int) -> str:
        """Start a server that replaces the previous one, and return its URL."""
        from ray.util import get_node_ip_address

        self._stack.close()
        if not has_gpu():  # one thread per core that Ray has given, not pinned: other actors run here too
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        self._server = self._stack.enter_context(self._make(number, get_node_ip_address(), self._layout))
        return self._server.url

    def until_failed(self) -> str:
        """Wait until the server has failed for good, and return the reason."""
        assert self._server is not None  # noqa: S101
        self._server.failed.wait()
        return self._server.failure


def _gpu_nodes() -> list[tuple[str, int]]:
    """Return the cluster's nodes with GPUs as (id, number of GPUs that Ray manages), the largest first."""
    import ray

    found = [(node["NodeID"], int(node["Resources"].get("GPU", 0))) for node in ray.nodes() if node["Alive"]]
    return sorted((node for node in found if node[1]), key=lambda node: -node[1])


def _machine_of(node: str, gpus: int) -> Machine:
    """Return the hardware of a node, with the GPUs that Ray manages.

    Raises:
        MagpieError: nvidia-smi finds none there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_calls": 1, "scheduling_strategy": there}  # no GPU: others may hold them
    machine: Machine = ray.get(ray.remote(**options)(_all_gpus).remote())
    if not machine.gpus:
        raise MagpieError(
            f"Ray has {gpus} GPU(s) on a node where nvidia-smi finds none. Does it work there? If not: ray start --num-gpus=0"
        )
    return Machine(machine.gpus[:gpus], machine.memory_gb)


def _all_gpus() -> Machine:
    """Return the hardware of a task's machine with all its GPUs: Ray hides those that it has not assigned to the task."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    return this_machine()


def new_key() -> str:
    """Return the API key of all the servers: the user's, or a new one."""
    return os.environ.get("MAGPIE_API_KEY", "").strip() or secrets.token_urlsafe(24)

"""One OpenAI-compatible server (vLLM) on this machine: started, watched, restarted if it dies, and always stopped."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from magpie.client.address_files import Connection, parse_addresses
from magpie.common.console import MagpieError, log, printable
from magpie.common.files import write_atomically
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import ModelPreset
from magpie.models.hardware import this_machine
from magpie.runs.provenance import Provenance
from magpie.serving.engine import engine_command, engine_environment, made_with
from magpie.serving.parallelism import layout
from magpie.serving.process import EngineProcess

WATCH_SECONDS = 0.5
"""Interval between two checks of the engine."""
HEALTHY_SECONDS = 60.0
"""The count of restarts in a row is reset once a server has lived this long."""
MADE_WITH, TOLD = "MAGPIE_MADE_WITH", "server-{}.json"
"""The variable that names the file `Server.told`, and the file's name in the log folder, by the server's number."""
OWN_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Wildcard listening addresses, and the address at which this machine then reaches itself."""


class Server:
    """A server of one model, and when it is restarted; a context manager.

    Args:
        preset: the model.
        log_dir: holds one log per start; the number of logs already there is the number of the next start.
        seed: the run's seed; each start hashes its own from it.
        replica: number of this server among several.
        layout_flags: engine flags that place the model on this machine (default: those of `parallelism.layout`); they override
            the preset's.
        extra_flags: more engine flags, after those.
        max_restarts: restarts in a row before it counts as failed.
        start_timeout: seconds that a start may take.
        host: address to listen on (default: this machine alone).
        port: port to listen on (default: any free one).
        api_key: the key that clients need (default: a new one).
    """

    def __init__(
        self,
        preset: ModelPreset,
        *,
        log_dir: Path,
        seed: int = 0,
        replica: int = 0,
        layout_flags: dict[str, Any] | None = None,
        extra_flags: list[str] | None = None,
        max_restarts: int = 3,
        start_timeout: float = 3600.0,
        host: str = "127.0.0.1",
        port: int | None = None,
        api_key: str = "",
    ) -> None:
        self._preset, self._log_dir, self._seed, self._replica = preset, log_dir, seed, replica
        self._layout_flags = layout(preset, this_machine()).flags() if layout_flags is None else layout_flags
        self._extra_flags = extra_flags or []
        self._max_restarts, self._start_timeout = max_restarts, start_timeout
        self._engine: EngineProcess | None = None
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.api_key = api_key or secrets.token_urlsafe(24)
        self._any_port = port is None
        self._host, self.port = host, port or free_port(host)
        self.failed = threading.Event()
        self.failure = ""
        self.told = log_dir / TOLD.format(replica)
        """The file with the provenance of responses."""

    @property
    def url(self) -> str:
        """The base URL, as OpenAI's clients expect it; with this node's name if it listens on all addresses."""
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        return f"{self._url(node if self._host in OWN_ADDRESS else self._host)}/v1"

    @property
    def health_url(self) -> str | None:
        """The URL of the health check from this machine; None if another node serves the model."""
        return None if self.headless else f"{self._url(OWN_ADDRESS.get(self._host, self._host))}/health"

    def _url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def headless(self) -> bool:
        """True for one part of a model that another node serves."""
        return bool(self._layout_flags.get("headless"))

    @property
    def connection(self) -> Connection:
        """The connection to this server for code in this process."""
        return Connection([self.url], self.api_key, lambda: self.failure, made_with=read_made_with(self.told))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a program needs to use this server."""
        told = {MADE_WITH: str(self.told.resolve())}
        return {"MAGPIE_BASE_URL": self.url, "MAGPIE_API_KEY": self.api_key, "MAGPIE_SERVE_PID": str(os.getpid())} | told

    def __enter__(self) -> Server:
        if self._preset.embedded and not Path(self._preset.path).is_dir():
            raise MagpieError(f"{self._preset.path}: the embedded model is not unpacked. Run bash scripts/setup.sh")
        try:
            self._start_first()
        except BaseException:
            self._stop()
            raise
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    # --- starts --------------------------------------------------------------------------------------------------

    def _start_first(self) -> None:
        """Start the engine; once more on another port if a program took the free one before the engine did."""
        try:
            self._start(show=True)
        except MagpieError:
            engine = self._engine
            if not (engine and self._any_port and self._max_restarts and engine.found_its_port_taken()):
                raise
            log.warning("port %d was taken meanwhile; starting on another one; log: %s", self.port, engine.log_file)
            self._stop_engine()
            self.port = free_port(self._host)
            self._start(show=True)

    def _start(self, *, show: bool) -> None:
        """Start the engine and wait until it is up.

        Raises:
            MagpieError: it does not come up.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        start, log_file = self._next_start()
        seed = hashed_seed(self._seed, self._replica, start)
        command = engine_command(self._preset, self._layout_flags, host=self._host, port=self.port, seed=seed)
        environment = engine_environment(self._preset, self.api_key)
        with_it = made_with(self._preset, self._layout_flags, self._extra_flags)
        write_atomically(self.told, [json.dumps(with_it).encode()])
        self._engine = EngineProcess([*command, *self._extra_flags], environment, log_file, self.health_url)
        self._engine.wait_until_healthy(self._preset.name, self._start_timeout, self._stopping, show=show)

    def _next_start(self) -> tuple[int, Path]:
        """Claim the number of a start and its log: the first unclaimed one."""
        rank = self._layout_flags.get("node-rank") or self._layout_flags.get("data-parallel-start-rank")
        stem = f"server-{self._replica}" + (f"-node{rank}" if rank else "")
        start = len(list(self._log_dir.glob(f"{stem}-[0-9]*.log")))
        while True:
            log_file = self._log_dir / f"{stem}-{start}.log"
            try:
                log_file.touch(exist_ok=False)
            except FileExistsError:
                start += 1
            else:
                return start, log_file

    # --- restarts and the end ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Restart the engine when it dies, until it has died too many times in a row."""
        restarts, up_since = 0, time.monotonic()
        while not self._stopping.wait(WATCH_SECONDS):
            engine = self._engine
            if engine is None or (code := engine.exit_code()) is None:
                continue
            restarts = 1 if time.monotonic() - up_since > HEALTHY_SECONDS else restarts + 1
            if restarts > self._max_restarts:
                self._fail(f"the server died {restarts} times in a row.\n{engine.log_tail()}")
                return
            log.warning(
                "the server died (exit code %s); restarting it (%d of %d); its log: %s",
                *(code, restarts, self._max_restarts, engine.log_file),
            )
            self._restart()
            up_since = time.monotonic()

    def _restart(self) -> None:
        self._stop_engine()
        if self._stopping.is_set():
            return
        try:
            self._start(show=False)
        except (MagpieError, OSError) as error:
            log.warning("%s", error)
            self._stop_engine()  # a start that hangs counts as dead

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self.failed.set()

    def _stop(self) -> None:
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()  # it may be in the middle of a restart
        self._stop_engine()

    def _stop_engine(self) -> None:
        if self._engine is not None:
            self._engine.stop()


def free_port(host: str) -> int:
    """Return a free port at the engine's listening address.

    Raises:
        MagpieError: it is not an address of this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise MagpieError(
                f"--host {printable(host)}: nothing can listen there ({error.strerror}). Give an address of this machine, or "
                "0.0.0.0 for all of them"
            ) from error
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def announced(server: Server, path: Path | None) -> Iterator[None]:
    """Keep the server's URL in a file until the block ends."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, [server.url.encode()])
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_made_with(path: Path) -> dict[str, Any]:
    """Return the provenance of a server's responses, fields of `runs.provenance.Provenance`; empty if unknown."""
    try:
        found = dict(json.loads(path.read_bytes()))
        msgspec.convert(found, Provenance)
    except (OSError, ValueError, TypeError, msgspec.ValidationError):
        return {}
    return found


def served_with(base_url: str) -> dict[str, Any]:
    """Return the same for the servers at an address, if the exp/serve.py that started us has started them too."""
    told = os.environ.get(MADE_WITH)
    return read_made_with(Path(told)) if told and base_url == os.environ.get("MAGPIE_BASE_URL") else {}


@contextlib.contextmanager
def connect(preset: ModelPreset, base_url: str | None, **settings: Any) -> Iterator[Connection]:
    """Yield the connection to the servers at `base_url` (`parse_addresses`), or to one that runs here until the block ends."""
    if base_url:
        urls, files = parse_addresses(base_url)
        key = os.environ.get("MAGPIE_API_KEY", "").strip()
        yield Connection(urls, key, _serve_program_gone, files, served_with(base_url))
        return
    with Server(preset, **settings) as server:
        yield server.connection


def _serve_program_gone() -> str:
    """Return a message if the exp/serve.py that started us is gone: its server is gone too and will not come back."""
    pid = os.environ.get("MAGPIE_SERVE_PID")
    if pid and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
        return "exp/serve.py, which ran the server, is gone"
    return ""

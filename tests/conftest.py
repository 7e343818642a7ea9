"""What the tests share: one real server on the embedded model for the whole session, and how programs are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from magpie.configs import PROJECT, load_model
from magpie.server import Server

sys.path.insert(0, str(PROJECT / "benchmarks"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell pytest-xdist what stays together: what uses the one server, and each other file."""
    for item in items:
        uses_server = {"server", "engine"} & set(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("engine" if uses_server else item.path.name))


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this environment without what a surrounding job would put there, with `extra`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")} | extra


def program(name: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a stage program as a user does and return what came of it."""
    command = [sys.executable, str(PROJECT / "exp" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, env=clean_environment(**(env or {})), capture_output=True, text=True, timeout=600)


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

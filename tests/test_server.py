"""The server's port and its restarts, with a stand-in for the engine."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from magpie.common.console import MagpieError
from magpie.config.model_presets import ModelPreset
from magpie.serving import process
from magpie.serving import server as server_module
from magpie.serving.process import EngineProcess
from magpie.serving.server import Server, free_port

ENGINE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
HTTPServer.allow_reuse_address = True
HTTPServer((sys.argv[1], int(sys.argv[2])), Healthy).serve_forever()
"""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is looked at ten times as often as users' engines are, and given up as much sooner."""
    for module, name in ((process, "POLL_SECONDS"), (process, "HEALTH_SECONDS"), (server_module, "WATCH_SECONDS")):
        monkeypatch.setattr(module, name, getattr(module, name) / 10)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on, without answering."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


def server(folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str = ENGINE, **settings: int) -> Server:
    def command(*_: object, host: str, port: int, seed: int) -> list[str]:
        return [sys.executable, "-c", engine, host, str(port)]

    monkeypatch.setattr(server_module, "engine_command", command)
    preset = ModelPreset(model="made", folder=str(folder))
    return Server(preset, log_dir=folder / "logs", layout_flags={}, **settings)


def test_a_port_taken_before_the_engine_had_it_is_changed_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    free = free_port("127.0.0.1")
    ports = iter([taken, free])
    monkeypatch.setattr(server_module, "free_port", lambda *_: next(ports))
    with server(tmp_path, monkeypatch) as running:
        assert running.url == running.connection.urls[0] == f"http://127.0.0.1:{free}/v1"
    assert len(list((tmp_path / "logs").glob("*.log"))) == 2


def test_a_port_that_is_taken_again_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr(server_module, "free_port", lambda *_: taken)
    with pytest.raises(MagpieError, match="Address already in use"), server(tmp_path, monkeypatch):
        pass
    assert len(list((tmp_path / "logs").glob("*.log"))) == 2


def test_a_port_that_was_asked_for_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    with pytest.raises(MagpieError, match="Address already in use"), server(tmp_path, monkeypatch, port=taken):
        pass
    assert len(list((tmp_path / "logs").glob("*.log"))) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost"])
def test_the_port_is_one_of_the_address_that_the_engine_listens_on(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    class Watched(socket.socket):
        def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            asked.append(address)
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Watched)
    assert Server(ModelPreset(model="made", folder=str(tmp_path)), log_dir=tmp_path, layout_flags={}, host=host).port > 0
    assert asked == [(host, 0)]


def test_an_address_of_another_machine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MagpieError, match=r"--host 203\.0\.113\.7"):
        Server(ModelPreset(model="made", folder=str(tmp_path)), log_dir=tmp_path, layout_flags={}, host="203.0.113.7")


def test_an_engine_that_dies_is_restarted_so_often_and_then_the_tail_of_its_log_is_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lives").write_text("xx")
    dies = f"""
import os, pathlib, threading
lives = pathlib.Path({str(tmp_path / "lives")!r})
left = lives.read_text()
print("MemoryError: no room for", os.environ["VLLM_API_KEY"], flush=True)
lives.write_text(left[1:]) if left else os._exit(3)
threading.Timer(0.3, os._exit, [4]).start()
"""
    with server(tmp_path, monkeypatch, dies + ENGINE, max_restarts=2) as running:
        assert running.failed.wait(30)
        assert running.failure.startswith(
            "the server died 3 times in a row.\nFrom its log:\n  ! MemoryError: no room for ***\n"
        )
        assert running.api_key not in running.failure
    assert len(list((tmp_path / "logs").glob("*.log"))) == 3


def test_an_engine_that_serves_nobody_is_up_while_it_runs_and_its_children_end_with_it(tmp_path: Path) -> None:
    code = "import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
    engine = EngineProcess([sys.executable, "-c", code], {"VLLM_API_KEY": "key"}, tmp_path / "log", None)
    assert engine.is_healthy()
    while not (child := (tmp_path / "log").read_text().strip()):
        time.sleep(0.01)
    assert psutil.pid_exists(int(child))
    engine.stop()
    engine.stop()
    assert not engine.is_healthy()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(child)).wait(10)

"""The server's port: free where the engine listens, and another one if somebody was faster. The engine is a stand-in here."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from magpie.common.console import MagpieError
from magpie.config.model_presets import ModelPreset
from magpie.serving import server as server_module
from magpie.serving.server import Server, _free_port

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
    for name in ("LOOK_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(server_module, name, getattr(server_module, name) / 10)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on, without answering."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


def server(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: int) -> Server:
    def command(self: Server, start: int) -> list[str]:
        return [sys.executable, "-c", ENGINE, self._host, str(self.port)]

    monkeypatch.setattr(Server, "command", command)
    preset = ModelPreset(model="made", folder=str(folder))
    return Server(preset, log_dir=folder / "logs", place={}, **settings)


def test_a_port_taken_before_the_engine_had_it_is_changed_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    free = _free_port("127.0.0.1")
    ports = iter([taken, free])
    monkeypatch.setattr(server_module, "_free_port", lambda *_: next(ports))
    with server(tmp_path, monkeypatch) as running:
        assert running.url == running.connection.urls[0] == f"http://127.0.0.1:{free}/v1"
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_a_port_that_is_taken_again_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr(server_module, "_free_port", lambda *_: taken)
    with pytest.raises(MagpieError, match="Address already in use"), server(tmp_path, monkeypatch):
        pass
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_a_port_that_was_asked_for_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    with pytest.raises(MagpieError, match="Address already in use"), server(tmp_path, monkeypatch, port=taken):
        pass
    assert len(list((tmp_path / "logs").iterdir())) == 1


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
    assert Server(ModelPreset(model="made", folder=str(tmp_path)), log_dir=tmp_path, place={}, host=host).port > 0
    assert asked == [(host, 0)]


def test_an_address_of_another_machine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MagpieError, match=r"--host 203\.0\.113\.7"):
        Server(ModelPreset(model="made", folder=str(tmp_path)), log_dir=tmp_path, place={}, host="203.0.113.7")

"""The server, without an engine: what it is told about the hub, and which address it announces."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import is_complete
from magpie.serving import process as process_module
from magpie.serving.process import EngineProcess
from magpie.serving.server import Server


def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *files: str) -> ModelPreset:
    """A model of which the hub's cache has these files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    for name in ("refs/main", *(f"snapshots/{'0' * 40}/{file}" for file in files)):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("0" * 40)
    return ModelPreset(model="owner/name")


@pytest.mark.parametrize(
    ("files", "complete"),
    [
        ((), False),
        (("config.json", "tokenizer.json"), False),
        (("config.json", "model.safetensors"), True),
        (("model.safetensors",), False),
        (("config.json", "model-00001-of-00002.safetensors"), False),
        (("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), True),
        (("config.json", "pytorch_model.bin"), True),
    ],
)
def test_a_model_in_the_hubs_cache_is_complete_with_all_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], complete: bool
) -> None:
    assert is_complete(cached(tmp_path, monkeypatch, *files)) is complete


@pytest.mark.parametrize(
    ("files", "users", "expected"),
    [
        (("config.json",), None, None),
        (("config.json", "model.safetensors"), None, "1"),
        (("config.json", "model.safetensors"), "0", "0"),
        (("config.json",), "1", "1"),
    ],
)
def test_the_engine_leaves_the_hub_alone_where_it_needs_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], users: str | None, expected: str | None
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if users is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", users)
    given: list[dict[str, str]] = []

    class Started(Exception):
        pass

    def start(*_: Any, env: dict[str, str], **__: Any) -> None:
        given.append(env)
        raise Started

    monkeypatch.setattr(process_module.subprocess, "Popen", start)
    with pytest.raises(Started), Server(cached(tmp_path, monkeypatch, *files), log_dir=tmp_path / "logs", layout_flags={}):
        pass
    assert given[0].get("HF_HUB_OFFLINE") == expected


def test_on_all_addresses_it_announces_the_nodes_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere, here = (
        Server(ModelPreset(model="a"), log_dir=tmp_path, layout_flags={}, host=h, port=80) for h in ("0.0.0.0", "h")
    )
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    assert everywhere.url == f"http://{socket.gethostname()}:80/v1"
    monkeypatch.setenv("SLURMD_NODENAME", "gpu07")
    assert (everywhere.url, here.url) == ("http://gpu07:80/v1", "http://h:80/v1")


def test_it_watches_its_own_engine_by_an_address_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("SLURMD_NODENAME", "no-such-node.invalid")
    engine = HTTPServer(("127.0.0.1", 0), Healthy)
    Thread(target=engine.serve_forever, args=(0.01,), daemon=True).start()
    watched = Server(ModelPreset(model="a"), log_dir=tmp_path, layout_flags={}, host="0.0.0.0", port=engine.server_port)
    assert watched.health_url == f"http://127.0.0.1:{engine.server_port}/health"
    process = EngineProcess(["true"], {"VLLM_API_KEY": "key"}, tmp_path / "log", watched.health_url)
    assert process.is_healthy()
    process.stop()
    engine.shutdown()

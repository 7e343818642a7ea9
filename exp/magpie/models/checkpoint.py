"""A model's files and the memory that it needs, before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from magpie.common.console import MagpieError, log
from magpie.config.model_presets import ModelPreset, load_model
from magpie.models.hardware import GB, gpus_and_driver

MEMORY_FACTOR = 1.1
"""GPU memory per memory of the weights, with a small KV cache and activations. A preset's own `memory_gb` takes precedence
(DeepSeek R1: 805 GB for 671 GB of weights, vLLM's recipe)."""
QUANTISED = {"fp8": 0.52, "fp8_per_tensor": 0.52, "fp8_per_channel": 0.52, "fp8_per_block": 0.52, "mxfp8": 0.53}
"""Formats to which the engine quantises bfloat16 weights while it loads them (vLLM 0.32: `fp8` is `fp8_per_tensor`), and their
size relative to bfloat16, with scales and unquantised embeddings (1/30 of 70B). Left out: formats for experts alone, and
mxfp4, which needs Blackwell. All others need a checkpoint that is already quantised."""

HASHED_PIECE, HASHED_PIECES = 1 << 16, 256

PART = re.compile(r".+-\d+-of-(?P<of>\d+)\.(safetensors|bin)")
"""One of several weight files: model-00001-of-000163.safetensors."""


def require_model(preset: ModelPreset) -> None:
    """Check that a model of the hub is available, before anything is loaded.

    Raises:
        MagpieError: the hub has no such model, it is gated, or the hub cannot be reached.
    """
    if Path(preset.path).is_dir():
        return
    _without_a_network()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        hf_hub_download(preset.path, "config.json")
    except GatedRepoError as error:
        raise MagpieError(
            f"{preset.path} is gated on the hub. Accept its license on its page there, then log in: .venv/bin/hf auth login "
            "(or set HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise MagpieError(
            f"the hub has no model {preset.path}, or it is private. Check the name, or log in: .venv/bin/hf auth login "
            "(or set HF_TOKEN)"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise MagpieError(
            f"{preset.path} is not on this machine, and the hub does not provide it ({type(error).__name__}). Check the name "
            "and the network, or give the folder of a copy"
        ) from error


def _without_a_network() -> None:
    """Put our hub client and the engine's into offline mode if the hub is unreachable: they retry for half a minute."""
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if not hub.hostname or getproxies().get(hub.scheme):
        return
    try:
        socket.create_connection((hub.hostname, hub.port or (80 if hub.scheme == "http" else 443)), timeout=5).close()
    except OSError:
        log.warning("%s cannot be reached: only files on this disk are used", hub.hostname)
        os.environ["HF_HUB_OFFLINE"] = "1"
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def model_folder(preset: ModelPreset) -> Path | None:
    """Return the folder of the model's files: its path, or a folder of the hub's cache; None if it is not on this machine."""
    if Path(preset.path).is_dir():
        return Path(preset.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(preset.path, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def files_hash(preset: ModelPreset) -> str:
    """Return a hash of the files of a model known only by its folder, whose name may be reused; else an empty text.

    Large files are hashed by their size and sampled pieces; training changes every piece.
    """
    folder = Path(preset.folder or "")
    return _hash_of(folder) if preset.folder and preset.model == folder.name else ""


def revision(preset: ModelPreset) -> str | None:
    """Return the hub's commit of a model's files, or a hash of local files; None: they are not on this machine."""
    folder = model_folder(preset)
    if folder is None:
        return None
    return folder.name if folder.parent.name == "snapshots" else f"files:{_hash_of(folder)}"


def loaded_here(names: Iterable[str]) -> dict[str, Any]:
    """Return the provenance of models that this process loads, as fields of `runs.provenance.Provenance`."""
    models: dict[str, str | None] = {}
    for name in names:
        try:
            preset = load_model(name)
        except MagpieError:  # not a name of ours: the loader reports whether it can be loaded
            models[name] = None
        else:
            models[preset.model] = revision(preset)
    return {"models": models, **gpus_and_driver()}


def _hash_of(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(HASHED_PIECE, size // HASHED_PIECES)):
                file.seek(start)
                digest.update(file.read(HASHED_PIECE))
    return digest.hexdigest()


def is_complete(preset: ModelPreset) -> bool:
    """Return whether the whole model is on this machine: its folder, or its configuration and weights in the hub's cache.

    A folder in the cache is not enough: programs that only inspect a model leave small files there.
    """
    folder = model_folder(preset)
    if folder is None or Path(preset.path).is_dir():
        return folder is not None
    names = [file.name for suffix in ("safetensors", "bin") for file in folder.glob(f"*.{suffix}") if file.is_file()]
    parts = [found for name in names if (found := PART.fullmatch(name))]
    whole = bool(names) and all(sum(other["of"] == part["of"] for other in parts) == int(part["of"]) for part in parts)
    return whole and (folder / "config.json").is_file()


def weights_gb(preset: ModelPreset) -> float | None:
    """Return the size of the weights in GB, from the model's files if they are on this machine, else from its preset."""
    folder = model_folder(preset)
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")] if folder else []
    return sum(sizes) / GB if sizes else preset.weights_gb


def model_config(preset: ModelPreset) -> dict[str, Any]:
    """Return the model's config.json; empty if it is not on this machine.

    Raises:
        MagpieError: it is broken.
    """
    folder = model_folder(preset)
    path = folder / "config.json" if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise MagpieError(f"{path}: broken ({error}). Download the model's files again") from error


def weights_gb_held(preset: ModelPreset, quantization: str | None) -> float | None:
    """Return the size of the weights in the engine, in GB; None: unknown."""
    weights = weights_gb(preset)
    quantised_already = preset.memory_gb is not None or "quantization_config" in model_config(preset)
    if weights and quantization and not quantised_already:
        return weights * QUANTISED.get(quantization, 1.0)
    return weights


def needed_gb(preset: ModelPreset, quantization: str | None) -> float | None:
    """Return the memory that a model needs, in GB; None: unknown."""
    held = weights_gb_held(preset, quantization)
    if held is None:
        return preset.memory_gb
    return held * (preset.memory_gb / preset.weights_gb if preset.memory_gb and preset.weights_gb else MEMORY_FACTOR)

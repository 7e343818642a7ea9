"""What this machine has and what a model needs: told before anything is loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from magpie.configs import ModelPreset
from magpie.console import MagpieError

GB = 1e9
NEW = 9.0
"""A CUDA compute capability that lacks nothing that is asked about here."""
MEMORY_FACTOR = 1.1
"""GPU memory in all for the weights, with room for a small KV cache and activations. A preset's own `memory_gb` goes first
(DeepSeek R1: 805 GB for 671 GB of weights, vLLM's recipe)."""
QUANTISED = {"fp8": 0.52, "fp8_per_tensor": 0.52, "fp8_per_channel": 0.52, "fp8_per_block": 0.52, "mxfp8": 0.53}
"""What the engine quantises bfloat16 weights to while it loads them (vLLM 0.32: `fp8` is `fp8_per_tensor`), and their size as a
share of bfloat16's, with scales, and with embeddings as they were (a 30th of 70B). Left out: those for experts alone, and
mxfp4, which only Blackwell computes in. All others need a checkpoint that is quantised already."""

PART = re.compile(r".+-\d+-of-(?P<of>\d+)\.(safetensors|bin)")
"""A file of weights that stand in several: model-00001-of-000163.safetensors."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, memory in GB (10^9 bytes) and CUDA compute capability."""

    name: str
    memory_gb: float
    capability: float


@dataclass(frozen=True)
class Machine:
    """The GPUs of a machine and its main memory in GB."""

    gpus: tuple[Gpu, ...]
    memory_gb: float

    @property
    def words(self) -> str:
        """What was found, for a message."""
        if not self.gpus:
            return f"no GPU, {self.memory_gb:.0f} GB of main memory"
        total = sum(gpu.memory_gb for gpu in self.gpus)
        return f"{len(self.gpus)} x {self.gpus[0].name}, {total:.0f} GB of GPU memory"


@cache
def this_machine() -> Machine:
    """Return what nvidia-smi (of the GPUs in CUDA_VISIBLE_DEVICES, if it is set) and the operating system tell."""
    import psutil

    memory_gb = psutil.virtual_memory().total / GB
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Machine(_gpus([], memory_gb), memory_gb)
    if visible.strip() in ("", "-1"):  # as CUDA reads it: none
        return Machine((), memory_gb)
    if "MIG-" in visible:
        return Machine(_slices(visible.split(","), memory_gb), memory_gb)
    return Machine(_gpus([f"--id={visible}"], memory_gb), memory_gb)


def _gpus(which: list[str], memory_gb: float) -> tuple[Gpu, ...]:
    gpus = []
    for line in _nvidia_smi(*which, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"):
        name, mebibytes, capability = (part.strip() for part in line.rsplit(",", 2))
        # [N/A]: it shares the machine's memory, and one that does not tell its capability is taken for a new one
        gigabytes = float(mebibytes) * 2**20 / GB if mebibytes[:1].isdigit() else memory_gb
        gpus.append(Gpu(name, gigabytes, float(capability) if capability[:1].isdigit() else NEW))
    return tuple(gpus)


def _slices(uuids: list[str], memory_gb: float) -> tuple[Gpu, ...]:
    """Return the first visible slice of a GPU (MIG), which is all that CUDA shows a process of them (NVIDIA's MIG guide).

    Its memory is in its profile's name, like 3g.40gb.
    """
    whole = _gpus([], memory_gb)
    told = "\n".join(_nvidia_smi("-L"))
    known = {uuid: (name, size) for name, size, uuid in re.findall(r"(MIG \S*?\.(\d+)gb\S*).*UUID: (MIG-[^)\s]+)", told)}
    found = [known[uuid.strip()] for uuid in uuids if uuid.strip() in known]
    return tuple(Gpu(name, float(size), whole[0].capability if whole else NEW) for name, size in found[:1])


def _nvidia_smi(*arguments: str) -> list[str]:
    command = ["nvidia-smi", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []


def has_bfloat16(processor: str | None = None) -> bool:
    """Whether a CPU computes in bfloat16 by itself (AVX-512 BF16 or AMX), as `processor`, /proc/cpuinfo's text, says."""
    if processor is None:
        try:
            processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return True
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", processor) is not None


def require_model(preset: ModelPreset) -> None:
    """Make sure that a model of the hub can be had, before anything is loaded.

    Raises:
        MagpieError: there is none of this name, it is gated, or the hub cannot be reached.
    """
    if Path(preset.path).is_dir():
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        hf_hub_download(preset.path, "config.json")
    except GatedRepoError as error:
        raise MagpieError(
            f"{preset.path} is gated on the hub. Accept its licence on its page there, then log in: .venv/bin/hf auth login "
            "(or set HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise MagpieError(
            f"the hub has no model {preset.path}, or it is private. Check the name, or log in: .venv/bin/hf auth login "
            "(or set HF_TOKEN)"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise MagpieError(
            f"{preset.path} is not on this machine, and the hub does not give it ({type(error).__name__}). Check the name and "
            "the network, or give the folder of a copy"
        ) from error


def model_folder(preset: ModelPreset) -> Path | None:
    """Return the folder of the model's own files: its path, or the hub's cache; None if they are not at hand."""
    if Path(preset.path).is_dir():
        return Path(preset.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(preset.path, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def is_complete(preset: ModelPreset) -> bool:
    """Whether all of the model is at hand: its folder, or a copy in the hub's cache with its configuration and all its weights.

    Programs that only look at a model leave its small files in the cache, so a folder there says little.
    """
    folder = model_folder(preset)
    if folder is None or Path(preset.path).is_dir():
        return folder is not None
    names = [file.name for suffix in ("safetensors", "bin") for file in folder.glob(f"*.{suffix}") if file.is_file()]
    parts = [found for name in names if (found := PART.fullmatch(name))]
    whole = bool(names) and all(sum(other["of"] == part["of"] for other in parts) == int(part["of"]) for part in parts)
    return whole and (folder / "config.json").is_file()


def weights_gb(preset: ModelPreset) -> float | None:
    """Return the weights' size from the model's own files where they are at hand, else from its preset; None: not known."""
    folder = model_folder(preset)
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")] if folder else []
    return sum(sizes) / GB if sizes else preset.weights_gb


def model_config(preset: ModelPreset) -> dict[str, Any]:
    """Return the model's config.json where it is at hand."""
    folder = model_folder(preset)
    path = folder / "config.json" if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise MagpieError(f"{path}: broken ({error}). Get the model's files again") from error


def weights_gb_held(preset: ModelPreset, quantization: str | None) -> float | None:
    """Return the weights' size as the engine holds them, in GB; None: not known."""
    weights = weights_gb(preset)
    quantised_already = preset.memory_gb is not None or "quantization_config" in model_config(preset)
    if weights and quantization and not quantised_already:
        return weights * QUANTISED.get(quantization, 1.0)
    return weights


def needed_gb(preset: ModelPreset, quantization: str | None) -> float | None:
    """Return the memory that a model needs, in GB; None: not known."""
    held = weights_gb_held(preset, quantization)
    if held is None:
        return preset.memory_gb
    return held * (preset.memory_gb / preset.weights_gb if preset.memory_gb and preset.weights_gb else MEMORY_FACTOR)

"""The hardware of this machine: GPUs, memory, instructions of its processor. Needs only the standard library and psutil."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GB = 1e9
NEW = 9.0
"""A CUDA compute capability that has every feature that matters here; assumed for a GPU that does not report its own."""


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
    def summary(self) -> str:
        """A summary for messages."""
        if not self.gpus:
            return f"no GPU, {self.memory_gb:.0f} GB of main memory"
        total = sum(gpu.memory_gb for gpu in self.gpus)
        return f"{len(self.gpus)} x {self.gpus[0].name}, {total:.0f} GB of GPU memory"


def gpus_and_driver() -> dict[str, list[str] | str | None]:
    """Return the names of this machine's GPUs, as in `this_machine`, and the driver version; None without GPUs."""
    names = [gpu.name for gpu in this_machine().gpus]
    driver = next((version for (version,) in query_gpus("driver_version")), None) if names else None
    return {"gpus": names or None, "driver": driver}


@cache
def this_machine() -> Machine:
    """Return the hardware of this machine; of its GPUs those in CUDA_VISIBLE_DEVICES, if that is set."""
    import psutil

    memory_gb = psutil.virtual_memory().total / GB
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Machine(_gpus(None, memory_gb), memory_gb)
    if visible.strip() in ("", "-1"):  # no GPU, as CUDA reads it
        return Machine((), memory_gb)
    if "MIG-" in visible:
        return Machine(_slices(visible.split(","), memory_gb), memory_gb)
    return Machine(_gpus(visible, memory_gb), memory_gb)


def _gpus(visible: str | None, memory_gb: float) -> tuple[Gpu, ...]:
    """Return the GPUs of these indices or UUIDs, or all; one without memory of its own shares main memory, `memory_gb` GB."""
    rows = query_gpus("name", "memory.total", "compute_cap", visible=visible)
    return tuple(Gpu(name, gigabytes(total) or memory_gb, _number(capability) or NEW) for name, total, capability in rows)


def _slices(uuids: list[str], memory_gb: float) -> tuple[Gpu, ...]:
    """Return the first visible slice of a GPU (MIG): CUDA shows a process only that one (NVIDIA's MIG guide).

    Its memory is in the name of its profile, like 3g.40gb.
    """
    whole = _gpus(None, memory_gb)
    listing = "\n".join(_nvidia_smi("-L"))
    known = {uuid: (name, size) for name, size, uuid in re.findall(r"(MIG \S*?\.(\d+)gb\S*).*UUID: (MIG-[^)\s]+)", listing)}
    found = [known[uuid.strip()] for uuid in uuids if uuid.strip() in known]
    return tuple(Gpu(name, float(size), whole[0].capability if whole else NEW) for name, size in found[:1])


# --- nvidia-smi -------------------------------------------------------------------------------------------------------


def query_gpus(*fields: str, visible: str | None = None) -> list[list[str]]:
    """Return nvidia-smi's values of `fields` for each GPU, memory in MiB; an empty list without a GPU or a driver.

    Args:
        fields: names of `nvidia-smi --help-query-gpu`; the name of a GPU, which may hold a comma, comes first.
        visible: indices or UUIDs of the GPUs (default: all).
    """
    selection = [] if visible is None else [f"--id={visible}"]
    lines = _nvidia_smi(*selection, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")
    rows = [[value.strip() for value in line.rsplit(",", len(fields) - 1)] for line in lines]
    return [row for row in rows if len(row) == len(fields)]


def gigabytes(mebibytes: str) -> float:
    """Return nvidia-smi's MiB in GB; 0 for a value that it does not report ("[N/A]")."""
    return _number(mebibytes) * 2**20 / GB


def _number(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _nvidia_smi(*arguments: str) -> list[str]:
    command = ["nvidia-smi", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()  # noqa: S603
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []


# --- the processor ----------------------------------------------------------------------------------------------------


def has_bfloat16(processor: str | None = None) -> bool:
    """Return whether a CPU has bfloat16 instructions (AVX-512 BF16 or AMX).

    Args:
        processor: the text of /proc/cpuinfo (default: this machine's; without one, True).
    """
    if processor is None:
        try:
            processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return True
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", processor) is not None

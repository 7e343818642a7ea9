"""What this machine has: GPUs, memory, instructions of its processor."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GB = 1e9
NEW = 9.0
"""A CUDA compute capability that lacks nothing that is asked about here."""


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

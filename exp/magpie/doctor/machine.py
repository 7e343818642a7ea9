"""Findings on the machine itself: Python, GPUs, processor, memory, disk, limits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from magpie.doctor.finding import SET_UP, Finding, read_text
from magpie.models.hardware import GB, gigabytes

OLDEST, NEWEST = (3, 11), (3, 14)
"""Python versions that the locks cover."""
LEAST_DRIVER = 580
"""The oldest branch of NVIDIA's driver for CUDA 13, which locks/gpu.txt has (CUDA 13.0's release notes)."""
GPU_FIELDS = ("name", "memory.total", "memory.used", "driver_version")
"""Fields of nvidia-smi that old drivers have too: these must be recognised as old."""
LEAST_MEMORY_GB = 6.0
"""Memory for the embedded model with its KV cache (parallelism.CPU_CACHE_GB) and the stages running with it."""
LEAST_SHARED_GB = 1.0
"""Shared memory for several GPUs. Containers have 0.06 by default, and the engine's processes then die at startup."""
LEAST_FILES = 1024
"""Open files: 512 requests in flight need a socket each."""


def check_python(version: tuple[int, ...], system: str, machine: str) -> Iterator[Finding]:
    """Yield the finding on this Python: whether the locks cover it on this kind of machine."""
    text = f"{'.'.join(map(str, version[:3]))}, {system} {machine}"
    if not OLDEST <= version[:2] <= NEWEST:
        remedy = f"install Python 3.11 to 3.14, then PYTHON=/path/to/python3.12 {SET_UP}"
        yield Finding("problem", "Python", f"{text}: too {'old' if version[:2] < OLDEST else 'new'}", remedy)
    elif (system, machine) != ("Linux", "x86_64"):
        remedy = "use a Linux x86-64 machine for the engine; stages can use it from here via MAGPIE_BASE_URL"
        yield Finding("problem", "Python", f"{text}: the locks are for Linux on x86-64", remedy)
    else:
        yield Finding("ok", "Python", text)


def check_gpus(gpus: list[list[str]], cards: int) -> Iterator[Finding]:
    """Yield the findings on the GPUs and their driver.

    Args:
        gpus: nvidia-smi's values of GPU_FIELDS for each.
        cards: number of NVIDIA cards in the machine, with a driver or without.
    """
    if not gpus:
        if cards:
            remedy = f"install NVIDIA's driver {LEAST_DRIVER} or later (in a container: start it with --gpus all)"
            yield Finding("problem", "GPU", f"{cards} NVIDIA card(s), but nvidia-smi does not answer", remedy)
        else:
            yield Finding("ok", "GPU", "none: CPU engine for the embedded model, or a server elsewhere via MAGPIE_BASE_URL")
        return
    for number, (name, *memory, _) in enumerate(gpus):
        total_gb, used_gb = map(gigabytes, memory)
        text = f"{number}: {name}, {total_gb:.0f} GB, {used_gb:.0f} GB of it in use"
        if not total_gb:
            text = f"{number}: {name}, which shares the machine's memory"
        if used_gb > min(0.08 * total_gb, 4):  # the engine takes the rest (parallelism.SHARE)
            remedy = (
                "stop what uses it, or leave out this GPU: CUDA_VISIBLE_DEVICES, or ENGINE_FLAGS='--gpu-memory-utilization 0.7'"
            )
            yield Finding("problem", "GPU", text, remedy)
        else:
            yield Finding("ok", "GPU", text)
    driver = gpus[0][-1]
    branch = int(driver.split(".")[0]) if driver.split(".")[0].isdigit() else 0
    if branch < LEAST_DRIVER:
        remedy = f"install driver {LEAST_DRIVER} or later, or use a server elsewhere via MAGPIE_BASE_URL"
        yield Finding("problem", "driver", f"{driver}: too old for CUDA 13", remedy)
    else:
        yield Finding("ok", "driver", driver)


def nvidia_cards(pci: Path = Path("/sys/bus/pci/devices")) -> int:
    """Return the number of NVIDIA display controllers in the machine, with a driver or without."""
    found = 0
    for device in pci.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        found += vendor == "0x10de" and kind.startswith("0x03")
    return found


def check_processor(cpuinfo: str) -> Iterator[Finding]:
    """Yield the finding on the processor, given the text of /proc/cpuinfo: whether the CPU engine runs well on it."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    text = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if flags and "avx512f" not in flags:
        remedy = (
            "if the engine does not start here, use a machine with AVX-512 or a GPU, or a server elsewhere via MAGPIE_BASE_URL"
        )
        yield Finding("note", "processor", f"{text}, without AVX-512: the CPU engine is tried only with it", remedy)
    else:
        yield Finding("ok", "processor", text + (", AVX-512" if flags else ""))


def check_memory(total: float, available: float, limit: float | None, gpus: int, shared: float | None) -> Iterator[Finding]:
    """Yield the findings on main memory, and on shared memory if there are several GPUs.

    Args:
        total: main memory in GB.
        available: the free part of it.
        limit: a container's limit in GB, if there is one.
        gpus: number of GPUs.
        shared: size of /dev/shm in GB, if there is one.
    """
    usable = min(available, limit or available)
    text = f"{total:.0f} GB, {available:.0f} GB free" + (f", this container may use {limit:.0f} GB" if limit else "")
    if usable < LEAST_MEMORY_GB and not gpus:
        ways = "stop other programs, raise the container's limit, or use a server elsewhere"
        yield Finding("problem", "memory", text, f"the embedded model needs {LEAST_MEMORY_GB:.0f} GB free: {ways}")
    else:
        yield Finding("ok", "memory", text)
    if gpus > 1 and shared is not None and shared < LEAST_SHARED_GB:
        remedy = "start the container with --ipc=host or --shm-size=16g"
        yield Finding("problem", "memory", f"shared memory is {shared:.2f} GB: too little for a model on several GPUs", remedy)


def memory_now() -> tuple[float, float, float | None]:
    """Return main memory, the free part of it and the container's limit, if there is one; in GB."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read_text("/proc/meminfo"), re.MULTILINE))
    total, available = (int(fields.get(name, 0)) * 1024 / GB for name in ("MemTotal", "MemAvailable"))
    text = read_text("/sys/fs/cgroup/memory.max").strip() or read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes").strip()
    limit = int(text) / GB if text.isdigit() else None
    return total, available, limit if limit and limit < total else None


def check_disk(free: float, needed: float, where: Path) -> Iterator[Finding]:
    """Yield the finding on the disk of a folder: whether `needed` GB are free."""
    text = f"{free:.0f} GB free at {where}"
    if free < needed:
        remedy = "free some, or put the project on another disk"
        yield Finding("problem", "disk", f"{text}, and the set-up needs {needed:.0f} GB", remedy)
    else:
        yield Finding("ok", "disk", text)


def check_limits() -> Iterator[Finding]:
    """Yield a finding if the limit on open files is too low."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < LEAST_FILES:
        yield Finding("problem", "limits", f"{soft} files may be open at once", "ulimit -n 4096, or --max_in_flight 100")

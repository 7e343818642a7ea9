"""The whole diagnosis, in the order in which exp/doctor.py prints it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from magpie.doctor.finding import Finding, read_text
from magpie.doctor.installation import (
    SET_GB,
    check_embedded,
    check_faiss,
    check_set_up,
    installed_versions,
    normalized_name,
    wanted_versions,
)
from magpie.doctor.machine import (
    GPU_FIELDS,
    check_disk,
    check_gpus,
    check_limits,
    check_memory,
    check_processor,
    check_python,
    memory_now,
    nvidia_cards,
)
from magpie.doctor.models import check_models
from magpie.doctor.services import check_login, check_servers, hub_home
from magpie.models.hardware import GB, query_gpus

PROJECT = Path(__file__).resolve().parents[3]


def diagnose(project: Path = PROJECT) -> Iterator[Finding]:
    """Yield all findings, each as soon as it is known."""
    gpus = query_gpus(*GPU_FIELDS)
    asked = os.environ.get("MAGPIE_SET") or ("gpu" if gpus else "cpu")
    kind = asked if asked in SET_GB else "cpu"
    if asked != kind:
        yield Finding("problem", "set-up", f"MAGPIE_SET is {asked!r}, and the set-up takes cpu or gpu", "unset MAGPIE_SET")
    locks = read_text(project / "locks" / f"{kind}.txt")
    if kind == "cpu":  # torch's CPU build is installed apart from the lock
        locks += "".join(re.findall(r"^torch==.*\n", read_text(project / "requirements-cpu.txt"), re.MULTILINE))
    wanted, installed = wanted_versions(locks, sys.version_info[:3]), installed_versions(project / ".venv")
    excluded = read_text(project / "locks" / "excluded.txt") if kind == "cpu" else ""
    unwanted = {normalized_name(line) for line in excluded.split("\n") if line.startswith("torch")}
    disk, shared = shutil.disk_usage(project), Path("/dev/shm")  # noqa: S108
    cache = Path(os.environ.get("HF_HUB_CACHE") or hub_home(dict(os.environ), Path.home()) / "hub")
    parts: list[Callable[[], Iterator[Finding]]] = [
        lambda: check_python(sys.version_info[:3], platform.system(), platform.machine()),
        lambda: check_gpus(gpus, nvidia_cards()),
        lambda: check_processor(read_text("/proc/cpuinfo")) if not gpus else iter(()),
        lambda: check_memory(*memory_now(), len(gpus), shutil.disk_usage(shared).total / GB if shared.is_dir() else None),
        lambda: check_disk(disk.free / GB, 1 if installed else SET_GB[kind] + 1, project),
        check_limits,
        lambda: check_set_up(kind, wanted, installed, unwanted, read_text(project / ".venv" / ".magpie-set").partition(" ")[0]),
        lambda: check_embedded(project),
        lambda: check_faiss(project / ".venv"),
        lambda: check_login(dict(os.environ), Path.home()),
        lambda: check_servers(os.environ.get("MAGPIE_BASE_URL", ""), os.environ.get("MAGPIE_API_KEY", "")),
        lambda: check_models(project / "configs", cache.absolute()),
    ]
    for part in parts:
        yield from part()

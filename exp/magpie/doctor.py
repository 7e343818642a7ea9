"""What this machine can run, part by part, each problem with its remedy: for exp/doctor.py.

Only the standard library is imported here, for the doctor must speak before anything is installed. What needs more is imported
where it is used, and said to be missing where it is missing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, printable

PROJECT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 14)
"""Pythons that the locks serve."""
LEAST_DRIVER = 580
"""CUDA 13, which locks/gpu.txt has, wants a driver of this branch or a later one (CUDA 13.0's release notes)."""
SET_GB = {"cpu": 4, "gpu": 12}
"""Disk that .venv takes: cpu measured, gpu about."""
LEAST_MEMORY_GB = 6.0
"""The embedded model with its cache (machine.CPU_CACHE_GB), and the stages beside it."""
LEAST_SHARED_GB = 1.0
"""Shared memory for several GPUs: containers have 0.06 unless told, and the engine's processes then die at their start."""
LEAST_FILES = 1024
"""Open files: 512 requests in flight are a socket each."""
GB = 1e9
SET_UP = "bash scripts/setup.sh"
SECONDS = 5


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis. `state`: ok, note (nothing need be done) or problem; `remedy`: what to do about a problem."""

    state: str
    part: str
    text: str
    remedy: str = ""

    @property
    def words(self) -> str:
        """The line, with the remedy below it."""
        line = f"{self.state:8} {self.part:10} {printable(self.text)}"
        return f"{line}\n{'':19} -> {printable(self.remedy)}" if self.remedy else line


def command_output(*command: str) -> str | None:
    """Return what a command prints, or None if it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def check_python(version: tuple[int, ...], system: str, machine: str) -> Iterator[Finding]:
    """Say whether the set-up can use this Python on this kind of machine."""
    text = f"{'.'.join(map(str, version[:3]))}, {system} {machine}"
    if not OLDEST <= version[:2] <= NEWEST:
        remedy = f"install Python 3.11 to 3.14, then PYTHON=/path/to/python3.12 {SET_UP}"
        yield Finding("problem", "Python", f"{text}: too {'old' if version[:2] < OLDEST else 'new'}", remedy)
    elif (system, machine) != ("Linux", "x86_64"):
        remedy = "use a Linux x86-64 machine for the engine; stages can use it from here by MAGPIE_BASE_URL"
        yield Finding("problem", "Python", f"{text}: the locks are for Linux on x86-64", remedy)
    else:
        yield Finding("ok", "Python", text)


def check_driver(told: str | None, cards: int) -> Iterator[Finding]:
    """Say what nvidia-smi told (a line a GPU: name, MiB, MiB in use, driver), where the machine has `cards` NVIDIA cards."""
    lines = [line for line in (told or "").splitlines() if line.count(",") >= 3]
    if not lines:
        if cards:
            remedy = f"install NVIDIA's driver {LEAST_DRIVER} or later (in a container: start it with --gpus all)"
            yield Finding("problem", "GPU", f"{cards} NVIDIA card(s), but nvidia-smi does not answer", remedy)
        else:
            yield Finding("ok", "GPU", "none: the CPU engine, for the embedded model; or a server elsewhere by MAGPIE_BASE_URL")
        return
    for number, line in enumerate(lines):
        name, total, used, _ = (part.strip() for part in line.rsplit(",", 3))
        text = f"{number}: {name}, {_mebibytes(total):.0f} GB, {_mebibytes(used):.0f} GB of it in use"
        if not _mebibytes(total):  # [N/A]
            text = f"{number}: {name}, which shares the machine's memory"
        if _mebibytes(used) > min(0.08 * _mebibytes(total), 4):  # the engine takes the rest (magpie/layouts.py)
            remedy = (
                "end what uses it, or leave this GPU out: CUDA_VISIBLE_DEVICES, or ENGINE_FLAGS='--gpu-memory-utilization 0.7'"
            )
            yield Finding("problem", "GPU", text, remedy)
        else:
            yield Finding("ok", "GPU", text)
    driver = lines[0].rsplit(",", 1)[1].strip()
    branch = int(driver.split(".")[0]) if driver.split(".")[0].isdigit() else 0
    if branch < LEAST_DRIVER:
        remedy = f"install driver {LEAST_DRIVER} or later, or use a server elsewhere by MAGPIE_BASE_URL"
        yield Finding("problem", "driver", f"{driver}: too old for CUDA 13", remedy)
    else:
        yield Finding("ok", "driver", driver)


def _mebibytes(text: str) -> float:
    return float(text) * 2**20 / GB if text.replace(".", "", 1).isdigit() else 0.0


def nvidia_cards(pci: Path = Path("/sys/bus/pci/devices")) -> int:
    """Return how many NVIDIA display controllers the machine has, with a driver or without."""
    found = 0
    for device in pci.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        found += vendor == "0x10de" and kind.startswith("0x03")
    return found


def check_processor(cpuinfo: str) -> Iterator[Finding]:
    """Say whether the CPU engine runs well here."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    text = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if flags and "avx512f" not in flags:
        remedy = (
            "if the engine does not start here, use a machine with AVX-512 or a GPU, or a server elsewhere by MAGPIE_BASE_URL"
        )
        yield Finding("note", "processor", f"{text}, without AVX-512: the CPU engine is tried only with it", remedy)
    else:
        yield Finding("ok", "processor", text + (", AVX-512" if flags else ""))


def check_memory(total: float, available: float, limit: float | None, gpus: int, shared: float | None) -> Iterator[Finding]:
    """Say whether main memory (GB; `limit`: a container's) is enough for the engine, and /dev/shm for several GPUs."""
    usable = min(available, limit or available)
    text = f"{total:.0f} GB, {available:.0f} GB free" + (f", this container may use {limit:.0f} GB" if limit else "")
    if usable < LEAST_MEMORY_GB and not gpus:
        ways = "end other programs, raise the container's limit, or use a server elsewhere"
        yield Finding("problem", "memory", text, f"the embedded model needs {LEAST_MEMORY_GB:.0f} GB free: {ways}")
    else:
        yield Finding("ok", "memory", text)
    if gpus > 1 and shared is not None and shared < LEAST_SHARED_GB:
        remedy = "start the container with --ipc=host or --shm-size=16g"
        yield Finding("problem", "memory", f"shared memory is {shared:.2f} GB: too little for a model on several GPUs", remedy)


def memory_now() -> tuple[float, float, float | None]:
    """Return main memory, what of it is free, and the container's limit if there is one; GB."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE))
    total, available = (int(fields.get(name, 0)) * 1024 / GB for name in ("MemTotal", "MemAvailable"))
    told = _text("/sys/fs/cgroup/memory.max").strip() or _text("/sys/fs/cgroup/memory/memory.limit_in_bytes").strip()
    limit = int(told) / GB if told.isdigit() else None
    return total, available, limit if limit and limit < total else None


def check_disk(free: float, needed: float, where: Path) -> Iterator[Finding]:
    """Say whether `needed` GB are free."""
    text = f"{free:.0f} GB free at {where}"
    if free < needed:
        remedy = "free some, or put the project on another disk"
        yield Finding("problem", "disk", f"{text}, and the set-up needs {needed:.0f} GB", remedy)
    else:
        yield Finding("ok", "disk", text)


def check_limits() -> Iterator[Finding]:
    """Say whether enough files may be open at once."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < LEAST_FILES:
        yield Finding("problem", "limits", f"{soft} files may be open at once", "ulimit -n 4096, or --max_in_flight 100")


def wanted_versions(lock: str, python: tuple[int, ...]) -> dict[str, str]:
    """Return name → version of a lock (or requirements file), for this Python."""
    wanted = {}
    for line in lock.splitlines():
        pin, _, marker = line.split(" #")[0].partition(";")
        name, _, version = pin.strip().partition("==")
        bound = re.search(r"python_full_version (<|>=) '3\.(\d+)'", marker)
        here = bound is None or (python[:2] < (3, int(bound[2]))) == (bound[1] == "<")
        if version and here and not name.startswith("#"):
            wanted[_normal(name)] = version
    return wanted


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions(venv: Path) -> dict[str, str]:
    """Return name → version of what is installed in a virtual environment."""
    folders = [str(folder) for folder in venv.glob("lib/python3*/site-packages")]
    named = ((each.metadata["Name"], each.version) for each in distributions(path=folders))
    return {_normal(name): version for name, version in named if name}


def check_set_up(
    kind: str, wanted: dict[str, str], installed: dict[str, str], unwanted: set[str], mark: str
) -> Iterator[Finding]:
    """Compare what is installed with the lock of a set (cpu or gpu); `mark`: the set that the set-up finished, or nothing."""
    other = {
        name for name, version in wanted.items() if name in installed and installed[name].split("+")[0] != version.split("+")[0]
    }
    absent = set(wanted) - set(installed)
    if not installed:
        text = f"the set-up installs {len(wanted)} packages of the {kind} set, {SET_GB[kind]} GB, into .venv"
        yield Finding("problem", "set-up", f"nothing is installed yet; {text}", SET_UP)
        return
    if mark and mark != kind:  # the set-up keeps what is there, unless it is told otherwise
        text = f".venv has the {mark} set"
        if kind == "gpu":
            yield Finding("problem", "set-up", f"{text}, which does not use this machine's GPU", f"MAGPIE_SET=gpu {SET_UP}")
        else:
            remedy = f"to work on this machine alone: MAGPIE_SET=cpu {SET_UP}"
            yield Finding("note", "set-up", f"{text}, for nodes that have a GPU; it stays", remedy)
        return
    again = SET_UP if not mark else f"rm .venv/.magpie-set && {SET_UP}"
    for names, what in ((absent, "missing"), (other, "of another version than the lock's")):
        if names:
            shown = ", ".join(f"{name} {wanted[name]}" for name in sorted(names)[:5]) + (", …" if len(names) > 5 else "")
            yield Finding("problem", "set-up", f"{len(names)} of {len(wanted)} packages {what}: {shown}", again)
    if extra := sorted(unwanted & set(installed)):
        remedy = f".venv/bin/python -m pip uninstall {' '.join(extra)}"
        yield Finding("note", "set-up", f"{', '.join(extra)}: not of the {kind} set, and may break imports of torch", remedy)
    if not absent and not other:
        yield Finding("ok", "set-up", f"{len(wanted)} packages of the {kind} set, as locked")


def check_embedded(project: Path) -> Iterator[Finding]:
    """Say whether the embedded model is unpacked."""
    if (project / "models" / "SmolLM2-135M-Instruct" / "config.json").is_file():
        yield Finding("ok", "model", "the embedded model is unpacked")
    else:
        yield Finding("problem", "model", "the embedded model is not unpacked", SET_UP)


def hub_home(environment: dict[str, str], home: Path) -> Path:
    """Return where the hub's client keeps its token and, below it, the models that it got."""
    return Path(environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface")


def check_room(sizes: dict[str, float], free: float, where: Path) -> Iterator[Finding]:
    """Say for which of the models that fit here, but are not on this disk, there is no room: name → GB to get."""
    if large := [f"{name} ({size:.0f} GB)" for name, size in sorted(sizes.items()) if size > free]:
        text = f"{free:.0f} GB free at {where}, where models from the hub go: too little for {', '.join(large)}"
        yield Finding("note", "disk", text, "HF_HOME=/a/larger/disk, or name a folder that has the model")


def check_login(environment: dict[str, str], home: Path) -> Iterator[Finding]:
    """Say whether a token of the hub is here; only whether, never which."""
    folder = hub_home(environment, home)
    file = Path(environment.get("HF_TOKEN_PATH") or folder / "token")
    if environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        yield Finding("ok", "hub", "a token is in HF_TOKEN")
    elif file.is_file() and file.stat().st_size:
        yield Finding("ok", "hub", "logged in")
    else:
        remedy = "only for gated models (Llama, Gemma) and --push_to_hub: .venv/bin/hf auth login, or set HF_TOKEN"
        yield Finding("note", "hub", "not logged in", remedy)
    if environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        yield Finding("note", "hub", "HF_HUB_OFFLINE is set: only models on this disk", "unset HF_HUB_OFFLINE to get others")


def check_servers(listed: str, key: str) -> Iterator[Finding]:
    """Ask the servers of MAGPIE_BASE_URL, which may name files that list them (@FILE), what they serve."""
    urls: list[str] = []
    for part in filter(None, (each.strip() for each in listed.split(","))):
        if not part.startswith("@"):
            urls.append(part.rstrip("/"))
            continue
        lines = (line.partition("#")[0].strip() for line in _text(part[1:]).splitlines())
        urls += (found := [line.rstrip("/") for line in lines if line])
        if not found:
            what = "lists no server" if Path(part[1:]).is_file() else "no such file"
            yield Finding(
                "problem", "server", f"{part[1:]}: {what}", "list the servers' URLs in it, one a line; it is read again"
            )
    for url in dict.fromkeys(urls):
        yield _server(url, key)


def _server(url: str, key: str) -> Finding:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError("no URL")
        request = urllib.request.Request(f"{url}/models", headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            models = [str(model["id"]) for model in json.loads(answer.read(10**6))["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "check MAGPIE_BASE_URL (it usually ends in /v1), MAGPIE_API_KEY, and that the server is up"
        return Finding("problem", "server", f"{url}: {error or type(error).__name__}", remedy)
    return Finding("ok", "server", f"{url} serves {', '.join(models)}")


def check_models(configs: Path, cache: Path) -> Iterator[Finding]:
    """Say of each model of configs/models whether it fits here, and with what settings; `cache`: where models are got to."""
    try:
        from magpie.config import model_presets as presets
        from magpie.models.checkpoint import model_folder, needed_gb
        from magpie.models.hardware import this_machine

        machine = this_machine()
    except ImportError as error:
        yield Finding("note", "models", f"what fits here is told when the set-up is complete ({error.name} is missing)", SET_UP)
        return
    left, to_get = 0, dict[str, float]()
    for path in sorted(configs.glob("models/*.yaml")):
        try:
            preset = presets.load_preset(path)
            needed, here = needed_gb(preset, None), model_folder(preset) is not None
        except MagpieError as error:
            yield Finding("problem", "models", str(error), "correct the file")
            continue
        size = f"{needed:.0f} GB" if needed and needed >= 1 else "under 1 GB" if needed else "of unknown size"
        get = "on this disk" if here else f"{preset.weights_gb:.0f} GB to get" if preset.weights_gb else "to get"
        finding = _fit(preset, machine, f"{path.stem:22} {size:>11}, {get}")
        left += finding.state == "note"
        if finding.state == "ok" and not here and preset.weights_gb:
            to_get[path.stem] = preset.weights_gb
        yield finding
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    yield from check_room(to_get, shutil.disk_usage(there).free / GB, cache)
    if left:
        remedy = "a server elsewhere (MAGPIE_BASE_URL=http://host:8000/v1), or a smaller model"
        yield Finding("note", "models", f"{left} do not fit: {machine.words}", remedy)


def _fit(preset: Any, machine: Any, text: str) -> Finding:
    """Return the finding on one model: it fits with these flags, or held in FP8, or not."""
    from magpie.serving.engine import flag_list
    from magpie.serving.parallelism import Wanted, layout

    for quantization in (None, "fp8") if machine.gpus else (None,):
        try:
            flags = layout(preset, machine, Wanted(quantization=quantization)).flags()
        except MagpieError:
            continue
        shown = " ".join(flag_list({name: value for name, value in flags.items() if name != "quantization"}))
        setting = "" if quantization is None else f"with QUANTIZATION={quantization}: "
        return Finding("ok", "models", f"{text}; fits: {setting}{shown}")
    return Finding("note", "models", f"{text}; does not fit")


def diagnose(project: Path = PROJECT) -> Iterator[Finding]:
    """Yield every finding, as it is found."""
    told = command_output(
        "nvidia-smi", "--query-gpu=name,memory.total,memory.used,driver_version", "--format=csv,noheader,nounits"
    )
    gpus = len((told or "").splitlines())
    kind = os.environ.get("MAGPIE_SET") or ("gpu" if gpus else "cpu")
    kind = kind if kind in SET_GB else "cpu"
    locks = _text(project / "locks" / f"{kind}.txt")
    if kind == "cpu":  # torch's CPU build is installed apart from the lock
        locks += "".join(re.findall(r"^torch==.*\n", _text(project / "requirements-cpu.txt"), re.MULTILINE))
    wanted, installed = wanted_versions(locks, sys.version_info[:3]), installed_versions(project / ".venv")
    excluded = _text(project / "locks" / "excluded.txt") if kind == "cpu" else ""
    unwanted = {_normal(line) for line in excluded.split("\n") if line.startswith("torch")}
    disk, shared = shutil.disk_usage(project), Path("/dev/shm")  # noqa: S108
    cache = Path(os.environ.get("HF_HUB_CACHE") or hub_home(dict(os.environ), Path.home()) / "hub")
    parts: list[Callable[[], Iterator[Finding]]] = [
        lambda: check_python(sys.version_info[:3], platform.system(), platform.machine()),
        lambda: check_driver(told, nvidia_cards()),
        lambda: check_processor(_text("/proc/cpuinfo")) if not gpus else iter(()),
        lambda: check_memory(*memory_now(), gpus, shutil.disk_usage(shared).total / GB if shared.is_dir() else None),
        lambda: check_disk(disk.free / GB, 1 if installed else SET_GB[kind] + 1, project),
        check_limits,
        lambda: check_set_up(kind, wanted, installed, unwanted, _text(project / ".venv" / ".magpie-set").partition(" ")[0]),
        lambda: check_embedded(project),
        lambda: check_login(dict(os.environ), Path.home()),
        lambda: check_servers(os.environ.get("MAGPIE_BASE_URL", ""), os.environ.get("MAGPIE_API_KEY", "")),
        lambda: check_models(project / "configs", cache.absolute()),
    ]
    for part in parts:
        yield from part()


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""Findings on the set-up: the installed packages against the lock, and the embedded model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distributions
from mmap import ACCESS_READ, mmap
from pathlib import Path

from magpie.doctor.finding import SET_UP, Finding

SET_GB = {"cpu": 4, "gpu": 12}
"""Disk space that .venv takes; cpu is measured, gpu an estimate."""
MODEL_GB = 0.27
CUDA_LIBRARY = re.compile(rb"lib(?:cudart|cublas)\.so\.\d{1,2}")
"""The libraries of CUDA that FAISS's GPU build is linked to; their version need not be that of the engine's CUDA."""


def wanted_versions(lock: str, python: tuple[int, ...]) -> dict[str, str]:
    """Return name → version of a lock or a requirements file, for one version of Python."""
    wanted = {}
    for line in lock.splitlines():
        pin, _, marker = line.split(" #")[0].partition(";")
        name, _, version = pin.strip().partition("==")
        bound = re.search(r"python_full_version (<|>=) '3\.(\d+)'", marker)
        here = bound is None or (python[:2] < (3, int(bound[2]))) == (bound[1] == "<")
        if version and here and not name.startswith("#"):
            wanted[normalized_name(name)] = version
    return wanted


def normalized_name(name: str) -> str:
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions(venv: Path) -> dict[str, str]:
    """Return name → version of the packages in a virtual environment."""
    folders = [str(folder) for folder in venv.glob("lib/python3*/site-packages")]
    whole = (each for each in distributions(path=folders) if each.read_text("INSTALLER"))  # what is written last
    named = ((each.metadata["Name"], each.version) for each in whole)
    return {normalized_name(name): version for name, version in named if name}


def check_set_up(
    kind: str, wanted: dict[str, str], installed: dict[str, str], unwanted: set[str], mark: str
) -> Iterator[Finding]:
    """Yield the findings on the installed packages.

    Args:
        kind: the set that this machine needs, `cpu` or `gpu`.
        wanted: name → version of that set's lock.
        installed: name → version in .venv.
        unwanted: packages that do not belong to the set.
        mark: the set that the set-up has finished, or nothing.
    """
    other = {
        name for name, version in wanted.items() if name in installed and installed[name].split("+")[0] != version.split("+")[0]
    }
    absent = set(wanted) - set(installed)
    if not installed:
        text = f"the set-up installs {len(wanted)} packages of the {kind} set, {SET_GB[kind]} GB, into .venv"
        yield Finding("problem", "set-up", f"nothing is installed yet; {text}", SET_UP)
        return
    if mark and mark != kind:  # the set-up keeps the existing set, unless MAGPIE_SET says otherwise
        text = f".venv has the {mark} set"
        if kind == "gpu":
            yield Finding("problem", "set-up", f"{text}, which uses no GPU", f"MAGPIE_SET=gpu {SET_UP}")
        else:
            remedy = f"to work on this machine alone: MAGPIE_SET=cpu {SET_UP}"
            yield Finding("note", "set-up", f"{text}, for nodes that have a GPU; it stays", remedy)
        return
    again = SET_UP if not mark else f"rm .venv/.magpie-set && {SET_UP}"
    for names, what in ((absent, "missing"), (other, "with a version other than the locked one")):
        if names:
            shown = ", ".join(f"{name} {wanted[name]}" for name in sorted(names)[:5]) + (", …" if len(names) > 5 else "")
            yield Finding("problem", "set-up", f"{len(names)} of {len(wanted)} packages {what}: {shown}", again)
    if extra := sorted(unwanted & set(installed)):
        remedy = f".venv/bin/python -m pip uninstall {' '.join(extra)}"
        yield Finding("note", "set-up", f"{', '.join(extra)}: not of the {kind} set, and may break imports of torch", remedy)
    if not absent and not other:
        yield Finding("ok", "set-up", f"{len(wanted)} packages of the {kind} set, as locked")


def check_embedded(project: Path) -> Iterator[Finding]:
    """Yield the finding on the embedded model."""
    if (project / "models" / "SmolLM2-135M-Instruct" / "config.json").is_file():
        yield Finding("ok", "model", "the embedded model is unpacked")
    else:
        yield Finding("problem", "model", f"the embedded model is not unpacked; it takes {MODEL_GB} GB", SET_UP)


def check_faiss(venv: Path) -> Iterator[Finding]:
    """Yield the finding on FAISS's GPU build, if .venv has it: whether the libraries of its CUDA are installed."""
    for packages in venv.glob("lib/python3*/site-packages"):
        build = packages / "faiss" / "libfaiss.so"
        if not build.is_file():
            continue
        with build.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            needed = sorted({name.decode() for name in CUDA_LIBRARY.findall(content)})
        absent = [name for name in needed if not any(packages.glob(f"nvidia/*/lib/{name}"))]
        if absent:
            text = f"FAISS's GPU build needs {', '.join(absent)}, which .venv lacks"
            yield Finding("problem", "FAISS", text, f"rm .venv/.magpie-set && {SET_UP}")
        elif needed:
            yield Finding("ok", "FAISS", f"its GPU build finds its own CUDA next to it: {', '.join(needed)}")

"""The provenance of an output: the programs' commit, the command, the models, the engine and the GPUs.

It describes a run without binding it: a run can be resumed after a new commit, and then has an entry for each.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from magpie.common.masking import MASK, masked
from magpie.config.load import IS_CLONE, PROJECT

IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
"""User name and password in a URL."""
OF_A_JOB = "--result_file"
"""Added to a stage's command by run_job.py, with another file each time."""


class Engine(msgspec.Struct, omit_defaults=True):
    """An engine that we started on this machine."""

    version: str
    flags: str
    """Its flags, as a shell reads them, without address and seed."""


class Provenance(msgspec.Struct):
    """The provenance of one or several sessions of a run; None: unknown, or not applicable."""

    commit: str | None = None
    """The clone's commit; an installed package has its version in `versions`."""
    clean: bool | None = None
    """Whether the programs and their configuration matched that commit."""
    command: str = ""
    models: dict[str, str | None] = {}
    """The loaded models, each with the hub's commit or a hash of its files."""
    engine: Engine | None = None
    """None also for a server that these programs did not start."""
    gpus: list[str] | None = None
    """GPUs that the engine could use."""
    driver: str | None = None


def provenance(made_with: dict[str, Any] | None = None) -> Provenance:
    """Return this process's provenance; `made_with` has the fields that the stage knows."""
    commit, clean = commit_of(PROJECT) if IS_CLONE else (None, None)
    return msgspec.convert({"commit": commit, "clean": clean, "command": command(), **(made_with or {})}, Provenance)


def distinct(entries: list[Provenance]) -> list[Provenance]:
    """Return the entries without duplicates."""
    return [entry for number, entry in enumerate(entries) if entry not in entries[:number]]


def command() -> str:
    """Return this process's command, without secrets."""
    name = Path(sys.argv[0])
    called = ["python", f"exp/{name.name}"] if IS_CLONE else ["magpie", name.stem.replace("_", "-")]
    words = [word for word in sys.argv[1:] if not word.startswith(OF_A_JOB)]
    return shlex.join([*called, *(IN_ADDRESS.sub(MASK, masked(word)) for word in words)])


@cache
def commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a clone, and whether its programs and configuration match it; None if unknown."""
    if not (folder / ".git").exists():  # a copy inside someone else's repository
        return None, None
    status = ["status", "--porcelain=v2", "--branch", "--", "exp", "configs"]
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *status],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None, None
    commit = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", done.stdout, re.MULTILINE)
    if not commit:
        return None, None
    return commit[1], all(line.startswith("#") for line in done.stdout.splitlines())

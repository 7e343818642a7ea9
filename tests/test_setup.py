"""The set-up: which set .venv gets or keeps, with stand-ins for Python, pip, nvidia-smi and flock."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import clean_environment
from magpie.configs import PROJECT

PYTHON = """#!/usr/bin/env bash
# in the place of Python, the user's and .venv's
case "$*" in
  "-m venv --clear .venv") echo cleared >>"$TOLD"; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"pip install"*) echo "$*" >>"$TOLD"; exit "${PIP_CODE:-0}" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose set-up is the real script, without anything to install."""
    root = tmp_path / "clone"
    for name in ("scripts/setup.sh", "locks/cpu.txt", "locks/gpu.txt", "requirements-cpu.txt", "requirements-dev.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    (root / "models" / "SmolLM2-135M-Instruct").mkdir(parents=True)
    (root / "models" / "SmolLM2-135M-Instruct" / "config.json").touch()
    write(root / "bin" / "python3", PYTHON)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def set_up(clone: Path, *, gpu: bool = False, code: int = 0, **environment: str) -> tuple[list[str], str]:
    """Run the set-up and return what was done, and what was said."""
    told = clone.parent / "told"
    told.unlink(missing_ok=True)
    write(clone / "bin" / "nvidia-smi", f"#!/bin/sh\n{'echo GPU 0' if gpu else 'exit 9'}\n")
    environment |= {"PATH": f"{clone / 'bin'}:{os.environ['PATH']}", "TOLD": str(told)}
    command = ["bash", str(clone / "scripts" / "setup.sh")]
    done = subprocess.run(command, env=clean_environment(**environment), capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return told.read_text().splitlines() if told.exists() else [], done.stderr


def set_of(clone: Path) -> str:
    return (clone / ".venv" / ".magpie-set").read_text().split()[0]


@pytest.mark.parametrize(("gpu", "expected"), [(False, "cpu"), (True, "gpu")])
def test_a_fresh_clone_gets_the_set_of_the_machine_and_a_second_run_does_nothing(clone, gpu, expected):
    done, _ = set_up(clone, gpu=gpu)
    assert done[0] == "cleared" and f"-r locks/{expected}.txt" in done[-1]
    assert set_of(clone) == expected
    assert set_up(clone, gpu=gpu) == ([], "")


@pytest.mark.parametrize(("had", "gpu"), [("gpu", False), ("cpu", True)])
def test_a_set_that_is_there_stays_on_a_machine_that_would_take_the_other_one(clone, had, gpu):
    set_up(clone, MAGPIE_SET=had)
    done, said = set_up(clone, gpu=gpu)
    assert done == [] and set_of(clone) == had
    assert f".venv keeps its {had} set" in said and len(said.splitlines()) == 1


def test_the_lock_of_the_set_that_is_there_is_what_an_update_installs(clone):
    set_up(clone, MAGPIE_SET="gpu")
    with (clone / "locks" / "gpu.txt").open("a") as lock:
        lock.write("new==1\n")
    done, _ = set_up(clone)
    assert len(done) == 1 and "-r locks/gpu.txt" in done[0]


def test_another_set_is_made_where_it_is_asked_for(clone):
    set_up(clone, MAGPIE_SET="gpu")
    done, _ = set_up(clone, MAGPIE_SET="cpu")
    assert done[0] == "cleared" and set_of(clone) == "cpu"


def test_what_was_interrupted_goes_on_with_its_own_set(clone):
    set_up(clone, MAGPIE_SET="gpu", PIP_CODE="7", code=7)
    done, _ = set_up(clone)
    assert len(done) == 1 and "-r locks/gpu.txt" in done[0]
    assert set_up(clone)[0] == []


def test_a_broken_venv_is_made_anew_with_its_own_set(clone):
    set_up(clone, MAGPIE_SET="gpu")
    write(clone / ".venv" / "bin" / "python", "#!/bin/sh\nexit 1\n")
    done, _ = set_up(clone)
    assert done[0] == "cleared" and set_of(clone) == "gpu"


def test_a_file_system_without_locks_is_told_and_no_reason_to_stop(clone):
    write(clone / "bin" / "flock", '#!/bin/sh\necho "flock: $1: Function not implemented" >&2\nexit 65\n')
    done, said = set_up(clone)
    assert set_of(clone) == "cpu" and done[0] == "cleared"
    assert "this file system has no locks" in said


@pytest.mark.skipif(not shutil.which("flock"), reason="without flock nobody waits")
def test_who_holds_the_lock_is_waited_for(clone):
    (clone / ".setup.lock").touch()
    with (clone / ".setup.lock").open("w") as lock, ThreadPoolExecutor(1) as beside:
        fcntl.flock(lock, fcntl.LOCK_EX)
        setting_up = beside.submit(set_up, clone)
        try:
            time.sleep(1)
            assert not setting_up.done() and not (clone.parent / "told").exists() and not (clone / ".venv").exists()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
        done, _ = setting_up.result()
    assert done[0] == "cleared" and set_of(clone) == "cpu"

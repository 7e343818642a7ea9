"""The set-up: which set .venv gets or keeps and what installs it, with stand-ins for Python, pip, uv, nvidia-smi and flock."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import clean_environment, without_override
from magpie.config.load import PROJECT

PYTHON = """#!/usr/bin/env bash
# in the place of Python, the user's and .venv's; TOO_OLD: the version check says no; UV_SAYS: why pip has no uv
# NO_ENSUREPIP: as Debian and Colab have it
case "$*" in
  "-m venv --clear .venv")
    [[ -z ${NO_ENSUREPIP:-} ]] || exit 1
    echo cleared >>"$TOLD"; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m venv --clear --without-pip .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip --python .venv/bin/python install --quiet pip") echo "pip put into .venv" >>"$TOLD" ;;
  *"pip install"*locks/uv.txt) [[ -z ${UV_SAYS:-} ]] || { echo "$UV_SAYS" >&2; exit 1; }; cp bin/uv .venv/bin/uv ;;
  *"pip install"*)
    [[ "$*" != *--editable* ]] || pwd >.venv/linked
    echo "pip $*" >>"$TOLD"
    exit "${PIP_CODE:-0}" ;;
  *"import magpie"*) [[ "$(cat .venv/linked 2>/dev/null)" -ef . ]] ;;
  *"pip config list"*) printf '%s\\n' "${PIP_CONFIG_SAYS:-}" ;;
  *"import sys; raise"*) exit "${TOO_OLD:-0}" ;;
esac
"""
UV = """#!/usr/bin/env bash
case "$*" in
  --version) echo "uv VERSION (made)" ;;
  *--dry-run*"--torch-backend cpu"*) exit "${NO_PYTORCH_INDEX:-0}" ;;
  *--dry-run*) echo "${DRY_RUN_SAYS:-}" >&2; exit "${NO_CPU_TORCH:-0}" ;;
  *)
    [[ "$*" != *--editable* ]] || pwd >.venv/linked
    echo "uv $* ${UV_DEFAULT_INDEX:-none} ${UV_INDEX:-none} ${UV_INDEX_STRATEGY:-first-index} ${SSL_CERT_FILE:-}" >>"$TOLD"
    exit "${PIP_CODE:-0}" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose set-up is the real script, without anything to install."""
    root = tmp_path / "clone"
    for name in (
        "scripts/setup.sh",
        "scripts/lib/help.sh",
        "pyproject.toml",
        "requirements-cpu.txt",
        *(f"locks/{lock}.txt" for lock in ("cpu", "gpu", "dev", "uv")),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    (root / "models" / "SmolLM2-135M-Instruct").mkdir(parents=True)
    (root / "models" / "SmolLM2-135M-Instruct" / "config.json").touch()
    write(root / "bin" / "python3", PYTHON)
    write(root / "bin" / "uv", UV.replace("VERSION", (PROJECT / "locks" / "uv.txt").read_text().strip().removeprefix("uv==")))
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def set_up(
    clone: Path,
    *,
    gpu: bool = False,
    code: int = 0,
    dev: bool = False,
    preexec_fn: Callable[[], None] | None = None,
    **environment: str,
) -> tuple[list[str], str]:
    """Run the set-up and return what was done, and what was said."""
    told = clone.parent / "told"
    told.unlink(missing_ok=True)
    write(clone / "bin" / "nvidia-smi", f"#!/bin/sh\n{'echo GPU 0' if gpu else 'exit 9'}\n")
    environment |= {"PATH": f"{clone / 'bin'}:{os.environ['PATH']}", "TOLD": str(told)}
    command = ["bash", str(clone / "scripts" / "setup.sh"), *(["--dev"] if dev else [])]
    settings = {"env": clean_environment(**environment), "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, preexec_fn=preexec_fn, **settings)
    assert done.returncode == code, done.stderr
    return told.read_text().splitlines() if told.exists() else [], done.stderr


def set_of(clone: Path) -> str:
    return (clone / ".venv" / ".magpie-set").read_text().split()[0]


@pytest.mark.parametrize(("gpu", "expected"), [(False, "cpu"), (True, "gpu")])
def test_a_fresh_clone_gets_the_set_of_the_machine_and_a_second_run_does_nothing(clone, gpu, expected):
    done, _ = set_up(clone, gpu=gpu)
    assert done[0] == "cleared" and f"-r locks/{expected}.txt" in done[-2] and "--editable ." in done[-1]
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


def test_a_checkout_that_was_moved_is_linked_anew_and_nothing_else(clone):
    set_up(clone)
    moved = clone.rename(clone.with_name("moved"))
    done, _ = set_up(moved)
    assert len(done) == 1 and "--editable ." in done[0]
    assert set_up(moved) == ([], "")


def test_a_checkout_behind_a_symbolic_link_is_set_up_once(clone):
    set_up(clone)
    other = clone.with_name("other")
    other.symlink_to(clone)
    assert set_up(other) == ([], "")


def test_another_set_is_made_where_it_is_asked_for(clone):
    set_up(clone, MAGPIE_SET="gpu")
    done, _ = set_up(clone, MAGPIE_SET="cpu")
    assert done[0] == "cleared" and set_of(clone) == "cpu"


def test_what_was_interrupted_goes_on_with_its_own_set(clone):
    set_up(clone, MAGPIE_SET="gpu", PIP_CODE="7", code=7)
    done, _ = set_up(clone)
    assert len(done) == 2 and "-r locks/gpu.txt" in done[0] and "--editable" in done[1]
    assert set_up(clone)[0] == []


def test_a_package_whose_installation_was_killed_is_installed_again(clone):
    set_up(clone)
    packages = clone / ".venv" / "lib" / "python3.12" / "site-packages"
    for name in ("torch-2.dist-info", "pip-26.dist-info"):
        write(packages / name / "RECORD", "")
    write(packages / "pip-26.dist-info" / "INSTALLER", "pip")
    (clone / "models" / "SmolLM2-135M-Instruct" / "config.json").unlink()  # the kill came before it
    done, _ = set_up(clone)
    assert [each.name for each in packages.iterdir()] == ["pip-26.dist-info"]
    assert "torch==" in done[0] and "-r locks/cpu.txt" in done[1]


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


# --- what installs -----------------------------------------------------------------------------------------------------


def test_uv_installs_the_set_and_the_tools_from_their_locks(clone):
    done, said = set_up(clone, dev=True)
    assert [line.split()[0] for line in done] == ["cleared", "uv", "uv", "uv", "uv"]
    for line, wanted in zip(done[1:], ("torch==", "-r locks/cpu.txt", "--editable .", "-r locks/dev.txt"), strict=True):
        assert wanted in line and "--no-deps" in line
    assert "+cpu" in done[1] and "installing the cpu set" in said
    assert set_up(clone, dev=True) == ([], "")


def test_where_uv_cannot_be_had_pip_installs_the_same(clone):
    done, said = set_up(clone, dev=True, UV_SAYS="ERROR: No matching distribution found for uv")
    assert [line.split()[0] for line in done] == ["cleared", *["pip"] * 5]  # its dry run, torch and the rest
    assert "-r locks/cpu.txt" in done[3] and "--editable ." in done[4] and "-r locks/dev.txt" in done[5]
    assert all("--no-deps" in line for line in done[1:])
    assert "using pip, which takes minutes" in said


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        ({}, "--no-deps torch==VERSION+cpu"),
        ({"NO_CPU_TORCH": "1"}, "--torch-backend cpu --no-deps torch==VERSION+cpu"),
        ({"NO_CPU_TORCH": "1", "NO_PYTORCH_INDEX": "1"}, ".venv/bin/python torch==VERSION"),
    ],
    ids=["the configured index", "PyTorch's own", "the CUDA build"],
)
def test_the_cpu_build_of_torch_comes_from_the_first_place_that_has_it(clone, lacking, expected):
    version = next(
        line.partition("==")[2].split()[0]
        for line in (clone / "requirements-cpu.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    done, said = set_up(clone, **lacking)
    assert expected.replace("VERSION", version) + " none none first-index" in done[1]
    assert ("taking the CUDA build" in said) == (len(lacking) == 2)


def test_uv_gets_the_indexes_and_certificates_that_pip_is_configured_with(clone):
    settings = [
        ":env:.index-url='https://user:secret@mirror.invalid/simple'",
        "download.index-url='https://unused.invalid'",
        "global.index-url='https://other.invalid'",
        "global.cert='/etc/ours.pem'",
        "global.extra-index-url='\\nhttps://one.invalid\\nhttps://two.invalid'",
        "global.find-links='/wheels'",
    ]
    done, _ = set_up(clone, PIP_CONFIG_SAYS="\n".join(settings), SSL_CERT_FILE="")
    for flag in (
        "--find-links=/wheels",
        "--editable . https://user:secret@mirror.invalid/simple https://one.invalid https://two.invalid",
    ):
        assert flag in done[-1]
    assert done[-1].endswith("unsafe-best-match /etc/ours.pem")


def one_line(said: str) -> str:
    [line] = [line for line in said.splitlines() if not line.startswith("setup: creating .venv")]
    assert line.startswith("setup: ")
    return line


def test_without_a_network_it_says_so_in_one_line(clone):
    broken = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\nERROR: No matching distribution"
    )
    _, said = set_up(clone, code=1, UV_SAYS=broken)
    assert "no package index answers" in one_line(said)


def test_an_index_that_is_gone_is_told_in_one_line_and_not_taken_for_one_without_a_cpu_build(clone):
    _, said = set_up(clone, code=1, NO_CPU_TORCH="1", DRY_RUN_SAYS="error: error sending request for url (https://x.invalid)")
    assert "no package index answers" in said and "CUDA" not in said


def test_a_set_that_was_asked_for_stays_though_nothing_could_be_installed(clone):
    broken = "WARNING: connection broken by 'NewConnectionError'"
    set_up(clone, code=1, MAGPIE_SET="gpu", UV_SAYS=broken)
    set_up(clone)
    assert set_of(clone) == "gpu"


def test_an_interpreter_with_a_space_in_its_path_is_taken(clone):
    (clone / "a b").mkdir()
    (clone / "bin" / "python3").rename(clone / "a b" / "python3")
    done, _ = set_up(clone, PYTHON=str(clone / "a b" / "python3"))
    assert done[0] == "cleared" and set_of(clone) == "cpu"


def test_a_python_without_ensurepip_gives_venv_its_pip(clone):
    done, _ = set_up(clone, NO_ENSUREPIP="1")
    assert done[0] == "pip put into .venv"
    assert set_of(clone) == "cpu"


def test_an_old_python_is_told_with_the_ways_to_a_newer_one(clone):
    _, said = set_up(clone, code=1, TOO_OLD="1", PYTHON="python3")
    line = one_line(said)
    assert "no Python 3.11 to 3.14" in line and "uv python install 3.12" in line and "conda create" in line


def test_a_checkout_of_somebody_elses_is_used_if_it_is_complete_and_else_refused(clone):
    set_up(clone)
    places = [clone, clone / ".venv", clone / ".setup.lock"]
    for place in places:
        place.chmod(0o555)
    as_other = without_override if os.geteuid() == 0 else None
    try:
        assert set_up(clone, preexec_fn=as_other) == ([], "")
        done, said = set_up(clone, dev=True, code=1, preexec_fn=as_other)
    finally:
        for place in places:
            place.chmod(0o755)
    line = one_line(said)
    assert done == [] and "you may not write there" in line and "bash scripts/setup.sh --dev" in line

"""The doctor: what it says of a machine, also of one where nothing is set up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from magpie.config.load import PROJECT
from magpie.doctor import installation, machine, models, services
from magpie.doctor.finding import Finding
from magpie.models.hardware import Gpu, Machine, query_gpus

H100 = "NVIDIA H100 80GB HBM3, 81559, {used}, {driver}"


def system_python() -> str:
    """Return a Python that is not .venv's and has nothing of it."""
    return next(path for path in ("/usr/bin/python3", "/usr/local/bin/python3", sys._base_executable) if Path(path).exists())


def doctor(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)} | environment
    command = [system_python(), "-sE", str(folder / "exp" / "doctor.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Path:
    shutil.copytree(PROJECT / "exp", tmp_path / "exp", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("locks", "configs"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    shutil.copy(PROJECT / "requirements-cpu.txt", tmp_path)
    return tmp_path


def test_before_the_set_up_it_says_what_the_set_up_installs(fresh_clone):
    done = doctor(fresh_clone, MAGPIE_SET="cpu")
    assert done.returncode == 1, done.stderr
    assert "nothing is installed yet; the set-up installs" in done.stdout
    assert "-> bash scripts/setup.sh" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (fresh_clone / ".venv").exists()


def test_a_broken_venv_is_told_and_not_stumbled_over(fresh_clone):
    (fresh_clone / ".venv" / "bin").mkdir(parents=True)
    (fresh_clone / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    done = doctor(fresh_clone, "--problems", MAGPIE_SET="cpu")
    assert done.returncode == 1
    assert "nothing is installed yet" in done.stdout
    assert "\nok " not in done.stdout


def test_in_the_set_up_every_model_is_told_whether_it_fits():
    command = [sys.executable, str(PROJECT / "exp" / "doctor.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    for path in (PROJECT / "configs" / "models").glob("*.yaml"):
        assert f" {path.stem} " in done.stdout


def test_a_token_is_never_shown(fresh_clone):
    done = doctor(fresh_clone, HF_TOKEN="hf_secret", MAGPIE_API_KEY="sk_secret", MAGPIE_BASE_URL="http://127.0.0.1:9/v1")
    assert "a token is in HF_TOKEN" in done.stdout
    assert "note     server" in done.stdout  # it is asked once the set-up is there
    assert "secret" not in done.stdout + done.stderr


def states(findings) -> list[tuple[str, str]]:
    return [(finding.part, finding.state) for finding in findings]


@pytest.mark.parametrize(
    ("version", "system", "kind", "state"),
    [
        ((3, 10, 12), "Linux", "x86_64", "problem"),
        ((3, 11, 0), "Linux", "x86_64", "ok"),
        ((3, 14, 2), "Linux", "x86_64", "ok"),
        ((3, 15, 0), "Linux", "x86_64", "problem"),
        ((3, 12, 0), "Darwin", "arm64", "problem"),
        ((3, 12, 0), "Linux", "aarch64", "problem"),
    ],
)
def test_pythons(version, system, kind, state):
    assert states(machine.check_python(version, system, kind)) == [("Python", state)]


@pytest.mark.parametrize(
    ("told", "cards", "expected"),
    [
        (None, 0, [("GPU", "ok")]),
        (None, 2, [("GPU", "problem")]),
        ("No devices were found", 1, [("GPU", "problem")]),
        (H100.format(used=4, driver="580.65.06"), 1, [("GPU", "ok"), ("driver", "ok")]),
        (H100.format(used=4, driver="570.86"), 1, [("GPU", "ok"), ("driver", "problem")]),
        (H100.format(used=60000, driver="580.65.06"), 1, [("GPU", "problem"), ("driver", "ok")]),
        (H100.format(used="[N/A]", driver="[N/A]"), 1, [("GPU", "ok"), ("driver", "problem")]),
    ],
)
def test_gpus_and_drivers(tmp_path, monkeypatch, told, cards, expected):
    if told is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{told}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states(machine.check_gpus(query_gpus(*machine.GPU_FIELDS), cards)) == expected


def test_nvidia_cards_are_counted_without_a_driver(tmp_path):
    for name, vendor, kind in (("0", "0x10de", "0x030200"), ("1", "0x10de", "0x040300"), ("2", "0x8086", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "3").mkdir()
    assert machine.nvidia_cards(tmp_path) == 1


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ((16, 12, None, 0, 8), [("memory", "ok")]),
        ((16, 3, None, 0, 8), [("memory", "problem")]),
        ((64, 60, 4, 0, 8), [("memory", "problem")]),
        ((64, 60, None, 8, 0.06), [("memory", "ok"), ("memory", "problem")]),
        ((64, 60, None, 1, 0.06), [("memory", "ok")]),
    ],
)
def test_memory(memory, expected):
    assert states(machine.check_memory(*memory)) == expected


def test_disk():
    assert states(machine.check_disk(3, 5, Path("/x"))) == [("disk", "problem")]
    assert states(machine.check_disk(30, 5, Path("/x"))) == [("disk", "ok")]


def test_models_that_the_disk_cannot_take_are_named():
    [found] = models.check_room({"large": 671.0, "small": 15.0}, 100, Path("/cache"))
    assert "100 GB free at /cache" in str(found) and "large (671 GB)" in str(found) and "small" not in str(found)
    assert "HF_HOME" in str(found)
    assert list(models.check_room({"small": 15.0}, 100, Path("/cache"))) == []


def test_the_cuda_that_the_gpu_build_of_faiss_needs_is_looked_for(tmp_path):
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    assert list(installation.check_faiss(tmp_path)) == []
    (packages / "faiss").mkdir(parents=True)
    (packages / "faiss" / "libfaiss.so").write_bytes(b"\x7fELF\0libcudart.so.12\0libcublas.so.12\0libcublasLt.so.12\0")
    for part in ("cuda_runtime/lib/libcudart.so.12", "cublas/lib/libcublas.so.13"):
        (packages / "nvidia" / part).parent.mkdir(parents=True)
        (packages / "nvidia" / part).touch()
    [found] = installation.check_faiss(tmp_path)
    assert found.state == "problem" and "needs libcublas.so.12, which" in found.text
    (packages / "nvidia" / "cublas" / "lib" / "libcublas.so.12").touch()
    assert states(installation.check_faiss(tmp_path)) == [("FAISS", "ok")]


LOCK = "A_b==1.0\nc==2.0 ; python_full_version >= '3.12'\nd==3 ; python_full_version < '3.12'\n# e==4\ntorch==2.13.0  # why\n"


def test_a_lock_is_read_for_this_python():
    assert installation.wanted_versions(LOCK, (3, 11, 7)) == {"a-b": "1.0", "d": "3", "torch": "2.13.0"}
    assert installation.wanted_versions(LOCK, (3, 12, 0)) == {"a-b": "1.0", "c": "2.0", "torch": "2.13.0"}


@pytest.mark.parametrize(
    ("installed", "mark", "expected", "said"),
    [
        ({}, "", ["problem"], "nothing is installed"),
        ({"a": "1", "torch": "2+cpu"}, "cpu", ["ok"], "as locked"),
        ({"a": "1", "torch": "2+cpu"}, "gpu", ["note"], "has the gpu set"),
        ({"a": "1"}, "", ["problem"], "1 of 2 packages missing: torch 2"),
        ({"a": "3", "torch": "2"}, "cpu", ["problem"], "a version other than the locked one: a 1"),
        ({"a": "1", "torch": "2", "torchvision": "9"}, "cpu", ["note", "ok"], "torchvision: not of the cpu set"),
    ],
)
def test_what_is_installed_against_the_lock(installed, mark, expected, said):
    found = list(installation.check_set_up("cpu", {"a": "1", "torch": "2"}, installed, {"torchvision"}, mark))
    assert [finding.state for finding in found] == expected
    assert said in found[0].text


def test_the_cpu_set_on_a_machine_with_a_gpu_is_a_problem_and_the_remedy_says_which_set():
    [found] = installation.check_set_up("gpu", {"a": "1"}, {"a": "1"}, set(), "cpu")
    assert found.state == "problem" and "has the cpu set" in found.text
    assert found.remedy == "MAGPIE_SET=gpu bash scripts/setup.sh"


def test_a_set_that_the_set_up_refuses_is_a_problem(fresh_clone):
    done = doctor(fresh_clone, "--problems", MAGPIE_SET="cuda")
    assert "MAGPIE_SET is 'cuda'" in done.stdout and done.returncode == 1


def test_a_package_whose_installation_was_killed_is_missing(tmp_path):
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    for name in ("whole", "half"):
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
        (packages / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (packages / "whole-1.dist-info" / "INSTALLER").write_text("uv")
    assert installation.installed_versions(tmp_path) == {"whole": "1"}


def test_the_login_of_the_hub(tmp_path):
    def said(**environment: str) -> list[str]:
        return [finding.text for finding in services.check_login(environment, tmp_path)]

    assert said() == ["not logged in"]
    assert said(HF_TOKEN="x", HF_HUB_OFFLINE="1")[0] == "a token is in HF_TOKEN"
    (tmp_path / "token").write_text("x")
    assert said(HF_HOME=str(tmp_path)) == ["logged in"]


@pytest.mark.parametrize(
    ("gpus", "smollm2", "deepseek", "llama"),
    [
        ((), "fits", "does not fit", "does not fit"),
        (
            (Gpu("A100", 85.9, 8.0),),
            "fits",
            "does not fit",
            "fits: with QUANTIZATION=fp8: --gpu-memory-utilization 0.95 --tensor-parallel-size 1",
        ),
        (
            (Gpu("H200", 150.1, 9.0),) * 8,
            "fits",
            "fits: --tensor-parallel-size 8 --enable-expert-parallel",
            "fits: --tensor-parallel-size 2",
        ),
    ],
)
def test_models_and_machines(tmp_path, monkeypatch, gpus, smollm2, deepseek, llama):
    monkeypatch.setattr(models, "this_machine", lambda: Machine(gpus, 32))
    said = {finding.text.split()[0]: finding.text for finding in models.check_models(PROJECT / "configs", tmp_path)}
    assert smollm2 in said["smollm2"]
    assert deepseek in said["deepseek-r1"]
    assert llama in said["llama-3.3-70b"]
    assert ("(tight)" in said["llama-3.3-70b"]) == (len(gpus) == 1)


def test_models_that_do_not_fit_are_counted_apart_from_slow_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "this_machine", lambda: Machine((), 32))
    *each, last = [finding.text for finding in models.check_models(PROJECT / "configs", tmp_path) if finding.state == "note"]
    counts = [sum(text.endswith(end) for text in each) for end in ("does not fit", models.SLOWLY)]
    assert all(counts) and sum(counts) == len(each)
    assert last.startswith(f"{counts[0]} do not fit, {counts[1]} would be too slow: no GPU")


def test_what_a_server_serves_is_told(tmp_path):
    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "a/b\\u001b[31m"}]}')

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Models)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    [found] = services.check_servers(url, "")
    [wrong] = services.check_servers("file:///etc/passwd", "")
    (tmp_path / "urls.txt").write_text(f"# replicas\n{url}/  # one\n\n{url}\nhttp://127.0.0.1:9/v1\n")
    (tmp_path / "empty.txt").write_text("# none yet\n")
    in_a_file = list(services.check_servers(f"@{tmp_path}/urls.txt", ""))
    [empty, missing] = services.check_servers(f"@{tmp_path}/empty.txt,@{tmp_path}/none.txt", "")
    server.shutdown()
    assert states(in_a_file) == [("server", "ok"), ("server", "problem")] and "127.0.0.1:9" in str(in_a_file[1])
    assert "lists no server" in str(empty) and "no such file" in str(missing)
    assert found.state == "ok"
    assert "\x1b" not in str(found)
    assert wrong.state == "problem"


def test_every_problem_has_a_remedy_below_it():
    assert str(Finding("problem", "disk", "full", "free some")).splitlines()[1].strip() == "-> free some"

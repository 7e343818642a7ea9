"""The programs as commands of an installed package."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_every_program_is_a_command_and_another_is_refused(tmp_path: Path) -> None:
    listed = run(sys.executable, "-m", "magpie", "--help", cwd=tmp_path)
    names = {line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert names == {path.stem.replace("_", "-") for path in (PROJECT / "exp").glob("*.py")} and not listed.returncode
    wrong = run(sys.executable, "-m", "magpie", "gen-rse", cwd=tmp_path)
    assert wrong.returncode and "no program 'gen-rse'" in wrong.stderr and "gen-res" in wrong.stderr
    flags = run(sys.executable, "-m", "magpie", "clean-ins", "--no_such_flag", cwd=tmp_path)
    assert flags.returncode == 2 and "--no_such_flag" in flags.stderr


@pytest.mark.long
def test_the_wheel_runs_a_stage_where_no_clone_is(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "pip", "wheel", PROJECT, "--no-deps", "--no-build-isolation", "-w", tmp_path, cwd=PROJECT)
    assert not built.returncode, built.stderr
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).stdout.strip())
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        held = set(archive.namelist())
    tracked = run("git", "ls-files", "exp", "configs", cwd=PROJECT).stdout.splitlines()
    wanted = {name.replace("configs/", "magpie/configs/").removeprefix("exp/") for name in tracked if not name.endswith(".py")}
    assert wanted and wanted <= held, wanted - held
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # not that folder's own links: not the clone
    (tmp_path / "x_ins.jsonl").write_text(json.dumps({"id": 1, "instruction": "Find the area of a square of side 3."}))
    done = run(python, "-m", "magpie", "clean-ins", "--input_file", "x_ins.jsonl", cwd=tmp_path)
    assert not done.returncode, done.stderr
    assert json.loads((tmp_path / "x_ins_clean.jsonl").read_text())["instruction"]
    told = json.loads((tmp_path / "x_ins_clean.run.json").read_text())
    [made] = told["provenance"]  # no clone, no commit: the version tells
    assert (made["commit"], made["clean"], told["versions"]["magpie-reasoning"]) == (None, None, "0.1.0")
    assert made["command"] == "magpie clean-ins --input_file x_ins.jsonl"
    (tmp_path / "x_res.jsonl").write_text(json.dumps({"id": 1, "instruction": "1 + 1?", "response": "\\boxed{2}"}))
    done = run(python, "-m", "magpie", "export", "--input_file", "x_res.jsonl", "--output_folder", "set", cwd=tmp_path)
    assert not done.returncode, done.stderr
    assert "version 0.1.0" in (tmp_path / "set" / "README.md").read_text()
    where = run(python, "-c", "import magpie.config.load as l; print(l.CONFIGS, l.PROGRAMS, l.PROJECT)", cwd=tmp_path)
    assert where.stdout.split() == [str(site / "magpie/configs"), str(site / "magpie/programs"), str(tmp_path)]

"""The jobs for Slurm: whole as scripts, and what they do when they end early, with a stand-in for srun and a server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import clean_environment
from magpie.configs import PROJECT

JOBS = sorted((PROJECT / "scripts" / "slurm").glob("*.sbatch"))
NAMED = re.compile(r'"\$PROJECT/([\w./-]+)"')

SRUN = """#!/usr/bin/env bash
# runs the command here, once a task, and passes signals on
tasks=1
while [[ ${1:-} == --* ]]; do
  [[ $1 == --ntasks=* ]] && tasks=${1#*=}
  shift
done
trap 'kill -TERM $(jobs -p) 2>/dev/null' TERM
for ((i = 0; i < tasks; i++)); do SLURM_PROCID=$i "$@" & done
while [[ -n $(jobs -pr) ]]; do wait; done
"""
SCONTROL = """#!/usr/bin/env bash
[[ $1 == show ]] && echo localhost || echo "$*" >>"$TOLD"
"""
SERVE = """#!/usr/bin/env bash
# in exp/serve.py's place: says where it is, and stays until it is stopped
while [[ $# -gt 0 ]]; do
  [[ $1 == --url_file ]] && file=$2
  [[ $1 == --replica ]] && number=$2
  shift
done
trap 'rm -f "$file"; echo "server $number stopped" >>"$TOLD"; exit 130' TERM
echo "http://127.0.0.1:$((9000 + number))/v1" >"$file"
echo "key $number $MAGPIE_API_KEY" >>"$TOLD"
while :; do sleep 0.1; done
"""
LAUNCHER = """#!/usr/bin/env bash
# in a launcher's place
echo "launched $* as $JOB_NAME" >>"$TOLD"
until [[ $(wc -l <"${MAGPIE_BASE_URL#@}") == 2 ]]; do sleep 0.1; done
cp "${MAGPIE_BASE_URL#@}" "$TOLD.urls"
[[ -z ${SLOW:-} ]] || { sleep 60 & wait; }
exit "${CODE:-0}"
"""


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_names_only_what_is_there_and_can_be_stopped_and_requeued(job: Path) -> None:
    text = job.read_text()
    assert subprocess.run(["bash", "-n", job], check=False).returncode == 0
    named = NAMED.findall(text)
    assert named and all((PROJECT / name).is_file() for name in named)
    assert "scripts/lib/slurm_job.sh" in text and "run_to_the_end" in text
    assert "--requeue" in text and "--signal=B:USR1@120" in text
    assert "MAGPIE_API_KEY=" not in text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of stand-ins, but for the scripts under test."""
    root = tmp_path / "project"
    shutil.copytree(PROJECT / "scripts" / "slurm", root / "scripts" / "slurm")
    shutil.copytree(PROJECT / "scripts" / "lib", root / "scripts" / "lib")
    for name, text in {
        "bin/srun": SRUN,
        "bin/scontrol": SCONTROL,
        ".venv/bin/python": '#!/usr/bin/env bash\nexec bash "$@"\n',
        "exp/serve.py": SERVE,
        "scripts/magpie_math.sh": LAUNCHER,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    return root


def job(project: Path, **more: str) -> subprocess.Popen[str]:
    """Start replicas.sbatch as Slurm does: a copy of it, far from the project."""
    copy = project.parent / "slurm_script"
    shutil.copy(project / "scripts" / "slurm" / "replicas.sbatch", copy)
    env = clean_environment(
        PATH=f"{project / 'bin'}:{os.environ['PATH']}",
        SLURM_SUBMIT_DIR=str(project),
        SLURM_JOB_ID="77",
        SLURM_JOB_NAME="night",
        SLURM_NTASKS="2",
        TOLD=str(project.parent / "told"),
        **more,
    )
    return subprocess.Popen(["bash", copy], env=env, text=True, stderr=subprocess.PIPE, start_new_session=True)


def told(project: Path) -> list[str]:
    path = project.parent / "told"
    return path.read_text().splitlines() if path.exists() else []


def wait_until_launched(project: Path) -> None:
    ends = time.monotonic() + 60
    while not (project.parent / "told.urls").exists():
        assert time.monotonic() < ends, told(project)
        time.sleep(0.1)


@pytest.mark.parametrize("code", [0, 2])
def test_replicas_serve_a_launcher_and_are_stopped_and_its_exit_code_is_the_jobs(project: Path, code: int) -> None:
    running = job(project, CODE=str(code), MODEL="owner/model", NUM_PROBLEMS="12")
    assert running.wait(60) == code, running.communicate()[1]
    lines = told(project)
    assert "launched owner/model 12 as night_77" in lines
    assert {"server 0 stopped", "server 1 stopped"} <= set(lines)
    keys = [line.split()[2] for line in lines if line.startswith("key")]
    assert len(keys) == 2 and len(set(keys)) == 1 and len(keys[0]) == 48
    urls = (project.parent / "told.urls").read_text().split()
    assert urls == ["http://127.0.0.1:9000/v1", "http://127.0.0.1:9001/v1"]
    assert not list((project / "data" / "night_77" / "urls").iterdir())


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_out_of_time_it_stops_its_servers_and_goes_back_into_the_queue(
    project: Path, number: signal.Signals, requeued: bool
) -> None:
    running = job(project, SLOW="1")
    wait_until_launched(project)
    running.send_signal(number)
    assert running.wait(60) != 0
    lines = told(project)
    assert {"server 0 stopped", "server 1 stopped"} <= set(lines)
    assert ("requeue 77" in lines) == requeued


def test_outside_of_slurm_or_of_the_project_it_says_so(project: Path) -> None:
    script = project / "scripts" / "slurm" / "replicas.sbatch"
    done = subprocess.run(
        ["bash", script], env=clean_environment(PROJECT=str(project)), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "this is a job for sbatch" in done.stderr
    env = clean_environment(PROJECT=str(project), SLURM_JOB_ID="1")
    (project / "exp" / "serve.py").unlink()
    done = subprocess.run(["bash", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not the project" in done.stderr

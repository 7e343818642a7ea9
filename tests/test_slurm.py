"""The jobs for Slurm: whole as scripts, and what they do when they end early, with a stand-in for srun and a server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conftest import clean_environment
from magpie.config.load import PROJECT

JOBS = sorted((PROJECT / "scripts" / "slurm").glob("*.sbatch"))
NAMED = re.compile(r'"\$PROJECT/([\w./-]+)"')

SRUN = """#!/usr/bin/env bash
# Runs the command here, once a task, each task in a session of its own, as on a node. As the real one, it answers SIGTERM by
# killing its tasks.
tasks=1 pids=() code=0
while [[ ${1:-} == --* ]]; do
  [[ $1 == --ntasks=* ]] && tasks=${1#*=}
  shift
done
trap 'echo "forcing job termination" >>"$TOLD"; for pid in "${pids[@]}"; do pkill -KILL -s "$pid"; done' TERM
for ((i = 0; i < tasks; i++)); do
  SLURM_PROCID=$i setsid "$@" &
  pids+=($!)
  echo $! >>"$TOLD.tasks"
done
for pid in "${pids[@]}"; do
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
  wait "$pid" || code=$?
done
exit "$code"
"""
SCANCEL = """#!/usr/bin/env bash
# with a signal and a job: sends it to what all steps have started
echo "scancel $*" >>"$TOLD"
[[ $1 == --signal=* ]] || exit
while read -r pid; do pkill "-${1#*=}" -s "$pid"; done <"$TOLD.tasks"
"""
SCONTROL = """#!/usr/bin/env bash
[[ $1 == show ]] && echo localhost || echo "$*" >>"$TOLD"
"""
SLEEP = f"""#!/usr/bin/env bash
# A tenth of it where the scripts look again after whole seconds; what has a point or several digits stays.
[[ $1 != [0-9] ]] || set -- "0.$1"
exec {shutil.which("sleep")} "$1"
"""
SERVE = """#!/usr/bin/env bash
# in exp/serve.py's place: starts an engine, says where it is, and stays until it is stopped
given=$*
while [[ $# -gt 0 ]]; do
  [[ $1 == --url_file ]] && file=$2
  [[ $1 == --replica ]] && number=$2
  shift
done
[[ -z ${REFUSE:-} ]] || exit 2
setsid sleep 300 &
engine=$!
trap 'rm -f "$file"; kill $engine; wait $engine; echo "server $number stopped" >>"$TOLD"; exit 130' TERM
echo "server $number is $$ with engine $engine: $given" >>"$TOLD"
echo "key $number $MAGPIE_API_KEY" >>"$TOLD"
echo "http://127.0.0.1:$((9000 + number))/v1" >"$file"
until [[ -n ${GIVES_UP:-} && -e $TOLD.launched ]]; do sleep 0.1; done
rm -f "$file"
kill "$engine"
exit 2
"""
LAUNCHER = """#!/usr/bin/env bash
# in a launcher's place
trap 'echo "launcher stopped" >>"$TOLD"; kill $(jobs -p) 2>/dev/null; exit 143' TERM
echo "launched $* as $JOB_NAME" >>"$TOLD"
if [[ -n ${MAGPIE_BASE_URL:-} ]]; then
  until [[ $(wc -l <"${MAGPIE_BASE_URL#@}") == 2 ]]; do sleep 0.1; done
  cp "${MAGPIE_BASE_URL#@}" "$TOLD.urls"
else
  until grep -q "worker joined" "$TOLD"; do sleep 0.1; done
fi
touch "$TOLD.launched"
[[ -z ${SLOW:-} ]] || { sleep 900 >/dev/null 2>&1 & wait; }
exit "${CODE:-0}"
"""
RAY = f"""#!{sys.executable}
# in the place of Ray: a head that listens after a moment, workers that want it to listen already
import os, pathlib, signal, socket, sys, time

told = os.environ["TOLD"]
head = "--head" in sys.argv
name = "head" if head else "worker"


def tell(what):
    with open(told, "a") as file:
        print(name, what, file=file)


def stop(*_):
    tell("stopped")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
address = [each.split("=")[1] for each in sys.argv if each.startswith(("--address=", "--port="))][0]
port = int(address.rpartition(":")[2])
if sys.argv[1] == "status":
    socket.create_connection(("localhost", port), 1)
    sys.exit(0)
tell("started")
if head and os.environ.get("HEAD") == "fails":
    sys.exit(7)
if head and os.environ.get("HEAD") != "silent":
    time.sleep(0.5)
    listening = socket.create_server(("localhost", port))
if not head:
    socket.create_connection(("localhost", port), 1)
    tell("joined")
while not (os.environ.get("DIES") == name and pathlib.Path(told + ".launched").exists()):
    time.sleep(0.1)
tell("died")
sys.exit(9)
"""


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_names_only_what_is_there_and_can_be_stopped_and_requeued(job: Path) -> None:
    text = job.read_text()
    assert subprocess.run(["bash", "-n", job], check=False).returncode == 0
    named = NAMED.findall(text)
    assert named and all((PROJECT / name).is_file() for name in named)
    assert "scripts/lib/slurm_job.sh" in text and "run_to_the_end" in text
    assert '"$@"' in text and "--mem" in text
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
        "bin/scancel": SCANCEL,
        "bin/scontrol": SCONTROL,
        "bin/sleep": SLEEP,
        ".venv/bin/python": '#!/usr/bin/env bash\nexec bash "$@"\n',
        "exp/serve.py": SERVE,
        ".venv/bin/ray": RAY,
        "scripts/magpie_math.sh": LAUNCHER,
        "scripts/magpie-deepseek-r1.sh": LAUNCHER,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    return root


def job(project: Path, *arguments: str, script: str = "replicas", **more: str) -> subprocess.Popen[str]:
    """Start a job as Slurm does: a copy of the script, far from the project."""
    copy = project.parent / "slurm_script"
    shutil.copy(project / "scripts" / "slurm" / f"{script}.sbatch", copy)
    env = clean_environment(
        PATH=f"{project / 'bin'}:{os.environ['PATH']}",
        SLURM_SUBMIT_DIR=str(project),
        SLURM_JOB_ID="77",
        SLURM_JOB_NAME="night",
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_JOB_NUM_NODES="2",
        SLURM_NTASKS="2",
        REPLICA_PAUSE="1.0",  # not shortened: the URL has to be seen missing
        TOLD=str(project.parent / "told"),
        **more,
    )
    return subprocess.Popen(["bash", copy, *arguments], env=env, text=True, stderr=subprocess.PIPE, start_new_session=True)


def told(project: Path) -> list[str]:
    path = project.parent / "told"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(project: Path, what: Callable[[], object]) -> None:
    ends = time.monotonic() + 300
    while not what():
        assert time.monotonic() < ends, told(project)
        time.sleep(0.1)


def wait_until_launched(project: Path) -> None:
    wait_for(project, (project.parent / "told.launched").exists)


def started_servers(project: Path) -> list[tuple[int, int, int]]:
    """Return number, process and engine of every server that was started."""
    found = re.findall(r"^server (\d) is (\d+) with engine (\d+)", "\n".join(told(project)), re.MULTILINE)
    return [(int(number), int(process), int(engine)) for number, process, engine in found]


def is_running(pid: int) -> bool:
    """Whether a process is there, and not only waiting for the system's init to take note of its end."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check_ended_gently(project: Path) -> None:
    """No server, no engine and no URL is left, and it was not srun that ended them."""
    lines = told(project)
    assert "scancel --signal=TERM 77" in lines and "forcing job termination" not in lines
    assert {"server 0 stopped", "server 1 stopped"} <= set(lines)
    for _, process, engine in started_servers(project):
        assert not is_running(process) and not is_running(engine)
    assert not list((project / "data" / "night_77" / "urls").iterdir())


@pytest.mark.parametrize("code", [0, 2])
def test_replicas_serve_a_launcher_and_are_stopped_and_its_exit_code_is_the_jobs(project: Path, code: int) -> None:
    running = job(project, "--all", CODE=str(code), MODEL="owner/model", NUM_PROBLEMS="12")
    assert running.wait(300) == code, running.communicate()[1]
    lines = told(project)
    assert "launched owner/model 12 --all as night_77" in lines
    keys = [line.split()[2] for line in lines if line.startswith("key")]
    assert len(keys) == 2 and len(set(keys)) == 1 and len(keys[0]) == 48
    assert sum("--host 0.0.0.0 --url_file" in line for line in lines) == 2
    urls = (project.parent / "told.urls").read_text().split()
    assert urls == ["http://127.0.0.1:9000/v1", "http://127.0.0.1:9001/v1"]
    check_ended_gently(project)


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_out_of_time_it_stops_its_servers_and_goes_back_into_the_queue(
    project: Path, number: signal.Signals, requeued: bool
) -> None:
    running = job(project, SLOW="1")
    wait_until_launched(project)
    running.send_signal(number)
    assert running.wait(300) != 0
    lines = told(project)
    check_ended_gently(project)
    assert lines.index("launcher stopped") < lines.index("server 0 stopped")
    assert ("requeue 77" in lines) == requeued


def test_a_server_that_is_killed_is_started_again_and_its_url_is_not_listed_meanwhile(project: Path) -> None:
    running = job(project, SLOW="1")
    wait_until_launched(project)
    url = project / "data" / "night_77" / "urls" / "1"
    _, process, engine = next(each for each in started_servers(project) if each[0] == 1)
    os.kill(process, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)  # the real one's guard does it
    wait_for(project, lambda: not url.exists())
    wait_for(project, lambda: len(started_servers(project)) == 3 and url.exists())
    running.send_signal(signal.SIGTERM)
    assert running.wait(300) == 143
    assert "Server 1 was killed or has failed (exit code 137); starting it again (1 of 3)" in running.communicate()[1]
    check_ended_gently(project)


def test_servers_that_refuse_to_start_end_the_job_and_are_not_started_again(project: Path) -> None:
    running = job(project, REFUSE="1")
    assert running.wait(300) == 2
    said = running.communicate()[1]
    assert "error: no server has started. Their logs say why" in said and "starting it again" not in said
    assert not [line for line in told(project) if line.startswith("launched")]


def test_when_no_server_is_left_the_job_ends_instead_of_waiting(project: Path) -> None:
    running = job(project, SLOW="1", GIVES_UP="1")
    assert running.wait(300) == 2
    said = running.communicate()[1]
    assert "error: the last of the servers has ended (exit code 2): this job cannot go on without it" in said
    assert "JOB_NAME=night_77" in said and "launcher stopped" in told(project)


# --- one model over two nodes -----------------------------------------------------------------------------------------


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def on_two_nodes(project: Path, port: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return job(project, *arguments, script="r1_two_nodes_ray", RAY_PORT=port, **more)


def test_the_workers_come_after_the_head_and_all_end_with_the_launcher(project: Path, port: str) -> None:
    running = on_two_nodes(project, port, "--all", NUM_PROBLEMS="12", CODE="3")
    assert running.wait(300) == 3, running.communicate()[1]
    lines = told(project)
    assert lines[0] == "head started" and "worker joined" in lines
    assert "launched deepseek-ai/DeepSeek-R1 12 --all as night_77" in lines
    assert {"head stopped", "worker stopped"} <= set(lines) and "forcing job termination" not in lines


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("silent", "error: the head of the Ray cluster does not come up at localhost:"),
        ("fails", "error: the head of the Ray cluster on localhost has ended (exit code 7)"),
    ],
)
def test_a_head_that_does_not_come_up_ends_the_job_before_anything_else_starts(
    project: Path, port: str, head: str, said: str
) -> None:
    running = on_two_nodes(project, port, HEAD=head, RAY_PATIENCE="3" if head == "silent" else "300")
    assert running.wait(300) == 2
    assert said in running.communicate()[1]
    assert {line.split()[0] for line in told(project)} <= {"head", "scancel"}
    assert ("head stopped" in told(project)) == (head == "silent")


@pytest.mark.parametrize(
    ("dies", "stays", "said"),
    [
        ("worker", "head", "a worker of the Ray cluster has ended (exit code 9): this job cannot go on without it"),
        ("head", "worker", "the head of the Ray cluster on localhost has ended (exit code 9)"),
    ],
)
def test_a_node_that_is_lost_ends_the_job(project: Path, port: str, dies: str, stays: str, said: str) -> None:
    running = on_two_nodes(project, port, SLOW="1", DIES=dies)
    assert running.wait(300) == 2
    assert said in running.communicate()[1]
    lines = told(project)
    assert {f"{dies} died", "launcher stopped", f"{stays} stopped"} <= set(lines)
    assert lines.index("launcher stopped") < lines.index(f"{stays} stopped")


def test_out_of_time_on_two_nodes_it_stops_and_goes_on_after_the_requeue(project: Path, port: str) -> None:
    for _ in range(2):
        (project.parent / "told.launched").unlink(missing_ok=True)
        running = on_two_nodes(project, port, SLOW="1")
        wait_until_launched(project)
        running.send_signal(signal.SIGUSR1)
        assert running.wait(300) == 143
    lines = told(project)
    assert [line for line in lines if line.startswith("launched")] == ["launched deepseek-ai/DeepSeek-R1 5000 as night_77"] * 2
    assert lines.count("requeue 77") == lines.count("worker stopped") == lines.count("head stopped") == 2


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

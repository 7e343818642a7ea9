"""The jobs for Slurm: whole as scripts, and run with stand-ins for Slurm and Ray."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from conftest import clean_environment
from magpie.config.load import PROJECT

JOBS = sorted((PROJECT / "scripts" / "slurm").glob("*.sbatch"))
KNOWN = {"--job-name", "--nodes", "--ntasks-per-node", "--exclusive", "--mem", "--gpus-per-node", "--time", "--requeue"}
KNOWN |= {"--open-mode", "--signal"}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_a_job_is_short_and_names_what_there_is(job: Path) -> None:
    text = job.read_text()
    assert len(text.splitlines()) <= 25
    asked = [word for line in re.findall(r"^#SBATCH (.*)$", text, re.M) for word in line.split()]
    assert asked and {word.split("=")[0] for word in asked} <= KNOWN
    for named in re.findall(r"\bscripts/[\w./-]+\.(?:sh|sbatch)\b", text):
        assert (PROJECT / named).exists(), named


@pytest.mark.parametrize(
    ("job", "ray", "model", "total", "settings"),
    [
        ("r1_one_node", False, "deepseek-ai/DeepSeek-R1", "7", {"NODES": "", "REPLICAS": ""}),
        (
            "r1_two_nodes_ray",
            True,
            "deepseek-ai/DeepSeek-R1",
            "7",
            {"NODES": "2", "BACKEND": "ray", "RAY_ADDRESS": "first:6379"},
        ),
        ("replicas", True, "Qwen/Qwen2-Math-7B-Instruct", "7", {"NODES": "", "REPLICAS": "16", "RAY_ADDRESS": "first:6379"}),
    ],
)
def test_what_a_job_starts(job: str, ray: bool, model: str, total: str, settings: dict[str, str], tmp_path: Path) -> None:
    """The project is a folder with a launcher and a `ray` that write down what they were given."""
    told = tmp_path / "told"
    names = " ".join(["JOB_NAME", *settings])
    launcher = f'#!/usr/bin/env bash\necho "$0 $*" >>{told}\nfor n in {names}; do echo "$n=${{!n:-}}" >>{told}; done\nexit 3\n'
    ray_told = f'#!/usr/bin/env bash\necho "ray $*" >>{told}\nwhile [[ $1 != -- ]]; do shift; done\nshift\nexec "$@"\n'
    stand_ins = {
        "bin/srun": '#!/usr/bin/env bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
        "bin/scontrol": "#!/usr/bin/env bash\nprintf 'first\\nsecond\\n'\n",
        "bin/ray": ray_told,
        "scripts/magpie-deepseek-r1.sh": launcher,
        "scripts/magpie_math.sh": launcher,
    }
    for name, text in stand_ins.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    slurm = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "m",
        "SLURM_JOB_NODELIST": "first,second",
    }
    slurm |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8", "NUM_PROBLEMS": "7"}
    env = clean_environment(**slurm)
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    done = subprocess.run(
        ["bash", str(PROJECT / "scripts/slurm" / f"{job}.sbatch"), "--all"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    lines = told.read_text().splitlines()
    assert any(line.startswith("ray symmetric-run --address first:6379 --min-nodes 2 -- bash ") for line in lines) == ray
    assert any(line.endswith(f".sh {model} {total} --all") for line in lines)
    assert {"JOB_NAME=m_4711", *(f"{name}={value}" for name, value in settings.items())} <= set(lines)


def test_a_job_is_for_sbatch(tmp_path: Path) -> None:
    for job in JOBS:
        done = subprocess.run(["bash", str(job)], env=clean_environment(), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode and "this is a job for sbatch" in done.stderr

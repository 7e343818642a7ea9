"""What new users typed in their first hour, and what they are told: in one line, with what was probably meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import clean_environment
from magpie.cli.parser import Parser, folded
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model


def told(*words: str) -> str:
    """Return the last line of a program that refuses."""
    run = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=clean_environment(), cwd=PROJECT)
    assert run.returncode == 2, run
    assert "Traceback" not in run.stderr
    return run.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gen_res.py", "--input-file", "x"], "--input-file; did you mean --input_file?"),
        (["gen_res.py", "--model", "smollm2"], "--model; did you mean --model_path?"),
        (["gen_res.py", "--num_response=3"], "--num_response; did you mean --num_responses?"),
        (["gen_res.py", "--batch_size", "8"], "not needed: a server batches by itself"),
        (["gen_res.py", "--engine", "vllm"], "not needed: the engine is vLLM"),
        (["gen_ins.py", "--tensor_parallel_size", "4"], "set TENSOR_PARALLEL"),
        (["gen_res.py", "--votes", "8"], "here it is --num_responses"),
        (["filter.py", "--confg", "sft"], "--confg; did you mean --config?"),
        (["gen_ins.py", "--model_path", "smolm2", "--total_prompts", "2"], "no model 'smolm2': did you mean smollm2?"),
        (["run_job.py", "main", "--", "qwen2-math", "10"], "did you mean qwen2-math-7b?"),
        (["run_job.py", "main", "--", "smollm2", "4", "--vote", "8"], "did you mean --votes or --vote_flags?"),
        (["run_job.py", "main", "--", "smollm2", "4", "--concepts", "2"], "INS_FLAGS='--concepts 2'"),
        (["run_job.py", "main", "--", "smollm2", "4", "--max_tokens", "9"], "RES_FLAGS='--max_tokens …'"),
        (["run_job.py", "main", "--", "smollm2", "4", "--overwrite"], "set another JOB_NAME"),
        (["run_job.py", "main", "--", "smollm2", "4", "--tensor_parallel", "two"], "a whole number from 1"),
        (["run_job.py", "main", "--", "smollm2", "4", "--backend", "slurm"], "one of mp, ray"),
        (["run_job.py", "main", "--", "100"], "100 is a count, and the model comes first"),
        (["run_job.py", "main", "--", "smollm2", "4", "--tensor_parallel_size", "2"], "did you mean --tensor_parallel?"),
    ],
)
def test_the_flag_or_name_that_was_meant(words: list[str], expected: str) -> None:
    """A near name is told; what other tools have, and this does not, is explained."""
    assert expected in told(f"exp/{words[0]}", *words[1:])


@pytest.mark.parametrize("given", ["algebra", "Algebra", " ALGEBRA", "Number-Theory", "number theory", "number_theory"])
def test_a_choice_in_other_spelling(given: str) -> None:
    """Capitals, dashes and spaces make no difference."""
    parser = Parser("")
    parser.add_argument("--domain", nargs="+", choices=["algebra", "number_theory"])
    assert parser.parse_args(["--domain", given]).domain[0] in ("algebra", "number_theory")


def test_a_choice_that_is_none() -> None:
    """Another word is not bent into a choice."""
    parser = Parser("")
    parser.add_argument("--domain", choices=["algebra", "number_theory"])
    with pytest.raises(MagpieError, match="invalid choice: 'alchemy'"):
        parser.parse_args(["--domain", "alchemy"])
    assert folded(["a_b"])("ab") == "ab"


@pytest.mark.parametrize("name", ["zzz", "llama", "deepseek"])
def test_other_names_of_models(name: str) -> None:
    """What is near nothing gets the list, without guard models; what begins several gets three."""
    with pytest.raises(MagpieError) as error:
        load_model(name)
    assert "guard" not in str(error.value)
    assert ("did you mean" in str(error.value)) == (name != "zzz")


@pytest.mark.parametrize("script", [*sorted((PROJECT / "scripts").glob("magpie*.sh")), PROJECT / "scripts" / "sft.sh"])
@pytest.mark.parametrize("shell", ["sh", "python"])
def test_a_launcher_in_another_shell(script: Path, shell: str) -> None:
    """One line that names bash."""
    if shell == "sh" and "bash" in Path("/bin/sh").resolve().name:
        pytest.skip("sh is bash here")
    command = [sys.executable if shell == "python" else "sh", str(script), "4"]
    run = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert run.returncode in (1, 2)
    assert run.stderr.strip() == f"error: this is for bash: bash {script}"


def test_a_route_in_the_address() -> None:
    """The route behind /v1 is cut off."""
    from magpie.client.address_files import parse_addresses

    urls, _ = parse_addresses("http://h:1/v1/completions,http://h:2/v1/chat/completions,http://h:3/v1")
    assert urls == ["http://h:1/v1", "http://h:2/v1", "http://h:3/v1"]


def test_a_hub_that_is_not_there() -> None:
    """One line, at once."""
    environment = clean_environment() | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [
        sys.executable,
        "exp/gen_ins.py",
        "--model_path",
        "no/such",
        "--total_prompts",
        "2",
        "--output_file",
        "/tmp/x.jsonl",
    ]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PROJECT, timeout=60)
    assert run.returncode == 2
    assert "cannot be reached" in run.stderr
    assert "Retry" not in run.stderr
    assert "no/such is not on this machine" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROJECT / "exp").glob("*.py")))
def test_outside_of_the_set_up(name: str) -> None:
    """A Python without the packages is told in one line; the doctor works there."""
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", START.format(program=PROJECT / "exp" / f"{name}.py")],
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    if name == "doctor":
        assert run.returncode == 0 and "usage: doctor.py" in run.stdout
    else:
        assert run.returncode == 2
        assert run.stderr.strip().endswith("First: source .venv/bin/activate")
        assert len(run.stderr.splitlines()) == 1


START = """
import runpy, sys
from pathlib import Path
program = Path("{program}")
sys.argv = [str(program), "--help"]
sys.path.insert(0, str(program.parent))
runpy.run_path(str(program), run_name="__main__")
"""

"""Every command of the README is run: here, or by the test that `ELSEWHERE` names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import docs as guides
import pytest

from conftest import STUB, clean_environment, finished, rows
from magpie.config.load import PROJECT

BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
TREE = re.compile(r"^## Repository layout\n\n```\n(.*?)```", re.DOTALL | re.MULTILINE)
MAIN_JOB = "engine/test_main_job.py::test_the_main_job_ends_with_its_files"
SERVER_ELSEWHERE = "test_launcher.py::test_a_server_elsewhere_is_used_and_settings_reach_the_stages"
R1 = "engine/test_r1.py::test_the_r1_launcher_on_a_tiny_model_of_its_architecture"
PACKAGE_FILES = sorted((PROJECT / "exp" / "magpie").glob("*/__init__.py"))
NEEDS_A_GPU = {
    "bash scripts/magpie-deepseek-r1.sh",
    "bash scripts/magpie-qwen2.5-math-72b.sh",
    "bash scripts/magpie-qwen2-math-7b.sh",
    'bash scripts/magpie_math.sh "meta-llama/Meta-Llama-3-70B-Instruct" 1000',
}
ELSEWHERE = {
    "bash scripts/magpie-smollm2.sh": MAIN_JOB,
    "JOB_NAME=smollm2_20261122_180321 bash scripts/magpie-smollm2.sh 64": MAIN_JOB,
    "bash scripts/magpie-smollm2.sh 32": SERVER_ELSEWHERE,
    "export MAGPIE_BASE_URL=http://127.0.0.1:8000/v1 MAGPIE_API_KEY=secret": SERVER_ELSEWHERE,
    "bash scripts/test.sh": "test_readme.py::test_every_command_of_the_readme_is_run",
    'bash scripts/magpie-deepseek-r1.sh "deepseek-ai/DeepSeek-R1" 5000 1.0 1.2 1.0 0.6': R1,
    "source .venv/bin/activate": "test_readme.py::test_stages_by_hand",
}


def commands() -> list[str]:
    """The README's commands; one in quotes over several lines is one command."""
    found: list[str] = []
    for block in BLOCK.findall((PROJECT / "README.md").read_text(encoding="utf-8")):
        pending = ""
        for line in block.splitlines():
            pending += line + "\n"
            try:
                shlex.split(pending)
            except ValueError:
                continue  # a quotation is still open
            found += [pending.strip()] if pending.strip() else []
            pending = ""
        assert not pending, block
    return found


def run(command: str, tmp_path: Path, **environment: str) -> None:
    command = command.replace("data/", f"{tmp_path}/")
    script = f"set -e; source .venv/bin/activate\n{command}"
    env = clean_environment(**environment)
    done = finished(["bash", "-c", script], env=env, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


def starting(word: str) -> list[str]:
    return [command for command in commands() if command.startswith(word)]


def test_every_command_of_the_readme_is_run():
    here = [*starting("python exp/")]
    left = [command for command in commands() if command not in {*here, *ELSEWHERE, *NEEDS_A_GPU}]
    assert left == []
    assert len(here) == 5
    for where in ELSEWHERE.values():
        file, _, name = where.partition("::")
        assert f"def {name}(" in (PROJECT / "tests" / file).read_text(encoding="utf-8")


def test_stages_by_hand(tmp_path, stub_server):
    [problems, clean, answers, export] = [c for c in starting("python exp/") if "serve.py" not in c]
    run(problems, tmp_path, **STUB)  # no server given: it starts one for itself
    assert (tmp_path / "try" / "logs" / "server-0-0.log").exists()
    run(clean, tmp_path)
    run(answers, tmp_path, **stub_server)
    run(export, tmp_path)
    assert len(rows(tmp_path / "try" / "try_ins.jsonl")) == 20
    assert len(rows(tmp_path / "try" / "try_ins_clean.jsonl")) == len(rows(tmp_path / "try" / "try_ins_clean_res.jsonl")) > 0
    assert (tmp_path / "try" / "try_ins_clean_res_sharegpt.jsonl").exists()


def test_one_server_around_several_commands(tmp_path):
    [command] = starting("python exp/serve.py")
    run(command, tmp_path, **STUB)
    assert len(rows(tmp_path / "two" / "two_ins_2res.jsonl")) == 12


PACKAGES = {path.parent.name: path.read_text(encoding="utf-8").strip().strip('"') for path in PACKAGE_FILES}


def test_a_packages_line_in_the_architecture_is_its_own_and_its_modules_are_all_there():
    page = (PROJECT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for name, line in PACKAGES.items():
        modules = sorted(path.stem for path in (PROJECT / "exp" / "magpie" / name).glob("[a-z]*.py"))
        assert f"| `{name}` | {line} | {', '.join(modules)} |\n" in page


def tree() -> list[tuple[str, str]]:
    """The repository's layout: each path with what is said of it."""
    found = TREE.search((PROJECT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert found
    return [(path, said.strip()) for path, _, said in (line.partition(" ") for line in found[1].splitlines())]


def test_the_tree_names_every_file_and_folder():
    paths = [path for path, _ in tree()]
    assert sorted(set(paths)) == sorted(paths)
    shared = {f"exp/magpie/{path.name}" for path in (PROJECT / "exp" / "magpie").glob("[a-z]*.py")}
    shared |= {f"exp/magpie/{name}/" for name in PACKAGES}
    folders = {f"configs/{path.name}{'/' * path.is_dir()}" for path in (PROJECT / "configs").iterdir()}
    pages = {path.name for path in PROJECT.glob("*.md")}
    assert (shared | folders | pages) - set(paths) == set()
    stages = {f"exp/{path.name}" for path in (PROJECT / "exp").glob("*.py")}
    for name in ("README.md", "README.ja.md"):
        text = (PROJECT / name).read_text(encoding="utf-8")
        assert {stage for stage in stages if f"`{stage}`" not in text} == set()


def test_what_the_tree_names_is_there():
    assert [path for path, _ in tree() if not list(PROJECT.glob(path))] == []
    assert [path for path, _ in tree() if path.endswith("/") != (PROJECT / path).is_dir()] == []
    assert [path for path, said in tree() if not said] == []


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_a_readme_is_short(name):
    assert len((PROJECT / name).read_text(encoding="utf-8").splitlines()) <= 200


def test_the_japanese_readme_has_the_same_commands():
    english, japanese = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))
    assert BLOCK.findall(japanese) == BLOCK.findall(english)


def test_the_japanese_readme_names_the_same_stages_models_and_files():
    english, japanese = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))
    for pattern in (
        r"`exp/\w+\.py`",
        r"`magpie[-_\w.]+\.sh[^`]*`",
        r"\d+ GB(?= \|)",
        r"`…?JOB_\w+\.jsonl`",
        r"\d[\d.,:%]* ?%|\b\d+\.\d+\b",
        r"`[A-Z_]{4,}`",
        r"\]\([\w/.-]+\.md\)",
    ):
        wanted = set(re.findall(pattern, english)) - {"](README.ja.md)", "](docs/troubleshooting.md)"}
        assert wanted, pattern
        assert {name for name in wanted if name not in japanese} == set()
    assert len(re.findall(r"^##+ ", japanese, re.MULTILINE)) == len(re.findall(r"^##+ ", english, re.MULTILINE))


def test_the_plans_of_the_readme_are_those_of_plan():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"`python exp/plan\.py ([^`]+)` says ([\d.]+) million[^,]*, ([\d.]+) hours", text)
    assert len(said) == 2
    for arguments, tokens, hours in said:
        plan = guides.plan_of(arguments)
        assert re.search(rf"^tokens written +{re.escape(tokens)} million$", plan, re.MULTILINE)
        assert re.search(rf"^hours +{re.escape(hours)}$", plan, re.MULTILINE)

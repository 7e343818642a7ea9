"""The package: programs and configurations beside the modules; the rest is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ENGINES = ("vllm", "faiss", "torch==")
"""What depends on the machine: extras."""


def requirements(name: str) -> list[str]:
    """Return the lines of a list of requirements, without their comments."""
    lines = [line.partition(" #")[0].strip() for line in Path(name).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and line[0].isalpha()]


both = requirements("requirements.txt")
setup(
    include_package_data=False,
    packages=[*find_packages("exp", include=["magpie*"]), "magpie.programs", "magpie.configs"],
    package_dir={"": "exp", "magpie.programs": "exp", "magpie.configs": "configs"},
    package_data={"magpie.configs": ["**/*"], "magpie": ["*/*.html", "*/*.css", "*/*.js", "*/*.npz"]},
    install_requires=[line for line in both if not line.startswith(ENGINES)],
    extras_require={
        "gpu": [line for line in both if line.startswith(ENGINES)],
        "cpu": [line for line in requirements("requirements-cpu.txt") if line.startswith(ENGINES)],
    },
)

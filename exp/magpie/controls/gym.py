"""reasoning-gym: its families of mathematics, their problems and their scorers."""

from __future__ import annotations

import importlib
import re
import sys
from functools import cache, lru_cache
from importlib.util import find_spec, module_from_spec
from typing import Any

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import config_path, load

PACKAGE = "reasoning_gym"
LEVELS = ["easy", "medium", "hard"]
LONGEST = 400


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A family of `configs/controls.yaml`."""

    module: str
    domain: str
    levels: dict[str, dict[str, Any]]
    wordings: list[str]
    least: int = 0


@cache
def load_families() -> dict[str, Family]:
    """Return the families by their names in reasoning-gym."""
    return load(config_path("controls.yaml"), dict[str, Family])


@lru_cache(maxsize=1)  # its answers are scored one after the other
def problem(family: str, level: str, seed: int) -> tuple[Any, dict[str, Any]]:
    """Return reasoning-gym's dataset of one problem, and the problem."""
    settings = load_families()[family]
    _import(settings.module)
    create = importlib.import_module(f"{PACKAGE}.factory").create_dataset
    made = create(family, seed=seed, size=1, **settings.levels[level])
    return made, made[0]


def _import(module: str) -> None:
    """Import a module of reasoning-gym, but not its packages' __init__: they import all its games and their dependencies."""
    for package in (PACKAGE, f"{PACKAGE}.{module.partition('.')[0]}"):
        if package not in sys.modules:
            if (spec := find_spec(package)) is None:
                raise MagpieError("reasoning-gym is not installed, which controls are made with. Run bash scripts/setup.sh")
            sys.modules[package] = module_from_spec(spec)
    importlib.import_module(f"{PACKAGE}.{module}")


SAFE = re.compile(
    r"(?:\d{1,20}(?:\.\d{1,20})?(?:i(?!\w))?|(?<!\w)[a-zA-Z](?![\w(])|(?<!\))\*\*\d{1,2}(?!\d|\s*\*\*)"
    r"|(?<!\*)\*(?!\*)|[-+/(),. ])*"
)
"""What a scorer may read: sums and products of numbers and letters. Some of them call `eval` (SymPy's parse_expr)."""
_LATEX = (
    (re.compile(r"\\[()\[\]!,;:]|\\left|\\right|\$|\\ |\^\{?\\circ\}?"), ""),
    (re.compile(r"\\[dt]?frac\{([^{}]{1,60})\}\{([^{}]{1,60})\}"), r"\1/\2"),
    (re.compile(r"\\(?:cdot|times)\b"), "*"),
    (re.compile(r"\^\{?(\d{1,2})\}?"), r"**\1"),
    (re.compile(r"(?<=[\d)])\s*(?=[a-hj-zA-Z(])"), "*"),
)


def plain(answer: str) -> str:
    """Return a final answer without its LaTeX, as reasoning-gym's scorers read it."""
    for pattern, text in _LATEX:
        answer = pattern.sub(text, answer)
    return answer.strip()


def scored(control: dict[str, Any], answer: str | None) -> bool | None:
    """Return whether reasoning-gym calls an answer right; None if it cannot read it, or now generates another problem."""
    from magpie.controls.planting import worded

    text = plain(answer) if answer and len(answer) <= LONGEST else ""
    if not text or not SAFE.fullmatch(text) or control["family"] not in load_families():
        return None
    family, level, seed = control["family"], control["difficulty"], control["seed"]
    if level not in load_families()[family].levels:
        return None
    made, entry = problem(family, level, seed)
    if worded(family, entry)[1] != control["answer"]:
        return None
    return bool(made.score_answer(text, entry) >= 1)

"""Controls: problems of reasoning-gym in the words of ordinary ones, each with its exact answer."""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from magpie.common.console import MagpieError
from magpie.common.seeds import hashed_seed
from magpie.controls.gym import load_families, problem

TRIES = 100
SIGNS = {"+": "+", "-": "-", "*": r"\cdot", "/": r"\div"}
Fields = dict[str, str]


def planted(count: int, seed: int, families: list[str], levels: list[str]) -> list[dict[str, Any]]:
    """Return distinct controls, the same for the same seed: `instruction`, `control` and the domain that it belongs to.

    Raises:
        MagpieError: there are not enough different problems.
    """
    known, draw = load_families(), random.Random(hashed_seed(seed, "controls"))
    named = families or [name for name in known if known[name].least <= count]
    kinds = [(name, level) for name in named for level in known[name].levels if level in levels]
    draw.shuffle(kinds)
    waiting = deque(kinds)
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    while len(found) < count and waiting:
        name, level = waiting.popleft()
        for attempt in range(TRIES):
            its_seed = hashed_seed(seed, "control", len(found), attempt)
            entry = problem(name, level, its_seed)[1]
            fields, answer = worded(name, entry)
            text = draw.choice(known[name].wordings).format_map(fields)
            its_own = (name, answer, *sorted(re.findall(r"\d+", " ".join(fields.values()))))  # in any words and order
            if its_own not in found and FIT.get(name, bool)(entry["metadata"]):
                control = {"family": name, "difficulty": level, "seed": its_seed, "answer": answer}
                found[its_own] = {"instruction": text, "control": control, "domain": known[name].domain}
                waiting.append((name, level))
                break
    if len(found) < count:
        raise MagpieError(f"--planted {count}: there are {len(found)} different problems. Plant fewer, or of more families")
    return list(found.values())


def worded(family: str, entry: dict[str, Any]) -> tuple[Fields, str]:
    """Return the values for a problem's wordings, and its exact answer."""
    told = entry["metadata"]
    if family in SPECIAL:
        return SPECIAL[family](told)
    return {name: _field(value) for name, value in told.items()}, latex(entry["answer"].removesuffix(" + C"))


def latex(text: str) -> str:
    """Return an expression of reasoning-gym (Python's notation) as LaTeX."""
    text = re.sub(r"\*\*(\d+)", r"^{\1}", text)
    return re.sub(r"(?<=\d) ?\* ?(?=\d)", r" \\times ", text).replace("*", "")


def listed(values: Any) -> str:
    """Return numbers as a sentence has them: $1$, $2$ and $3$."""
    *first, last = [f"${_number(value)}$" for value in values]
    return f"{', '.join(first)} and {last}" if first else last


def _field(value: Any) -> str:
    if isinstance(value, str):
        return latex(value)
    return listed(value) if isinstance(value, (list, tuple)) and value else _number(value)


def _number(value: Any) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _dice(told: dict[str, Any]) -> tuple[Fields, str]:
    puzzle = told["puzzle"]
    sides = [int(size) for size in re.findall(r"d(\d+)", puzzle["dice_str"])]
    return {"sides": listed(sides), "target": str(puzzle["target"])}, str(Fraction(puzzle["num"], puzzle["den"]))


def _coins(told: dict[str, Any]) -> tuple[Fields, str]:
    how = "exactly" if told["problem_type"] == "exact" else "at least"
    heads = f"${told['k_heads']}$ head{'' if told['k_heads'] == 1 else 's'}"
    chance = Fraction(told["rational"]["numerator"], told["rational"]["denominator"])
    return {"num_trials": str(told["num_trials"]), "how": how, "heads": heads}, str(chance)


def _complex(told: dict[str, Any]) -> tuple[Fields, str]:
    first, second, result = (_complex_number(*told[key]) for key in ("num1", "num2", "result"))
    return {"first": f"({first})", "second": f"({second})", "sign": SIGNS[told["operation"]]}, result


def _complex_number(real: float, imaginary: float) -> str:
    size = "" if abs(imaginary) == 1 else _number(abs(imaginary))
    if not imaginary:
        return _number(real)
    if not real:
        return f"{'-' * (imaginary < 0)}{size}i"
    return f"{_number(real)} {'-' if imaginary < 0 else '+'} {size}i"


def _numbers(told: dict[str, Any]) -> tuple[Fields, str]:
    return {"candidates": listed(told["candidates"]), "size": told["size"]}, _number(told["solution"])


SPECIAL: dict[str, Callable[[dict[str, Any]], tuple[Fields, str]]] = {
    "dice": _dice,
    "coin_flip": _coins,
    "complex_arithmetic": _complex,
    "number_format": _numbers,
}
"""Families whose problems are not stated in numbers, lists and expressions alone."""
FIT: dict[str, Callable[[dict[str, Any]], bool]] = {
    "simple_geometry": lambda told: 0 < told["missing_angle_raw"] < 180,
    "polynomial_multiplication": lambda told: "(" in told["polynomial_expr"],
}
"""Families with some degenerate problems: polygons that are not convex, products of one factor."""

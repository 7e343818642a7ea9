"""`configs/evolution/ways.yaml`: the prompts for a harder problem."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from magpie.config.load import config_path, load


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to make a harder problem: the task for the model, and the number of parents."""

    task: str
    parents: int = 1


class Ways(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ways, and the prompt around each of them."""

    prompt: str
    problem: str
    ways: dict[str, Way]

    def __post_init__(self) -> None:
        """Refuse prompts without their placeholders."""
        if not self.ways or any(way.parents not in (1, 2) for way in self.ways.values()):
            raise ValueError("`ways` needs at least one way, each with one parent or two")
        if "{problems}" not in self.prompt or "{task}" not in self.prompt or "{problem}" not in self.problem:
            raise ValueError("`prompt` needs {problems} and {task}, `problem` needs {problem}")

    def ask(self, name: str, problems: Sequence[str]) -> str:
        """Return the prompt for a problem harder than these; model-written text is filled in last."""
        numbers = [f" {n + 1}" if len(problems) > 1 else "" for n in range(len(problems))]
        shown = "\n\n".join(
            self.problem.replace("{number}", number).replace("{problem}", problem)
            for number, problem in zip(numbers, problems, strict=True)
        )
        return self.prompt.replace("{task}", self.ways[name].task).replace("{problems}", shown)


@cache
def load_ways() -> Ways:
    """Return the ways to make a harder problem."""
    return load(config_path("evolution", "ways.yaml"), Ways)

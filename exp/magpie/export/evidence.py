"""A card's evidence: rows drawn at random, and how the dataset was made."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import Any

from magpie.common.reservoir import Reservoir
from magpie.config.load import IS_CLONE
from magpie.export.formats import of_response
from magpie.runs.provenance import Provenance, command, provenance
from magpie.runs.run_file import PACKAGE, RunFile, versions
from magpie.verification.votes import asked_for, is_right, is_verified

SHOWN_ROWS, SHORT = 10, 160
OF_THIS_MACHINE = re.compile(r"\w+://[^\s,]+|\b\d+\.\d+\.\d+\.\d+(?::\d+)?\b|(?:^|(?<=[=@,]))/[^,]*/")
"""An address, or the folder of a file."""
CITATION = """@inproceedings{xu2025magpie,
  title={Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned LLMs with Nothing},
  author={Xu, Zhangchen and Jiang, Fengqing and Niu, Luyao and Deng, Yuntian and Poovendran, Radha and Choi, Yejin and
    Lin, Bill Yuchen},
  booktitle={International Conference on Learning Representations},
  year={2025},
  url={https://arxiv.org/abs/2406.08464}
}"""
LICENSES = {
    "apache-2.0": ("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": ("MIT License", "https://opensource.org/license/mit"),
    "cc0-1.0": ("CC0 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "cc-by-4.0": ("Creative Commons Attribution 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-sa-4.0": ("Creative Commons Attribution-ShareAlike 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "cc-by-nc-4.0": ("Creative Commons Attribution-NonCommercial 4.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
    "odc-by": ("Open Data Commons Attribution License", "https://opendatacommons.org/licenses/by/1-0/"),
}
"""Name and address of the usual licenses of datasets, by the hub's names."""
FROM = {
    "domain": "unitag.py: by its embedding, or a model's label",
    "difficulty": "unitag.py: a model's label",
    "difficulty_measured": "verify.py: from pass_rate",
    "validity": "unitag.py: a model's votes",
    "input_quality": "unitag.py: a model's label",
    "language": "unitag.py",
    "answer_type": "clean_ins.py",
    "answer": "verify.py: the reference answer, else the majority's",
    "answer_source": "verify.py: reference (it was given) or majority (a vote)",
    "majority_answer": "verify.py: the majority's, where there is a reference answer",
    "agreement": "verify.py: the largest group's share of the votes",
    "pass_rate": "verify.py: the share of responses that are right, or the majority's",
    "instruct_reward": "unitag.py: a reward model's score",
    "source": "concat.py: the input's name, or the input's own",
    "problem_model": "gen_ins.py",
    "answer_model": "gen_res.py",
}
"""Origin of the values of METADATA; export.py builds every other column from the record."""


class Sample:
    """Rows drawn at random from the stream, the same for the same records and seed; and the number of verified ones."""

    def __init__(self, seed: int = 0) -> None:
        self._drawn = Reservoir[tuple[str, ...]](SHOWN_ROWS, seed)
        self.verified = 0

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The shown part of the drawn records."""
        return self._drawn.kept

    def add(self, record: dict[str, Any]) -> None:
        """Count a record, and keep it if it is drawn."""
        self.verified += is_right(record)
        self._drawn.offer(lambda: _shown(record))


def _shown(record: dict[str, Any]) -> tuple[str, ...]:
    thought = of_response(record, "reasoning")
    text = thought if isinstance(thought, str) and thought else record.get("response") or ""
    return (_short(record.get("instruction") or record.get("prompt")), _short(text), _votes(record), verdict(record))


def _short(value: Any) -> str:
    if isinstance(value, list):  # a preference's prompt: messages
        value = value[-1].get("content") if value else ""
    text = " ".join(str(value or "").split())
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def _votes(record: dict[str, Any]) -> str:
    groups = record.get("answer_groups")
    if not groups:
        return "–"
    counts = Counter(group for group in groups if group is not None)
    asked = asked_for(record, len(groups))
    most = max(counts.values(), default=0)
    if (answer := record.get("majority_answer")) is not None:
        return f"{most} of {asked} for {answer}"
    if not counts:
        return f"none of {asked} has an answer"
    return f"a tie, {most} of {asked} each" if most > 1 else f"no two of {asked} agree"


def verdict(record: dict[str, Any]) -> str:
    """Return what is known about a row's answer."""
    correct = True if record.get("why") == "reference" else of_response(record, "is_correct")
    if isinstance(correct, list):
        index = 0 if len(correct) == 1 else record.get("response_index")  # of the one that verify.py --choose kept
        correct = correct[index] if index is not None and index < len(correct) else None
    if correct is not None:
        return "right by the reference answer" if correct else "wrong by the reference answer"
    return "verified by votes" if is_verified(record) else "not verified"


def made_rows(runs: list[RunFile]) -> list[tuple[str, str, str, str]]:
    """Return each stage's commit, engine and GPUs. This export is the last of them."""
    here = RunFile(stage="export.py", versions=versions(), provenance=[provenance()])
    stages: dict[tuple[str, str, str], list[str]] = {}
    for run in (*runs, here):
        without = "not known" if run.window or not run.provenance else "–"  # a window: a model was queried
        for entry in run.provenance or [Provenance()]:
            gpus = ", ".join(f"{count} x {name}" for name, count in Counter(entry.gpus).items())
            driver = f", driver {entry.driver}" if entry.driver else ""
            engine = entry.engine.version if entry.engine else without
            key = (_commit(run, entry), engine, gpus + driver or (without if not entry.engine else "–"))
            stages.setdefault(key, []).append(run.stage)
    return [(", ".join(dict.fromkeys(names)), *key) for key, names in stages.items()]


def _commit(run: RunFile, entry: Provenance) -> str:
    if entry.commit:
        return entry.commit if entry.clean else f"{entry.commit}, with local changes"
    return f"version {run.versions[PACKAGE]}" if PACKAGE in run.versions and not IS_CLONE else "not known"


def commands(runs: list[RunFile]) -> list[str]:
    """Return the commands of the stages, from their run files, and of this export, with the engines' flags above them.

    Folders and addresses of this machine are left out.
    """
    lines: list[str] = []
    for run in runs:
        engines = [f"# {each.version}: {each.flags}" for entry in run.provenance if (each := entry.engine) and each.flags]
        given = [_portable(entry.command) for entry in run.provenance if entry.command]
        lines += [*engines, *(given or [shlex.join(["python", f"exp/{run.stage}", *_flags(run.arguments)])])]
    return list(dict.fromkeys([*lines, _portable(command())]))


def _flags(arguments: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in arguments.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list) and value:
            words += [f"--{name}", *(_elsewhere(str(one)) for one in value)]
        elif isinstance(value, (str, int, float)) and value != "":
            words += [f"--{name}", _elsewhere(str(value))]
    return words


def _portable(line: str) -> str:
    try:
        words = shlex.split(line)
    except ValueError:  # changed by hand
        return "# a command that cannot be read"
    return shlex.join(map(_elsewhere, words))


def _elsewhere(word: str) -> str:
    """Return a word of a command without anything specific to this machine."""
    return OF_THIS_MACHINE.sub(lambda found: "" if found[0].startswith("/") else "…", word)


def revisions(runs: list[RunFile]) -> dict[str, str]:
    """Return the revisions of the models that the runs loaded, by the names that records have."""
    found: dict[str, dict[str, None]] = {}
    for name, revision in (each for run in runs for entry in run.provenance for each in entry.models.items()):
        if revision:
            found.setdefault(name, {})[revision] = None
    return {name: " and ".join(several) for name, several in found.items()}

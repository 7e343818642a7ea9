"""The argument parser of all programs: errors in one line, with the flag or value that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from magpie.cli.inputs import take_sources
from magpie.common import events, outcome
from magpie.common.console import MagpieError, printable

ELSEWHERE = {
    "batch_size": "not needed: a server batches by itself (--max_in_flight: requests sent to it at once)",
    "engine": "not needed: the engine is vLLM, or any OpenAI-compatible server by --base_url",
    "tensor_parallel_size": "for a launcher set TENSOR_PARALLEL; a stage that starts its own server chooses it",
    "gpu_memory_utilization": "for a launcher set ENGINE_FLAGS; a stage that starts its own server chooses it",
    "max_model_len": "for a launcher set MAX_MODEL_LEN; a stage that starts its own server chooses it",
    "quantization": "for a launcher set QUANTIZATION",
    "dtype": "for a launcher set ENGINE_FLAGS",
    "device": "for a launcher CUDA_VISIBLE_DEVICES=0,1; a stage reads it from the environment too",
    "model": "a launcher's first argument is the model: bash scripts/magpie_math.sh MODEL 1000",
    "total_prompts": "it is an argument without a flag: bash scripts/magpie_math.sh MODEL 1000",
    "temperature": "problems and responses have their own: --ins_flags='--temperature 1', --res_flags='--temperature 0.6'",
    "output_file": "a job's files are in its folder under data/: JOB_NAME names it",
    "n": "the number of problems is --total_prompts, that of responses --num_responses",
    "votes": "it belongs to scripts/sft.sh; here it is --num_responses",
    "concepts": "a flag of gen_ins.py; for a launcher INS_FLAGS='--concepts 2'",
    "domain": "a flag of gen_ins.py; for a launcher INS_FLAGS='--domain …'",
    "max_tokens": "for a launcher RES_FLAGS='--max_tokens …', or INS_FLAGS for the problems",
    "outage": "for a launcher INS_FLAGS='--outage …', and the same in RES_FLAGS",
    "overwrite": "a job is not overwritten: set another JOB_NAME, or delete its folder under data/",
    "dry_run": "exp/plan.py estimates a job, and exp/serve.py MODEL --dry_run shows how the model would be started",
    "repetition_penalty": "not offered: it distorts mathematics, where symbols repeat",
}
"""Flags of Magpie's scripts and other tools, and their replacements."""


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors and without abbreviations."""

    def __init__(self, doc: str) -> None:
        super().__init__(description=doc, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, *given: Any, **more: Any) -> Any:
        """Parse, and note where to write the outcome (`add_run`)."""
        self._look_at(given[0] if given and given[0] is not None else sys.argv[1:])
        args = super().parse_args(*given, **more)
        outcome.write_to(getattr(args, "result_file", None))
        if not getattr(args, "check", True):
            events.begin(args.events, self.prog.removesuffix(".py"))
        take_sources(args)
        return args

    def parse_intermixed_args(self, *given: Any, **more: Any) -> Any:
        """Parse positional arguments in any position."""
        self._look_at(given[0] if given and given[0] is not None else sys.argv[1:])
        return super().parse_intermixed_args(*given, **more)

    def _look_at(self, words: list[str]) -> None:
        """Refuse what argparse would misread or report late, and accept other spellings of values."""
        for word in words:
            if not _is_text(word):
                raise MagpieError(f"{printable(word, 60)}: not valid UTF-8. Rename the file, or fix the value")
            if word.startswith("--") and word.endswith("=--"):  # argparse removes the value
                raise MagpieError(f"{printable(word, 60)}: -- is not a value. See {self.prog} --help")
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for word in itertools.takewhile(lambda word: word != "--", words):
            flag = word.split("=")[0]
            if flag.startswith("--") and flag not in known and " " not in flag:  # argparse asks for the required ones first
                self.error(f"unrecognized arguments: {printable(flag, 60)}{_hint(flag, known)}")
        for action in self._actions:
            if action.choices and action.type is None:
                action.type = folded(action.choices)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        if message.endswith("expected one argument"):
            message += " (a value that begins with a dash needs an equals sign: --flag='--value')"
        raise MagpieError(f"{message}{'' if message.endswith('?') else '.'} See {self.prog} --help")


def _hint(flag: str, known: list[str]) -> str:
    name = flag.lstrip("-").replace("-", "_").lower()
    names = {each.lstrip("-").replace("-", "_"): each for each in known}
    if name in names:
        return f"; did you mean {names[name]}?"
    near = [each for each in names if name.startswith(f"{each}_")]
    if not near and name in ELSEWHERE and f"{name}_path" not in names:
        return f" ({ELSEWHERE[name]})"
    near += [each for each in names if each.startswith(f"{name}_")]
    near = list(dict.fromkeys([*difflib.get_close_matches(name, names, 1, 0.85), *near]))
    return did_you_mean(names[each] for each in near or difflib.get_close_matches(name, names, 1))


def did_you_mean(near: Iterable[str]) -> str:
    """Return a question for the end of an error, with at most three names; empty if none is close."""
    shown = list(near)[:3]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""


def folded(choices: Iterable[str]) -> Callable[[str], str]:
    """Return an argparse type: the one of `choices` that differs in capitals, dashes and spaces only, else the text itself."""

    def fold(text: str) -> str:
        return text.strip().casefold().replace("-", "_").replace(" ", "_")

    meant = {fold(choice): choice for choice in choices}
    return lambda text: meant.get(fold(text), text)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True

"""From a launcher's arguments and the environment to a job's settings."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from magpie.chain.config import Job, Setting
from magpie.chain.reuse import NAMES
from magpie.cli.flags import Parser, number
from magpie.common.console import MagpieError, log
from magpie.config.model_presets import load_model
from magpie.selection.config import load_filter
from magpie.verification.early_stop import NEVER, SETTLED

ALSO_REPEATED = ("MAGPIE_BASE_URL", "RAY_ADDRESS", "DATA_DIR")
"""Other variables that the command to resume a job repeats if they are set."""

LEAST_WITH_CONTROLS, SHARE_PLANTED, LEAST_PLANTED = 200, 0.05, 20
"""Problems from which on a job gets controls by default, the controls' share, and their minimum number."""
FIELD = re.compile(r"{(\w+)}")
REWARD = "reward"
"""The mission that needs a response."""


def settings_of(
    job: Job,
    kind: str,
    arguments: list[str],
    *,
    defaults: dict[str, str],
    positional: list[str] | None = None,
    launcher: str,
    source: str = "job",
) -> dict[str, str]:
    """Return a job's settings: from the arguments, else the environment, else the launcher, else configs/jobs.

    Args:
        job: the description of `kind`.
        arguments: the launcher's own arguments.
        defaults: the launcher's defaults.
        positional: settings that the launcher takes as positional arguments (default: the job's).
        launcher: the program that the user called, for messages.
        source: what the job begins with, for messages: `job` or `file`.

    Raises:
        MagpieError: an argument is unknown, missing or wrong.
    """
    places = job.positional if positional is None else positional
    given = _parsed(job, kind, places, launcher, arguments)
    settings: dict[str, str] = {}
    for name, setting in job.settings.items():
        from_outside = os.environ.get(name.upper(), "") if setting.environment else ""
        value = given.get(name) or from_outside or defaults.get(name) or setting.default
        settings[name] = _switch(value) if setting.switch else value
        if setting.required and not settings[name]:
            raise MagpieError(setting.required.format(source=source))
        _check(name, setting, settings[name], f"--{name}" if name not in places else name.upper())
    if settings.get("votes") == "1" and load_filter(settings["filter"]).needs_votes:
        raise MagpieError(
            f"--votes 1 verifies nothing, and the filter {settings['filter']} keeps only verified records: 3 votes or more, or "
            "another filter (--filter finished)"
        )
    for name, setting in job.settings.items():
        needed = setting.needs.get(settings[name])
        if needed and not settings[needed]:
            raise MagpieError(f"--{name} {settings[name]} needs --{needed}")
    if idle := ", ".join(f"--{name}" for name in given if name in _behind_all(job, settings)):
        log.warning("nothing reads %s without --all. Later: bash scripts/sft.sh JOB, with these flags", idle)
    return settings


def _behind_all(job: Job, settings: Mapping[str, str]) -> set[str]:
    """Return the settings that only the stages behind --all read, where it is not asked for."""
    if settings.get("all") != "false":
        return set()
    read: dict[bool, set[str]] = {True: {"missions"}, False: {"model"}}
    for stage in job.stages:
        text = repr((stage.flags, stage.more, stage.for_each))
        read["all" in stage.unless] |= {*FIELD.findall(text), *stage.only, *stage.unless} & job.settings.keys()
    return read[True] - read[False] - {"all"}


def derived(
    job: Job, settings: Mapping[str, str], done: Mapping[str, str] | None = None, earlier: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return what follows from the settings: what the model's preset decides, the filter's short name, the order of missions.

    Args:
        job: the description.
        settings: as requested.
        done: the stages that the job's source has passed already (`runs.jobs.done_before`).
        earlier: the settings that the job was begun with.
    """
    preset, rules = load_model(settings["model"]), settings.get("filter", "")
    found = dict.fromkeys(("has_clean", "has_unique", "has_validity", "has_controls", *NAMES), "") | dict(done or {})
    found |= {
        name: str(getattr(preset, setting.preset)).lower()
        for name, setting in job.settings.items()
        if setting.preset and not settings[name]
    }
    judge = found.get("judge", settings.get("judge")) == "true" and not found["has_validity"]
    missions = settings.get("missions", "").split() if settings.get("all", "true") == "true" else []
    before = [*(["validity"] if judge else []), *(name for name in missions if name not in (REWARD, "validity"))]
    found |= {"problem_missions": " ".join(before), "response_missions": REWARD if REWARD in missions else ""}
    if "stop_when" in job.settings and not settings["stop_when"]:
        begun_before = earlier is not None and "stop_when" not in earlier  # older than this setting: its votes continue
        found["stop_when"] = NEVER if begun_before or load_filter(rules).reads_rates else SETTLED
    if "planted" in job.settings:
        begun_before = earlier is not None and "planted" not in earlier  # older than controls: it continues without
        found["planted"] = settings["planted"] or ("0" if begun_before else str(planted_of(settings["total"])))
        found["has_controls"] = "" if found["planted"] == "0" else "true"
    votes_had = (earlier or {}).get("vote_flags") or (
        job.settings["vote_flags"].default if "vote_flags" in job.settings else ""
    )
    if votes_had and not settings.get("vote_flags"):  # they used to have a default
        found["vote_flags"] = votes_had
    return found | ({"filter_name": PurePath(rules).name.removesuffix(".yaml")} if rules else {})


def planted_of(total: str) -> int:
    """Return the default number of controls for a job of so many problems."""
    wanted = int(total) if total.isdecimal() else 0
    return max(LEAST_PLANTED, round(SHARE_PLANTED * wanted)) if wanted >= LEAST_WITH_CONTROLS else 0


def _parsed(job: Job, kind: str, places: list[str], launcher: str, arguments: list[str]) -> dict[str, str]:
    parser = Parser(f"The settings of a {kind} job; those marked * are also environment variables, in capitals.")
    parser.prog = launcher
    for name in places:
        parser.add_argument(name, nargs="?", metavar=name.upper(), help=job.settings[name].help)
    for name, setting in job.settings.items():
        default, mark = f" (default: {setting.default})" if setting.default else "", " *" if setting.environment else ""
        shown = f"{setting.help}{default}{mark}".replace("%", "%%")
        if name not in places and setting.switch:
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=shown)
        elif name not in places and name not in job.positional:
            bare: dict[str, Any] = {"nargs": "?", "const": setting.bare} if setting.bare else {}
            parser.add_argument(f"--{name}", metavar=name.upper(), help=shown, **bare)
    found = vars(parser.parse_intermixed_args(arguments))
    return {
        name: str(value).lower() if isinstance(value, bool) else value for name, value in found.items() if value is not None
    }


def _switch(value: str) -> str:
    return "" if not value else "false" if value.lower() in ("0", "false", "no") else "true"


def _check(name: str, setting: Setting, value: str, shown: str) -> None:
    if setting.least is not None and value and not (value.isdecimal() and int(value) >= setting.least):
        raise MagpieError(f"{shown} {value}: it must be a whole number from {setting.least}")
    if setting.number and value:
        try:
            number(float, least=0.0)(value)
        except argparse.ArgumentTypeError as error:
            raise MagpieError(f"{shown}: {error}") from error
    if setting.choices and value not in setting.choices:
        raise MagpieError(f"{shown} {value}: it must be one of {', '.join(filter(None, setting.choices))}")
    for flag, why in setting.refused.items():
        if any(word.split("=")[0] == flag for word in value.split()):
            raise MagpieError(f"{name.upper()}: {why}")


def resume_command(job: Job, launcher: str, arguments: list[str], always: dict[str, str]) -> str:
    """Return the command that resumes a job: variables that were set, the launcher (shell words) and its arguments."""
    names = [*ALSO_REPEATED, *(name.upper() for name, setting in job.settings.items() if setting.environment)]
    chosen = {name: os.environ[name] for name in names if os.environ.get(name)} | always
    words = [f"{name}={shlex.quote(value)}" for name, value in chosen.items()]
    return " ".join([*words, launcher, *map(shlex.quote, arguments)])


def new_name(model: str) -> str:
    """Return a name for a new job."""
    return f"{PurePath(model).name}_{time.strftime('%Y%m%d_%H%M%S')}"

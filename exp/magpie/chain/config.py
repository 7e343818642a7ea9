"""configs/jobs: which stages a launcher chains, in which order, with which flags, and what may be set."""

from __future__ import annotations

from typing import Literal

import msgspec

from magpie.config.load import CONFIGS, load

Flags = dict[str, str | list[str]]
"""Flag → what is filled into `{setting}`s; a list's values become several words."""


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a launcher takes as `--name`, or as the environment variable NAME."""

    help: str
    default: str = ""
    required: str = ""
    """What is said where it is missing."""
    environment: bool = True
    switch: bool = False
    """`--name` and `--no-name`: "true" and "false"."""
    preset: Literal["", "judges"] = ""
    """The key of the model's preset that decides where nobody has set it."""
    least: int | None = None
    bare: str = ""
    """What `--name` alone stands for."""
    number: bool = False
    """It is a number from 0."""
    choices: list[str] = []
    needs: dict[str, str] = {}
    """A value → the setting that must be there with it."""
    refused: dict[str, str] = {}
    """A flag that must not be among these flags → why."""


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage program, or (`include`) another job's stages."""

    name: str = ""
    program: str = ""
    include: str = ""
    server: bool | str = False
    """Whether it asks the model: yes, no, or a switch's value (`"{judge}"`)."""
    input: list[str] = []
    """Earlier stages or the job's own files: the first one that there is."""
    flags: Flags = {}
    more: str = ""
    """Further flags, as a user writes them on a command line."""
    for_each: str = ""
    """Words: the stage is run once for each of them, `{each}`."""
    only: dict[str, str] = {}
    unless: dict[str, str] = {}
    """Setting → the value with which the stage is left out (`only`: without which)."""
    if_skipped: str = ""
    if_empty: str = ""
    """What is said, and the chain ends, where it wrote no row."""

    def is_meant(self, settings: dict[str, str]) -> bool:
        """Return whether these settings ask for it."""
        return all(settings[name] == value for name, value in self.only.items()) and not any(
            settings[name] == value for name, value in self.unless.items()
        )

    def asks_model(self, settings: dict[str, str]) -> bool:
        """Return whether it asks the model with these settings."""
        return self.server is True or str(self.server).format_map(settings) == "true"


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of configs/jobs."""

    intro: str
    done: str
    positional: list[str]
    settings: dict[str, Setting]
    stages: list[Stage]
    source: str = ""
    """Whether it begins with a finished main `job`, or a `job or file`."""
    serve: Flags = {}


class _Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    settings: dict[str, Setting]
    serve: Flags


def load_job(kind: str, *, before: bool = False) -> Job:
    """Return a job's description with what all jobs have, and its included stages in place.

    Args:
        kind: the name of its file.
        before: take the order in which jobs were chained before copies were looked for first.
    """
    folder = CONFIGS / "jobs" / "before" if before else CONFIGS / "jobs"
    job, common = load(folder / f"{kind}.yaml", Job), load(CONFIGS / "jobs" / "common.yaml", _Common)
    settings, stages = common.settings | job.settings, []
    for stage in job.stages:
        if not stage.include:
            stages.append(stage)
            continue
        included = load_job(stage.include, before=before)
        taken = {name: setting for name, setting in included.settings.items() if name not in included.positional}
        settings = taken | settings
        stages += [
            msgspec.structs.replace(one, only=stage.only | one.only, unless=stage.unless | one.unless)
            for one in included.stages
            if one.name not in {known.name for known in job.stages}
        ]
    if twice := settings.keys() & {stage.name for stage in stages}:
        raise ValueError(f"configs/jobs/{kind}.yaml: {', '.join(twice)} is a setting and a stage")
    return msgspec.structs.replace(job, settings=settings, stages=stages, serve=common.serve)

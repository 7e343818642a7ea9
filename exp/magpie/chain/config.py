"""configs/jobs: the stages that a launcher chains, their order and flags, and the settings."""

from __future__ import annotations

from typing import Literal

import msgspec

from magpie.config.load import CONFIGS, load

Flags = dict[str, str | list[str]]
"""Flag → what is filled into `{setting}`s; a list's values become several words."""


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A setting of a launcher: `--name`, or the environment variable NAME."""

    help: str
    default: str = ""
    required: str = ""
    """The error if it is missing."""
    environment: bool = True
    switch: bool = False
    """`--name` and `--no-name`: "true" and "false"."""
    preset: Literal["", "judges"] = ""
    """The key of the model's preset that gives the default."""
    least: int | None = None
    bare: str = ""
    """The value of `--name` alone."""
    number: bool = False
    """It is a number, 0 or more."""
    choices: list[str] = []
    needs: dict[str, str] = {}
    """A value → the setting that it requires."""
    refused: dict[str, str] = {}
    """A flag that must not be among these flags → why."""


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage program, or (`include`) another job's stages."""

    name: str = ""
    program: str = ""
    include: str = ""
    server: bool | str = False
    """Whether it queries the model: yes, no, or a switch's value (`"{judge}"`)."""
    input: list[str] = []
    """Earlier stages or the job's own files: the first that exists."""
    flags: Flags = {}
    more: str = ""
    """Further flags, as a user writes them on a command line."""
    for_each: str = ""
    """Words: the stage is run once per word, `{each}`."""
    only: dict[str, str] = {}
    unless: dict[str, str] = {}
    """Setting → the value that skips the stage (`only`: without which it is skipped)."""
    if_skipped: str = ""
    if_empty: str = ""
    """The message with which the chain ends if the stage wrote no row."""

    def is_meant(self, settings: dict[str, str]) -> bool:
        """Return whether these settings request it."""
        return all(settings[name] == value for name, value in self.only.items()) and not any(
            settings[name] == value for name, value in self.unless.items()
        )

    def asks_model(self, settings: dict[str, str]) -> bool:
        """Return whether it queries the model with these settings."""
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
    """Return a job's description with the settings of all jobs, and its included stages in place.

    Args:
        kind: the name of its file.
        before: use the order of stages from before deduplication came first.
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

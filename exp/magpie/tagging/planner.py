"""Plan of the passes: a tagger and a pass for each mission, and the missions that are impossible on this machine or file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from magpie.common.console import MagpieError, log
from magpie.config.model_presets import ModelPreset, load_model
from magpie.generation.session import ModelOptions
from magpie.models.hardware import this_machine
from magpie.records.reading import read_rows
from magpie.runs.jobs import model_of
from magpie.serving.parallelism import layout
from magpie.tagging.guard_models import guard_form
from magpie.tagging.missions import ASKED, MISSIONS, VALIDITY
from magpie.tagging.passes import Pass
from magpie.tagging.taggers import LocalTagger, domain_tagger, reward_tagger, tag_languages

ALL = "all"
EMBEDDING, DETECTOR = "all-MiniLM-L6-v2", "lingua"


@dataclass(frozen=True)
class TagOptions:
    """Flags of unitag.py that decide which mission is done by which tagger."""

    input_file: Path
    tag_mission: list[str]
    tagger: str
    model_path: str | None
    guard_model: str | None
    guard_url: str | None
    reward_model: str | None
    trust_remote_code: bool


class _NotPossible(Exception):
    """A mission is impossible here; says why, and the remedy."""


def choose_passes(options: TagOptions, model: ModelOptions) -> tuple[list[Pass], dict[str, str]]:
    """Return the passes over the file, and the missions that `all` leaves out, each with the reason.

    Raises:
        MagpieError: a requested mission is impossible.
    """
    everything = ALL in options.tag_mission
    names = list(MISSIONS) if everything else [name for name in MISSIONS if name in options.tag_mission]
    first = next((row.record for row in read_rows(options.input_file) if row.record is not None), {})
    choice = _Choice(options, model, first)
    left_out: dict[str, str] = {}
    for name in names:
        try:
            choice.add(name)
        except _NotPossible as error:
            if not everything:
                raise MagpieError(f"{name}: {error}") from error
            left_out[name] = str(error)
    return choice.passes(), left_out


class _Choice:
    """Collects missions into at most three passes: the reward model, the language model with what needs no model, the guard."""

    def __init__(self, options: TagOptions, model: ModelOptions, first: dict[str, Any]) -> None:
        self._options, self._first = options, first
        self._main, self._guard, self._reward = Pass({}, model), Pass({}, model), Pass({}, model)
        self._model_path = options.model_path or model_of(first)
        self._refused = ""

    def passes(self) -> list[Pass]:
        """Return the passes that have something to do."""
        return [each for each in (self._reward, self._main, self._guard) if each.taggers]

    def add(self, name: str) -> None:
        """Put a mission into its pass, or raise `_NotPossible`."""
        if name == "language":
            self._main.taggers[name] = DETECTOR
            self._main.local[name] = tag_languages
        elif name == "domain" and self._options.tagger == "embedding":
            self._main.taggers[name] = EMBEDDING
            self._main.local[name] = _late(domain_tagger)
        elif name in (*ASKED, VALIDITY):
            if name == VALIDITY and ALL in self._options.tag_mission and not self._language_model().judges:
                raise _NotPossible(
                    f"{self._language_model().model} is not known to be large enough to judge. Name the mission to force it"
                )
            self._main.preset = self._main.preset or self._language_model()
            self._main.taggers[name] = self._main.preset.model
        elif name == "safety":
            self._add_guard(name)
        else:
            self._add_reward(name)

    def _language_model(self) -> ModelPreset:
        if self._refused:
            raise _NotPossible(self._refused)
        try:
            return self._loaded_language_model()
        except _NotPossible as error:
            self._refused = str(error)
            raise

    def _loaded_language_model(self) -> ModelPreset:
        if not self._model_path:
            raise _NotPossible("no language model: the file does not say which model wrote it. Name one with --model_path")
        preset = load_model(self._model_path)
        if guard_form(preset):
            raise _NotPossible(
                f"{preset.model} is a guard model, which only does safety. Name a language model with --model_path"
            )
        self._check_fit(preset, self._main.model)
        if not self._options.model_path:
            log.info("the tagger is the model that wrote the file: %s", preset.model)
        return preset

    def _add_guard(self, name: str) -> None:
        given = self._options.guard_model
        named: str | None = given or self._model_path
        preset = load_model(named) if named else None
        form = guard_form(preset) if preset else None
        if preset is None or (form is None and not given):
            raise _NotPossible("no guard model given. Name one with --guard_model, like qwen3guard-gen-8b or llama-guard-3-8b")
        if form is None:
            raise _NotPossible(f"{preset.model} is not a guard model with readable verdicts (Qwen3Guard-Gen, Llama-Guard-3)")
        if given:
            self._guard.model = replace(
                self._guard.model,
                base_url=self._options.guard_url,
                served_model=None,
                tokenizer=None,
                api="auto",
                template_variables={},
            )
        self._check_fit(preset, self._guard.model)
        self._guard.preset, self._guard.taggers = preset, {name: preset.model}

    def _add_reward(self, name: str) -> None:
        model = self._options.reward_model
        if not model:
            raise _NotPossible("no reward model given. Name one with --reward_model")
        if not self._first.get("response"):
            raise _NotPossible("it needs records with one `response`, and these have none")
        self._reward.taggers[name] = str(Path(model).name) if Path(model).is_dir() else model
        self._reward.local[name] = _late(lambda: reward_tagger(model, trust_remote_code=self._options.trust_remote_code))

    def _check_fit(self, preset: ModelPreset, model: ModelOptions) -> None:
        if not model.base_url:
            try:
                layout(preset, this_machine())
            except MagpieError as error:
                raise _NotPossible(str(error)) from error


def _late(load: Callable[[], LocalTagger]) -> LocalTagger:
    """Return a tagger that is loaded when its first records arrive."""
    loaded = cache(load)
    return lambda records: loaded()(records)

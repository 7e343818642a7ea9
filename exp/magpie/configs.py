"""Configurations: the models, the fields of mathematics and the prompts, read from `configs/` and checked while reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from magpie.console import MagpieError
from magpie.records import DOMAINS

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = PROJECT / "configs"
T = TypeVar("T")


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sampling settings; `max_tokens` in tokens."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 2048


class ServerPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine's flags (without the leading dashes), and what only a machine without a GPU needs."""

    flags: dict[str, Any] = {}
    cpu_flags: dict[str, Any] = {}
    cpu_environment: dict[str, str] = {}


class ModelPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/models`."""

    model: str
    embedded: str | None = None
    pre_query_template: str | None = None
    assistant_prefix: str | None = None
    problems: Sampling = Sampling()
    answers: Sampling = Sampling(temperature=0.0, max_tokens=4096)
    server: ServerPreset = ServerPreset()

    @property
    def path(self) -> str:
        """What the engine and the tokenizer load: a folder on this machine, or a hub id."""
        return str(PROJECT / "models" / self.embedded) if self.embedded else self.model

    @property
    def name(self) -> str:
        """A short name for files."""
        return self.model.rstrip("/").rsplit("/", 1)[-1]


class TaskTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of task, in English."""

    id: str
    text: str


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/domains`: a field of mathematics. `{topic}` in a system prompt is replaced by one of the topics."""

    domain: str
    topics: list[str]
    system_prompts: list[str]
    task_templates: list[TaskTemplate]


class Steering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/steering.yaml`: system prompts by control task, and how a task template is put."""

    control_tasks: dict[str, list[str]]
    with_template: str


class ResponseStyle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A style of `configs/prompts/responses.yaml`: what is put before and after the problem in the user's turn."""

    before: str = ""
    after: str = ""


def _load(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), kind)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MagpieError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except msgspec.ValidationError as error:
        raise MagpieError(f"{path}: {error}") from error


def load_model(name: str) -> ModelPreset:
    """Return the preset of a model by its file's name (`smollm2`), its hub id or its folder; a bare one for any other model.

    Raises:
        MagpieError: a path that does not exist.
    """
    for path in sorted((CONFIGS / "models").glob("*.yaml")):
        preset = _load(path, ModelPreset)
        if name.lower() in (path.stem.lower(), preset.model.lower()) or name == preset.path:
            return preset
    if Path(name).is_dir():
        return ModelPreset(model=str(Path(name).resolve()))
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = ", ".join(path.stem for path in sorted((CONFIGS / "models").glob("*.yaml")))
        raise MagpieError(f"no model '{name}': give a folder, a hub id (owner/name), or one of: {known}")
    return ModelPreset(model=name)


def load_domain(name: str) -> Domain:
    """Return a field of mathematics."""
    domain = _load(CONFIGS / "domains" / f"{name}.yaml", Domain)
    if domain.domain != name or name not in DOMAINS:
        raise MagpieError(f"configs/domains/{name}.yaml: `domain` is '{domain.domain}', expected one of {', '.join(DOMAINS)}")
    return domain


def load_steering() -> Steering:
    """Return the system prompts of the control tasks."""
    return _load(CONFIGS / "prompts" / "steering.yaml", Steering)


def load_response_styles() -> dict[str, ResponseStyle]:
    """Return what asks for an answer, by style."""
    return _load(CONFIGS / "prompts" / "responses.yaml", dict[str, ResponseStyle])

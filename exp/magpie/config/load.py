"""Configurations: the models, the fields of mathematics and the prompts, read from `configs/` and checked while reading."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from magpie.common.console import MagpieError
from magpie.config.schemas import (
    AnswerWords,
    BenchmarkList,
    Cleaning,
    ContaminationRules,
    DifficultyLevel,
    DomainCues,
    FilterPreset,
    Likeness,
    PairSettings,
    Planning,
    SameAnswerPrompt,
    TagPrompts,
)
from magpie.records.schema import DIFFICULTIES, DOMAINS

PROJECT = Path(__file__).resolve().parents[3]
CONFIGS = PROJECT / "configs"
T = TypeVar("T")


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sampling; `max_tokens` in tokens, `top_k` only where a model card asks for it (vLLM servers)."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 2048
    top_k: int | None = None


class ServerPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine's flags (without the leading dashes), and what only a machine without a GPU needs."""

    flags: dict[str, Any] = {}
    cpu_flags: dict[str, Any] = {}
    cpu_environment: dict[str, str] = {}


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides how a model can be split and how large its KV cache is, as in its config.json; 0: not known.

    `kv_values`: numbers that one key-value head of one layer keeps for a token (keys and values: twice the head's size; latent
    attention: one head of kv_lora_rank + qk_rope_head_dim). `experts`: routed ones; `expert_share`: of all weights.
    """

    layers: int = 0
    heads: int = 64
    kv_heads: int = 1
    kv_values: int = 0
    experts: int = 0
    expert_share: float = 0.0


class ModelPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/models`, over the family (`configs/families`) that it names.

    `thinking`: whether the template opens the chain of thought (`forced`), the model does (`free`), or there is none.
    `folder`: a copy on this machine. `weights_gb`: the weights' size; `memory_gb`: what they need with room to work (default:
    machine.MEMORY_FACTOR times the weights). `architecture`: for where config.json is not at hand. `least_temperature`: below
    it the model card warns. `guard`: the form of a guard model's verdicts (guard_models.py). `training_template`: the chat
    template to train with, where the model's own takes the chain of thought out of an assistant's message. `samples`: how
    several answers to one problem are sampled, for votes and pairs (a model made to be sampled: as its answers).
    """

    model: str
    family: str | None = None
    embedded: str | None = None
    folder: str | None = None
    pre_query_template: str | None = None
    assistant_prefix: str | None = None
    thinking: Literal["none", "forced", "free"] = "none"
    weights_gb: float | None = None
    memory_gb: float | None = None
    architecture: Architecture = Architecture()
    answers_source: str = ""
    least_temperature: float = 0.0
    guard: Literal["qwen3guard", "llama-guard-3"] | None = None
    training_template: str = ""
    problems: Sampling = Sampling()
    answers: Sampling = Sampling(temperature=0.0, max_tokens=4096)
    samples: Sampling = Sampling(temperature=0.8, max_tokens=4096)
    server: ServerPreset = ServerPreset()

    @property
    def path(self) -> str:
        """What the engine and the tokenizer load: a folder on this machine, or a hub id."""
        return str(PROJECT / "models" / self.embedded) if self.embedded else self.folder or self.model

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


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MagpieError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except FileNotFoundError as error:
        raise MagpieError(f"{path}: no such file") from error


def _checked(content: Any, kind: type[T], path: Path) -> T:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise MagpieError(f"{path}: {error}") from error


def _load(path: Path, kind: type[T]) -> T:
    return _checked(_read(path), kind, path)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return both, what stands above first; mappings are merged key by key."""
    out = dict(below)
    for key, value in above.items():
        inner = out.get(key)
        out[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return out


def load_preset(path: Path) -> ModelPreset:
    """Return a file of `configs/models` with its family's settings below it."""
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("family"), str):
        content = _merged(_read(CONFIGS / "families" / f"{content['family']}.yaml"), content)
    return _checked(content, ModelPreset, path)


def load_model(name: str) -> ModelPreset:
    """Return the preset of a model by its file's name (`smollm2`), its hub id or its folder; a bare one for any other model.

    Raises:
        MagpieError: a path that does not exist.
    """
    folder = str(Path(name).resolve()) if Path(name).is_dir() else None
    for path in sorted((CONFIGS / "models").glob("*.yaml")):
        preset = load_preset(path)
        if name.lower() in (path.stem.lower(), preset.model.lower()) or name == preset.path:
            return preset
        if folder and Path(folder).name.lower() == preset.name.lower():
            return msgspec.structs.replace(preset, folder=folder)
    if folder:
        return ModelPreset(model=Path(folder).name, folder=folder)
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


@cache
def load_cleaning() -> Cleaning:
    """Return how problems are cleaned."""
    return _load(CONFIGS / "cleaning.yaml", Cleaning)


def load_tag_prompts() -> TagPrompts:
    """Return what taggers are asked."""
    path = CONFIGS / "prompts" / "tags.yaml"
    prompts = _load(path, TagPrompts)
    if absent := [mark for mark in ("{task}", "{shape}", "{problem}") if mark not in prompts.question]:
        raise MagpieError(f"{path}: `question` lacks {', '.join(absent)}")
    return prompts


def load_filter(name: str) -> FilterPreset:
    """Return the rules of a file, or of a preset by its name (`sft`)."""
    path = Path(name) if "/" in name or name.endswith((".yaml", ".yml")) else CONFIGS / "filters" / f"{name}.yaml"
    if path.parent == CONFIGS / "filters" and not path.exists():
        known = ", ".join(sorted(known.stem for known in path.parent.glob("*.yaml")))
        raise MagpieError(f"no filter '{name}': give a file, or one of: {known}")
    return _load(path, FilterPreset)


def load_likeness() -> Likeness:
    """Return what tells whether two texts are the same problem."""
    return _load(CONFIGS / "likeness.yaml", Likeness)


@cache
def load_answer_words() -> AnswerWords:
    """Return the words and units of answers."""
    return _load(CONFIGS / "verify" / "answers.yaml", AnswerWords)


@cache
def load_difficulty_levels() -> list[DifficultyLevel]:
    """Return the levels of measured difficulty, easiest first."""
    levels = _load(CONFIGS / "verify" / "difficulty.yaml", list[DifficultyLevel])
    if unknown := [level.label for level in levels if level.label not in DIFFICULTIES]:
        raise MagpieError(f"configs/verify/difficulty.yaml: no label {unknown[0]!r}; expected one of {', '.join(DIFFICULTIES)}")
    return levels


def load_same_answer() -> SameAnswerPrompt:
    """Return what a judge of two answers is asked."""
    return _load(CONFIGS / "prompts" / "same_answer.yaml", SameAnswerPrompt)


def load_benchmark_list() -> BenchmarkList:
    """Return the test sets that are known by name."""
    return _load(CONFIGS / "benchmarks.yaml", BenchmarkList)


def load_contamination(path: Path | None = None) -> ContaminationRules:
    """Return when a problem counts as one of a benchmark's; from the project's own file unless another is named."""
    return _load(path or CONFIGS / "contamination.yaml", ContaminationRules)


def load_domain_cues() -> DomainCues:
    """Return what tells the field of a problem."""
    path = CONFIGS / "tagging" / "domains.yaml"
    cues = _load(path, DomainCues)
    if set(cues.cues) != set(DOMAINS):
        raise MagpieError(f"{path}: `cues` needs these fields and no others: {', '.join(DOMAINS)}")
    return cues


def load_domain_examples() -> dict[str, list[str]]:
    """Return the problems that the tagger of fields is trained from beside the user's data, by field; `other` holds none."""
    return _load(CONFIGS / "tagging" / "domain_examples.yaml", dict[str, list[str]])


def load_pair_settings(strategy: str, path: Path | None = None) -> PairSettings:
    """Return the settings of a strategy for pairs, or of a file in their place."""
    return _load(path or CONFIGS / "pairs" / f"{strategy}.yaml", PairSettings)


def load_planning() -> Planning:
    """Return what plans assume."""
    return _load(CONFIGS / "planning.yaml", Planning)

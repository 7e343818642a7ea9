"""Model presets: `configs/models`, each over its family in `configs/families`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import msgspec

from magpie.common.console import MagpieError
from magpie.config.load import PROJECT, check, config_path, read_yaml

WINDOW = 512
"""Default number of concurrent requests of a client to a server, and of our server on GPUs."""


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sampling parameters; `max_tokens` in tokens, `top_k` only if a model card asks for it (vLLM servers)."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 2048
    top_k: int | None = None


class ServerPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Engine flags (without the leading dashes), and those, with environment variables, for a machine without a GPU."""

    flags: dict[str, Any] = {}
    cpu_flags: dict[str, Any] = {}
    cpu_environment: dict[str, str] = {}


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parts of config.json that decide the parallel layout and the size of the KV cache; 0: unknown.

    `kv_values`: numbers per token in the cache of one key-value head of one layer (keys and values: twice the head's size;
    latent attention: one head of kv_lora_rank + qk_rope_head_dim). `experts`: routed ones; `expert_share`: of all weights.
    """

    layers: int = 0
    heads: int = 64
    kv_heads: int = 1
    kv_values: int = 0
    experts: int = 0
    expert_share: float = 0.0


class ModelPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/models`, merged over the family (`configs/families`) that it names.

    `thinking`: the template opens the chain of thought (`forced`), the model does (`free`), or there is none. `reasoning`: its
    format, a name of configs/reasoning.yaml, where the one found in the template is wrong. `template_variables`: given to the
    chat template, such as a switch for thinking. `chat_template`: for a model whose files have none. `folder`: a local copy.
    `weights_gb`: size of the weights; `memory_gb`: memory that they need (default: checkpoint.MEMORY_FACTOR times the
    weights). `architecture`: used if config.json is not available. `least_temperature`: the model card warns of lower ones.
    `guard`: the format of a guard model's verdicts (tagging/guard_models.py). `training_template`: the chat template to train
    with, if the model's own drops the chain of thought from an assistant's message. `samples`: sampling of several responses
    per problem, for votes and pairs (for a model that is meant to be sampled, the same as `answers`). `judges`: large enough
    to be asked whether a problem is valid or two answers are equal; chains ask such a model by default. `openings`,
    `ban_markdown`: defaults of gen_ins.py's flags of these names.
    """

    model: str
    family: str | None = None
    embedded: str | None = None
    folder: str | None = None
    pre_query_template: str | None = None
    assistant_prefix: str | None = None
    thinking: Literal["none", "forced", "free"] = "none"
    reasoning: str | None = None
    template_variables: dict[str, Any] = {}
    chat_template: str = ""
    weights_gb: float | None = None
    memory_gb: float | None = None
    architecture: Architecture = Architecture()
    answers_source: str = ""
    least_temperature: float = 0.0
    guard: Literal["qwen3guard", "llama-guard-3"] | None = None
    training_template: str = ""
    judges: bool = False
    openings: bool = False
    ban_markdown: bool = False
    problems: Sampling = Sampling()
    answers: Sampling = Sampling(temperature=0.0, max_tokens=4096)
    samples: Sampling = Sampling(temperature=0.8, max_tokens=4096)
    server: ServerPreset = ServerPreset()

    @property
    def path(self) -> str:
        """The model to load: a local folder or a hub id."""
        return str(PROJECT / "models" / self.embedded) if self.embedded else self.folder or self.model

    @property
    def name(self) -> str:
        """The last part of the hub id, for file names."""
        return self.model.rstrip("/").rsplit("/", 1)[-1]


def _merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `override`; nested mappings are merged key by key."""
    out = dict(base)
    for key, value in override.items():
        inner = out.get(key)
        out[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return out


def load_preset(path: Path) -> ModelPreset:
    """Return a file of `configs/models`, merged over its family's settings."""
    content = read_yaml(path)
    if isinstance(content, dict) and isinstance(content.get("family"), str):
        content = _merged(read_yaml(config_path("families", f"{content['family']}.yaml")), content)
    return check(content, ModelPreset, path)


def _what_was_meant(name: str) -> str:
    """Return the end of the error about an unknown model: close names, else all."""
    known = {path.stem: load_preset(path).guard for path in sorted(config_path("models").glob("*.yaml"))}
    if name.isdecimal():
        return f": {name} is a count, and the model comes first. For instance: qwen2-math-7b {name}"
    low = name.lower()
    near = [one for one in known if one.startswith(low)] or difflib.get_close_matches(low, known, cutoff=0.75)
    if near:
        return f": did you mean {' or '.join(near[:3])}?"
    return f": give a folder, a hub id (owner/name), or one of: {', '.join(one for one, guard in known.items() if not guard)}"


def load_model(name: str) -> ModelPreset:
    """Return the preset of a model by its file's name (`smollm2`), hub id or folder; a default one for any other model.

    Raises:
        MagpieError: neither a known name, nor an existing folder, nor a hub id.
    """
    folder = str(Path(name).resolve()) if Path(name).is_dir() else None
    for path in sorted((config_path("models")).glob("*.yaml")):
        preset = load_preset(path)
        if name.lower() in (path.stem.lower(), preset.model.lower()) or name == preset.path:
            return preset
        if folder and Path(folder).name.lower() == preset.name.lower():
            return msgspec.structs.replace(preset, folder=folder)
    if folder:
        return ModelPreset(model=Path(folder).name, folder=folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise MagpieError(f"no model '{name}'{_what_was_meant(name)}")
    return ModelPreset(model=name)

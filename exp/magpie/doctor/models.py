"""Findings on the models of configs/models: whether each fits on this machine, and with what settings.

What the set-up installs is imported inside the functions, so that the rest of the diagnosis works without it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from magpie.common.console import MagpieError
from magpie.doctor.finding import SET_UP, Finding
from magpie.models.hardware import GB, Machine, this_machine

if TYPE_CHECKING:
    from magpie.config.model_presets import ModelPreset


SLOW_GB = 2.0
"""Weights in GB above which an answer takes minutes on a few cores."""
SLOWLY = "runs without a GPU, but impractically slowly"


def check_models(configs: Path, cache: Path) -> Iterator[Finding]:
    """Yield a finding on each model of `configs`/models; `cache`: the folder for models from the hub."""
    try:
        from magpie.config.model_presets import load_preset
        from magpie.models.checkpoint import model_folder, needed_gb

        machine = this_machine()
    except ImportError as error:
        yield Finding(
            "note", "models", f"what fits here is shown once the set-up is complete ({error.name} is missing)", SET_UP
        )
        return
    too_large, slow, to_get = 0, 0, dict[str, float]()
    for path in sorted(configs.glob("models/*.yaml")):
        try:
            preset = load_preset(path)
            needed, here = needed_gb(preset, None), model_folder(preset) is not None
        except MagpieError as error:
            yield Finding("problem", "models", str(error), "fix the file")
            continue
        size = f"{needed:.0f} GB" if needed and needed >= 1 else "under 1 GB" if needed else "of unknown size"
        get = "on this disk" if here else f"{preset.weights_gb:.3g} GB to download" if preset.weights_gb else "to get"
        finding = _fit(preset, machine, f"{path.stem:22} {size:>11}, {get}")
        if finding.state == "note":
            is_slow = finding.text.endswith(SLOWLY)
            slow, too_large = slow + is_slow, too_large + (not is_slow)
        if finding.state == "ok" and not here and preset.weights_gb:
            to_get[path.stem] = preset.weights_gb
        yield finding
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    yield from check_room(to_get, shutil.disk_usage(existing).free / GB, cache)
    if too_large or slow:
        would = f", {slow} would be too slow" if slow else ""
        remedy = "a server elsewhere (MAGPIE_BASE_URL=http://host:8000/v1), or a smaller model"
        yield Finding("note", "models", f"{too_large} do not fit{would}: {machine.summary}", remedy)


def _fit(preset: ModelPreset, machine: Machine, text: str) -> Finding:
    """Return the finding on one model: it fits with these flags, or quantised to FP8, or not."""
    from magpie.serving.engine import flag_list
    from magpie.serving.parallelism import Wanted, layout

    for quantization in (None, "fp8") if machine.gpus else (None,):
        try:
            found = layout(preset, machine, Wanted(quantization=quantization))
        except MagpieError:
            continue
        if not machine.gpus and (preset.weights_gb or 0) > SLOW_GB:
            return Finding("note", "models", f"{text}; {SLOWLY}")
        shown = " ".join(flag_list({name: value for name, value in found.flags().items() if name != "quantization"}))
        setting = "" if quantization is None else f"with QUANTIZATION={quantization}: "
        return Finding("ok", "models", f"{text}; fits: {setting}{shown}{_room(found.requests, found.data_parallel)}")
    return Finding("note", "models", f"{text}; does not fit")


def _room(requests: float | None, copies: int) -> str:
    """Return in words how many requests a model has room for; empty if unknown."""
    from magpie.serving.parallelism import COMFORTABLE

    if requests is None:
        return ""
    tight = " (tight)" if requests < COMFORTABLE else ""
    return f", for {int(requests)} requests of full length at once{f' in each of {copies} copies' if copies > 1 else ''}{tight}"


def check_room(sizes: dict[str, float], free: float, where: Path) -> Iterator[Finding]:
    """Yield a finding if the disk has no room for some of the models that fit here: name → GB to download."""
    if large := [f"{name} ({size:.0f} GB)" for name, size in sorted(sizes.items()) if size > free]:
        text = f"{free:.0f} GB free at {where}, where models from the hub go: too little for {', '.join(large)}"
        yield Finding("note", "disk", text, "HF_HOME=/a/larger/disk, or name a folder that has the model")

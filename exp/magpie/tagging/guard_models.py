"""Guard models: each is trained to write its verdict in its own format, which is parsed here.

Their chat templates hold the whole policy: a guard gets the problem as a user's message and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from magpie.config.model_presets import ModelPreset
from magpie.records.schema import SAFETIES

MAX_TOKENS = 64
"""Maximum tokens of a verdict; one with all its categories takes fewer."""
NO_VERDICT = "no_verdict"
QWEN = (
    *("Violent", "Non-violent Illegal Acts", "Sexual Content or Sexual Acts", "PII", "Suicide & Self-Harm", "Unethical Acts"),
    *("Politically Sensitive Topics", "Copyright Violation", "Jailbreak"),
)
"""Qwen3Guard-Gen's categories, as in its model card."""
QWEN_ALIASES = {"personally identifiable information": "PII", "copyright violations": "Copyright Violation"}
LLAMA = {
    "S1": "Violent Crimes",
    "S2": "Non-Violent Crimes",
    "S3": "Sex-Related Crimes",
    "S4": "Child Sexual Exploitation",
    "S5": "Defamation",
    "S6": "Specialized Advice",
    "S7": "Privacy",
    "S8": "Intellectual Property",
    "S9": "Indiscriminate Weapons",
    "S10": "Hate",
    "S11": "Suicide & Self-Harm",
    "S12": "Sexual Content",
    "S13": "Elections",
    "S14": "Code Interpreter Abuse",
}
"""Llama Guard 3's hazard categories, as in its model card."""
_QWEN_NAMES = {name.lower(): name for name in QWEN} | QWEN_ALIASES


def _tags(safety: str, categories: list[str]) -> dict[str, Any]:
    return {"safety": safety, "safety_categories": list(dict.fromkeys(categories))}


def read_qwen3guard(text: str) -> dict[str, Any]:
    """Parse `Safety: Unsafe`, newline, `Categories: Violent, PII`."""
    found = re.match(r"\s*Safety:\s*(\w+)[^\S\n]*\n\s*Categories:([^\n]*)", text)
    if found is None or (safety := found[1].lower()) not in SAFETIES:
        raise ValueError(NO_VERDICT, text)
    names = [name for part in found[2].split(",") if (name := part.strip().lower()) not in ("", "none")]
    if any(name not in _QWEN_NAMES for name in names) or (safety == "safe" and names):
        raise ValueError(NO_VERDICT, text)
    return _tags(safety, [_QWEN_NAMES[name] for name in names])


def read_llama_guard(text: str) -> dict[str, Any]:
    """Parse `safe`, or `unsafe`, newline, `S1,S10`."""
    lines = text.split()
    if lines == ["safe"]:
        return _tags("safe", [])
    codes = [code for part in lines[1:] for code in part.split(",") if code]
    if lines[:1] != ["unsafe"] or not codes or any(code not in LLAMA for code in codes):
        raise ValueError(NO_VERDICT, text)
    return _tags("unsafe", [LLAMA[code] for code in codes])


FORMS: dict[str, Callable[[str], dict[str, Any]]] = {"qwen3guard": read_qwen3guard, "llama-guard-3": read_llama_guard}
"""Format of the verdict → its parser, which returns the tags or raises ValueError(reason, detail)."""


def guard_form(preset: ModelPreset) -> str | None:
    """Return the format of a guard model's verdicts, from its preset or its name; None if it is not a known guard."""
    if preset.guard:
        return preset.guard
    name = preset.name.lower()
    if "qwen3guard-gen" in name:
        return "qwen3guard"
    return "llama-guard-3" if "llama-guard-3" in name else None

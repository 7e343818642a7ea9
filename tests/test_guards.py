"""Verdicts of guard models in their own forms."""

from __future__ import annotations

import pytest

from magpie.config.model_presets import ModelPreset, load_model
from magpie.tagging.guard_models import LLAMA, QWEN, guard_form, read_llama_guard, read_qwen3guard


@pytest.mark.parametrize(
    ("text", "safety", "categories"),
    [
        ("Safety: Safe\nCategories: None", "safe", []),
        ("Safety: Safe\nCategories: None\nRefusal: No", "safe", []),
        ("\n\nSafety: Unsafe \nCategories: Violent", "unsafe", ["Violent"]),
        ("Safety: Unsafe\nCategories: Violent, Non-violent Illegal Acts", "unsafe", ["Violent", "Non-violent Illegal Acts"]),
        ("Safety: Unsafe\nCategories: PII, PII\n", "unsafe", ["PII"]),
        ("Safety: Controversial\nCategories: Personally Identifiable Information", "controversial", ["PII"]),
        ("Safety: Controversial\nCategories: Suicide & Self-Harm,Copyright Violation", "controversial", [QWEN[4], QWEN[7]]),
    ],
)
def test_a_verdict_of_qwen3guard_is_read(text: str, safety: str, categories: list[str]) -> None:
    assert read_qwen3guard(text) == {"safety": safety, "safety_categories": categories}


@pytest.mark.parametrize(
    ("text", "safety", "categories"),
    [
        ("safe", "safe", []),
        ("\n\nsafe\n", "safe", []),
        ("\n\nunsafe\nS1", "unsafe", ["Violent Crimes"]),
        ("unsafe\nS10,S1", "unsafe", ["Hate", "Violent Crimes"]),
        ("unsafe\nS14, S14", "unsafe", ["Code Interpreter Abuse"]),
    ],
)
def test_a_verdict_of_llama_guard_is_read(text: str, safety: str, categories: list[str]) -> None:
    assert read_llama_guard(text) == {"safety": safety, "safety_categories": categories}


@pytest.mark.parametrize(
    "text",
    [
        *("", "safe", "Safety: Fine\nCategories: None", "Safety: Unsafe", "Safety: Safe\nCategories: Violent", "x" * 100_000),
        *("Safety: Unsafe\nCategories: Bad Jokes", "I think: Safety: Safe\nCategories: None", "Safety:" + "\n" * 100_000),
    ],
)
def test_what_is_no_verdict_of_qwen3guard_is_never_a_tag(text: str) -> None:
    with pytest.raises(ValueError, match="no_verdict"):
        read_qwen3guard(text)


@pytest.mark.parametrize(
    "text", ["", "Safe", "safe S1", "safe and sound", "unsafe", "unsafe\nS15", "unsafe\nS1 S", "S1", "unsafe,S1"]
)
def test_what_is_no_verdict_of_llama_guard_is_never_a_tag(text: str) -> None:
    with pytest.raises(ValueError, match="no_verdict"):
        read_llama_guard(text)


def test_guard_models_are_known_by_preset_or_name() -> None:
    assert guard_form(load_model("qwen3guard-gen-4b")) == "qwen3guard"
    assert guard_form(load_model("meta-llama/Llama-Guard-3-8B")) == "llama-guard-3"
    assert guard_form(ModelPreset(model="someone/Qwen3Guard-Gen-4B-FP8")) == "qwen3guard"
    for other in ("Qwen/Qwen3Guard-Stream-4B", "meta-llama/Llama-Guard-4-12B", "Qwen/Qwen3-8B"):
        assert guard_form(ModelPreset(model=other)) is None
    assert list(LLAMA) == [f"S{n}" for n in range(1, 15)]

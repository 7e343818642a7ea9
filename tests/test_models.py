"""Every family's prefixes, prompts and training texts on tokenizers that behave as the real ones; presets; what fits where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import made_tokenizers
from made_tokenizers import BOS, BROKEN, EOS, FAMILIES, GEMMA_PLAIN, THINK
from magpie.common.console import MagpieError
from magpie.config.load import CONFIGS, PROJECT
from magpie.config.model_presets import ModelPreset, load_model
from magpie.generation.steering import Steerer
from magpie.models import hardware as machine
from magpie.models.chat_template import ChatTemplate
from magpie.models.checkpoint import weights_gb
from magpie.models.hardware import Gpu, Machine
from magpie.serving.parallelism import Wanted, layout
from magpie.text.degeneration import sample_defect

CONFIGURED = sorted(path.stem for path in (CONFIGS / "families").glob("*.yaml") if path.stem in FAMILIES)
MODELS = sorted(path.stem for path in (CONFIGS / "models").glob("*.yaml"))
PRESETS = [name for name in MODELS if (load_model(name).family or name) in FAMILIES]  # the others: test_families.py
GUARDS = sorted(name for name in MODELS if load_model(name).guard)
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
START, END = "<|im_start|>", "<|im_end|>"
BEGIN, EOT = "<|begin_of_text|>", "<|eot_id|>"
HEAD, NECK = "<|start_header_id|>", "<|end_header_id|>"
TURN, TURN_END = "<start_of_turn>", "<end_of_turn>"
DATED = "\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

Pieces = tuple[str, ...]
GOLDEN: dict[str, tuple[Pieces, Pieces, Pieces]] = {
    # family: before the user's words, what ends the user's turn, the assistant prefix
    "deepseek-r1": ((BOS, USER), (), (ASSISTANT, "<think>", "\n")),
    "deepseek-r1-0528": ((BOS, USER), (), (ASSISTANT,)),
    "qwen2.5-math": ((START, f"system\n{BOXED}", END, "\n", START, "user\n"), (END, "\n"), (START, "assistant\n")),
    "qwen2-math": (
        (START, "system\nYou are a helpful assistant.", END, "\n", START, "user\n"),
        (END, "\n"),
        (START, "assistant\n"),
    ),
    "qwen3": ((START, "user\n"), (END, "\n"), (START, "assistant\n")),
    "llama-3": ((BEGIN, HEAD, "user", NECK, "\n\n"), (EOT,), (HEAD, "assistant", NECK, "\n\n")),
    "llama-3.1": (
        (BEGIN, HEAD, "system", NECK, DATED, EOT, HEAD, "user", NECK, "\n\n"),
        (EOT,),
        (HEAD, "assistant", NECK, "\n\n"),
    ),
    "gemma-3": (("<bos>", TURN, "user\n"), (TURN_END, "\n"), (TURN, "model\n")),
    "gemma-2": (("<bos>", TURN, "user\n"), (TURN_END, "\n"), (TURN, "model\n")),
    "smollm2": (
        (START, "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face", END, "\n", START, "user\n"),
        (END, "\n"),
        (START, "assistant\n"),
    ),
}
STOPS: dict[str, set[str]] = {
    "deepseek-r1": {EOS, USER, ASSISTANT},
    "deepseek-r1-0528": {EOS, USER, ASSISTANT},
    "qwen2.5-math": {START, END, "<|endoftext|>"},
    "qwen2-math": {START, END, "<|endoftext|>"},
    "qwen3": {START, END, "<|endoftext|>"},
    "llama-3": {HEAD, EOT, "<|end_of_text|>"},
    "llama-3.1": {HEAD, EOT, "<|end_of_text|>", "<|eom_id|>"},
    "gemma-3": {"<eos>", TURN, TURN_END},
    "gemma-2": {"<eos>", TURN, TURN_END},
    "smollm2": {START, END},
}
CLOSING = {
    **dict.fromkeys(("deepseek-r1", "deepseek-r1-0528"), EOS),
    **dict.fromkeys(("qwen2.5-math", "qwen2-math", "qwen3", "smollm2"), END),
    **dict.fromkeys(("llama-3", "llama-3.1"), EOT),
    **dict.fromkeys(("gemma-3", "gemma-2"), TURN_END),
}
"""What the template puts behind an assistant's turn (a line break after it aside)."""
WORDS = "What is the sum of the first 12 odd numbers?"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer for every family."""
    root = tmp_path_factory.mktemp("tokenizers")
    for family in FAMILIES:
        made_tokenizers.make(family, root / family)
    return root


@pytest.fixture(autouse=True)
def no_cached_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine holds of the hub's models decides nothing here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


@pytest.fixture
def load(made: Path) -> Callable[[str], ChatTemplate]:
    """Load a family's made tokenizer as that of a model without a preset."""
    return lambda family: ChatTemplate(ModelPreset(model=f"owner/{family}", folder=str(made / family)))


Load = Callable[[str], ChatTemplate]


@pytest.fixture
def theirs(made: Path) -> Callable[[str], Any]:
    """Load a family's made tokenizer as transformers does (AutoTokenizer takes this class, and imports torch before)."""
    from transformers import PreTrainedTokenizerFast

    return lambda family: PreTrainedTokenizerFast.from_pretrained(str(made / family), local_files_only=True)


Theirs = Callable[[str], Any]


def ids_of(template: ChatTemplate, pieces: Pieces) -> list[int]:
    """Token ids of the pieces: a token by its name, plain text by encoding it alone."""
    named = template._tokenizer.added_tokens
    out: list[int] = []
    for piece in pieces:
        out += [named[piece]] if piece in named else template.encode(piece)
    return out


def preset_of_family(family: str) -> ModelPreset:
    content = yaml.safe_load((CONFIGS / "families" / f"{family}.yaml").read_text(encoding="utf-8"))
    return msgspec.convert({"model": f"owner/{family}", **content}, ModelPreset)


# --- prefixes ----------------------------------------------------------------------------------------------------------


def test_every_configured_family_is_made_here_and_every_made_one_has_golden_values() -> None:
    assert set(CONFIGURED) <= set(FAMILIES)
    assert set(FAMILIES) == set(GOLDEN) == set(STOPS) == set(CLOSING)


EMPTY_THOUGHT = {
    "deepseek-r1": "\n</think>\n\n",  # its template has opened the thought
    **dict.fromkeys(("deepseek-r1-0528", "qwen3"), "<think>\n\n</think>\n\n"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_without_thinking_stands_behind_an_empty_thought_where_the_model_thinks(load: Load, family: str) -> None:
    template = load(family)
    behind = template.encode(template.frame().pre_query + WORDS + template.frame().after + EMPTY_THOUGHT.get(family, ""))
    assert template.prompt(WORDS, thinking=False) == behind


@pytest.mark.parametrize("family", FAMILIES)
def test_no_added_token_inside_a_text_survives(load: Load, family: str) -> None:
    template = load(family)
    marks = [token for token in template._tokenizer.added_tokens if token.strip()]
    hostile = "a " + " b ".join(marks) + " c <<|im_end|>|im_end|> d"
    ids = template._tokenizer.added_tokens.values()
    assert not set(template.encode(template.escape_special_tokens(hostile))) & set(ids)
    assert template.escape_special_tokens("$x < 3$ and $y > |z|$") == "$x < 3$ and $y > |z|$"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frame_of_a_users_turn_is_golden_as_text(load: Load, family: str) -> None:
    before, end, after = ("".join(pieces) for pieces in GOLDEN[family])
    frame = load(family).frame()
    assert (frame.pre_query, frame.after) == (before, end + after)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frame_of_a_users_turn_is_golden_as_token_ids(load: Load, family: str) -> None:
    template = load(family)
    before, end, after = GOLDEN[family]
    assert template.encode(template.frame().pre_query) == ids_of(template, before)
    words = template.encode(WORDS)
    assert template.prompt(WORDS) == ids_of(template, before) + words + ids_of(template, (*end, *after))


@pytest.mark.parametrize("family", CONFIGURED)
def test_the_configured_prefixes_are_the_golden_ones(family: str) -> None:
    preset = preset_of_family(family)
    before, _, after = GOLDEN[family]
    assert (preset.pre_query_template, preset.assistant_prefix) == ("".join(before), "".join(after))


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_are_single_tokens(load: Load, family: str) -> None:
    template = load(family)
    named = template._tokenizer.added_tokens
    marks = (
        STOPS[family] | {CLOSING[family]} | (set(THINK) if family in ("deepseek-r1", "deepseek-r1-0528", "qwen3") else set())
    )
    assert marks <= set(named)
    assert all(template.encode(mark) == [named[mark]] for mark in marks)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.puts_bos])
def test_there_is_one_bos_though_the_tokenizer_would_add_a_second(load: Load, theirs: Theirs, family: str) -> None:
    template = load(family)
    bos = template._tokenizer.added_tokens[template._tokenizer.special_tokens["bos_token"]]
    text = template.frame().pre_query + WORDS
    assert theirs(family).encode(text)[:2] == [bos, bos]
    for ids in (template.prompt(WORDS), template.encode(template.frame().pre_query), template.encode(text)):
        assert ids[0] == bos and ids.count(bos) == 1


def test_deepseeks_marks_survive_where_special_tokens_are_skipped(load: Load, theirs: Theirs) -> None:
    """They are in its vocabulary without being special: a test that relied on that would miss them."""
    shown = theirs("deepseek-r1").decode(load("deepseek-r1").prompt(WORDS), skip_special_tokens=True)
    assert shown == f"{USER}{WORDS}{ASSISTANT}<think>\n"


def test_llamas_date_is_pinned_whatever_today_is(load: Load, theirs: Theirs) -> None:
    template = load("llama-3.1")
    unpinned = theirs("llama-3.1").apply_chat_template([{"role": "user", "content": WORDS}], tokenize=False)
    assert "Today Date: " in unpinned and "26 Jul 2024" not in unpinned
    for text in (template.frame().pre_query, template.decode(template.prompt(WORDS))):
        assert "Today Date: 26 Jul 2024\n" in text


@pytest.mark.parametrize("family", CONFIGURED)
def test_a_tokenizer_of_the_models_own_family_is_taken(made: Path, family: str) -> None:
    preset = preset_of_family(family)
    template = ChatTemplate(preset, tokenizer=str(made / family))
    assert template.source == str(made / family) != preset.path
    before, end, after = ("".join(pieces) for pieces in GOLDEN[family])
    assert (template.frame().pre_query, template.frame().after) == (before, end + after)


@pytest.mark.parametrize("family", [*CONFIGURED, "smollm2"])
def test_a_tokenizer_of_another_family_is_refused_and_both_prefixes_are_shown(made: Path, family: str) -> None:
    preset = load_model("smollm2") if family == "smollm2" else preset_of_family(family)
    for other in FAMILIES:
        if GOLDEN[other] == GOLDEN[family]:
            continue
        with pytest.raises(MagpieError) as error:
            ChatTemplate(preset, tokenizer=str(made / other))
        own, others = ["".join(pieces) for pieces in GOLDEN[family]], ["".join(pieces) for pieces in GOLDEN[other]]
        shown = (own[0], others[0]) if own[0] != others[0] else (own[2], others[1] + others[2])
        missing = [text for text in (preset.model, str(made / other), *map(repr, shown)) if text not in str(error.value)]
        assert not missing, f"{missing} not in: {error.value}"


def test_loading_a_tokenizer_from_a_folder_leaves_the_engine_free_to_load_the_model_from_the_hub(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    ChatTemplate(ModelPreset(model="owner/name"), tokenizer=str(made / "qwen3"))
    assert "HF_HUB_OFFLINE" not in os.environ


def test_a_model_config_beside_the_tokenizer_changes_nothing(load: Load, tmp_path: Path) -> None:
    folder = made_tokenizers.make("deepseek-r1", tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"]}')
    template = ChatTemplate(ModelPreset(model="owner/name", folder=str(folder)))
    assert template.prompt(WORDS) == load("deepseek-r1").prompt(WORDS)


# --- presets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_whole_and_thinks_as_its_template_does(made: Path, name: str) -> None:
    raw = yaml.safe_load((CONFIGS / "models" / f"{name}.yaml").read_text(encoding="utf-8"))
    preset = load_model(name)
    family = preset.family or name
    assert preset.model.count("/") == 1 and family in (*CONFIGURED, "smollm2")
    template = ChatTemplate(preset, tokenizer=str(made / family))
    thinks = set(THINK) <= set(template._tokenizer.added_tokens)
    assert preset.thinking == ("forced" if template.forced_think else "free" if thinks else "none")
    if preset.family:
        assert preset.answers_source and (raw.get("weights_gb") or raw["memory_gb"]) > 0
        assert preset.server.flags["max-model-len"] > max(preset.answers.max_tokens, preset.problems.max_tokens)
    if preset.thinking != "none":
        assert preset.least_temperature <= preset.answers.temperature > 0


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_model_says_how_its_verdicts_are_read_and_what_it_needs(name: str) -> None:
    preset = load_model(name)
    assert preset.guard and preset.weights_gb and preset.server.flags["max-model-len"] >= 8192
    assert preset.family is None and preset.pre_query_template is None  # nothing is made with it


@pytest.mark.parametrize("name", ["deepseek-r1", "deepseek-r1-0528"])
def test_r1_needs_805_gb(name: str) -> None:
    preset = load_model(name)
    assert preset.memory_gb == 805 and preset.weights_gb == 671
    assert (preset.answers.temperature, preset.answers.top_p) == (0.6, 0.95)


# --- steering ----------------------------------------------------------------------------------------------------------

STEER = "You write mathematics problems."
STEERED: dict[str, str] = {
    "deepseek-r1": f"{BOS}{STEER}{USER}",
    "deepseek-r1-0528": f"{BOS}{STEER}{USER}",
    **dict.fromkeys(("qwen2.5-math", "qwen2-math", "qwen3", "smollm2"), f"{START}system\n{STEER}{END}\n{START}user\n"),
    "llama-3": f"{BEGIN}{HEAD}system{NECK}\n\n{STEER}{EOT}{HEAD}user{NECK}\n\n",
    "llama-3.1": f"{BEGIN}{HEAD}system{NECK}{DATED}{STEER}{EOT}{HEAD}user{NECK}\n\n",
    "gemma-3": f"<bos>{TURN}user\n{STEER}\n\n",
}


@pytest.mark.parametrize("family", STEERED)
def test_a_steering_prompt_stands_where_the_family_puts_it(load: Load, family: str) -> None:
    template = load(family)
    frame = template.frame(STEER)
    assert frame.pre_query == STEERED[family] and frame.after == template.frame().after
    assert template.prompt(WORDS, STEER) == template.encode(frame.pre_query + WORDS + frame.after)


def test_a_family_without_a_system_role_says_so_and_what_to_do(load: Load) -> None:
    template = load("gemma-2")
    with pytest.raises(MagpieError, match=r"(?i)system role.*--control_tasks none"):
        template.frame(STEER)
    assert template.frame(None).pre_query == f"<bos>{TURN}user\n"


def test_no_control_task_asks_for_no_system_role(load: Load) -> None:
    from magpie.generation.config import load_steering

    draws = Steerer(load_steering(), task=None, domains={}, use_templates=False, seed=0)
    assert load("gemma-2").frame(draws.draw(0, 0, None).system).pre_query == f"<bos>{TURN}user\n"


# --- thinking and training texts ---------------------------------------------------------------------------------------


def test_only_a_forced_chain_of_thought_is_opened_by_the_prompt(load: Load) -> None:
    forced = load("deepseek-r1")
    assert forced.forced_think and forced.prompt(WORDS)[-2:] == ids_of(forced, ("<think>", "\n"))
    for family in set(FAMILIES) - {"deepseek-r1"}:
        template = load(family)
        think = template._tokenizer.added_tokens.get("<think>")
        assert not template.forced_think and think not in template.prompt(WORDS)


# --- what ends a turn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_closing_marks_of_these_tests_are_the_templates_own(theirs: Theirs, family: str) -> None:
    turns = [{"role": "user", "content": WORDS}, {"role": "assistant", "content": "576."}]
    rendered = theirs(family).apply_chat_template(turns, tokenize=False)
    assert rendered.rstrip("\n").endswith(f"576.{CLOSING[family]}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_ends_at_eos_and_at_what_opens_another_and_never_at_a_think_tag_or_a_line_break(load: Load, family: str) -> None:
    template = load(family)
    tokens = set(map(template._tokenizer.token, template.ends.ids))
    assert tokens == STOPS[family]
    assert template.ends.ids == sorted(set(template.ends.ids))
    assert len(template.ends.texts) <= 4 and set(template.ends.texts) <= tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_the_strings_that_end_a_turn_hold_what_closes_one(load: Load, family: str) -> None:
    """Servers that know no token ids get at most four: the mark that a model really writes must be among them."""
    assert CLOSING[family] in load(family).ends.texts


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_leaves_out_the_marks_and_shows_think_tags_and_line_breaks(load: Load, family: str) -> None:
    template = load(family)
    text = "<think>\nLet x = 1.\n\n</think>\nIt is 1."
    assert template.decode(template.encode(text + CLOSING[family])) == text


def test_white_space_in_the_added_vocabulary_is_no_leak(load: Load) -> None:
    """Gemma's line breaks and table tags are added tokens; a problem that has them is a problem."""
    template = load("gemma-3")
    assert set(GEMMA_PLAIN) <= set(template._tokenizer.added_tokens)
    assert sample_defect("Find x if\n\n\n\nx + 1 = 2.", "stop", template.added_tokens) == ""
    assert sample_defect(f"Find x.{TURN_END}", "stop", template.added_tokens) == "template tokens"


def test_a_tokenizer_without_eos_ends_turns_at_what_its_generation_config_names(tmp_path: Path) -> None:
    folder = made_tokenizers.make_without_eos(tmp_path / "model")
    template = ChatTemplate(ModelPreset(model="owner/name", folder=str(folder)))
    assert template._tokenizer.eos_token_id is None and "eos_token" not in template._tokenizer.special_tokens
    assert set(map(template._tokenizer.token, template.ends.ids)) == {START, END}


# --- broken folders ----------------------------------------------------------------------------------------------------

SAYS = {
    "syntax error": "fails",
    "raises": "only for tools",
    "wrong type": "fails",
    "repeats": "2 times",
    "leaves out": "0 times",
    "by length": "depends on the user's text",
    "by value": "depends on the user's text",
    "no template": "has no chat template",
    "torn tokenizer": "no tokenizer",
    "torn generation config": "generation_config.json",
}


@pytest.mark.parametrize("kind", SAYS)
def test_a_broken_folder_is_an_error_that_names_it_and_what_to_do(tmp_path: Path, kind: str) -> None:
    folder = made_tokenizers.make_broken(kind, tmp_path / "model")
    with pytest.raises(MagpieError) as error:
        _ = ChatTemplate(ModelPreset(model="owner/name", folder=str(folder))).ends.ids
    told = str(error.value)
    assert str(folder) in told and SAYS[kind] in told and "\n" not in told
    assert any(remedy in told for remedy in ("--tokenizer", "instruct model", "files again")), told


def test_every_broken_folder_is_tried() -> None:
    assert {*SAYS, "no tokenizer"} == set(BROKEN)  # which is asked of transformers, in test_tokenizer.py


# --- what fits where ---------------------------------------------------------------------------------------------------


def gpus(count: int, memory_gb: float, name: str = "NVIDIA A100-SXM4-80GB", capability: float = 8.0) -> Machine:
    return Machine((Gpu(name, memory_gb, capability),) * count, 2000.0)


A100, H100, H200, L4, T4 = 85.9, 85.5, 150.8, 24.2, 16.1
CPU = Machine((), 64.0)
SPREAD = {"tensor-parallel-size": 8, "enable-expert-parallel": True}
TIGHT = {"gpu-memory-utilization": 0.95}


def model_folder(
    path: Path,
    size_gb: float = 0.0,
    files: int = 1,
    config: dict[str, Any] | None = None,
    name: str = "owner/name",
    **more: Any,
) -> ModelPreset:
    """A preset on a folder with weights of that size (holes, no bytes)."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config or {}))
    for number in range(files if size_gb else 0):
        with (path / f"model-{number}.safetensors").open("wb") as file:
            file.truncate(int(size_gb * 1e9 / files))
    return ModelPreset(model=name, folder=str(path), **more)


@pytest.mark.parametrize(
    ("machine", "found"),
    [
        (CPU, "no GPU, 64 GB of main memory"),
        (gpus(4, A100), "4 x NVIDIA A100-SXM4-80GB, 344 GB of GPU memory"),
        (gpus(8, H100, "NVIDIA H100 80GB HBM3", 9.0), "8 x NVIDIA H100 80GB HBM3, 684 GB of GPU memory"),
    ],
    ids=["CPU", "4 A100", "8 H100"],
)
@pytest.mark.parametrize("name", ["deepseek-r1", "deepseek-r1-0528"])
def test_r1_is_refused_with_what_it_needs_what_was_found_and_the_two_ways_on(name: str, machine: Machine, found: str) -> None:
    with pytest.raises(MagpieError) as error:
        layout(load_model(name), machine)
    told = str(error.value)
    for words in (load_model(name).model, "needs 805 GB", found, "MAGPIE_BASE_URL", "smaller model"):
        assert words in told


@pytest.mark.parametrize(
    ("name", "machine", "settings", "flags"),
    [
        ("deepseek-r1", gpus(8, 141.0, "NVIDIA H200", 9.0), {}, SPREAD),
        ("deepseek-r1", gpus(8, H200, "NVIDIA H200", 9.0), {}, SPREAD),
        ("qwen2.5-math-72b", gpus(2, A100), {}, TIGHT | {"tensor-parallel-size": 2}),
        ("qwen2.5-math-72b", gpus(8, A100), {}, TIGHT | {"tensor-parallel-size": 2, "data-parallel-size": 4}),
        ("qwen2.5-math-72b", gpus(1, A100), {}, None),
        ("qwen2.5-math-72b", CPU, {}, None),
        (
            "qwen2.5-math-72b",
            gpus(1, 141.0, "NVIDIA H200", 9.0),
            {"quantization": "fp8"},
            {"tensor-parallel-size": 1, "quantization": "fp8"},
        ),
        ("qwen2.5-math-72b", gpus(1, 141.0, "NVIDIA H200", 9.0), {}, None),
        ("qwen2.5-math-72b", gpus(4, A100), {"tensor_parallel": 4}, {"tensor-parallel-size": 4}),
        ("qwen2.5-math-72b", gpus(4, A100), {"tensor_parallel": 1}, None),
        ("qwen2.5-math-72b", gpus(2, A100), {"tensor_parallel": 4}, None),
        ("qwen2-math-7b", gpus(1, L4, "NVIDIA L4", 8.9), {}, {"tensor-parallel-size": 1}),
        ("qwen2-math-7b", gpus(4, L4, "NVIDIA L4", 8.9), {}, {"tensor-parallel-size": 1, "data-parallel-size": 4}),
        ("qwen2-math-7b", gpus(4, L4, "NVIDIA L4", 8.9), {"data_parallel": 1}, {"tensor-parallel-size": 1}),
        ("qwen3-30b-a3b", gpus(4, H200, "NVIDIA H200", 9.0), {}, {"tensor-parallel-size": 1}),
        ("qwen2-math-7b", gpus(1, T4, "Tesla T4", 7.5), {}, None),
        ("qwen2-math-7b", gpus(2, T4, "Tesla T4", 7.5), {}, {"dtype": "half", "tensor-parallel-size": 2}),
        ("llama-3-8b", gpus(1, L4, "NVIDIA L4", 8.9), {}, {"tensor-parallel-size": 1}),
        ("llama-3.3-70b", gpus(2, A100), {}, TIGHT | {"tensor-parallel-size": 2}),
        ("gemma-3-27b", gpus(1, A100), {}, TIGHT | {"tensor-parallel-size": 1}),
        ("r1-distill-qwen-32b", gpus(1, A100), {}, TIGHT | {"tensor-parallel-size": 1}),
        ("smollm2", CPU, {}, {"tensor-parallel-size": 1}),
    ],
)
def test_what_fits_goes_onto_as_few_gpus_as_it_can(
    name: str, machine: Machine, settings: dict[str, Any], flags: dict[str, Any] | None
) -> None:
    if flags is not None:
        found = layout(load_model(name), machine, Wanted(**settings)).flags()
        if not machine.gpus:
            assert 0 < found.pop("gpu-memory-utilization") <= 0.92  # of the main memory
        assert found == flags
        return
    with pytest.raises(MagpieError, match="does not fit"):
        layout(load_model(name), machine, Wanted(**settings))


def test_a_gpu_without_bfloat16_gets_half_precision(tmp_path: Path) -> None:
    preset = model_folder(tmp_path, 8.0)
    assert layout(preset, gpus(1, T4, "Tesla T4", 7.5)).flags() == {"dtype": "half", "tensor-parallel-size": 1}
    assert "dtype" not in layout(preset, gpus(1, L4, "NVIDIA L4", 8.9)).flags()


def test_the_size_of_the_folders_own_weights_goes_before_the_presets(tmp_path: Path) -> None:
    preset = model_folder(tmp_path / "large", 100.0, files=3, weights_gb=1.0)
    assert weights_gb(preset) == pytest.approx(100.0)
    with pytest.raises(MagpieError, match="needs 110 GB"):
        layout(preset, gpus(1, A100))
    assert layout(model_folder(tmp_path / "small", 1.0, weights_gb=100.0), gpus(1, A100)).flags() == {"tensor-parallel-size": 1}
    assert weights_gb(model_folder(tmp_path / "none", weights_gb=7.0)) == 7.0


def test_a_copy_of_r1_in_four_bits_needs_half_of_what_r1_needs(tmp_path: Path) -> None:
    """A folder named like a preset takes its settings; the memory is that of the files in it."""
    model_folder(tmp_path / "DeepSeek-R1", 336.0, files=4)
    preset = load_model(str(tmp_path / "DeepSeek-R1"))
    assert preset.memory_gb == 805
    assert layout(preset, gpus(8, H100, "NVIDIA H100 80GB HBM3", 9.0)).flags() == SPREAD


def test_asking_for_the_precision_that_r1_has_already_does_not_halve_it() -> None:
    with pytest.raises(MagpieError, match="does not fit"):
        layout(load_model("deepseek-r1"), gpus(8, H100, "NVIDIA H100 80GB HBM3", 9.0), Wanted(quantization="fp8"))


@pytest.mark.parametrize(
    ("config", "count", "size_gb", "expected"),
    [
        ({"num_attention_heads": 28}, 4, 60.0, 4),
        ({"num_attention_heads": 28}, 3, 60.0, None),
        ({"num_attention_heads": 28}, 4, 30.0, 2),
        ({"num_attention_heads": 24}, 4, 60.0, 3),
        ({"text_config": {"num_attention_heads": 32}}, 4, 60.0, 4),
        ({"text_config": {"num_attention_heads": 32}}, 3, 60.0, None),
    ],
)
def test_numbers_of_gpus_that_do_not_divide_the_attention_heads_are_skipped(
    tmp_path: Path, config: dict[str, Any], count: int, size_gb: float, expected: int | None
) -> None:
    preset, machine = model_folder(tmp_path, size_gb, config=config), gpus(count, L4, "NVIDIA L4", 8.9)
    if expected is None:
        with pytest.raises(MagpieError, match="does not fit"):
            layout(preset, machine)
    else:
        assert layout(preset, machine).flags()["tensor-parallel-size"] == expected


def test_the_smallest_of_unlike_gpus_decides(tmp_path: Path) -> None:
    unlike = Machine((Gpu("big", 80.0, 9.0), Gpu("small", 24.0, 8.9)), 100.0)
    with pytest.raises(MagpieError):
        layout(model_folder(tmp_path, 60.0), unlike)


def test_a_model_of_unknown_size_is_left_to_the_engine() -> None:
    bare = ModelPreset(model="owner/name")
    assert layout(bare, CPU).flags()["tensor-parallel-size"] == 1
    assert layout(bare, gpus(2, L4)).flags() == {"tensor-parallel-size": 1}


# --- the hub -----------------------------------------------------------------------------------------------------------

OWNER_MODEL = "owner/name"


@pytest.fixture(scope="module")
def hub() -> Iterator[Callable[[int, str], str]]:
    """A hub that gives every request the same answer; called with status and error code it returns its address."""
    answer: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer["status"])
            if answer["code"]:
                self.send_header("X-Error-Code", answer["code"])
                self.send_header("X-Error-Message", "said by the scripted hub")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answering(status: int, code: str) -> str:
        answer.update(status=status, code=code)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield answering
    server.shutdown()
    server.server_close()


def hub_environment(home: Path, **more: str) -> dict[str, str]:
    """This environment without anything of the hub's or of this project's, its home elsewhere, and no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "MAGPIE_"))}
    return kept | {"HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | more


PROGRAMS = {
    "gen_ins": ("--model_path", OWNER_MODEL, "--total_prompts", "5", "--base_url", "http://127.0.0.1:9/v1", "--output_file"),
    "serve": (OWNER_MODEL, "--log_dir"),
}


WITHOUT_WAITING = """
import runpy, sys, types
from huggingface_hub.utils import _http
_http.time = types.SimpleNamespace(sleep=lambda seconds: print("tries again", file=sys.stderr))
program = sys.argv.pop(1)
sys.path.insert(0, program.rpartition("/")[0])
runpy.run_path(program, run_name="__main__")
"""
"""The program itself; only the hub's client does not wait before it tries again (23 seconds in all)."""


def start(program: str, folder: Path, endpoint: str, *before: str) -> subprocess.Popen[str]:
    """Start a program on a model of the hub, everything that it might write being in `folder`."""
    tail = ("--", "true") if program == "serve" else ()
    return subprocess.Popen(
        [
            *(sys.executable, *before, str(PROJECT / "exp" / f"{program}.py")),
            *PROGRAMS[program],
            str(folder / "out" / "x_ins.jsonl"),
            *tail,
        ],
        env=hub_environment(folder / "home", HF_ENDPOINT=endpoint),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_refused(program: str, folder: Path, started: subprocess.Popen[str], *says: str) -> str:
    stdout, stderr = started.communicate(timeout=600)
    errors = [line for line in stderr.splitlines() if line.startswith(f"{program}: error: ")]
    assert started.returncode == 2 and stdout == "" and "Traceback" not in stderr, stderr[-2000:]
    assert len(errors) == 1, stderr
    missing = [word for word in (OWNER_MODEL, *says) if word not in errors[0]]
    assert not missing, f"{missing} not in: {errors[0]}"
    assert not [path for path in (folder / "out").rglob("*") if path.is_file()]
    return stderr


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", ("no model", "Check the name")),
        (401, "RepoNotFound", ("no model", "Check the name", "hf auth login")),
        (403, "GatedRepo", ("gated", "license", "hf auth login")),
        (401, "GatedRepo", ("gated", "license", "hf auth login")),
    ],
    ids=["unknown", "unknown without a token", "gated", "gated without a token"],
)
def test_a_model_that_the_hub_does_not_give_is_refused_before_anything_is_loaded(
    tmp_path: Path, hub: Callable[[int, str], str], program: str, status: int, code: str, says: tuple[str, ...]
) -> None:
    check_refused(program, tmp_path, start(program, tmp_path, hub(status, code)), *says)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_model_of_the_hub_is_refused_without_a_network(tmp_path: Path, program: str) -> None:
    """Nothing is tried again: the hub is looked for once."""
    started = start(program, tmp_path, "http://127.0.0.1:9", "-c", WITHOUT_WAITING)
    assert check_refused(program, tmp_path, started, "not on this machine", "network").count("tries again") == 0


def test_a_model_in_the_hubs_cache_is_read_as_one_in_a_folder(tmp_path: Path, load: Load) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = made_tokenizers.make("llama-3.1", repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    model_folder(snapshot, 3.0, config={"model_type": "llama"})
    script = (
        "import json\nfrom magpie.config.model_presets import ModelPreset\nfrom magpie.models.checkpoint import weights_gb\n"
        "from magpie.models.chat_template import ChatTemplate\n"
        "preset = ModelPreset(model='owner/name')\ntemplate = ChatTemplate(preset)\n"
        "print(json.dumps([weights_gb(preset), template.prompt('1 + 1?'), template.ends.ids]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=hub_environment(tmp_path, HF_HUB_OFFLINE="1", PYTHONPATH=str(PROJECT / "exp")),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    template = load("llama-3.1")
    assert json.loads(done.stdout) == [3.0, template.prompt("1 + 1?"), template.ends.ids]


SMI = r"""#!/bin/sh
ids=0,1,2,3
for a in "$@"; do case $a in
  --id=*) ids=${a#--id=} ;;
  -L) echo "GPU 0: NVIDIA A100 (UUID: GPU-1)"
      echo "  MIG 3g.40gb     Device  0: (UUID: MIG-aa)"
      echo "  MIG 1g.10gb+me  Device  1: (UUID: MIG-bb)"
      exit ;;
esac; done
case $ids in *MIG*) exit 6 ;; esac
for i in $(echo $ids | tr , ' '); do echo "NVIDIA A100, MEMORY, 8.0"; done
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., machine.Machine]:
    def look(visible: str | None, memory: str = "81920") -> machine.Machine:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(SMI.replace("MEMORY", memory))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        found: machine.Machine = machine.this_machine.__wrapped__()
        return found

    return look


@pytest.mark.parametrize(("visible", "count"), [(None, 4), ("", 0), ("-1", 0), ("1", 1), ("0,2", 2), ("MIG-cc", 0)])
def test_only_the_gpus_that_are_visible_count(seen: Callable[..., machine.Machine], visible: str | None, count: int) -> None:
    assert len(seen(visible).gpus) == count


def test_a_processor_that_computes_in_bfloat16_says_so() -> None:
    assert machine.has_bfloat16("flags : fpu avx2 avx512f avx512_bf16 amx_tile")
    assert machine.has_bfloat16("flags : amx_bf16")
    assert not machine.has_bfloat16("flags : fpu avx2 avx512f")


def test_of_slices_the_first_counts_with_its_own_memory(seen: Callable[..., machine.Machine]) -> None:
    gpus = seen("MIG-bb,MIG-aa").gpus
    assert [(gpu.name, gpu.memory_gb, gpu.capability) for gpu in gpus] == [("MIG 1g.10gb+me", 10.0, 8.0)]


def test_a_gpu_that_shares_the_memory_of_the_machine_has_that(seen: Callable[..., machine.Machine]) -> None:
    found = seen("0", memory="[N/A]")
    assert [gpu.memory_gb for gpu in found.gpus] == [found.memory_gb]

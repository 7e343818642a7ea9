"""Families of late 2026: prefixes, turn ends, chains of thought and switches, and responses through gen_res.py against a server
that ends a generation where it is told to, as the engine does. docs/models.md is held in step."""

from __future__ import annotations

import datetime
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import program, rows
from made_tokenizers import THINK, make_family
from magpie.chain.config import load_job
from magpie.config.load import PROJECT
from magpie.config.model_presets import ModelPreset, load_model
from magpie.models import tokenizer
from magpie.models.chat_template import ChatTemplate
from magpie.models.reasoning_formats import load_formats
from modern_families import MODERN
from modern_golden import GOLDEN, LEFT_OFF, SOLUTION, THOUGHT, USER_ENDS, WORDS, WRITES
from scripted_server import MODEL
from token_model import TokenModel

FAMILY_OF = {"magistral": "ministral-3"}
"""Configured families that are made here under the name of a sibling with the same format and template."""
PRESETS = {
    path.stem: preset
    for path in sorted((PROJECT / "configs" / "models").glob("*.yaml"))
    if FAMILY_OF.get((preset := load_model(path.stem)).family or "", preset.family) in MODERN
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("modern")
    for name, family in MODERN.items():
        make_family(family, root / name)
    return root


def load(made: Path, family: str, **variables: Any) -> ChatTemplate:
    preset = PRESETS[family] if not MODERN[family].template else ModelPreset(model=f"owner/{family}")
    return ChatTemplate(msgspec.structs.replace(preset, folder=str(made / family)), variables=variables)


def test_every_family_has_golden_values_and_a_response() -> None:
    assert set(MODERN) == set(GOLDEN) == set(WRITES)


@pytest.mark.parametrize("family", GOLDEN)
def test_the_frame_the_ends_and_the_format_are_golden(made: Path, family: str) -> None:
    before, after, off, ends, form = GOLDEN[family]
    template = load(made, family)
    assert (template.frame().pre_query, template.frame().after) == (before, after)
    assert template.prompt(WORDS) == template.encode(before + WORDS + after)
    assert template.prompt(WORDS, thinking=False) == template.encode(template.frame(**template._off).pre_query + WORDS + off)
    assert set(map(template._tokenizer.token, template.ends.ids)) == ends
    assert set(map(template._tokenizer.token, template.user_ends.ids)) == USER_ENDS.get(family, ends)
    assert template.reasoning == load_formats()[form]
    assert template.left_off == LEFT_OFF.get(family, "")


@pytest.mark.parametrize("family", GOLDEN)
def test_the_prefix_as_token_ids_has_every_token_of_the_template_as_one(made: Path, family: str) -> None:
    template = load(made, family)
    named = template._tokenizer.added_tokens
    marks = re.findall("|".join(sorted(map(re.escape, filter(str.strip, named)), key=len, reverse=True)), GOLDEN[family][0])
    special = {i for token, i in named.items() if token.strip()}
    assert [i for i in template.encode(template.frame().pre_query) if i in special] == [named[mark] for mark in marks]


@pytest.mark.parametrize("family", GOLDEN)
def test_no_template_knows_what_day_it_is(made: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime(2031, 5, 4)

    monkeypatch.setattr(datetime, "datetime", Later)
    prefix = load(made, family).frame().pre_query
    assert "2031" not in prefix and prefix == GOLDEN[family][0]
    assert tokenizer.TODAY.isoformat() == "2024-07-26"


@pytest.mark.parametrize("family", WRITES)
def test_a_response_goes_through_gen_res_whole_and_split(made: Path, tmp_path: Path, family: str) -> None:
    variables, writes = WRITES[family]
    source = tmp_path / "p.jsonl"
    source.write_text(json.dumps({"id": 1, "instruction": WORDS}) + "\n")
    given = ["--template_variables", *(f"{name}={json.dumps(value)}" for name, value in variables.items())] if variables else []
    with TokenModel(load(made, family, **variables), writes) as server:
        name = made / family if MODERN[family].template else family
        arguments = ["--model_path", name, "--served_model", MODEL, "--base_url", server.url, "--max_tokens", 900]
        arguments += ["--tokenizer", made / family]
        done = program("gen_res", *arguments, "--input_file", source, *given)
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path / "p_res.jsonl")
    thinks = family != "mistral-small-3.2"
    assert (row["response"], row["reasoning"]) == (SOLUTION, THOUGHT if thinks else None)
    assert row["finish_reason"] == "stop" and row["gen_response_configs"].get("template_variables", {}) == variables
    assert "leaves thinking off" not in done.stderr
    exported = program("export", "--input_file", tmp_path / "p_res.jsonl")
    assert exported.returncode == 0, exported.stderr
    [made_row] = rows(tmp_path / "p_res_sharegpt.jsonl")
    text = made_row["conversations"][1]["value"]
    assert text == (f"<think>\n{THOUGHT}\n</think>\n\n{SOLUTION}" if thinks else SOLUTION)


@pytest.mark.parametrize("family", LEFT_OFF)
def test_gen_res_warns_where_a_template_leaves_thinking_off(made: Path, tmp_path: Path, family: str) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text(json.dumps({"id": 1, "instruction": WORDS}) + "\n")
    end = next(iter(load(made, family).ends.texts))
    with TokenModel(load(made, family), SOLUTION + end) as server:
        arguments = ["--model_path", made / family, "--served_model", MODEL, "--base_url", server.url, "--max_tokens", 900]
        done = program("gen_res", *arguments, "--input_file", source)
    assert done.returncode == 0 and "leaves thinking off" in done.stderr, done.stderr
    assert f"--template_variables {LEFT_OFF[family]}" in " ".join(done.stderr.split())
    assert load(made, family, **{LEFT_OFF[family].partition("=")[0]: True}).left_off == ""


@pytest.mark.parametrize("name", [name for name in load_formats() if name != "none"])
def test_every_format_reads_back_what_is_written_in_it(name: str) -> None:
    form = load_formats()[name]
    gap = form.own_turns[:2] and "".join(form.own_turns[:2])
    written = f"{form.open}{form.header}{THOUGHT}{gap or ''}{form.close}{SOLUTION}"
    assert form.split(written) == (THOUGHT, SOLUTION)
    assert form.split(written.removeprefix(form.open), opened=True) == (THOUGHT, SOLUTION)
    assert form.split(f"{form.open}{form.header}{THOUGHT}") == (THOUGHT, None)
    assert form.split(f"<think>\n{THOUGHT}\n</think>\n\n{SOLUTION}") == (THOUGHT, SOLUTION)  # a field of its own at the server
    if form.open:
        assert form.split(SOLUTION) == (None, SOLUTION)
    for mark in form.wraps[:2]:
        assert form.split(f"{form.open}{THOUGHT}{form.close}{mark}{SOLUTION}") == (THOUGHT, SOLUTION)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"
         "<|start|>assistant<|channel|>final<|message|>c", ("a\n\nb", "c")),
        ('<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final <|constrain|>JSON<|message|>{"x": 1}',
         ("a", '{"x": 1}')),
        ("<|channel|>commentary<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>c", ("plan", "c")),
        ("<|channel|>final<|message|>c<|return|>", (None, "c")),
        ("<|channel|>analysis<|message|>never en", ("never en", None)),
    ],
    ids=["two thoughts", "constrained", "a preamble", "no thought", "cut"],
)  # fmt: skip
def test_harmony_as_it_is_met(text: str, expected: tuple[str | None, str | None]) -> None:
    assert load_formats()["harmony"].split(text) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_its_familys_template_and_says_where_its_sampling_is_from(made: Path, name: str) -> None:
    preset = PRESETS[name]
    assert preset.family is not None
    template = ChatTemplate(preset, tokenizer=str(made / FAMILY_OF.get(preset.family, preset.family)))
    assert preset.thinking == ("forced" if template.forced_think else "free") and template.thinks and not template.left_off
    assert "card" in preset.answers_source or "README" in preset.answers_source
    assert preset.answers == preset.samples and preset.answers.temperature > 0
    assert preset.server.flags["max-model-len"] > preset.answers.max_tokens
    assert preset.weights_gb or preset.memory_gb


def test_the_parsers_of_presets_are_parsers_of_the_engine() -> None:
    engine = importlib.util.find_spec("vllm")
    assert engine is not None and engine.submodule_search_locations
    known = (Path(engine.submodule_search_locations[0]) / "reasoning" / "__init__.py").read_text(encoding="utf-8")
    named = {str(preset.server.flags["reasoning-parser"]) for preset in PRESETS.values()}
    assert not {name for name in named if f'"{name}"' not in known}


def test_the_table_in_docs_has_a_row_for_every_family_that_is_made_here() -> None:
    page = (PROJECT / "docs" / "models.md").read_text(encoding="utf-8")
    table = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    shown = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in table}
    assert set(shown) == set(GOLDEN)
    for family, (_, after, _, _, form) in GOLDEN.items():
        behind = after.replace("\n", "\\n").replace("|", "\\|")
        assert shown[family][1] == f"`{behind}`"
        marks = [mark.replace("|", "\\|") for mark in (load_formats()[form].open, load_formats()[form].close)]
        assert family == "mistral-small-3.2" or all(mark in shown[family][2] for mark in marks)
        name, _, _ = LEFT_OFF.get(family, "").partition("=")
        assert not name or shown[family][3] == f"`{name}`, off"


def test_none_is_never_split() -> None:
    assert load_formats()["none"].split("a </think> b") == (None, "a </think> b")
    assert THINK == ("<think>", "</think>") and (PROJECT / "configs" / "reasoning.yaml").is_file()


def test_other_template_variables_are_another_run_for_the_judge_and_the_tagger(made: Path, tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text(json.dumps({"id": 1, "instruction": WORDS, "response": SOLUTION, "reference_answer": "42"}) + "\n")
    with TokenModel(load(made, "qwen3.5"), SOLUTION + "<|im_end|>") as server:
        given = ["--judge", "--model_path", made / "qwen3.5", "--served_model", MODEL, "--base_url", server.url]
        given += ["--input_file", source, "--template_variables"]
        done = program("verify", *given, "enable_thinking=true")
        other = program("verify", *given, "enable_thinking=false")
    assert not done.returncode and other.returncode and "template_variables" in other.stderr, done.stderr + other.stderr


def test_template_variables_are_a_setting_of_launchers() -> None:
    for kind in ("main", "sft", "align"):
        job = load_job(kind)
        assert "template_variables" in job.settings
        asking = [stage for stage in job.stages if stage.program in ("gen_ins", "gen_res")]
        assert asking and all(stage.flags["template_variables"] == ["{template_variables}"] for stage in asking)

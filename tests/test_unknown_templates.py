"""Chat templates of families that nobody has looked at: understood, or said plainly what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import program
from made_tokenizers import QWEN, Family, make_family
from magpie.common.console import MagpieError
from magpie.config.model_presets import ModelPreset
from magpie.models.chat_template import ChatTemplate
from magpie.text.degeneration import response_defect, training_defect
from modern_golden import CHATML, SOLUTION
from scripted_server import MODEL
from token_model import TokenModel

TURN = "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
TURNS = "{%- for m in messages %}" + TURN + "{% endfor -%}"
ASKS = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}"
OPENS = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<mm:think>' }}{% endif -%}"
STRIPS = TURNS.replace("m.content", "m.content.split('◁/think▷')[-1]")

UNDERSTOOD = {
    "no thinking": TURNS + ASKS,
    "tags in its system prompt": "{{ 'First <think>, then </think>.\\n' }}" + TURNS + ASKS,
    "a long system prompt": "{{ 'You are wise. ' * 20000 }}" + TURNS + ASKS,
    "the time of day": "{{ strftime_now('%H:%M:%S') }}" + TURNS + ASKS,
    "a date with a default": "{{ today | default('2026-11-27') }}" + TURNS + ASKS,
    "no answer in the messages": "{%- if messages[1] %}{{ raise_exception('one question') }}{% endif -%}" + TURNS + ASKS,
}
REFUSED = {
    "tools": (
        "{%- if not tools %}{{ raise_exception('tools are required') }}{% endif -%}",
        "tools are required.*--template_var",
    ),
    "a list of tools": ("{%- for tool in tools %}{{ tool.name }}{% endfor -%}", "not iterable.*--template_variables"),
    "a system prompt": (
        "{%- if messages[0].role != 'system' %}{{ raise_exception('begin with system') }}{% endif -%}",
        "begin with",
    ),
    "an effort": (
        "{%- if not reasoning_effort %}{{ raise_exception('low or high?') }}{% endif -%}",
        "low or high.*--template_var",
    ),
    "a date": ("{{ 'Today is ' + current_date }}", "'current_date' is undefined.*--template_variables"),
    "a clock of its own": ("{{ datetime.now() }}", "'datetime' is undefined"),
    "chance": ("{{ range(1000) | random }}", "depends on the user's text"),
    "the words' length": ("{{ messages[-1].content | length }}", "depends on the user's text"),
    "the words elsewhere": ("{{ messages[-1].content }}", "shows the user's text 2 times"),
    "a book": ("{{ 'You are wise. ' * 200000 }}", "it writes 2,800,0"),
    "no end": ("{%- for i in range(100000000) %}{{ i }}{% endfor -%}", "Range too big"),
    "Python": ("{{ ''.__class__.__mro__ }}", "unsafe"),
}


def load(folder: Path, template: str, **variables: object) -> ChatTemplate:
    make_family(Family(template, **QWEN), folder)
    return ChatTemplate(ModelPreset(model="owner/unknown"), tokenizer=str(folder), variables=variables)


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_what_an_unknown_template_does_is_read_off_it(tmp_path: Path, name: str) -> None:
    template = load(tmp_path / "made", UNDERSTOOD[name])
    assert template.frame().pre_query.endswith(CHATML[0]) and template.frame().after == CHATML[1]
    assert not template.unknown_tag and not template.left_off and not template.forced_think


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_understood_is_said_with_what_to_do(tmp_path: Path, name: str) -> None:
    before, message = REFUSED[name]
    with pytest.raises(MagpieError, match=message):
        load(tmp_path / "made", before + TURNS + ASKS)


def test_what_a_template_asks_for_can_be_given_to_it(tmp_path: Path) -> None:
    effort, tools = REFUSED["an effort"][0], REFUSED["a list of tools"][0]
    assert (
        load(tmp_path / "made", effort + tools + TURNS + ASKS, reasoning_effort="low", tools=[]).frame().pre_query == CHATML[0]
    )


def test_a_template_that_changes_the_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MagpieError, match="shows the user's text 0 times"):
        load(tmp_path / "made", TURNS.replace("m.content", "m.content | upper") + ASKS)


@pytest.mark.parametrize(
    ("template", "tag", "close"), [(TURNS + OPENS, "<mm:think>", "</mm:think>"), (STRIPS + ASKS, "◁/think▷", "◁/think▷")]
)
def test_a_thought_in_unknown_tags_is_warned_of_and_stops_the_run(tmp_path: Path, template: str, tag: str, close: str) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text("".join(json.dumps({"id": n, "instruction": f"What is {n} + 25?"}) + "\n" for n in range(3)))
    with TokenModel(load(tmp_path / "made", template), f"We add.{close}{SOLUTION}<|im_end|>") as server:
        arguments = ["--model_path", tmp_path / "made", "--served_model", MODEL, "--base_url", server.url, "--max_tokens", 900]
        done = program("gen_res", *arguments, "--input_file", source)
    said = " ".join(done.stderr.split())
    assert f"mentions {tag}, which no format in configs/reasoning.yaml has" in said
    assert done.returncode == 2 and "3 of the first 3 samples are bad (3 thought in the solution)" in said


@pytest.mark.parametrize(
    ("solution", "is_thought", "is_refused"),
    [
        ("We add.</reasoning>\n42", True, True),
        ("We add.◁/think▷42", True, True),
        ("We add.</mm:think>42", True, True),
        ("<thinking>We add.</thinking>42", True, False),  # whole: somebody's own data may be meant so
        (" \n<Thought>\nWe add.", True, False),
        ("For a <thinking> person it is 42.", False, False),
        ("We have a <b and b> c, so <reason> holds.", False, False),
        ("\\langle thought \\rangle = 42, <think/>", False, False),
        ("Step 1. Reasoning: 7 + 5 = 12.", False, False),
    ],
)
def test_thoughts_in_unknown_tags_are_found_and_mathematics_is_not(solution: str, is_thought: bool, is_refused: bool) -> None:
    assert response_defect(None, solution, [], []) == ("thought in the solution" if is_thought else "")
    for text in (solution, f"<think>\nA sum.\n</think>\n\n{solution}"):
        assert training_defect(text) == ("unclosed_thought" if is_refused else "")


def test_no_problem_is_sampled_from_an_empty_prefix(tmp_path: Path) -> None:
    bare = "{%- for m in messages if m.role == 'user' %}{{ m.content }}{% endfor -%}" + ASKS
    make_family(Family(bare, **QWEN), tmp_path / "made")
    given = ["--model_path", tmp_path / "made", "--served_model", MODEL, "--total_prompts", 2, "--control_tasks", "none"]
    with TokenModel(load(tmp_path / "other", TURNS + ASKS), SOLUTION) as server:
        done = program("gen_ins", *given, "--base_url", server.url, "--output_file", tmp_path / "x_ins.jsonl")
    assert done.returncode == 2 and "puts nothing before the user's text" in " ".join(done.stderr.split())

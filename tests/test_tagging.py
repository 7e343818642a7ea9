"""Missions: labels, schemas, questions, the reading of answers, what a record gets."""

from __future__ import annotations

import json

import msgspec
import pytest

from magpie.config.model_presets import load_model
from magpie.models.chat_template import ChatTemplate
from magpie.records.schema import DIFFICULTIES, DOMAINS, QUALITIES, TASK_CATEGORIES, Record
from magpie.tagging.config import load_tag_prompts
from magpie.tagging.missions import ASKED, MISSIONS, question, read_tags, with_tags

LABELS = {
    "difficulty": DIFFICULTIES,
    "quality": QUALITIES,
    "classification": TASK_CATEGORIES,
    "domain": (*DOMAINS, "other"),
}


def test_missions_write_keys_of_the_record_and_none_twice() -> None:
    keys = [key for mission in MISSIONS.values() for key in mission.keys]
    assert set(keys) <= set(Record.__annotations__) and len(set(keys)) == len(keys)
    assert set(ASKED) == set(LABELS)


@pytest.mark.parametrize("name", ASKED)
def test_prompt_and_schema_name_exactly_the_labels_of_the_record(name: str) -> None:
    mission = MISSIONS[name]
    assert mission.labels == LABELS[name]
    enums = [
        found
        for part in mission.schema["properties"].values()
        if (found := part.get("enum") or part.get("items", {}).get("enum"))
    ]
    assert enums and all(tuple(enum) == LABELS[name] for enum in enums)
    assert mission.schema["required"] == list(mission.keys) and mission.schema["additionalProperties"] is False
    text = question(mission, load_tag_prompts(), "What is 1 + 1?")
    assert all(f'"{label}"' in text for label in LABELS[name]) and all(f'"{key}"' in text for key in mission.keys)
    assert "{" + "labels}" not in text and "{shape}" not in text and "{task}" not in text


@pytest.mark.parametrize(
    "problem", ["{labels} {shape} {task} {problem}", r"$\frac{1}{2}$ {{}} }{ \\ \1 \g<0>", "a\x00b", '"\n```']
)
def test_a_problem_stands_in_its_question_as_it_is(problem: str) -> None:
    text = question(MISSIONS["domain"], load_tag_prompts(), problem)
    assert text.count(problem) == 1


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    """The embedded model's tokenizer."""
    return ChatTemplate(load_model("smollm2"))


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("character", ["a", "é", "数", "😀", "\\", '"', "\n"])
def test_the_longest_answer_has_fewer_tokens_than_are_allowed(template: ChatTemplate, name: str, character: str) -> None:
    mission = MISSIONS[name]
    longest = max(LABELS[name], key=lambda label: len(template.encode(label)))
    answer = {
        field.key: [longest] * field.several if field.several else longest if field.labels else character * field.characters
        for field in mission.fields
    }
    for indent in (None, 2):
        text = json.dumps(answer, ensure_ascii=False, indent=indent)
        assert len(template.encode(text)) <= mission.most_tokens
        if character.strip():
            assert read_tags(mission, text).keys() == set(mission.keys)


GOOD = '{"intent": "a sum", "knowledge": "\\\\frac{1}{2} }{", "difficulty": "very hard"}'


def test_an_answer_is_read() -> None:
    assert read_tags(MISSIONS["difficulty"], GOOD) == {
        "intent": "a sum",
        "knowledge": r"\frac{1}{2} }{",
        "difficulty": "very hard",
    }
    assert read_tags(MISSIONS["domain"], ' {"domain":"other", "why": 1}\n') == {"domain": "other"}


def test_other_labels_come_once_and_without_the_first() -> None:
    text = '{"task_category": "Math", "other_task_category": ["Reasoning", "Math", "Reasoning"]}'
    assert read_tags(MISSIONS["classification"], text)["other_task_category"] == ["Reasoning"]
    text = '{"task_category": "Math", "other_task_category": []}'
    assert read_tags(MISSIONS["classification"], text)["other_task_category"] == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("difficulty", "", "not_json"),
        ("difficulty", GOOD[:-1], "not_json"),
        ("difficulty", f"```json\n{GOOD}\n```", "not_json"),
        ("difficulty", "[" * 100_000, "not_json"),
        ("difficulty", '{"intent": "\\ud83d", "knowledge": "b", "difficulty": "hard"}', "not_json"),
        ("difficulty", "[]", "wrong_answer"),
        ("difficulty", "null", "wrong_answer"),
        ("difficulty", GOOD.replace("very hard", "Hard"), "wrong_answer"),
        ("difficulty", GOOD.replace("a sum", "  "), "wrong_answer"),
        ("difficulty", '{"intent": "a", "difficulty": "hard"}', "wrong_answer"),
        ("domain", '{"domain": null}', "wrong_answer"),
        ("domain", '{"domain": ["algebra"]}', "wrong_answer"),
        ("classification", '{"task_category": "Math", "other_task_category": "Math"}', "wrong_answer"),
        ("classification", '{"task_category": "Math", "other_task_category": ["Fun"]}', "wrong_answer"),
        ("classification", '{"task_category": "Math", "other_task_category": [["Math"]]}', "wrong_answer"),
    ],
)
def test_what_is_not_the_answer_asked_for_is_refused_with_its_reason(name: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError) as error:
        read_tags(MISSIONS[name], text)
    assert error.value.args[0] == reason


def test_a_record_gets_tags_or_reasons_and_keeps_what_other_missions_gave() -> None:
    before = {
        "instruction": "x",
        "language": "en",
        "tagged_by": {"language": "lingua"},
        "tag_failures": {"domain": "cut"},
        "own": 1,
    }
    after = with_tags(
        before, {"domain": {"domain": "algebra"}, "difficulty": "not_json: x"}, {"domain": "m", "difficulty": "m"}
    )
    assert after == {
        "instruction": "x",
        "language": "en",
        "own": 1,
        "domain": "algebra",
        "intent": None,
        "knowledge": None,
        "difficulty": None,
        "tagged_by": {"language": "lingua", "domain": "m"},
        "tag_failures": {"difficulty": "not_json: x"},
    }
    msgspec.convert(after, Record)
    assert "tag_failures" not in with_tags(
        after, {"difficulty": {"intent": "a", "knowledge": "b", "difficulty": "easy"}}, {"difficulty": "m"}
    )

"""Configurations: those that are there load, and a broken one is an error that names the file and the field."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from magpie.common.console import MagpieError
from magpie.config import load as configs
from magpie.config.model_presets import load_model
from magpie.generation.config import load_domain, load_response_styles, load_steering
from magpie.preferences.config import load_pair_settings
from magpie.preferences.pairs import STRATEGIES
from magpie.records.schema import DOMAINS
from magpie.tagging.config import load_tag_prompts

MODELS = sorted(path.stem for path in (configs.CONFIGS / "models").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of configs/ that a test may break."""
    copy = tmp_path / "configs"
    shutil.copytree(configs.CONFIGS, copy)
    monkeypatch.setattr(configs, "CONFIGS", copy)
    return copy


@pytest.mark.parametrize("name", MODELS)
def test_every_model_preset_loads(name: str) -> None:
    preset = load_model(name)
    assert preset == load_model(preset.model) == load_model(name.upper())
    for sampling in (preset.problems, preset.answers, preset.samples):
        assert sampling.temperature >= 0 and 0 < sampling.top_p <= 1 and sampling.max_tokens >= 1
    assert preset.samples.temperature >= max(0.5, preset.least_temperature), "several greedy answers are one answer"
    assert preset.samples.max_tokens == preset.answers.max_tokens
    if preset.embedded:
        assert load_model(preset.path) == preset


@pytest.mark.parametrize("name", DOMAINS)
def test_every_field_loads_and_has_what_steering_needs(name: str) -> None:
    field = load_domain(name)
    assert len(set(field.topics)) == len(field.topics) >= 1
    assert field.system_prompts and all("{topic}" in prompt for prompt in field.system_prompts)
    assert field.task_templates


def test_template_ids_are_unique_over_all_fields() -> None:
    ids = [template.id for name in DOMAINS for template in load_domain(name).task_templates]
    assert len(set(ids)) == len(ids)


def test_there_is_a_file_for_every_field_and_no_other() -> None:
    assert sorted(path.stem for path in (configs.CONFIGS / "domains").glob("*.yaml")) == sorted(DOMAINS)


def test_the_prompts_load() -> None:
    steering = load_steering()
    assert steering.control_tasks["math"] and "{task}" in steering.with_template
    assert "boxed" in load_response_styles()


def test_every_yaml_file_is_read_by_something() -> None:
    readable = {f"models/{name}.yaml" for name in MODELS} | {f"domains/{name}.yaml" for name in DOMAINS}
    readable |= {"prompts/steering.yaml", "prompts/responses.yaml", "prompts/tags.yaml"}
    there = {path.relative_to(configs.CONFIGS).as_posix() for path in configs.CONFIGS.rglob("*.y*ml")}
    assert {name for name in there if name.startswith(("models/", "domains/"))} <= readable
    assert readable <= there


LOADERS: dict[str, Callable[[], object]] = {
    "models/smollm2.yaml": lambda: load_model("smollm2"),
    "domains/algebra.yaml": lambda: load_domain("algebra"),
    "prompts/steering.yaml": load_steering,
    "prompts/responses.yaml": load_response_styles,
    "prompts/tags.yaml": load_tag_prompts,
    **{f"pairs/{name}.yaml": functools.partial(load_pair_settings, name) for name in STRATEGIES},
}


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("models/smollm2.yaml", {"temperatur": 1}, "temperatur"),
        ("models/smollm2.yaml", {"problems": {"min_p": 5}}, "min_p"),
        ("models/smollm2.yaml", {"server": {"gpu_flags": {}}}, "gpu_flags"),
        ("models/smollm2.yaml", {"model": None}, "model"),
        ("models/smollm2.yaml", {"model": ...}, "model"),
        ("models/smollm2.yaml", {"problems": {"temperature": "warm"}}, "temperature"),
        ("pairs/verified.yaml", {"least_vote": 3}, "least_vote"),
        ("pairs/verified.yaml", {"longest_ratio": 0.5}, "longest_ratio"),
        ("pairs/verified.yaml", {"least_margin": 25}, "least_margin"),
        ("pairs/verified.yaml", {"rejected": "any"}, "rejected"),
        ("pairs/reward.yaml", {"longest_ratio": ...}, "longest_ratio"),
        ("domains/algebra.yaml", {"topic": []}, "topic"),
        ("domains/algebra.yaml", {"topics": ...}, "topics"),
        ("domains/algebra.yaml", {"topics": "groups"}, "topics"),
        ("domains/algebra.yaml", {"task_templates": [{"id": "x"}]}, "text"),
        ("domains/algebra.yaml", {"task_templates": [{"id": "x", "text": "y", "level": 1}]}, "level"),
        ("domains/algebra.yaml", {"domain": "geometry"}, "domain"),
        ("prompts/steering.yaml", {"with_template": ...}, "with_template"),
        ("prompts/steering.yaml", {"language": "en"}, "language"),
        ("prompts/tags.yaml", {"cut_note": ...}, "cut_note"),
        ("prompts/tags.yaml", {"most_characters": "many"}, "most_characters"),
        ("prompts/tags.yaml", {"question": "{task} {shape}"}, "question"),
        ("prompts/tags.yaml", {"missions": {"difficulty": "x"}}, "missions"),
        ("prompts/responses.yaml", {"boxed": {"behind": "x"}}, "behind"),
    ],
)
def test_an_unknown_missing_or_wrong_field_is_an_error_that_names_file_and_field(
    folder: Path, file: str, change: dict[str, object], named: str
) -> None:
    path = folder / file
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | change
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not ...}), encoding="utf-8")
    with pytest.raises(MagpieError) as error:
        LOADERS[file]()
    message = str(error.value)
    assert file in message and "\n" not in message
    assert re.search(rf"[`.]{named}\b", message), message


@pytest.mark.parametrize("file", LOADERS)
@pytest.mark.parametrize(
    "content",
    [b"", b"- 1\n", b"a: [1\n", b"\tx", b"text: \xff\xfe", b"a: b: c"],
    ids=["empty", "list", "open", "tab", "bytes", "colons"],
)
def test_a_file_that_is_not_the_yaml_it_should_be_is_an_error_that_names_it(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(MagpieError) as error:
        LOADERS[file]()
    assert file in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nosuch", "./nosuch", "/nosuch/folder", "~/nosuch", "a/b/c", "../x"])
def test_a_model_that_cannot_be_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(MagpieError, match="smollm2"):
        load_model(name)


def test_any_hub_id_or_folder_is_a_model(tmp_path: Path) -> None:
    assert load_model("owner/model").model == "owner/model"
    assert load_model("owner/model").name == "model"
    assert load_model(str(tmp_path)).path == str(tmp_path.resolve())

"""Responses in the shapes of public logs (tests/data/response_shapes.yaml) through gen_res.py, against a server that ends a
generation where it is told to."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import program, rows
from made_tokenizers import FAMILIES, make, make_family
from magpie.client.replies import Completion
from magpie.config.model_presets import ModelPreset, load_model
from magpie.generation.responses import read_response
from magpie.models.chat_template import ChatTemplate
from modern_families import MODERN
from scripted_server import MODEL
from token_model import TokenModel


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the file, which explains itself."""

    family: str
    log: str
    writes: str
    variables: dict[str, Any] = {}
    reads: tuple[str | None, str, str] | None = None
    drops: str = ""
    defect: str = ""


FILE = Path(__file__).parent / "data" / "response_shapes.yaml"
SHAPES = msgspec.yaml.decode(FILE.read_bytes(), type=list[Shape])
GROUPS = {key: list(group) for key, group in groupby(SHAPES, key=lambda shape: (shape.family, json.dumps(shape.variables)))}


@pytest.mark.parametrize("key", GROUPS, ids=lambda key: "-".join(key))
def test_shapes_of_public_logs_are_read_as_they_are_meant(tmp_path: Path, key: tuple[str, str]) -> None:
    family, shapes = key[0], GROUPS[key]
    folder, source = tmp_path / family, tmp_path / "p.jsonl"
    make_family(MODERN[family], folder) if family in MODERN else make(family, folder)
    needs_preset = family in MODERN and not MODERN[family].template
    preset = load_model(family) if needs_preset else ModelPreset(model="owner/one")
    template = ChatTemplate(preset, tokenizer=str(folder), variables=shapes[0].variables)
    words = tuple(f"Problem {'I' * (n + 1)}." for n in range(len(shapes)))
    source.write_text("".join(json.dumps({"id": n, "instruction": text}) + "\n" for n, text in enumerate(words)))
    arguments = ["--model_path", family if needs_preset else folder, "--tokenizer", folder, "--served_model", MODEL]
    given = [f"{name}={json.dumps(value)}" for name, value in shapes[0].variables.items()]
    arguments += ["--max_tokens", 900, "--preflight", 0, *(["--template_variables", *given] if given else [])]
    with TokenModel(template, *(shape.writes for shape in shapes), prompts=words) as server:
        done = program("gen_res", *arguments, "--base_url", server.url, "--input_file", source)
    assert done.returncode == 0, done.stderr
    written = {row["id"]: row for row in rows(tmp_path / "p_res.jsonl")}
    lost = {row["id"]: row for row in rows(tmp_path / "p_res_dropped.jsonl")}
    for n, shape in enumerate(shapes):
        row = written.get(n, {})
        found = (row.get("reasoning"), row.get("response"), row.get("finish_reason")) if row else None
        assert (found, lost.get(n, {}).get("drop_reason", "")) == (shape.reads, shape.drops), shape.log
        assert not row or defect_of(shape, template) == shape.defect, shape.log


def defect_of(shape: Shape, template: ChatTemplate) -> str:
    """Return what the preflight says of a shape."""
    ends = [shape.writes.find(end) for end in template.ends.texts if end in shape.writes]
    text = shape.writes[: min(ends)] if ends else shape.writes
    assert shape.reads
    return read_response(Completion(text, shape.reads[2], 0, 0, token_ids=None), template).defect(template)


def test_only_families_without_a_log_are_said_to_be_seen_by_their_template_alone() -> None:
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    for family in {**MODERN, **FAMILIES}:
        logs = {shape.log for shape in SHAPES if shape.family == family}
        row = next((line for line in page.splitlines() if line.startswith(f"| {family} ")), "")
        assert not row or (any(f"({log})" in row for log in logs) if logs else "template alone" in row), family

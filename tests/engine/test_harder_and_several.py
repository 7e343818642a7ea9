"""Harder problems, and a weak and a strong model, on real engines: a tiny R1 that rewrites, and the embedded model."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kill
from conftest import environment_of, program, rows
from made_models import FACTORS, LADDER, WAY, make_r1, product
from magpie.config.load import PROJECT
from magpie.config.model_presets import load_model
from magpie.serving.server import Server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def r1(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A server of the tiny R1 that rewrites, and the environment of a program that uses it."""
    folder = make_r1(pytestconfig.cache.mkdir("tiny_r1"), rewrites=True)
    few = ["--max-model-len", "1024", "--enforce-eager", "--no-enable-expert-parallel"]
    logs = tmp_path_factory.mktemp("r1")
    with Server(load_model(str(folder)), log_dir=logs, layout_flags={}, extra_flags=few) as running:
        yield folder, environment_of(running)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def run_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".run.json").read_text())["counts"]


def test_products_become_harder_in_two_rounds_however_often_it_is_killed(
    r1: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, environment = r1
    parents = [{"id": f"p{a}{b}", "instruction": product(a, b)[0]} for a, b in LADDER]
    source, output = write(tmp_path / "p.jsonl", parents), tmp_path / "p_evolved.jsonl"
    command = [sys.executable, str(PROJECT / "exp" / "evolve_ins.py"), "--model_path", str(folder), "--input_file", str(source)]
    command += ["--ways", WAY, "--rounds", "2", "--band", "0.05", "0.45", "--no-judge", "--max_tokens", "80"]
    assert kill.kill_stage(command, output, 2, environment, step=60) == 2
    kept, dropped = rows(output), rows(tmp_path / "p_evolved_dropped.jsonl")
    ids = Counter(row["id"] for row in kept + dropped)
    assert set(ids.values()) == {1} and {name.partition("-")[0] for name in ids} == {row["id"] for row in parents}
    twice = [row for row in kept if row["evolution"]["generation"] == 2 and row["evolution"]["in_band"]]
    assert len(twice) >= 2, (kept, dropped)
    for row in twice:
        told, factors = row["evolution"], [int(n) for n in re.findall(r"\d+", row["instruction"])]
        assert row["instruction"] == product(*factors)[0] and tuple(factors[2:]) == FACTORS
        [root], [parent] = told["lineage"], told["parents"]
        assert root["instruction"] == product(*factors[:2])[0] and parent["instruction"] == product(*factors[:3])[0]
        assert root["pass_rate"] > parent["pass_rate"] > told["pass_rate"] and row["parent_ids"] == [parent["id"]]
    assert program("verify", "--input_file", output).returncode == 0
    verified = [row for row in rows(tmp_path / "p_evolved_verified.jsonl") if row["evolution"]["generation"] == 2]
    right = sum(row["majority_answer"] == str(math.prod(map(int, re.findall(r"\d+", row["instruction"])))) for row in verified)
    assert right > len(verified) / 2


def test_a_weak_and_a_strong_model_differ_and_pairs_come_of_both(
    r1: tuple[Path, dict[str, str]], engine: dict[str, str], tmp_path: Path
) -> None:
    folder, environment = r1
    problems = [
        {"id": f"p{a}{b}", "instruction": text, "reference_answer": str(answer), "answer_type": "closed", "duplicate_of": None}
        for a, b in ((2, 3), (3, 4), (4, 4), (5, 2), (5, 3), (5, 4))
        for text, answer in [product(a, b)]
    ]
    source, tries = write(tmp_path / "p.jsonl", problems), ["--num_responses", 16, "--preflight", 0]
    weak = ["--model_path", "smollm2", "--input_file", source, *tries, "--max_tokens", 60]
    assert program("gen_res", *weak, env=engine).returncode == 0
    first, output = tmp_path / "p_16res.jsonl", tmp_path / "p_16res_16more.jsonl"
    assert all("response_models" not in row for row in rows(first))
    command = [sys.executable, str(PROJECT / "exp" / "gen_res.py"), "--model_path", str(folder), "--input_file", str(first)]
    command += [*map(str, tries), "--append", "--max_in_flight", "8", "--max_tokens", "80"]
    assert kill.kill_stage(command, output, 1, environment, step=20) == 1
    assert program("verify", "--input_file", output).returncode == 0
    verified = rows(tmp_path / "p_16res_16more_verified.jsonl")
    assert [row["id"] for row in verified] == [row["id"] for row in problems]
    for row, old in zip(verified, rows(first), strict=True):
        assert (
            list(row["asked_by_model"].values()) == [16, 16] and row["responses"][: len(old["responses"])] == old["responses"]
        )
    rates = [[votes["pass_rate"] for votes in row["model_votes"].values()] for row in verified]
    assert sum(strong for _, strong in rates) > sum(weak for weak, _ in rates) + 2
    assert program("filter", "--input_file", tmp_path / "p_16res_16more_verified.jsonl", "--config", "hle_gap").returncode == 0
    kept = {row["id"] for row in rows(tmp_path / "p_16res_16more_verified_filtered.jsonl")}
    told = zip(verified, rates, strict=True)
    assert kept == {
        row["id"]
        for row, (weak, strong) in told
        if weak < 15 / 16 and strong > 0 and (strong < 0.75 or strong - weak >= 6 / 16)
    }
    pairs = ["--input_file", tmp_path / "p_16res_16more_verified.jsonl", "--settings", tmp_path / "any_length.yaml"]
    settings = (PROJECT / "configs" / "pairs" / "strong_weak.yaml").read_text()
    (tmp_path / "any_length.yaml").write_text(settings.replace("longest_ratio: 2.0", "longest_ratio: 100"))  # it thinks briefly
    assert program("gen_po_pairs", *pairs, "--strategy", "strong_weak").returncode == 0
    made = rows(tmp_path / "p_16res_16more_verified_pairs.jsonl")
    assert made and run_of(tmp_path / "p_16res_16more_verified_pairs.jsonl")["read"] == 6
    for pair in made:
        assert pair["model_rejected"] == "HuggingFaceTB/SmolLM2-135M-Instruct" != pair["model_chosen"]
        assert pair["answer_chosen"] == pair["reference_answer"] != pair["answer_rejected"]

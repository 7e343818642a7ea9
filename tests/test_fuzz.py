"""A share of benchmarks/fuzz.py and benchmarks/faults.py: the whole takes minutes."""

from __future__ import annotations

import random

import pytest

import faults
import fuzz
from conftest import program
from fuzz_cases import RECORDS, as_lines


@pytest.mark.long
def test_broken_files_flags_and_values_break_no_program():
    assert fuzz.fuzz(10_000, seed=31, seconds=15) == {}


def test_flipped_bits_change_no_output():
    assert faults.bits(150, random.Random(0)) == (150, [])


@pytest.mark.parametrize("stage", ["filter", "gen_res"])
def test_a_stage_killed_at_any_moment_ends_as_if_it_never_was(stage, tmp_path):
    with faults.Served() as urls:
        happened, problems = faults.kills(stage, 4, urls, random.Random(0))
    assert happened == 4 and problems == []


def test_a_strange_parent_a_log_among_the_data_and_a_pipe_as_run_file_are_no_tracebacks(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(as_lines(RECORDS))
    words = ("--input_file", "in.jsonl", "--output_file", "out.jsonl")
    assert program("export", *words, cwd=tmp_path, env={"MAGPIE_PARENT": "x"}).returncode == 130
    done = program("export", *words, cwd=tmp_path, env={"MAGPIE_LOG": "in.jsonl"})
    assert done.returncode == 2 and "MAGPIE_LOG" in done.stderr
    assert (tmp_path / "in.jsonl").read_bytes() == as_lines(RECORDS)

"""A share of benchmarks/fuzz.py and benchmarks/faults.py: the whole takes minutes."""

from __future__ import annotations

import json
import random
import sys
from unittest import mock

import pytest

import faults
import fuzz
from conftest import clean_environment, finished, program
from fuzz_cases import RECORDS, as_lines
from magpie.config.load import PROJECT


def test_broken_files_flags_and_values_break_no_program():
    with mock.patch.object(fuzz, "LIMIT", 300):  # beside other tests all takes longer
        assert fuzz.fuzz(300, seed=31) == {}


def test_a_server_that_answers_nonsense_loses_no_row_and_gets_no_key_into_a_file():
    assert faults.servers(3, random.Random(0)) == (3, [])


def test_flipped_bits_change_no_output():
    assert faults.bits(150, random.Random(0)) == (150, [])


FAULTS = """
import json, random, sys
sys.path += sys.argv[3:]
import faults
with faults.Served(faults.STAGES) as urls:
    print(json.dumps(getattr(faults, sys.argv[1])(sys.argv[2], 4, urls, random.Random(0))))
"""


@pytest.mark.parametrize("stage", ["filter", "gen_res"])
@pytest.mark.parametrize("fault", ["kills", "limits", "clocks"])
def test_a_stage_killed_at_any_moment_or_on_a_full_disk_ends_as_if_it_never_was(fault, stage, tmp_path):
    # stages are forked, and this process has the threads of all the tests before: a fork of it may wait for a lock for ever
    folders = [str(PROJECT / name) for name in ("exp", "tests", "benchmarks")]
    done = finished([sys.executable, "-c", FAULTS, fault, stage, *folders], env=clean_environment(), cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    happened, problems = json.loads(done.stdout.splitlines()[-1])
    assert happened == 4 and problems == []


def test_a_strange_parent_a_log_among_the_data_and_a_pipe_as_run_file_are_no_tracebacks(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(as_lines(RECORDS))
    words = ("--input_file", "in.jsonl", "--output_file", "out.jsonl")
    assert program("export", *words, cwd=tmp_path, env={"MAGPIE_PARENT": "x"}).returncode == 130
    done = program("export", *words, cwd=tmp_path, env={"MAGPIE_LOG": "in.jsonl"})
    assert done.returncode == 2 and "MAGPIE_LOG" in done.stderr
    assert (tmp_path / "in.jsonl").read_bytes() == as_lines(RECORDS)

"""Files that stand where a run writes: links, somebody else's files, folders; and damage in a `.part` file."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from conftest import program, rows
from magpie.runs.part_file import whole_lines
from test_runs import go_on, stopped

PROBLEM = '{"id":"a","instruction":"1 + 1?","response":"2","finish_reason":"stop"}\n'
MINE = b"mine\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_text(PROBLEM)
    (tmp_path / "victim").write_bytes(MINE)
    return tmp_path


def work(folder: Path, *more: object, name: str = "o.jsonl"):
    return program("export", "--input_file", folder / "in.jsonl", "--output_file", folder / name, *more)


def refused(done, *says: str) -> bool:
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return all(word in done.stderr for word in says)


@pytest.mark.parametrize("target", ["victim", "in.jsonl"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", [".o.jsonl.tmp", ".o_dropped.jsonl.tmp", ".o.run.json.tmp"])
def test_no_temporary_file_follows_a_link(folder, target, link, name):
    link(folder / target, folder / name)
    assert work(folder).returncode == 0
    assert (folder / "victim").read_bytes() == MINE and (folder / "in.jsonl").read_text() == PROBLEM
    assert (folder / name).exists() and len(rows(folder / "o.jsonl")) == 1


@pytest.mark.parametrize("kind", ["symlink", "hard link", "FIFO", "folder"])
def test_a_part_file_is_a_file_of_ones_own(folder, kind):
    part = folder / "o.part"
    {
        "symlink": lambda: part.symlink_to(folder / "victim"),
        "hard link": lambda: os.link(folder / "victim", part),
        "FIFO": lambda: os.mkfifo(part),
        "folder": part.mkdir,
    }[kind]()
    for more in ((), ("--overwrite",)):
        assert refused(work(folder, *more), "o.part")
    assert (folder / "victim").read_bytes() == MINE and not (folder / "o.jsonl").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_part_file_of_somebody_else_is_not_gone_on_with(folder):
    (folder / "o.part").write_bytes(b"")
    os.chown(folder / "o.part", 12345, 12345)
    assert refused(work(folder), "o.part", "yours")


@pytest.mark.parametrize("name", ["o_dropped.jsonl", "o.jsonl"])
def test_what_a_run_would_write_is_looked_at_first(folder, name):
    (folder / name).write_bytes(MINE)
    assert refused(work(folder), "--overwrite")
    assert (folder / name).read_bytes() == MINE
    assert sorted(path.name for path in folder.iterdir()) == sorted(["in.jsonl", "victim", name])
    assert work(folder, "--overwrite").returncode == 0


def test_an_output_that_was_taken_away_is_made_again(folder):
    assert work(folder).returncode == 0
    (folder / "o.jsonl").unlink()
    assert work(folder).returncode == 0 and len(rows(folder / "o.jsonl")) == 1
    (folder / "o.jsonl").unlink()
    done = program("export", "--format", "messages", "--input_file", folder / "in.jsonl", "--output_file", folder / "o.jsonl")
    assert refused(done, "other settings")


@pytest.mark.parametrize("name", ["o.jsonl", "o_dropped.jsonl", "o.run.json"])
def test_a_folder_where_a_file_goes_is_refused_before_anything_is_written(folder, name):
    (folder / name).mkdir()
    before = sorted(folder.iterdir())
    assert refused(work(folder, "--overwrite"), "folder")
    assert sorted(folder.iterdir()) == before


def test_a_name_that_is_too_long_leaves_nothing_behind(folder):
    before = sorted(folder.iterdir())
    assert refused(work(folder, name=f"{'n' * 244}.jsonl"), "too long")
    assert sorted(folder.iterdir()) == before


def test_a_loop_of_links_is_refused(folder):
    (folder / "a.jsonl").symlink_to(folder / "b.jsonl")
    (folder / "b.jsonl").symlink_to(folder / "a.jsonl")
    assert refused(work(folder, name="a.jsonl"), "a.jsonl")
    assert (folder / "a.jsonl").is_symlink()


def test_each_flipped_bit_is_found_or_harmless(tmp_path):
    output = tmp_path / "x.jsonl"
    part = stopped(output, *range(5))
    whole, luck = part.read_bytes(), random.Random(0)
    with part.open("rb") as file:
        before = [line for _, line in whole_lines(file)]
    for _ in range(1500):
        at = luck.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        part.write_bytes(damaged)
        with part.open("rb") as file:
            found = [line for _, line in whole_lines(file)]
        assert all(line is None or line in before for line in found), at


def test_a_part_file_without_checksums_is_gone_on_with(tmp_path):
    output = tmp_path / "x.jsonl"
    part = stopped(output, 0, 1)
    lines = [json.loads(line) for line in part.read_bytes().splitlines()]
    assert all(len(line) == 6 for line in lines)
    part.write_text("".join(json.dumps(line[:5], separators=(",", ":")) + "\n" for line in lines))
    assert go_on(output) == [2, 3, 4, 5]


# --- inputs and flags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["FIFO", "/dev/zero", "/dev/full"])
def test_an_input_that_is_no_file_is_refused_and_does_not_hang(folder, kind):
    (folder / "in.jsonl").unlink()
    os.mkfifo(folder / "in.jsonl") if kind == "FIFO" else (folder / "in.jsonl").symlink_to(kind)
    assert refused(work(folder), "a pipe or a device")


def test_an_array_that_ends_like_an_object_is_broken(folder):
    (folder / "in.jsonl").write_text('[{"id":1,"instruction":"1?","response":"1"}}')
    assert refused(work(folder), "the JSON array is broken")


def test_a_number_that_python_cannot_read_is_malformed(folder):
    (folder / "in.jsonl").write_text(f'{PROBLEM}{{"id":"b","instruction":"2?","response":"{"7" * 9000}","n":{"7" * 5000}}}\n')
    assert refused(work(folder), "line 2")
    (folder / "in.jsonl").write_text(PROBLEM.replace('"2"', f'"{"7" * 9000}"'))
    assert work(folder).returncode == 0


@pytest.mark.parametrize("word", ["--output_file=--", "--title=\udcff", "--seed=--"])
def test_a_value_that_is_none_is_refused(folder, word):
    assert refused(program("export", "--input_file", folder / "in.jsonl", word), "See" if word.endswith("--") else "UTF-8")


@pytest.mark.parametrize("chosen", ['[{"role":"assistant"}]', '[{"role":"assistant","content":null}]'])
def test_a_pair_without_content_is_dropped(folder, chosen):
    turn = '[{"role":"user","content":"1?"}]'
    (folder / "in.jsonl").write_text(f'{{"id":1,"instruction":"1?","prompt":{turn},"chosen":{chosen},"rejected":{turn}}}\n')
    for name in ("sharegpt_dpo", "dpo", "kto"):
        assert work(folder, "--format", name, name=f"{name}.jsonl").returncode == 0
        assert [row["drop_reason"] for row in rows(folder / f"{name}_dropped.jsonl")] == ["not_a_pair"]


def test_the_card_shows_no_markup_of_a_models_name(folder):
    name = "![m](http://host/x.png)<img src=x> [a](b) `c` |"
    record = json.loads(PROBLEM) | {"gen_response_configs": {"output_generator": name}}
    (folder / "in.jsonl").write_text(json.dumps(record) + "\n")
    done = program("export", "--input_file", folder / "in.jsonl", "--output_folder", folder / "set")
    assert done.returncode == 0, done.stderr
    card = (folder / "set" / "README.md").read_text()
    assert "![m]" not in card and "<img" not in card and "http://host" not in card and "[a](b)" not in card


@pytest.mark.parametrize("name", ["in.jsonl", "new.jsonl", "mine.result", "/"])
def test_what_a_run_has_made_is_told_in_a_new_file_only(tmp_path, name):
    for mine in ("in.jsonl", "mine.result"):
        (tmp_path / mine).write_text('{"instruction": "What is 1 + 1?", "response": "2."}\n')
    before = sorted(tmp_path.iterdir())
    done = program("clean_ins", "--input_file", "in.jsonl", "--output_file", "o.jsonl", "--result_file", name, cwd=tmp_path)
    assert done.returncode == 2 and "a new file that ends in .result" in done.stderr
    assert sorted(tmp_path.iterdir()) == before

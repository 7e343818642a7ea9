"""Merging: ids that stay unique, pointers that still point, sources, and which file of a job is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import program, rows
from magpie.common.console import MagpieError
from magpie.records.reading import fingerprint
from magpie.runs.jobs import job_file, main_files
from magpie.runs.merging import join, labelled


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"instruction": "?"} | record) + "\n" for record in records))
    return path


def make_job(folder: Path, stems: dict[str, str], *records: dict[str, Any]) -> Path:
    """A job's folder: finished files by stem, with the stage that made each."""
    for stem, stage in stems.items():
        write(folder / f"{stem}.jsonl", *records)
        (folder / f"{stem}.run.json").write_text(json.dumps({"status": "complete", "stage": stage}))
    return folder


def test_a_prefix_goes_before_an_id_and_whatever_points_to_one() -> None:
    record = {"id": 7, "instruction": "?", "duplicate_of": "a", "min_similar_conversation_id": None}
    assert join(record, "job", 3, prefix=True) == {
        "id": "job/7",
        "instruction": "?",
        "duplicate_of": "job/a",
        "min_similar_conversation_id": None,
        "source": "job",
        "original_id": 7,
    }
    assert join(record, "job", 3, prefix=False) == record | {"source": "job"}
    assert join({"instruction": "?"}, "job", 3, prefix=False)["id"] == "job/line-000003"


def test_a_source_and_an_original_id_that_are_there_stay() -> None:
    once = join({"id": "x", "instruction": "?"}, "a", 1, prefix=True)
    twice = join(once, "both", 1, prefix=True)
    assert (twice["id"], twice["source"], twice["original_id"]) == ("both/a/x", "a", "x")


def test_jobs_and_files_are_merged_in_order_with_unique_ids(tmp_path: Path) -> None:
    record = {"id": "job-0", "extra": {"kept": [1]}}
    one = make_job(tmp_path / "one", {"one_ins": "gen_ins.py", "one_ins_res": "gen_res.py"}, record, {"id": "job-1"})
    two = write(tmp_path / "two.jsonl", record)
    done = program("concat", "--inputs", one, two, "--output_file", tmp_path / "both.jsonl")
    assert done.returncode == 0, done.stderr
    merged = rows(tmp_path / "both.jsonl")
    assert [r["id"] for r in merged] == ["one/job-0", "one/job-1", "two/job-0"]
    assert [r["source"] for r in merged] == ["one", "one", "two"] and merged[2]["extra"] == {"kept": [1]}
    assert json.loads((tmp_path / "both.run.json").read_text())["counts"] == {"read": 3, "written": 3, "dropped": {}}
    again = program("concat", "--inputs", one, two, "--output_file", tmp_path / "both.jsonl")
    assert again.returncode == 0 and "already complete" in again.stderr
    other = program("concat", "--inputs", one, two, "--output_file", tmp_path / "both.jsonl", "--ids", "keep")
    assert other.returncode == 2 and "--ids was" in other.stderr


def test_ids_that_differ_may_be_kept(tmp_path: Path) -> None:
    inputs = [write(tmp_path / "a.jsonl", {"id": "1"}), write(tmp_path / "b.jsonl", {"id": 1})]
    done = program("concat", "--inputs", *inputs, "--ids", "keep", "--output_file", tmp_path / "both.jsonl")
    assert done.returncode == 0, done.stderr
    assert [r["id"] for r in rows(tmp_path / "both.jsonl")] == ["1", 1]


def test_malformed_lines_are_dropped_with_their_source(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "a.jsonl", {"id": "1"}), write(tmp_path / "b.jsonl", {"id": "1"})
    bad.write_text(bad.read_text() + "torn")
    done = program("concat", "--inputs", good, bad, "--skip_malformed", "--output_file", tmp_path / "both.jsonl")
    assert done.returncode == 0, done.stderr
    [dropped] = rows(tmp_path / "both_dropped.jsonl")
    assert (dropped["source"], dropped["line"], dropped["drop_reason"]) == ("b", 2, "malformed")
    assert len(rows(tmp_path / "both.jsonl")) == 2


def test_which_file_of_a_job_is_meant(tmp_path: Path) -> None:
    stems = {"j_ins": "gen_ins.py", "j_ins_res": "gen_res.py", "j_ins_res_sharegpt": "export.py"}
    job = make_job(tmp_path / "j", stems, {"id": 1})
    write(job / "j_ins_res_dropped.jsonl", {"id": 2})
    assert job_file(job, None).name == "j_ins_res.jsonl"
    assert job_file(job, "ins").name == job_file(job, "_ins").name == "j_ins.jsonl"
    with pytest.raises(MagpieError, match=r"0 finished files end in _tagged.*j_ins_res\.jsonl"):
        job_file(job, "tagged")
    make_job(job, {"j_ins_4res": "gen_res.py"}, {"id": 1})
    with pytest.raises(MagpieError, match=r"--stage.*j_ins_4res\.jsonl"):
        job_file(job, None)


def test_a_folder_that_is_not_a_job_is_a_clear_error(tmp_path: Path) -> None:
    write(tmp_path / "some" / "thing.jsonl", {"id": 1})
    with pytest.raises(MagpieError, match="this folder is not a job"):
        job_file(tmp_path / "some", None)
    make_job(tmp_path / "some", {"thing": "gen_ins.py"}, {"id": 1})
    (tmp_path / "some" / "thing.run.json").write_text('{"status": "running"}')
    with pytest.raises(MagpieError, match="this folder is not a job"):
        job_file(tmp_path / "some", None)


def test_inputs_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "part.jsonl", {"id": 1}) for name in ("a", "b")]
    assert [source.name for source in labelled(files, None)] == ["a.part", "b.part"]
    with pytest.raises(MagpieError, match="named twice"):
        labelled([files[0], files[0]], None)


def test_what_a_finished_main_job_holds(tmp_path: Path) -> None:
    stems = {"j_ins": "gen_ins.py", "j_ins_res": "gen_res.py", "j_ins_4res": "gen_res.py"}
    job = make_job(tmp_path / "j", stems, {"id": 1})
    for stem, count in [("j_ins_res", 1), ("j_ins_4res", 4)]:
        run = {"status": "complete", "stage": "gen_res.py", "arguments": {"model_path": "owner/model", "num_responses": count}}
        run |= {"inputs": {"input_file": fingerprint(job / "j_ins.jsonl")}}
        (job / f"{stem}.run.json").write_text(json.dumps(run))
    assert main_files(job) == ("owner/model", job / "j_ins.jsonl", job / "j_ins_res.jsonl")
    (job / "j_ins.jsonl").unlink()
    with pytest.raises(MagpieError, match=r"the problems of j_ins_res\.jsonl are gone"):
        main_files(job)
    (job / "j_ins_res.jsonl").unlink()
    with pytest.raises(MagpieError, match="Finish the main job"):
        main_files(job)
    with pytest.raises(MagpieError, match="no such folder"):
        main_files(tmp_path / "none")

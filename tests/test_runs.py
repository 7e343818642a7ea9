"""Runs that can be stopped: at any byte, by anything, and go on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from magpie.common.console import MagpieError
from magpie.runs import run as runs
from magpie.runs.run import Progress, Run
from magpie.runs.run_file import find_run_file, read_run_file, readable_run_files, write_run_file

PROJECT = Path(__file__).resolve().parents[1]
ROWS = 6


def new_run(output: Path, *, rows: int = ROWS, inputs: dict[str, str] | None = None, **arguments: Any) -> Run:
    settings = {"model_path": "m", "temperature": 0.5, "seed": 0} | arguments
    return Run("stage.py", output, rows=rows, arguments=settings, inputs=inputs or {"input_file": "abc"})


def record(index: int) -> dict[str, Any]:
    return {"id": f"r{index}", "instruction": f"Zeile {index}\n„é“ 🙂"}


def write(run: Run, index: int) -> None:
    """Every third row is dropped."""
    if index % 3 == 2:
        run.drop(index, record(index), "empty", "why", prompt_tokens=1)
    else:
        run.keep(index, record(index), prompt_tokens=3, completion_tokens=2)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run_file(output: Path) -> dict[str, Any]:
    return dict(json.loads(output.with_suffix(".run.json").read_text(encoding="utf-8")))


def go_on(output: Path, *, rows: int = ROWS, finish: bool = True) -> list[int]:
    """Do what is left and return the rows that were."""
    run = new_run(output, rows=rows)
    run.check()
    with run.session():
        left = [index for index in range(rows) if not run.is_closed(index)]
        for index in left:
            write(run, index)
        if finish:
            run.finish()
    return left


def stopped(output: Path, *done: int) -> Path:
    """A run that was stopped after some rows; returns its .part file."""
    run = new_run(output)
    run.check()
    with run.session():
        for index in done:
            write(run, index)
    return output.with_suffix(".part")


def check_complete(output: Path, rows: int = ROWS) -> None:
    """Everything is there once, in input order, and the run file says so."""
    kept = [index for index in range(rows) if index % 3 != 2]
    assert lines(output) == [record(index) for index in kept]
    dropped = lines(output.with_name(f"{output.stem}_dropped.jsonl"))
    assert sorted(row["id"] for row in dropped) == sorted(f"r{index}" for index in range(rows) if index % 3 == 2)
    assert all(row["drop_reason"] == "empty" and row["drop_detail"] == "why" for row in dropped)
    told = run_file(output)
    assert told["status"] == "complete"
    assert told["counts"] == {"read": rows, "written": len(kept), "dropped": {"empty": len(dropped)}}
    assert told["tokens"] == {"prompt": 3 * len(kept) + len(dropped), "completion": 2 * len(kept)}
    assert not output.with_suffix(".part").exists()
    names = {output.name, f"{output.stem}_dropped.jsonl", f"{output.stem}.run.json"}
    assert {path.name for path in output.parent.iterdir()} == names, "something was left behind"


@pytest.fixture(autouse=True)
def without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time and changes nothing that can be seen while the machine has power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "job" / "x.jsonl"


def test_rows_finished_in_any_order_stand_in_input_order(output: Path) -> None:
    run = new_run(output)
    assert run.check() is Progress.FRESH
    with run.session():
        for index in (4, 0, 5, 2, 1, 3):
            assert not run.is_closed(index)
            write(run, index)
            assert run.is_closed(index) and not output.exists()
        run.finish()
    check_complete(output)
    assert new_run(output).check() is Progress.COMPLETE


def test_a_replaced_sample_is_counted_and_its_row_stays_open(output: Path) -> None:
    run = new_run(output, rows=1)
    run.check()
    with run.session():
        for _ in range(3):
            run.drop(0, record(0), "empty", replaced=True, completion_tokens=5)
            assert not run.is_closed(0)
        run.keep(0, record(0), completion_tokens=7)
        run.finish()
    assert lines(output) == [record(0)] and len(lines(output.with_name("x_dropped.jsonl"))) == 3
    assert run_file(output)["counts"] == {"read": 4, "written": 1, "dropped": {"empty": 3}}
    assert run_file(output)["tokens"]["completion"] == 22


def partial(run: Run, index: int, place: int) -> None:
    run.keep_partial(index, place, {"text": f"{index}/{place} \u2028é\n"}, prompt_tokens=3, completion_tokens=5)


def test_finished_answers_of_an_open_record_are_there_again_and_their_tokens_are_counted_once(output: Path) -> None:
    run = new_run(output, rows=3)
    run.check()
    with run.session():
        for place in (2, 0):
            partial(run, 1, place)
        partial(run, 0, 1)
        run.keep(0, record(0))
        assert (run.partials_there, run.closed) == (2, 1) and run.partials(0) == {} and not run.is_closed(1)
    assert run_file(output)["counts"]["read"] == 1 and run_file(output)["tokens"] == {"prompt": 9, "completion": 15}
    run = new_run(output, rows=3)
    assert run.check() is Progress.STOPPED
    with run.session():
        assert run.partials(1) == {2: {"text": "1/2 \u2028é\n"}, 0: {"text": "1/0 \u2028é\n"}}
        assert (run.partials_there, run.closed) == (2, 1) and run.partials(0) == run.partials(2) == {}
        partial(run, 1, 1)
        run.keep(1, record(1))
        run.drop(2, record(2), "empty", prompt_tokens=1, completion_tokens=1)
        assert run.partials_there == 0
        run.finish()
    assert lines(output) == [record(0), record(1)]
    assert run_file(output)["counts"] == {"read": 3, "written": 2, "dropped": {"empty": 1}}
    assert run_file(output)["tokens"] == {"prompt": 13, "completion": 21}


def test_an_answer_cut_at_every_byte_loses_that_answer_only(output: Path) -> None:
    run = new_run(output)
    run.check()
    with run.session():
        write(run, 0)
        partial(run, 1, 0)
        partial(run, 1, 1)
    part = output.with_suffix(".part")
    whole = part.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start, len(whole) + 1):
        part.write_bytes(whole[:cut])
        run = new_run(output)
        with run.session():
            assert list(run.partials(1)) == ([0, 1] if cut == len(whole) else [0]), f"cut at byte {cut - start}"
            assert run.closed == 1


def test_an_unfinished_run_cannot_be_finished_and_shows_no_output(output: Path) -> None:
    run = new_run(output)
    run.check()
    with pytest.raises(ValueError, match="1 of 6"), run.session():
        for index in range(5):
            write(run, index)
        run.finish()
    assert not output.exists() and run_file(output)["status"] == "stopped"
    assert go_on(output) == [5]
    check_complete(output)


def test_checking_writes_nothing(output: Path) -> None:
    new_run(output).check()
    assert not output.parent.exists()


def test_a_run_cut_at_every_byte_of_its_last_line_loses_that_line_only(output: Path) -> None:
    part = stopped(output, 3, 2, 0, 4)
    whole, told = part.read_bytes(), output.with_suffix(".run.json").read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start, len(whole) + 1):
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        part.write_bytes(whole[:cut])
        output.with_suffix(".run.json").write_bytes(told)
        assert new_run(output).check() is Progress.STOPPED
        assert go_on(output) == ([1, 5] if cut == len(whole) else [1, 4, 5]), f"cut at byte {cut - start} of the last line"
        check_complete(output)


GARBAGE = {
    "no JSON": b"garbage\n",
    "NUL bytes": b"\0" * 50 + b"\n",
    "invalid UTF-8": b'[5,"kept",1,1,{"id":"\xff"}]\n',
    "another shape": b'{"id":"r5"}\n',
    "too short": b'[5,"kept"]\n',
    "unknown state": b'[5,"lost",1,1,{"id":"r5"}]\n',
    "no such row": b'[6,"kept",1,1,{"id":"r6"}]\n',
    "row -1": b'[-1,"kept",1,1,{"id":"r5"}]\n',
    "dropped without a reason": b'[5,"dropped",1,1,{"id":"r5"}]\n',
    "a row twice": b'[0,"kept",1,1,{"id":"other"}]\n',
    "a blank line": b"\n",
    "an answer without its place": b'[5,"partial",1,1,{"text":"x"}]\n',
    "an answer whose place is no number": b'[5,"partial",1,1,{"place":[]}]\n',
    "an answer of a finished row": b'[0,"partial",1,1,{"place":0}]\n',
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_unreadable_line_in_the_part_file_costs_nothing_else(output: Path, what: str, place: int) -> None:
    part = stopped(output, 0, 2, 4)
    found = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([*found[:place], GARBAGE[what], *found[place:]]))
    assert go_on(output) == [1, 3, 5]
    check_complete(output)


def test_a_line_lost_in_the_middle_is_made_again(output: Path) -> None:
    part = stopped(output, 0, 1, 2, 3)
    found = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([found[0], found[1][:-10] + b"\n", *found[2:]]))
    assert go_on(output) == [1, 4, 5]
    check_complete(output)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"temperature": 0.6}, ["--temperature was 0.5, is 0.6"]),
        ({"temperature": 0.6, "seed": 1}, ["--temperature", "--seed was 0, is 1"]),
        ({"domain": ["algebra"]}, ["--domain was null", "algebra"]),
        ({"model_path": "x" * 500}, ["--model_path"]),
        ({"inputs": {"input_file": "def"}}, ["the content of --input_file"]),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_other_settings_are_refused_by_name_and_nothing_is_touched(
    output: Path, change: dict[str, Any], names: list[str], complete: bool
) -> None:
    stopped(output, 0, 1)
    if complete:
        go_on(output)
    before = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    with pytest.raises(MagpieError) as error:
        new_run(output, **change).check()
    message = str(error.value)
    assert all(name in message for name in names) and "--overwrite" in message and "\n" not in message and len(message) < 600
    assert all(f"--{key} was" not in message for key in {"model_path", "temperature", "seed"} - change.keys())
    assert {path.name: path.read_bytes() for path in output.parent.iterdir()} == before


def test_another_stage_is_refused_by_name(output: Path) -> None:
    go_on(output)
    with pytest.raises(MagpieError, match=r"stage\.py, not other\.py"):
        Run("other.py", output, rows=ROWS, arguments={}, inputs={}).check()


def test_overwrite_starts_afresh(output: Path) -> None:
    go_on(output)
    run = new_run(output, temperature=0.9)
    assert run.check(overwrite=True) is Progress.FRESH
    with run.session(overwrite=True):
        assert run.closed == 0 and not output.exists()
        for index in range(ROWS):
            write(run, index)
        run.finish()
    check_complete(output)
    assert run_file(output)["arguments"]["temperature"] == 0.9 and len(run_file(output)["sessions"]) == 1


def test_a_part_file_without_its_run_file_is_refused(output: Path) -> None:
    part = stopped(output, 0, 1)
    output.with_suffix(".run.json").unlink()
    with pytest.raises(MagpieError, match=r"x\.run\.json"):
        new_run(output).check()
    assert part.stat().st_size > 0


def test_an_output_of_unknown_origin_is_refused(output: Path) -> None:
    output.parent.mkdir()
    output.write_text("mine\n")
    with pytest.raises(MagpieError, match="--overwrite"):
        new_run(output).check()
    assert output.read_text() == "mine\n"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stage": "stage.py", "arguments"', b"\xff"])
def test_a_broken_run_file_is_an_error_that_names_it(output: Path, content: bytes) -> None:
    stopped(output, 0)
    output.with_suffix(".run.json").write_bytes(content)
    with pytest.raises(MagpieError, match=r"x\.run\.json"):
        new_run(output).check()


def test_a_run_stopped_before_its_first_row_starts_afresh_with_any_settings(output: Path) -> None:
    stopped(output)
    assert new_run(output, temperature=0.9).check() is Progress.FRESH


def test_a_crash_between_the_output_and_the_end_is_healed(output: Path) -> None:
    part = stopped(output, *range(ROWS))
    kept = part.read_bytes()
    go_on(output)
    part.write_bytes(kept)  # as if the process had died before it removed the file
    assert new_run(output).check() is Progress.STOPPED
    assert go_on(output) == []
    check_complete(output)


@pytest.mark.parametrize("name", ["x.json", "x", "x.jsonl.gz", "x.part", "x.JSONL"])
def test_an_output_of_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MagpieError, match=r"\.jsonl"):
        new_run(tmp_path / name)


# --- the run file ----------------------------------------------------------------------------------------------------


def test_the_run_file_is_true_while_running_stopped_and_complete(output: Path) -> None:
    run = new_run(output)
    run.check()
    with run.session():
        assert run_file(output)["status"] == "running"
        write(run, 0)
        write(run, 2)
    told = run_file(output)
    assert told["status"] == "stopped" and told["stage"] == "stage.py"
    assert told["counts"] == {"read": 2, "written": 1, "dropped": {"empty": 1}}
    assert told["tokens"] == {"prompt": 4, "completion": 2}
    assert told["arguments"] == {"model_path": "m", "temperature": 0.5, "seed": 0}
    assert told["inputs"] == {"input_file": "abc"} and told["versions"]["python"].count(".") == 2
    go_on(output)
    check_complete(output)


def test_seconds_are_those_of_the_sessions_and_not_of_the_time_between(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(runs.time, "time", lambda: now)
    monkeypatch.setattr(runs, "program_started", lambda: now - 2)
    for index in range(3):
        run = new_run(output)
        run.check()
        with run.session():
            write(run, index)
            now += 0.2
        now += 0.5
    assert go_on(output) == [3, 4, 5]
    told = run_file(output)
    sessions = told["sessions"]
    lasted = [session["ended"] - session["started"] for session in sessions]
    assert lasted == pytest.approx([0.2, 0.2, 0.2, 0.0], abs=0.001) and told["seconds"] == 0.6
    assert [b["started"] - a["ended"] for a, b in itertools.pairwise(sessions)] == pytest.approx([0.5] * 3, abs=0.001)
    assert told["tokens"]["completion"] == 8 and told["tokens_per_second"] == 13.3
    assert [session["start"] for session in sessions] == [2.0] * 4 and told["start_seconds"] == 8.0


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_session_counts_up_to_its_last_record(output: Path, torn: bool) -> None:
    part = stopped(output, 0, 1)
    told = run_file(output)
    now = time.time()
    told["sessions"] = [{"started": now - 1000}]  # no end: it was killed, ten seconds after its start
    output.with_suffix(".run.json").write_text(json.dumps(told | {"status": "running"}))
    if torn:
        with part.open("ab") as file:
            file.write(b'[3,"kept",3,2,{"id":"r')
    os.utime(part, (now - 990, now - 990))
    assert go_on(output) == [2, 3, 4, 5]
    check_complete(output)
    assert 9 < run_file(output)["seconds"] < 15


# --- other processes -------------------------------------------------------------------------------------------------

WORK = """
import json, os, resource, sys, time
from pathlib import Path
sys.path[:0] = [{exp!r}, {tests!r}]
from test_runs import check_complete, go_on, lines, new_run, record, run_file, write
"""


def start_python(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    head = WORK.format(exp=str(PROJECT / "exp"), tests=str(PROJECT / "tests"))
    command = [*prefix, sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2000:]
    return out


HOLD = """
run = new_run(Path(sys.argv[1]), rows=100_000)
run.check()
with run.session():
    write(run, 0)
    print("holding", flush=True)
    for index in range(1, 100_000):
        write(run, index)
        time.sleep(0.0005)
"""


def test_two_processes_cannot_work_on_one_output_and_a_killed_one_holds_nothing(output: Path) -> None:
    other = start_python(HOLD, output)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "holding\n"
        for overwrite in (False, True):
            with pytest.raises(MagpieError, match="another process"):
                new_run(output, rows=100_000).check(overwrite=overwrite)
            with (
                pytest.raises(MagpieError, match="another process"),
                new_run(output, rows=100_000).session(overwrite=overwrite),
            ):
                pass
        part, deadline = output.with_suffix(".part"), time.monotonic() + 60
        while part.read_bytes().count(b"\n") <= 50:
            assert other.poll() is None and time.monotonic() < deadline, "the one that was first was disturbed"
            time.sleep(0.02)
        assert other.poll() is None, "the one that was first was disturbed"
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    whole_lines = part.read_bytes().count(b"\n")
    assert whole_lines > 50 and run_file(output)["status"] == "running"
    run = new_run(output, rows=100_000)
    assert run.check() is Progress.STOPPED
    with run.session():
        assert run.closed == whole_lines


LIMITED = """
output, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
run = new_run(output, rows=300)
run.check()
try:
    with run.session():
        for index in range(300):
            write(run, index)
        run.finish()
except OSError as error:
    print(error.errno, error.filename, run.closed)
"""


def test_a_file_size_limit_loses_nothing_and_the_run_goes_on_when_it_is_raised(output: Path) -> None:
    import errno

    number, name, closed = finished(start_python(LIMITED, output, 10_000)).split()
    part = output.with_suffix(".part")
    assert int(number) == errno.EFBIG and name == str(part)
    assert 50 < int(closed) < 300 and not output.exists()
    assert part.read_bytes().endswith(b"\n") and part.read_bytes().count(b"\n") == int(closed)
    assert run_file(output)["status"] == "stopped" and run_file(output)["counts"]["read"] == int(closed)
    assert go_on(output, rows=300) == list(range(int(closed), 300))
    check_complete(output, 300)


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
FULL_DISK = """
import errno
disk, when = Path(sys.argv[1]), sys.argv[2]
output, ballast = disk / "job" / "x.jsonl", disk / "ballast"
output.parent.mkdir()
with ballast.open("wb") as file:  # how much room is left decides what fails
    room = 72_000 if when == "while finishing" else 30_000
    file.write(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - room))
run = new_run(output, rows=600)
run.check()
try:
    with run.session():
        for index in range(600):
            write(run, index)
        run.finish()
    raise SystemExit("the disk never was full")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
closed = run.closed
assert (closed == 600) is (when == "while finishing"), closed
part = output.with_suffix(".part").read_bytes()
assert part.endswith(b"\\n") and part.count(b"\\n") == closed, "the part file is torn"
assert not output.exists() and not list(disk.rglob("*.tmp"))
try:  # again while it still is full: an error again, and nothing lost
    go_on(output, rows=600)
    raise SystemExit("the disk was not full any more")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert output.with_suffix(".part").read_bytes()[: len(part)] == part
ballast.unlink()
left = go_on(output, rows=600)
assert len(left) <= 600 - closed
check_complete(output, 600)
print("fine", closed)
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = [*NAMESPACE, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"]
    return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="no small disk can be mounted in a user namespace here")
@pytest.mark.parametrize("when", ["while appending", "while finishing"])
def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(tmp_path: Path, when: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=512k tmpfs "$0" && exec "$@"'
    assert "fine" in finished(start_python(FULL_DISK, disk, when, prefix=(*NAMESPACE, "sh", "-c", mount, str(disk))))


MEMORY = """
output, rows = Path(sys.argv[1]), int(sys.argv[2])
run = new_run(output, rows=rows)
with run.session():
    for index in range(rows):
        run.keep(index, {"id": index})
    run.finish()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
def test_a_row_costs_less_than_100_bytes(tmp_path: Path) -> None:
    peaks = [int(finished(start_python(MEMORY, tmp_path / f"{rows}.jsonl", rows))) * 1024 for rows in (1_000, 300_000)]
    assert (peaks[1] - peaks[0]) / 299_000 < 100
    assert (tmp_path / "300000.jsonl").read_bytes().count(b"\n") == 300_000


BROKEN = {"cut": b'{"status": "complete"', "not UTF-8": b'{"status": "\xff"}', "another type": b'{"counts": {"read": "many"}}'}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_run_file_is_an_error_with_a_remedy_and_a_warning_where_others_are_of_use(
    output: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    output.parent.mkdir()
    path, good, gone = output.with_suffix(".run.json"), output.with_name("good.run.json"), output.with_name("gone.run.json")
    path.write_bytes(BROKEN[name])
    good.write_text('{"status": "complete", "later": 1}')
    for read in (find_run_file, read_run_file):
        with pytest.raises(MagpieError, match=r"broken .*Do this") as error:
            read(path, "Do this")
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    with caplog.at_level("WARNING", "magpie"):
        assert [run.stem for run in readable_run_files([path, gone, good])] == ["good"]
    assert [str(path) in message for message in caplog.messages] == [True]


def test_a_missing_run_file_is_an_error_only_where_it_is_needed(output: Path) -> None:
    path = output.with_suffix(".run.json")
    assert find_run_file(path) is None
    with pytest.raises(MagpieError, match=r"missing\. Rerun"):
        read_run_file(path)


def test_a_run_file_that_is_read_and_written_again_stays_the_same(output: Path) -> None:
    run = new_run(output)
    run.check()
    run.notes["window"] = 8
    run.totals.statistics["cost_in_dollars"] = 0.5
    with run.session():
        write(run, 0)
    path = output.with_suffix(".run.json")
    before = path.read_bytes()
    write_run_file(path, read_run_file(path))
    assert path.read_bytes() == before and b'path"' not in before.replace(b"model_path", b"")
    assert list(json.loads(before))[-3:] == ["updated", "sessions", "window"]

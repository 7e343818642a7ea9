"""verify.py: real workers with limits, hostile answers, runs that are killed, and a real model as a judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import clean_environment, program, rows
from hostile_answers import hostile_answers
from magpie.config.load import PROJECT
from magpie.records.reading import read_rows
from magpie.verification.pool import Job, Limits, Verifier

VOTES = PROJECT / "../shared/data/gold/votes_dev.jsonl"
BOXED = "We compute. The answer is \\boxed{%s}."


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def problem(index: int, *answers: str, **keys: Any) -> dict[str, Any]:
    return {"id": f"p{index}", "instruction": f"Problem {index}?", "responses": [BOXED % answer for answer in answers], **keys}


def test_a_file_is_verified_and_what_has_no_response_is_dropped(tmp_path: Path) -> None:
    source = write(
        tmp_path / "x_3res.jsonl",
        [
            problem(1, "\\frac{1}{2}", "0.5", "2", reference_answer="1/2"),
            problem(2, "x+1", "1+x", "x"),
            {"id": "p3", "instruction": "?"},
            {"id": "p4", "instruction": "?", "response": BOXED % "5", "reference_answer": "5", "kept": [1]},
            problem(5, "1", "2"),
            {"id": "p6", "instruction": "?", "responses": ["Let me think", BOXED % "3"], "reference_answer": "3"},
        ],
    )
    done = program("verify", "--input_file", source)
    assert done.returncode == 0, done.stderr
    one, two, four, five, six = rows(tmp_path / "x_3res_verified.jsonl")
    assert one["is_correct"] == [True, True, False]
    assert (one["answers"], one["answer_groups"], one["majority_answer"]) == (["\\frac{1}{2}", "0.5", "2"], [0, 0, 1], "0.5")
    assert (one["agreement"], one["pass_rate"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert one["pass_rate_interval"][0] < 2 / 3 < one["pass_rate_interval"][1]
    assert (two["is_correct"], two["majority_answer"], two["difficulty_measured"]) == ([None] * 3, "1+x", "medium")
    assert (four["is_correct"], four["agreement"], four["kept"]) == ([True], None, [1])
    assert (five["majority_answer"], five["agreement"], five["pass_rate"]) == (None, 0.5, None)
    assert (six["answer_states"], six["is_correct"]) == (["unparsed", "parsed"], [False, True])
    assert (six["answered"], six["pass_rate"], six["agreement"]) == (0.5, 0.5, None)
    [dropped] = rows(tmp_path / "x_3res_verified_dropped.jsonl")
    assert (dropped["id"], dropped["drop_reason"]) == ("p3", "no_response")


def test_the_right_answers_are_read_from_the_key_that_is_named_and_stay_there(tmp_path: Path) -> None:
    data = [
        {"id": 1, "instruction": "What is 2+2?", "answer": "4", "responses": [BOXED % "5", BOXED % "5", BOXED % "4"]},
        {"id": 2, "instruction": "?", "answer": 3, "solution": "", "responses": ["I gave up."] * 13 + [BOXED % "3"] * 3},
    ]
    source = write(tmp_path / "x_3res.jsonl", data)
    done = program("verify", "--input_file", source)
    assert done.returncode == 0, done.stderr
    assert (
        "2 records have no `reference_answer`, but `answer`" in done.stderr and "--reference_key answer --over" in done.stderr
    )
    one, two = rows(tmp_path / "x_3res_verified.jsonl")
    assert (one["answer"], one["majority_answer"], one["is_correct"]) == ("4", "5", [None] * 3)
    assert (two["agreement"], two["pass_rate"], "reference_answer" in two) == (3 / 16, 3 / 16, False)
    done = program("verify", "--input_file", source, "--reference_key", "answer", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "records have no" not in done.stderr
    one, two = rows(tmp_path / "x_3res_verified.jsonl")
    assert (one["answer"], one["majority_answer"], one["is_correct"]) == ("4", "5", [False, False, True])
    assert one["reference_answer"] == "4"
    assert (two["answer"], two["reference_answer"], two["is_correct"]) == (3, "3", [False] * 13 + [True] * 3)
    assert (two["pass_rate"], two["answered"], two["difficulty_measured"]) == (3 / 16, 3 / 16, "hard")


def test_a_file_that_was_verified_before_is_verified_again(tmp_path: Path) -> None:
    old = problem(1, "5", "5", "4") | {
        "answers": ["5", "5", "4"],
        "answer": "5",
        "answer_groups": [0, 0, 1],
        "agreement": 2 / 3,
    }
    source = write(tmp_path / "x_3res.jsonl", [old, problem(2, "1", "1")])
    done = program("verify", "--input_file", source)
    assert done.returncode == 0, done.stderr
    assert "reference_key" not in done.stderr  # the old vote is no reference
    one, _ = first = rows(tmp_path / "x_3res_verified.jsonl")
    assert (one["majority_answer"], "answer" in one, "previous" in one) == ("5", False, False)
    done = program("verify", "--input_file", tmp_path / "x_3res_verified.jsonl", "--reference_key", "answer")
    assert done.returncode == 0, done.stderr
    assert "no record of this session has `answer`" in done.stderr
    assert rows(tmp_path / "x_3res_verified_verified.jsonl") == first


def test_one_response_is_chosen_and_can_be_exported(tmp_path: Path) -> None:
    source = write(tmp_path / "x_3res.jsonl", [problem(1, "1", "2", "2.0", rewards=[5, 1, 3]), problem(2, "1", "2", "3")])
    assert program("verify", "--input_file", source, "--choose").returncode == 0
    [chosen] = rows(tmp_path / "x_3res_verified.jsonl")
    assert (chosen["response"], chosen["response_index"]) == (BOXED % "2.0", 2)
    assert [row["drop_reason"] for row in rows(tmp_path / "x_3res_verified_dropped.jsonl")] == ["no_majority"]
    done = program("export", "--format", "sharegpt", "--input_file", tmp_path / "x_3res_verified.jsonl")
    assert done.returncode == 0, done.stderr


def test_two_hundred_hostile_answers_get_a_verdict_each(tmp_path: Path) -> None:
    answers = hostile_answers()
    assert len(answers) == len(set(answers)) == 200
    records = [problem(i, answer.replace("\ud7ff", ""), "12", reference_answer="12") for i, answer in enumerate(answers)]
    source = write(tmp_path / "h_2res.jsonl", records)
    folder = sorted(path.name for path in tmp_path.iterdir())
    done = program("verify", "--input_file", source, "--time_limit", 0.4, "--memory_limit", 1024)
    assert done.returncode == 0, done.stderr
    out = [row.record for row in read_rows(tmp_path / "h_2res_verified.jsonl")]
    assert len(out) == 200
    for row in out:
        assert row is not None
        assert row["is_correct"][1] is True, row["answers"][0][:80]  # its neighbour is judged as ever
        assert row["is_correct"][0] is not True, row["answers"][0][:80]
        assert row["answer_states"][0] in ("parsed", "unparsed", "timed_out")
    assert not Path("/tmp/magpie-was-here").exists()
    made = {"h_2res_verified.jsonl", "h_2res_verified_dropped.jsonl", "h_2res_verified.run.json"}
    assert {path.name for path in tmp_path.iterdir()} - set(folder) == made


def test_a_reference_that_hangs_makes_no_answer_wrong() -> None:
    with Verifier(Limits(seconds=0.5)) as verifier:
        [(_, found)] = verifier.judge_all([(0, Job([BOXED % "x+1", BOXED % "x+2", "No idea."], "x+(9^{9999})^{9999}"))])
    assert found.correct == [None, None, None]  # the last gave no answer: whether one was possible is not known
    assert found.states == ["parsed", "parsed", "unparsed"]
    assert found.groups == [0, 1, None]


def test_a_reference_that_timed_out_once_is_still_equal_to_its_own_spelling() -> None:
    hard = "x+(9^{9999})^{9999}"
    with Verifier(Limits(seconds=0.5)) as verifier:
        [(_, found)] = verifier.judge_all([(0, Job([BOXED % "x+1", BOXED % hard], hard))])
    assert found.correct == [None, True]


def test_what_is_not_understood_is_neither_right_nor_wrong() -> None:
    responses = [BOXED % r"\text{the sequence settles down}", BOXED % "4", "I could not find it"]
    with Verifier() as verifier:
        [(_, found)] = verifier.judge_all([(0, Job(responses, r"\text{the sequence converges}"))])
    assert found.correct == [None, None, False]


def test_workers_that_are_killed_lose_nothing() -> None:
    jobs = [(i, Job([BOXED % f"x^2+{i}x", BOXED % f"x(x+{i})"], f"{i}x+x^2")) for i in range(300)]
    with Verifier(Limits(workers=2)) as verifier:
        found = []
        for key, judgement in verifier.judge_all(jobs):
            found.append((key, judgement.correct))
            if key == 20:
                for worker in _workers():
                    worker.send_signal(signal.SIGKILL)
        assert verifier.killed > 0
    assert found == [(i, [True, True]) for i in range(300)]


def _workers() -> list[psutil.Process]:
    """The processes that the fork server has started; the session's vLLM server is a child of this process too."""
    servers = [child for child in psutil.Process().children() if any("forkserver" in word for word in child.cmdline())]
    return [worker for server in servers for worker in server.children()]


LIMITED = """
import sys
from magpie.verification import pool as verifier
verifier._start_worker(verifier.Limits(seconds=0.2, megabytes=700))
print(verifier._limited(lambda: {work}), flush=True)
"""


def limited(work: str) -> subprocess.CompletedProcess[str]:
    code = LIMITED.format(exp=str(PROJECT / "exp"), work=work)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_what_python_can_interrupt_is_interrupted() -> None:
    assert limited("[x for x in iter(int, 1)]").stdout == "None\n"
    assert limited("1 + 1").stdout == "2\n"


def test_what_python_cannot_interrupt_is_killed_by_the_kernel() -> None:
    assert limited("sum(range(10**12))").returncode == -signal.SIGPROF


def test_memory_beyond_the_limit_is_refused() -> None:
    assert limited("len(bytearray(10**9))").stdout == "None\n"


def test_a_worker_cannot_write_a_file(tmp_path: Path) -> None:
    target = tmp_path / "x"
    assert limited(f"open({str(target)!r}, 'w').write('x' * 100_000)").returncode != 0
    assert not target.exists() or target.stat().st_size == 0


def test_killed_at_any_moment_it_goes_on_loses_nothing_and_leaves_no_process(tmp_path: Path) -> None:
    source = write(tmp_path / "x_2res.jsonl", [problem(i, f"x^2+{i}x", f"x(x+{i})", "0") for i in range(400)])
    command = [sys.executable, str(PROJECT / "exp" / "verify.py"), "--input_file", str(source)]
    part = tmp_path / "x_2res_verified.part"
    running = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
    while not (part.exists() and part.stat().st_size > 10_000):
        assert running.poll() is None
        time.sleep(0.02)
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) > 2
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert psutil.wait_procs(children, timeout=120)[1] == []
    done = program("verify", "--input_file", source)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    out = rows(tmp_path / "x_2res_verified.jsonl")
    assert [row["id"] for row in out] == [f"p{i}" for i in range(400)]
    assert all(row["answer_groups"][:2] == [0, 0] for row in out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge"], "--judge needs --model_path"),
        (["--reference_key", "answers"], "--reference_key answers"),
        (["--time_limit", "0"], "out of range"),
        (["--memory_limit", "10"], "out of range"),
        (["--workers", "0"], "out of range"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    source = write(tmp_path / "x.jsonl", [problem(1, "1")])
    done = program("verify", "--input_file", source, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(not VOTES.exists(), reason="needs ../shared/data/gold")
def test_the_graders_flags(tmp_path: Path) -> None:
    gold = rows(VOTES)
    with Verifier() as verifier:
        found = list(verifier.judge_all((row, Job(row["responses"], row["reference_answer"])) for row in gold))
    flags = [(mine, theirs) for row, j in found for mine, theirs in zip(j.correct, row["is_correct"], strict=True)]
    judged = [(mine, theirs) for mine, theirs in flags if mine is not None]
    assert sum(mine == theirs for mine, theirs in judged) >= 0.99 * len(judged)
    assert len(judged) >= 0.97 * len(flags)  # one problem of the 40 has a broken reference (4:30p..)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for number in (500, 8_000):
        source = write(tmp_path / f"m{number}_2res.jsonl", [problem(i, str(i), str(i + i % 2)) for i in range(number)])
        command = [sys.executable, "-c", PEAK, str(PROJECT / "exp" / "verify.py"), "--input_file", str(source)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 20_000  # kilobytes


PEAK = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def test_ctrl_c_while_the_workers_start_shows_one_line(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1, "instruction": "What is 1 + 1?", "response": "\\\\boxed{2}"}\n')
    words = [sys.executable, str(PROJECT / "exp" / "verify.py"), "--input_file", "in.jsonl"]
    begun = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    children = psutil.Process(begun.pid).children
    while len(children()) < 2:  # the fork server and its tracker; it takes seconds to load SymPy
        time.sleep(0.01)
    os.killpg(begun.pid, signal.SIGINT)
    told = begun.communicate(timeout=60)[1]
    assert begun.returncode == 130 and "Traceback" not in told and "interrupted" in told

"""The state of a job that runs, told by its files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from magpie.chain.config import Stage
from magpie.chain.job_file import Chain, JobFile, StageState
from magpie.common.console import MagpieError
from magpie.config.load import PROJECT
from magpie.reporting import watch as watching
from magpie.reporting.watch import Part, Watch, held, watch
from magpie.runs.run import Run
from test_report import stage


def test_the_state_of_a_running_job_is_told_by_its_files(tmp_path: Path) -> None:
    stage(tmp_path / "a_ins.jsonl", "gen_ins.py", ({"id": i} for i in range(10)), tokens=50)
    state = Watch(tmp_path)
    assert state.look()[1]
    run = Run("gen_res.py", tmp_path / "a_ins_res.jsonl", rows=10, arguments={})
    with run.session():
        for i in range(3):
            run.keep(i, {"id": i, "response": "x"}, completion_tokens=4)
        run.drop(3, {"id": 3}, "no_response")
        lines, done = state.look()
        assert not done and "4 of 10 records (40%)" in lines[1] and "1 dropped" in lines[1] and "elapsed" in lines[1]
        run.drop(4, {"id": 4}, "failed", replaced=True)
        with run.paths.part.open("ab") as part:
            part.write(b'[5,"kept",0,')  # a line that is being written
        assert "4 of 10 records" in state.look()[0][1]
    lines, done = state.look()
    assert done and "not running here" in lines[1]


def test_every_answer_of_a_record_counts_at_once(tmp_path: Path) -> None:
    stage(tmp_path / "a_ins.jsonl", "gen_ins.py", ({"id": i} for i in range(10)), tokens=50)
    run = Run("gen_res.py", tmp_path / "a_ins_4res.jsonl", rows=10, arguments={"num_responses": 4})
    run.notes["window"] = 8
    state = Watch(tmp_path)
    with run.session():
        for place in range(3):
            run.keep_partial(0, place, {"text": "x"}, prompt_tokens=1, completion_tokens=40)
        time.sleep(0.1)
        [_, line], _ = state.look()
        assert "0 of 10 records, 3 of 40 answers (7%)" in line and "tokens/s" in line and "ETA unknown" not in line, line
        run.keep_partial(0, 3, {"text": "x"}, prompt_tokens=1, completion_tokens=40)
        run.keep(0, {"id": 0, "responses": ["x"] * 4})
        assert "1 of 10 records, 4 of 40 answers (10%)" in state.look()[0][1]


def test_settled_votes_tokens_per_kept_record_and_what_the_ceiling_leaves_are_told(tmp_path: Path) -> None:
    run = Run("gen_res.py", tmp_path / "a_ins_4res.jsonl", rows=4, arguments={"num_responses": 4})
    run.notes["ceiling"] = {"tokens": 1000.0, "dollars": 1.0, "prompt_price": 1000.0, "completion_price": 2000.0}
    with run.session():
        for index, reason in enumerate(["settled", "all", 5]):
            record = {"id": index, "stop_reason": reason, "instruction": 'say "stop_reason":"settled"'}
            run.keep(index, record, prompt_tokens=20, completion_tokens=40)
        [line], _ = Watch(tmp_path).look()
        words = ["1 settled", "60 tokens per kept record so far", "the ceiling leaves 820 tokens, 0.70 dollars"]
        assert all(word in line for word in words), line
        assert run.totals.words({"prompt": 30}, run.notes["ceiling"], 0.0) == [words[0], words[1].replace("60", "70"), words[2]]
        run.finish(partial=True)
    [line], over = Watch(tmp_path).look()
    assert over and "partial: ceiling" in line, line


def test_a_part_that_is_made_anew_is_read_anew(tmp_path: Path) -> None:
    path, part = tmp_path / "x.part", Part()
    path.write_bytes(b'[0,"kept",1,2,{}]\n[1,"kept",1,2,{}]\nnonsense\n')
    part.read_on(path)
    assert (part.done, part.tokens) == (2, 4)
    path.write_bytes(b'[0,"dropped",1,2,{}]\n')
    part.read_on(path)
    assert (part.done, part.dropped) == (1, 1)
    assert not held(path)


def test_watching_ends_with_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.log").write_text("serve: loading the model\n")
    stages = [StageState(stage=Stage(name="problems", program="gen_ins"))]
    chain = Chain(kind="main", job="a", settings={}, stages=stages, status="running", command="bash it.sh")
    file = JobFile(tmp_path / "job.json")
    file.write(chain)
    slept: list[float] = []
    with (tmp_path / "job.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            lock.close()

        monkeypatch.setattr(watching.time, "sleep", sleep)
        watch(tmp_path, 0.2)
    assert slept == [0.2]
    out = capsys.readouterr().out
    assert out.count("job.log:") == 2 and "main: stage 1 of 1, problems (gen_ins.py), waiting" in out
    assert "main: killed. To resume: bash it.sh" in out
    chain.status, chain.message = "failed", "gen_ins.py failed (exit code 2): see above"
    file.write(chain)
    assert any("main: gen_ins.py failed" in line for line in Watch(tmp_path).look()[0])
    with pytest.raises(MagpieError):
        watch(tmp_path / "nothing", 0.2)


def test_watching_ends_with_ctrl_c_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text("serve: loading \x1b[31m\n")
    JobFile(tmp_path / "job.json").write(Chain(kind="main", job="a", settings={}, status="running"))
    lock = (tmp_path / "job.lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    command = [sys.executable, str(PROJECT / "exp" / "report.py"), str(tmp_path), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.send_signal(2)
        out, errors = running.communicate(timeout=120)
    lock.close()
    assert (running.returncode, errors) == (0, "") and "\x1b" not in out

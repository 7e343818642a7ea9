"""What notebooks stand on: commands in cells, a server that ends with the notebook, records as text and mathematics."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import STUB, clean_environment
from magpie.config.load import PROJECT
from magpie.reporting import notebook
from magpie.reporting.math_html import markdown
from test_report import HOSTILE

TAGS = re.compile(r"</?(?:span|code|br)>")


@pytest.mark.parametrize("text", [text[:20_000] for text in HOSTILE])
def test_what_a_model_wrote_is_no_markup_in_a_notebook(text: str) -> None:
    shown = markdown(text)
    formulas = re.findall(r"\$+[^$]+\$+", TAGS.sub("", shown))
    rest = TAGS.sub("", re.sub(r"\$+[^$]+\$+", "", shown))
    assert not re.search(r"[<>`*\[\]{}\\|~_#:]", re.sub(r"&#\d+;", "", rest))
    for formula in formulas:
        assert not re.search(r"[<>`]|&\w|\\(href|style|unicode|class|require)", formula)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Find $a_1<b$.", r"Find $a_1\lt b$&#46;"),
        (r"So \boxed{\frac{1}{2}}.", r"So $\boxed{\frac{1}{2}}$&#46;"),
        (r"$x = \boxed{2}$", r"$x = \boxed{2}$"),
        (r"\(x\) and \[y\]", "$x$ and $$y$$"),
        (r"$50\%$ of $5", "$50\\%$ of <span>&#36;</span>5"),
        ("a\n\nb\nc", "a<br><br>b<br>c"),
        (r"$\href{javascript:1}{x}$", None),
        ("$x % y$", None),
        (r"\begin{align*}x&=1\end{align*}", r"$$\begin{aligned}x& =1\end{aligned}$$"),
        (r"$\begin{matrix}1&2\end{matrix}$", r"$\begin{matrix}1& 2\end{matrix}$"),
    ],
)
def test_formulas_stay_latex_and_all_else_is_spelled(text: str, shown: str | None) -> None:
    made = markdown(text)
    assert made == shown if shown else made.startswith("<code>") and "$" not in made
    assert shown or html.unescape(TAGS.sub("", made)) == text


def test_a_record_is_shown_with_its_labels_and_cut() -> None:
    record = {
        "id": "x-1",
        "instruction": "What is $1+1$?",
        "response": "<b>2</b>" * 1000,
        "majority_answer": "2",
        "finish_reason": "stop",
    }
    shown = notebook.show(record, "a record").data
    assert (
        "**problem**<br>What is $1+1$?" in shown and "answer: 2" in shown and "more characters" in shown and "<b>" not in shown
    )
    assert all(line.startswith(">") for line in shown.splitlines())
    pair = {"id": 1, "prompt": [{"role": "user", "content": "?"}]} | {
        side: [{"role": "assistant", "content": side.upper()}] for side in ("chosen", "rejected")
    }
    shown = notebook.show(pair).data
    assert shown.index("**chosen**<br>CHOSEN") < shown.index("**rejected**<br>REJECTED")
    assert "none in this run" in notebook.show(None, "a pair").data


def test_the_record_with_the_most_formulas_is_picked(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    texts = [("a", "no formula"), ("b", "$x$ and $y$"), ("c", "$x$"), ("d", "$x$, $y$, $z$")]
    made = [{"id": name, "instruction": text, "kept": name != "d"} for name, text in texts]
    path.write_text("".join(json.dumps(record) + "\n" for record in made))
    found = [notebook.pick(path), notebook.pick(path, kept=True), notebook.pick(path, id="a")]
    assert [record and record["id"] for record in found] == ["d", "b", "a"]
    assert notebook.pick(path, id="z") is None and notebook.pick(tmp_path / "none.jsonl") is None


def test_a_command_is_shown_as_a_terminal_takes_it_and_a_failure_stops_the_cell(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"align.sh ended with the exit code 2"):
        notebook.run("scripts/align.sh", "no such job", DATA_DIR=PROJECT / "data")
    said = capsys.readouterr().out
    assert said.startswith("$ DATA_DIR=data bash scripts/align.sh 'no such job'\n") and "no such folder" in said
    assert str(PROJECT) not in said


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # as a kernel has it, wherever the tests were started
from magpie.reporting import notebook
notebook.PYTHON = sys.executable
notebook.run("-c", "import time; print('ready', flush=True); time.sleep(1000)")
"""


def test_an_interrupted_cell_leaves_no_command_behind() -> None:
    code = INTERRUPTED.format(path=str(PROJECT / "exp"))
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as cell:
        assert cell.stdout is not None
        assert "ready\n" in iter(cell.stdout.readline, "")
        [command] = psutil.Process(cell.pid).children()
        cell.send_signal(signal.SIGINT)
        assert cell.wait(timeout=120) != 0
    assert not psutil.pid_exists(command.pid)


def wait_for(look, seconds=60.0):
    for _ in range(int(seconds * 5)):
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen")


SERVED = """
import os, sys, time
from pathlib import Path
from magpie.reporting import notebook
notebook.serve("smollm2", Path({folder!r}))
print(os.environ["MAGPIE_SERVE_PID"], flush=True)
time.sleep(1000)
"""


def test_the_server_ends_with_the_notebook_even_if_that_is_killed(tmp_path: Path) -> None:
    code = SERVED.format(path=str(PROJECT / "exp"), folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=clean_environment(**STUB)
    ) as cell:
        assert cell.stdout is not None
        lines = iter(cell.stdout.readline, "")
        server = psutil.Process(next(int(line) for line in lines if line.strip().isdigit()))
        family = [server, *server.children(recursive=True)]
        assert len(family) > 2
        cell.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []

"""--events: what a small consumer makes of the file, its schema, and what a killed writer leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import clean_environment, program
from magpie.common import events
from magpie.common.console import EXIT_CEILING
from magpie.config.load import PROJECT
from scripted_server import ScriptedServer
from test_ceiling import of_prompt, stage_of


def read(path: Path) -> list[dict[str, Any]]:
    """Every line is whole, and as docs/events.md says."""
    schema = json.loads(re.findall(r"```json\n(.*?)```", (PROJECT / "docs" / "events.md").read_text(), re.S)[0])
    text = path.read_bytes()
    assert text.endswith(b"\n")
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        jsonschema.validate(event, schema)
    return found


def metrics(path: Path) -> dict[str, float]:
    """A consumer as one writes it for Prometheus: gauges out of the last counts of each program."""
    gauges: dict[str, float] = {}
    for event in read(path):
        name = event["program"]
        if event["event"] == "counts":
            gauges[f'magpie_done{{program="{name}"}}'] = event["done"]
            gauges[f'magpie_tokens_total{{program="{name}"}}'] = sum(event["tokens"].values())
        if event["event"] == "ended":
            gauges[f'magpie_exit_code{{program="{name}"}}'] = event["code"]
    return gauges


def test_a_consumer_reads_what_a_stage_does_until_its_ceiling_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "EVERY_SECONDS", 0.02)
    command, _ = stage_of("gen_res", tmp_path)
    file = tmp_path / "told" / "events.jsonl"
    with ScriptedServer(by=of_prompt) as server:
        flags = ["--base_url", server.url, "--events", file]
        assert program(*command, *flags, "--check").returncode == 0 and not file.exists()
        assert program(*command, *flags, "--max_tokens_total", 20).returncode == EXIT_CEILING
        assert metrics(file)['magpie_exit_code{program="gen_res"}'] == EXIT_CEILING
        assert program(*command, *flags).returncode == 0
    assert metrics(file) == {
        'magpie_done{program="gen_res"}': 12,
        'magpie_tokens_total{program="gen_res"}': 60,
        'magpie_exit_code{program="gen_res"}': 0,
    }
    assert [event["event"] for event in read(file)].count("counts") > 2


def test_a_refused_stage_ends_with_its_code(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    refused = program("clean_ins", "--input_file", tmp_path / "none.jsonl", "--events", file)
    assert refused.returncode == 2
    assert [(event["event"], event.get("code")) for event in read(file)] == [("begun", None), ("ended", 2)]


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    code = (
        "import sys; from pathlib import Path; from magpie.common import events\n"
        "events.EVERY_SECONDS = 0; events.begin(Path(sys.argv[1]), 'writer')\n"
        "events.count_by(lambda: {'output': 'x' * 3000, 'rows': 1, 'done': 0, 'written': 0, 'dropped': {}, 'settled': 0,"
        " 'tokens': {'prompt': 0, 'completion': 0}})\n"
        "import time; time.sleep(60)"
    )
    for _ in range(5):
        writers = [subprocess.Popen([sys.executable, "-c", code, str(file)], env=clean_environment()) for _ in range(2)]
        lines = file.read_bytes().count(b"\n") if file.exists() else 0
        deadline = time.monotonic() + 60
        while (not file.exists() or file.read_bytes().count(b"\n") < lines + 20) and time.monotonic() < deadline:
            time.sleep(0.01)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
    with file.open("ab") as torn:
        torn.write(b'{"event": "cou')
    events.begin(file, "after")
    events.end(0)
    found = read(file)
    assert len(found) > 100 and [event["program"] for event in found[-2:]] == ["after", "after"]


def test_a_file_with_something_else_in_it_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": 1, "instruction": "1 + 1?"}\n')
    before = path.read_bytes()
    done = program("gen_dis", "--input_file", path, "--output_file", tmp_path / "y.jsonl", f"--events={path}")
    assert done.returncode == 2 and "has no events in it" in done.stderr and path.read_bytes() == before

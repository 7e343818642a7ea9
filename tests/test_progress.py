"""The line of a stage that runs: what it says, and that it is said while no record ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from magpie import generation, progress
from magpie.console import log
from magpie.runs import Run


class Slow:
    """A client whose first record ends late."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def for_each(self, items: list[int], work: Callable[[int], Any]) -> None:
        await asyncio.sleep(0.5)
        for item in items:
            await work(item)


async def work(session: generation.Session, item: int) -> None:
    if item == 2:
        session.drop(item, {"id": item}, "failed")
    else:
        session.run.keep(item, {"id": item}, completion_tokens=300)
        session.bar.update(closed=1, tokens=300, dropped=0)
    await asyncio.sleep(0.2)


def test_a_stage_says_how_far_it_is_also_while_no_record_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.1)
    monkeypatch.setattr(generation, "SHOW_SECONDS", 0.02)
    said: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(listener)
    level = log.level
    log.setLevel(logging.INFO)
    run = Run("gen_res.py", tmp_path / "x_res.jsonl", rows=3, arguments={})
    try:
        asyncio.run(generation._work(run, Slow(run), None, [0, 1, 2], work, overwrite=False))  # type: ignore[arg-type]
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
    waiting = [line for line in said if line.startswith("0 of 3 records (0%), 0 dropped, 0s gone, ? left")]
    assert len(waiting) >= 3
    assert (
        said[-1].startswith("3 of 3 records (100%), ") and " tokens/s, 1 dropped, " in said[-1] and said[-1].endswith(" left")
    )
    assert run.totals.written == 2

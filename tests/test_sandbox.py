"""The sandbox: hostile programs in each kind of walls, honest ones, what they cost, and machines without walls."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from hostile_programs import HONEST, HOSTILE
from magpie.common.console import MagpieError
from magpie.sandbox import sandbox as module
from magpie.sandbox.sandbox import STRONG, Outcome, ProgramLimits, Sandbox, Walls

SECRET = "do-not-tell-7f3a"
LIMITS = ProgramLimits(seconds=1.0, memory=512 << 20)
MOST_SECONDS = 1.0 * 2 + 1 + 1.5
"""The limit on the clock for one processor second, and what two busy cores may add."""
STATES = {"ran", "failed", "timed_out", "too_much_output", "killed"}


def run_all(programs: list[str], *, walls: Walls, limits: ProgramLimits = LIMITS) -> list[Outcome]:
    async def work(sandbox: Sandbox) -> list[Outcome]:
        return await asyncio.gather(*map(sandbox.run, programs))

    with Sandbox(limits, walls=walls, weak=walls == "weak") as sandbox:
        assert sandbox.walls == walls
        return asyncio.run(work(sandbox))


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, socket.socket]:
    """A secret in a file and in the environment, and a server that nobody may reach."""
    monkeypatch.setenv("MAGPIE_API_KEY", SECRET)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "canary").write_text(SECRET)
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    return tmp_path / "victim", server


@pytest.mark.parametrize("walls", STRONG)
def test_hostile_programs_do_not_get_out_and_each_has_a_verdict(walls, outside):
    victim, server = outside
    words = {"CANARY": str(victim / "canary"), "VICTIM": str(victim), "PORT": str(server.getsockname()[1])}
    programs = []
    for text in HOSTILE.values():
        for word, value in words.items():
            text = text.replace(word, value)
        programs.append(text)
    assert len(programs) >= 60
    before = set(Path("/tmp").iterdir())
    for name, outcome in zip(HOSTILE, run_all(programs, walls=walls), strict=True):
        assert outcome.state in STATES, name
        assert outcome.seconds < MOST_SECONDS, (name, outcome)
        assert SECRET not in outcome.output + outcome.error, name
        assert len(outcome.output) <= LIMITS.output, name
        assert "OWNED" not in outcome.output or name == "write to every descriptor", name
        assert "PLANTED" not in outcome.output or "/usr" not in outcome.output, name
    assert [path.name for path in victim.iterdir()] == ["canary"]
    assert (victim / "canary").read_text() == SECRET
    with pytest.raises(BlockingIOError):
        server.accept()
    assert not {Path("/tmp/out"), Path("/tmp/numpy.py")} & (set(Path("/tmp").iterdir()) - before)


def test_verdicts_say_what_happened():
    outcomes = run_all(
        [HOSTILE["sleep"], HOSTILE["ten gigabytes"], HOSTILE["endless output"], HOSTILE["a null pointer"], "1/0", "x ="],
        walls="namespaces",
    )
    assert [outcome.state for outcome in outcomes] == ["timed_out", "failed", "too_much_output", "killed", "failed", "failed"]
    assert [outcome.error.split(":")[0] for outcome in outcomes[4:]] == ["ZeroDivisionError", "SyntaxError"]


def test_nothing_is_left_for_the_next_program():
    plant = HOSTILE["plant a module"] + "\nopen('/box/left', 'w').write('x')"
    look = "import os, sys; print([d for d in sys.path if d and os.path.exists(d + '/numpy.py')], os.listdir('/box'))"
    for walls in STRONG:
        outcomes = run_all([plant, plant, look, look], walls=walls)
        assert [outcome.output for outcome in outcomes[2:]] == ["[] []\n"] * 2, walls


@pytest.mark.parametrize("walls", [*STRONG, "weak"])
def test_honest_programs_are_right(walls):
    assert len(HONEST) >= 40
    for (program, answer), outcome in zip(HONEST, run_all([p for p, _ in HONEST], walls=walls), strict=True):
        assert (outcome.state, outcome.output.splitlines()[-1:]) == ("ran", [answer]), (program, outcome)


def test_other_packages_are_not_there():
    outcomes = run_all(["import torch", "import yaml", "import msgspec", "import pytest"], walls="bubblewrap")
    assert [outcome.error.split(":")[0] for outcome in outcomes] == ["ModuleNotFoundError"] * 4


def test_a_run_costs_its_program_and_not_its_imports():
    began = time.monotonic()
    outcomes = run_all([f"import sympy\nprint(sympy.factorint({n}))" for n in range(1, 201)], walls="bubblewrap")
    assert {outcome.state for outcome in outcomes} == {"ran"}
    assert time.monotonic() - began < 60  # 4 s on two idle cores; SymPy's import alone would be 200 times half a second


def test_a_worker_that_died_is_replaced():
    with Sandbox(LIMITS, workers=1, walls="namespaces") as sandbox:
        worker = sandbox._all[0]
        worker._process.kill()
        worker._process.wait()
        assert asyncio.run(sandbox.run("print(1)")).output == "1\n"


def test_without_walls_it_refuses_or_goes_on_weakly_if_told(monkeypatch):
    monkeypatch.setattr(module, "_bubblewrap", lambda shown: ["/bin/false"])
    monkeypatch.setattr(module, "START", module.START.replace("main()", "__import__('os').environ.clear(); main()"))
    real = module._shown
    monkeypatch.setattr(module, "_shown", lambda packages: [*real(packages), "/nowhere-at-all"])  # cannot be bound
    with pytest.raises(MagpieError, match="--weak_sandbox"):
        Sandbox(LIMITS)
    with Sandbox(LIMITS, workers=1, weak=True) as sandbox:
        assert sandbox.walls == "weak"
        assert asyncio.run(sandbox.run("print(1)")).output == "1\n"

"""Replicas on a real Ray cluster of two nodes: one is killed, and nothing is lost or left running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import program
from magpie.config.load import PROJECT
from replicas import run, two_nodes


@pytest.fixture(scope="module", params=["stub", pytest.param("real", marks=pytest.mark.long)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster whose nodes pass their environment on to their workers, and with it the engine."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stub":
            patch.setenv("PYTHONPATH", str(PROJECT / "tests" / "stub_engine"))
        # of 30 responses by a stub, at most four at a time: Ray has seconds to see who is dead
        patch.setenv("STUB_DELAY", "0.4")
        with two_nodes() as cluster:
            yield cluster


def test_two_replicas_share_the_work_and_one_that_is_killed_is_replaced(cluster: Any, tmp_path: Path) -> None:
    seen = run(cluster.address, tmp_path, problems=36, max_tokens=80)
    assert seen["every record once"] and seen["problems"] == 36
    assert seen["killed"] and seen["restarts"] == 1
    assert len(seen["tokens of each replica"]) == 2 and min(seen["tokens of each replica"]) > 0
    assert seen["processes of the servers"] >= 4  # an HTTP server and an engine each
    assert seen["processes left over"] == [], "an engine outlived its replica"


@pytest.fixture
def gpus(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two more nodes of four GPUs each, of which only nvidia-smi and Ray know."""
    told = tmp_path / "nvidia-smi"
    told.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do echo 'NVIDIA A100, 81920, 8.0'; done\n")
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    nodes = [cluster.add_node(num_cpus=1, num_gpus=4, object_store_memory=100 * 2**20) for _ in range(2)]
    yield
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)


@pytest.mark.usefixtures("gpus")
def test_what_the_nodes_gpus_do_not_hold_is_refused_before_anything_is_started(cluster: Any, tmp_path: Path) -> None:
    for asked, told in (
        (
            ("--replicas", 3, "--tensor_parallel", 3),
            "no room for 3 servers of 3 GPU(s) each: its nodes have 4, 4 GPU(s). Use --replicas 2",
        ),
        (("--replicas", 2, "--tensor_parallel", 9), "with --tensor_parallel 9, found: 4 x NVIDIA A100"),
    ):
        done = program("serve", "smollm2", *asked, "--ray", cluster.address, "--log_dir", tmp_path / "logs", "--", "true")
        assert done.returncode == 2 and told in done.stderr, done.stderr
        assert not (tmp_path / "logs").exists()

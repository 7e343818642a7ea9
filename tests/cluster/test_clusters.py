"""A real Ray cluster of two machines, one core each: what it finds is what one process finds, whoever is killed on the way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from cheap_models import CHUNK, cheap_models

from conftest import clean_environment, program, rows
from magpie.common.console import MagpieError
from magpie.compute import ray_executor, vector_index
from magpie.compute.embedding import DEFAULT_EMBEDDING_MODEL, Encoder
from magpie.compute.executors import LOCAL, executor_at
from magpie.compute.ray_executor import RayExecutor, _worker_resources
from magpie.compute.vector_cache import VectorCache
from magpie.compute.vector_index import Partitions
from magpie.config.load import PROJECT
from magpie.rewards.model import RewardModel, conversation
from magpie.similarity.dedup import NEIGHBOURS

STORE = 80 * 2**20  # Ray takes no less than 75 MiB
NODE = {"num_cpus": 1, "object_store_memory": STORE}
RECORDS = 360
TEMPLATES = (
    "Find the sum of {} and {}.",
    "What is {} times {}?",
    "A train goes {} miles in {} hours. How fast is it?",
    "Solve ${}x + {} = 0$ for $x$.",
    "A box holds {} red and {} blue balls. How many balls are in it?",
)


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    from ray.cluster_utils import Cluster as LocalCluster

    # Ray would kill workers when the machine's memory, which other tests use too, is nearly full
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 - its name
    cluster = LocalCluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of made problems, one in six of them there before in other layout, and what one process says of them."""
    chance, records = random.Random(5), []
    for number in range(RECORDS):
        text = chance.choice(TEMPLATES).format(chance.randint(2, 400), chance.randint(2, 9))
        if number % 6 == 5:
            text = chance.choice(records)["instruction"].replace("Find", "Determine").replace("What is", "Compute") + "  "
        records.append({"id": number, "instruction": text})
    source = tmp_path_factory.mktemp("alone") / "a.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    with cheap_models():
        done = program("gen_dis", "--input_file", source)
    assert done.returncode == 0, done.stderr
    return source, source.with_name("a_distance.jsonl")


def started_by(node: Any) -> list[psutil.Process]:
    """Return the processes that a machine of the cluster has started, its workers among them."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid).children()


def workers_running(machines: Any) -> list[psutil.Process]:
    """Return the processes of workers that are at work on a part."""
    found = []
    for process in itertools.chain.from_iterable(map(started_by, machines.list_all_nodes())):
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            if process.cmdline()[0].startswith("ray::_Worker.do"):
                found.append(process)
    return found


def kill_one(machines: Any, running: subprocess.Popen[str], when: Callable[[], bool]) -> bool:
    """Kill a worker (-9) as soon as `when` holds and one is at work; return whether there was one before the program's end."""
    while running.poll() is None:
        if when() and (workers := workers_running(machines)):
            workers[0].kill()
            return True
        time.sleep(0.05)
    return False


def start(name: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a stage with cheap models, which goes on behind its workers' first parts when the file GO is there."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "tests" / "cluster" / "cheap_models.py"), name, *map(str, arguments)],
        env=clean_environment(PYTHONPATH=str(PROJECT / "exp"), **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cached(path: Path) -> int:
    """Return how many vectors a cache has."""
    return VectorCache(path)._database.execute("SELECT count(*) FROM vectors").fetchone()[0] if path.exists() else 0


# --- what users meet ---------------------------------------------------------------------------------------------------


def test_stopped_gone_on_with_and_a_worker_killed_the_duplicates_are_those_of_one_process(
    machines: Any, problems: tuple[Path, Path], tmp_path: Path
) -> None:
    source, expected = tmp_path / "a.jsonl", problems[1]
    source.write_bytes(problems[0].read_bytes())
    cache = tmp_path / "embeddings.sqlite"
    go = tmp_path / "go"
    first = start("gen_dis", "--input_file", source, "--ray", machines.address, GO=str(go))
    while first.poll() is None and not cached(cache):
        time.sleep(0.05)
    assert first.poll() is None, first.communicate()
    first.send_signal(signal.SIGINT)
    out, said = first.communicate(timeout=200)
    assert first.returncode == 130, said
    assert [line.split(":")[0] for line in said.splitlines()] == ["gen_dis"] * len(said.splitlines())
    assert "resumes where it stopped" in said
    assert 0 < cached(cache) <= 2 * CHUNK  # a part of each worker

    second = start("gen_dis", "--input_file", source, RAY_ADDRESS=machines.address, GO=str(go))
    assert kill_one(machines, second, lambda: True), second.communicate()
    go.touch()
    out, said = second.communicate(timeout=400)
    assert second.returncode == 0, said
    assert "a worker of the Ray cluster was lost" in said
    assert "ray" not in out.lower()
    assert (tmp_path / "a_distance.jsonl").read_bytes() == expected.read_bytes()
    assert sum(row["duplicate_of"] is not None for row in rows(expected)) > RECORDS / 8


def test_rewards_are_those_of_one_process_though_a_worker_is_killed(machines: Any, tmp_path: Path) -> None:
    records = [
        {"id": n, "instruction": f"What is {n} + 1?", "responses": [f"{n + m}. " * (n % 30 + 5) for m in range(4)]}
        for n in range(260)
    ] + [{"id": 260, "instruction": "Nothing."}]
    for name in ("one_4res.jsonl", "many_4res.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    with cheap_models():
        alone = program("gen_po_rewards", "--reward_model", "lengths", "--input_file", tmp_path / "one_4res.jsonl")
    assert alone.returncode == 0, alone.stderr
    part, go = tmp_path / "many_4res_rewards.part", tmp_path / "go"
    arguments = "--reward_model", "lengths", "--input_file", tmp_path / "many_4res.jsonl", "--ray", machines.address
    running = start("gen_po_rewards", *arguments, GO=str(go))
    assert kill_one(machines, running, lambda: part.exists() and part.stat().st_size > 1000), running.communicate()
    go.touch()
    _, said = running.communicate(timeout=400)
    assert running.returncode == 0, said
    assert "a worker of the Ray cluster was lost" in said
    assert (tmp_path / "many_4res_rewards.jsonl").read_bytes() == (tmp_path / "one_4res_rewards.jsonl").read_bytes()
    assert [row["id"] for row in rows(tmp_path / "many_4res_rewards_dropped.jsonl")] == [260]


@pytest.mark.parametrize(
    ("address_given", "said"),
    [
        ("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9"),
        ("ray://here:10001", "not an address"),
        ("here", "not an address"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_one_line(tmp_path: Path, address_given: str, said: str) -> None:
    with pytest.raises(MagpieError, match=said), executor_at(address_given):
        pass


# --- the workers -------------------------------------------------------------------------------------------------------


def where(part: int) -> str:
    import ray

    time.sleep(0.05)
    return ray.get_runtime_context().get_node_id()


def doubled(part: int) -> int:
    time.sleep(0.05)
    return 2 * part


def refuses(part: int) -> int:
    raise MagpieError(f"no model for part {part}")


def kills_itself(part: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return part


def doubled_or_killed_once(marker: Path, part: int) -> int:
    if part == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * part


def vectors_and_rewards(encoder: Encoder, model: RewardModel, part: list[str]) -> tuple[bytes, list[float | None]]:
    return encoder(part).tobytes(), model.score([conversation("What is it?", text) for text in part])


def weighed(ballast: np.ndarray, part: np.ndarray) -> int:
    return ballast.nbytes + int(part.sum())


@pytest.fixture(scope="module")
def cluster(machines: Any) -> Iterator[RayExecutor]:
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers need not import the tests
    with executor_at(machines.address) as executor:
        assert isinstance(executor, RayExecutor)
        yield executor


def test_every_part_is_done_once_also_by_whom_a_part_kills(cluster: RayExecutor, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    found = sorted(cluster.map(partial(doubled_or_killed_once, killed), iter(range(9))))
    assert killed.exists() and found == sorted(LOCAL.map(doubled, range(9)))
    assert list(cluster.map(doubled, [])) == []


def test_what_cannot_be_done_is_one_line(cluster: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MagpieError, match=r"^no model for part 0$"):
        list(cluster.map(refuses, [0]))
    monkeypatch.setattr(ray_executor, "MOST_DEATHS", 2)
    with pytest.raises(MagpieError, match="2 workers of the Ray cluster died on the same chunk"):
        list(cluster.map(kills_itself, [0]))


def test_work_and_parts_larger_than_rays_memory_go_to_its_disk(cluster: RayExecutor) -> None:
    ballast = np.ones(STORE // 8 + 1_000_000)
    parts = (np.full(STORE // 24, n) for n in range(6))  # a third of the memory each
    found = sorted(cluster.map(partial(weighed, ballast), parts))
    assert found == [(n, ballast.nbytes + n * (STORE // 24)) for n in range(6)]


def test_a_cluster_without_a_free_core_is_one_line(cluster: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    held = cluster.map(doubled, iter(range(100)))
    next(held), next(held)  # its two workers hold both cores, or will
    monkeypatch.setattr(ray_executor, "PATIENCE_SECONDS", 3.0)
    with pytest.raises(MagpieError, match="no free CPU"):
        list(cluster.map(doubled, [1]))
    held.close()


def test_neighbours_do_not_depend_on_who_searches_and_equal_ones_come_by_their_row(
    cluster: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(3).standard_normal((9000, 32), dtype=np.float32)
    vectors[4000:4040] = vectors[:40]
    vectors[8000:8040] = vectors[:40]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for flat_most in (10_000, 1000):
        monkeypatch.setattr(vector_index, "FLAT_MOST", flat_most)
        alone, together = (Partitions(vectors).search(vectors, NEIGHBOURS, executor) for executor in (LOCAL, cluster))
        assert (alone[0] == together[0]).all()
        assert (alone[1] == together[1]).all()
        assert alone[1][4005, :3].tolist() == [5, 4005, 8005]


def test_vectors_and_rewards_of_real_models_are_those_of_one_process(cluster: RayExecutor, tmp_path: Path) -> None:
    from made_rewards import make_classifier  # torch

    texts = [template.format(number, number % 7) for number in range(2, 22) for template in TEMPLATES]
    reward = RewardModel(str(make_classifier(tmp_path / "classifier")))
    work = partial(vectors_and_rewards, Encoder(DEFAULT_EMBEDDING_MODEL), reward)
    alone, together = (list(executor.map(work, [texts])) for executor in (LOCAL, cluster))
    assert alone == together
    assert len(set(alone[0][1][1])) > len(texts) / 2


def test_the_parts_of_a_machine_that_is_lost_go_to_the_others(cluster: RayExecutor, machines: Any) -> None:
    lost = next(iter(machines.worker_nodes))  # it stays lost: no test behind this one needs two
    ended = 1 << 30
    results = cluster.map(where, itertools.takewhile(lambda part: part < ended, itertools.count()))
    found = [next(results)]
    while found[-1][1] != lost.node_id:
        found.append(next(results))
    ended = len(found) + 12
    at_work = started_by(lost)
    machines.remove_node(lost, allow_graceful=False)
    for process in at_work:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    rest = list(results)
    assert sorted(part for part, _ in [*found, *rest]) == list(range(ended))
    assert [node for _, node in rest].count(lost.node_id) <= 1  # it may have been through with what it had


@pytest.mark.parametrize(
    ("nodes", "cores", "gpu", "expected"),
    [
        ([{"CPU": 1.0}, {"CPU": 1.0}], 4, False, (2, {"num_cpus": 1})),
        ([{"CPU": 64.0}, {"CPU": 10.0}], 4, True, (18, {"num_cpus": 4})),
        ([{}, {"CPU": 0.0}, {"CPU": 8.0}], 16, False, (1, {"num_cpus": 8})),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 8.0}], 4, True, (8, {"num_cpus": 1, "num_gpus": 1})),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 8.0}], 1, False, (72, {"num_cpus": 1})),
    ],
)
def test_machines_are_divided_among_workers(nodes: list, cores: int, gpu: bool, expected: tuple) -> None:
    assert _worker_resources(nodes, cores, gpu=gpu) == expected


def test_without_ray_ray_is_not_imported() -> None:
    code = "import sys; import gen_dis, gen_po_rewards, magpie.similarity.compare_files\n"
    code += "from magpie.compute.executors import executor_at\n"
    code += "with executor_at(None) as executor: print(list(executor.map(str, [1]))); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT / "exp", capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[(0, '1')]", "False"]

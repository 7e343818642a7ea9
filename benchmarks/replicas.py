"""Two replicas of the embedded model on a Ray cluster of two nodes, one of them killed (-9) in the middle.

    python benchmarks/replicas.py --problems 192

Both nodes are of this machine (Ray's own test cluster). Problems are made by both replicas; while they are answered, the worker
of one replica is killed with its engine, and Ray restarts it. Prints each replica's share of the tokens while both were up,
and whether every record is there once. Targets: shares within 15% of each other; nothing lost, nothing twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[1]
REPLACED = "Ray starts another one"
SHARE = re.compile(r"(http://\S+): ([\d,]+) completions, ([\d,]+) tokens")


def shares(log: str) -> list[int]:
    """Return the tokens of each server, from a stage's final messages."""
    return [int(tokens.replace(",", "")) for _, _, tokens in SHARE.findall(log)]


def kill_one_when(begun: Path, rows: int, killed: list[str]) -> None:
    """Kill a replica's worker and its engine once the `.part` file has so many rows."""
    while not (begun.exists() and begun.read_bytes().count(b"\n") >= rows):
        time.sleep(0.2)
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::ReplicaWorker"):
            family = [process, *process.children(recursive=True)]
            killed.append(f"{len(family)} processes at row {rows}")
            for each in family:
                each.kill()
            return


def watch(seen: set[psutil.Process], over: threading.Event) -> None:
    """Collect all processes that replicas' workers start."""
    while not over.wait(0.5):
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::ReplicaWorker"):
                with contextlib.suppress(psutil.NoSuchProcess):
                    seen.update(process.children(recursive=True))


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """Yield a Ray cluster of two nodes of one core each."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    # Ray would kill workers when the machine's memory, which others use too, is nearly full
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 - its name
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


def run(address: str, folder: Path, problems: int, max_tokens: int) -> dict[str, object]:
    """Run the benchmark on the cluster at an address, and return its findings."""
    made, answered = folder / "x_ins.jsonl", folder / "x_ins_res.jsonl"
    stage = f"{sys.executable} {PROJECT}/exp"
    window = "--max_in_flight 24"
    commands = [
        f"{stage}/gen_ins.py --model_path smollm2 --total_prompts {problems} --preflight 0 --max_tokens {max_tokens} {window}"
        f" --output_file {made} 2>{folder}/ins.log",
        # both are there again before the second stage's end only if it lasts: so many answers
        f"{stage}/gen_res.py --model_path smollm2 --input_file {made} --max_tokens {max_tokens} --temperature 0.8"
        f" --max_in_flight {min(24, max(4, problems // 8))}"
        f" --output_file {answered} 2>{folder}/res.log",
    ]
    killed: list[str] = []
    seen: set[psutil.Process] = set()
    over = threading.Event()
    threading.Thread(target=watch, args=(seen, over), daemon=True).start()
    threading.Thread(target=kill_one_when, args=(answered.with_suffix(".part"), problems // 6, killed), daemon=True).start()
    # both must be up before the work begins, so that the shares say something, and at the end, so that the dead is replaced;
    # Ray may take longer than the work to see that it is dead
    ready = f"until [ $(wc -l < {folder}/servers.txt) = 2 ]; do sleep 0.2; done"
    noticed = f"for i in $(seq 300); do grep -q '{REPLACED}' {folder}/serve.log && break; sleep 0.2; done"
    serve = [sys.executable, f"{PROJECT}/exp/serve.py", "smollm2", "--replicas", "2", "--ray", address]
    serve += ["--log_dir", str(folder / "logs"), "--url_file", str(folder / "servers.txt")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
    environment["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB: both have to fit
    try:
        with (folder / "serve.log").open("w") as log:
            done = subprocess.run(
                [*serve, "--", "bash", "-c", f"{ready} && {commands[0]} && {commands[1]} && {noticed} && {ready}"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                timeout=1800,
            )
    finally:
        over.set()
    said = (folder / "serve.log").read_text()
    if done.returncode:
        logs = [path.read_text() for path in (folder / "ins.log", folder / "res.log") if path.exists()]
        raise SystemExit("\n".join([said[-4000:], *(log[-2000:] for log in logs)]))
    wanted = [json.loads(line)["id"] for line in made.read_text().splitlines()]
    told = json.loads(answered.with_suffix(".run.json").read_text())["counts"]
    there = [json.loads(line)["id"] for line in answered.read_text().splitlines()]
    there += [json.loads(line)["id"] for line in (folder / "x_ins_res_dropped.jsonl").read_text().splitlines()]
    tokens = shares((folder / "ins.log").read_text())
    return {
        "problems": len(wanted),
        "tokens of each replica": tokens,
        "apart": round(abs(tokens[0] - tokens[1]) / (sum(tokens) / 2), 3) if len(tokens) == 2 else None,
        "killed": killed,
        "answers": told,
        "every record once": sorted(there) == sorted(wanted),
        "tokens of each address, with the kill": shares((folder / "res.log").read_text()),
        "restarts": said.count(REPLACED),
        "said": [line for line in (folder / "res.log").read_text().splitlines() if " is " in line and "http" in line],
        "processes of the servers": len(seen),
        "processes left over": [process.pid for process in psutil.wait_procs(seen, timeout=120)[1]],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=192, help="problems to make and to answer (default 192)")
    parser.add_argument("--max_tokens", type=int, default=150, help="tokens of each at most (default 150)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, two_nodes() as cluster:
        for name, value in run(cluster.address, Path(folder), args.problems, args.max_tokens).items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()

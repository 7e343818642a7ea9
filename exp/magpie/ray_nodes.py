"""Wait until a Ray cluster has all its nodes: for scripts/slurm/r1_two_nodes_ray.sbatch.

    RAY_ADDRESS=host:6379 python exp/magpie/ray_nodes.py 2

Exit code: 0, or 1 if they are not there after five minutes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time

PATIENCE_SECONDS = 300.0


def wait_for(nodes: int, patience: float = PATIENCE_SECONDS) -> int:
    """Return how many nodes the cluster of RAY_ADDRESS has: `nodes`, or fewer once patience is at its end."""
    import ray

    found, ends = 0, time.monotonic() + patience
    while found < nodes and time.monotonic() < ends:
        if head_is_up(os.environ["RAY_ADDRESS"]):
            with contextlib.suppress(ConnectionError):  # its head listens, and is not ready yet
                ray.init(logging_level=logging.ERROR, log_to_driver=False)
                found = sum(node["Alive"] for node in ray.nodes())
            ray.shutdown()
        time.sleep(2 if found < nodes else 0)
    return found


def head_is_up(address: str) -> bool:
    """Whether somebody listens there: Ray itself would wait for a minute and more."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    there, wanted = wait_for(int(sys.argv[1])), int(sys.argv[1])
    print(f"the Ray cluster has {there} of {wanted} nodes", file=sys.stderr)
    sys.exit(there < wanted)

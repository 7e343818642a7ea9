"""The cost of a job: tokens, GPU hours, core hours, nodes and disk, from the figures of `assumptions.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from magpie.common.console import MagpieError
from magpie.verification.early_stop import NEVER, Rule

COPIES = 6
"""Files of all compared responses: their own, tagged, verified, distance, decontaminated, filtered (kept and dropped)."""


@dataclass(frozen=True)
class Workload:
    """The data to make, and the machines to use: the flags of plan.py, which explains them.

    `first_votes`: 1 if the main job's response is sampled like a vote, and so is its problem's first one.
    """

    problems: int
    num_responses: int = 1
    votes: int = 4
    stop_when: str = NEVER
    first_votes: int = 0
    pairs: int = 0
    missions: int = 2
    gpus: int = 8
    nodes: int | None = None
    gpu_price: float | None = None
    hours: float | None = None

    def asked(self, unsettled_share: float) -> float:
        """Return the votes per problem that will be requested: the fewest that settle it, and a share of the others."""
        if self.stop_when == NEVER or not self.votes:
            return self.votes
        fewest = Rule(self.stop_when, self.votes).wave(0, 0, 0)
        return fewest + unsettled_share * (self.votes - fewest)


def plan(workload: Workload, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the cost of a workload by name, in the order in which it is shown; `figures`: values of `configs/planning.yaml`.

    `hours` are those of the model's work on `nodes`, `nodes_needed` those for the workload's hours, `core_hours` those of the
    stages without a language model. Prompt tokens take no time: published speeds are of runs with as many of
    them as of completion tokens.

    Raises:
        MagpieError: not even one replica fits onto the nodes.
    """
    problems, replica_gpus = workload.problems, math.ceil(figures["replica_gpus"])
    least = nodes_for(1, replica_gpus, workload.gpus)
    nodes = workload.nodes or least
    if nodes < least:
        raise MagpieError(
            f"one replica needs {replica_gpus} GPUs, so {least} nodes of {workload.gpus}; there are {nodes}. "
            "Raise --nodes, or choose a smaller model"
        )
    replicas = nodes * (workload.gpus // replica_gpus) or nodes // least
    samples = math.ceil(problems / figures["clean_share"])
    tokens = tokens_of(workload, samples, figures)
    hours = tokens["tokens_written"] / figures["tokens_per_second"] / 3600
    votes = workload.asked(figures["unsettled_share"])
    compared = problems * ((votes or workload.num_responses) + workload.pairs)
    found = {
        "samples": samples,
        "rows": int(problems * figures["kept_share"]),
        **tokens,
        "gpus_per_replica": replica_gpus,
        "replicas": replicas,
        "nodes": nodes,
        "hours": hours / replicas,
        "gpu_hours": hours * replica_gpus,
        "core_hours": (compared * figures["verify_seconds"] + problems * figures["problem_seconds"]) / 3600,
        "disk_gb": disk_gb(workload, samples, figures),
    }
    if workload.gpu_price is not None:
        found["cost"] = found["gpu_hours"] * workload.gpu_price
    if workload.hours:
        found["nodes_needed"] = nodes_for(math.ceil(hours / workload.hours), replica_gpus, workload.gpus)
    return found


def tokens_of(workload: Workload, samples: int, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the completion tokens, by purpose and in total, and the prompt tokens."""
    work = {
        "problems": (samples, "problem"),
        "responses": (workload.problems * workload.num_responses, "response"),
        "votes": (workload.problems * max(0, workload.asked(figures["unsettled_share"]) - workload.first_votes), "response"),
        "pairs": (workload.problems * workload.pairs, "response"),
        "tags": (workload.problems * workload.missions, "tag"),
    }
    written = {f"tokens_of_{kind}": count * figures[f"{name}_tokens"] for kind, (count, name) in work.items() if count}
    read = sum(count * figures[f"{name}_prompt_tokens"] for count, name in work.values())
    return written | {"tokens_written": sum(written.values()), "tokens_read": read}


def nodes_for(replicas: int, replica_gpus: int, gpus: int) -> int:
    """Return the nodes for a number of replicas: whole nodes for one larger than a node, else as many per node as fit."""
    if replica_gpus > gpus:
        return replicas * math.ceil(replica_gpus / gpus)
    return math.ceil(replicas / (gpus // replica_gpus))


def disk_gb(workload: Workload, samples: int, figures: Mapping[str, float]) -> float:
    """Return the GB of all files, and of the largest `.part` file, which stores several responses of a record twice."""

    def records(responses: float) -> float:
        response = figures["response_tokens"] * figures["bytes_per_token"]
        return workload.problems * (figures["problem_bytes"] + responses * response)

    votes = workload.asked(figures["unsettled_share"])
    several = max(workload.num_responses, votes, workload.pairs)
    found = 2 * samples * figures["problem_bytes"] + records(workload.num_responses) + figures["kept_share"] * records(1)
    found += COPIES * records(votes) if votes else (COPIES - 1) * records(workload.num_responses)
    found += 3 * records(workload.pairs) if workload.pairs else 0.0
    return (found + records(several if several == 1 else 2 * several)) / 1e9

"""What a job costs: tokens, GPU hours, hours of each stage, disk and memory, by formulas over `configs/planning.yaml`.

Every formula is a pure function whose docstring gives its units. Stages run one after the other, as the launchers do it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from magpie.common.console import MagpieError
from magpie.compute.vector_index import PARTITION

SECONDS_AN_HOUR = 3600
GB = 1e9
ANSWER_COPIES = 5
"""Files with all compared answers behind the answers' own: tagged, verified, distance, decontaminated, and filtered, whose kept
and dropped rows are one copy together."""
CHAIN = (
    *("gen_ins", "clean_ins", "gen_res", "gen_res, votes", "gen_res, pairs", "unitag", "verify", "gen_dis, embedding"),
    *("gen_dis, comparing", "decontaminate", "filter, export", "gen_po_pairs"),
)
"""Stages in the order of the launchers."""
Figures = Mapping[str, float]
"""The values of `configs/planning.yaml` by name."""


@dataclass(frozen=True)
class Order:
    """What is to be made: clean problems, answers a problem, and on what.

    Args:
        problems: clean problems that are answered.
        num_responses: answers a problem of the main job.
        votes: further answers a problem that are compared (0: none).
        pairs: further answers a problem for preference pairs (0: none).
        missions: tags a problem that a language model gives (0: none).
        gpus: GPUs a node.
        nodes: nodes (None: as many as one replica needs).
        cores: processor cores of the machine that runs the stages.
        parts: files that the job is kept in, so that stages of one process do them side by side.
        gpu_price: money a GPU hour (None: not known).
        deadline: hours that the whole may take (None: any).
    """

    problems: int
    num_responses: int = 1
    votes: int = 4
    pairs: int = 0
    missions: int = 2
    gpus: int = 8
    nodes: int | None = None
    cores: int = 32
    parts: int = 1
    gpu_price: float | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of the plan: records read, tokens read and written by the model, GPU hours, hours by the clock."""

    name: str
    records: int
    tokens_read: float
    tokens_written: float
    gpu_hours: float
    hours: float


@dataclass(frozen=True)
class Plan:
    """What an order costs; disk and memory in GB (10^9 bytes)."""

    order: Order
    samples: int
    rows: int
    nodes: int
    replicas: int
    replica_gpus: int
    stages: list[Stage]
    tokens_read: float
    tokens_written: float
    gpu_hours: float
    money: float | None
    hours: float
    deadline_nodes: int | None
    disk: dict[str, float]
    memory: dict[str, float]


# --- formulas ---------------------------------------------------------------------------------------------------------


def samples_needed(problems: int, clean_share: float) -> int:
    """Samples to draw for so many clean problems: problems / share of the samples that become one, rounded up."""
    return math.ceil(problems / clean_share)


def generation_hours(tokens: float, tokens_per_second: float, engine_share: float, replicas: int) -> float:
    """Hours to write tokens: tokens / (replicas x tokens/s of a replica x the programs' share of the engine's speed) / 3,600.

    What is read is not in it: published speeds are of runs that read as much as they write, and here less is read.
    """
    return tokens / (replicas * tokens_per_second * engine_share) / SECONDS_AN_HOUR


def nodes_for(replicas: int, replica_gpus: int, gpus: int) -> int:
    """Nodes for so many replicas: each on whole nodes if it is larger than one, else as many a node as go onto it."""
    if replica_gpus > gpus:
        return replicas * math.ceil(replica_gpus / gpus)
    return math.ceil(replicas / (gpus // replica_gpus))


def replicas_on(nodes: int, replica_gpus: int, gpus: int) -> int:
    """Replicas that go onto so many nodes; 0: not one does."""
    if replica_gpus > gpus:
        return nodes // math.ceil(replica_gpus / gpus)
    return nodes * (gpus // replica_gpus)


def core_hours(count: float, seconds: float, workers: int = 1) -> float:
    """Hours by the clock of processor work: count x core seconds each / workers / 3,600."""
    return count * seconds / workers / SECONDS_AN_HOUR


def search_hours(vectors: int, search_seconds: float, cores: int) -> float:
    """Hours to search every vector's neighbours: N x sqrt(N) x core seconds / cores / 3,600; in partitions of P beyond P.

    The index has 6 sqrt(N) lists, each query is compared with their centres and with 8 lists of sqrt(N) / 6 vectors; with
    partitions it is so compared N / P times, with sqrt(P) in place of sqrt(N).
    """
    compared = math.sqrt(vectors) if vectors <= PARTITION else vectors / math.sqrt(PARTITION)
    return vectors * compared * search_seconds / cores / SECONDS_AN_HOUR


def deadline_replicas(single_hours: float, other_hours: float, deadline: float) -> int | None:
    """Replicas that keep a deadline: hours of one / (deadline - hours without a model), rounded up; None: no number does."""
    if other_hours >= deadline:
        return None
    return max(1, math.ceil(single_hours / (deadline - other_hours)))


def disk_gb(order: Order, figures: Figures, samples: int, rows: int) -> dict[str, float]:
    """GB on disk: what stays, by kind, and at most beside it the `.part` file of the largest resumable stage.

    That file holds several answers of a record twice: each as it was finished, and all in the record.

    A stage writes its records whole again, so the compared answers (the votes; without any the main answers) stand in
    `ANSWER_COPIES` more files, those for pairs in three (answers, verified, pairs). A record has `problem_bytes` and
    `bytes_per_token` for each token of its answers.
    """
    answer = figures["answer_tokens"] * figures["bytes_per_token"]
    problem = figures["problem_bytes"]
    answered = order.problems * (problem + order.num_responses * answer)
    compared = order.problems * (problem + (order.votes or order.num_responses) * answer)
    paired = order.problems * (problem + order.pairs * answer) if order.pairs else 0.0
    several = max(order.num_responses, order.votes, order.pairs)
    part = order.problems * (problem + several * answer * (2 if several > 1 else 1))
    copies = ANSWER_COPIES + 1 if order.votes else ANSWER_COPIES
    found = {
        "problems": 2 * samples * problem,
        "answers": answered,
        "votes and checks": copies * compared,
        "pairs": 3 * paired,
        "data set": rows * (problem + answer),
        "embeddings": order.problems * figures["embedding_bytes"],
        "while it runs": part,
    }
    return {name: size / GB for name, size in found.items()}


def memory_gb(order: Order, figures: Figures) -> dict[str, float]:
    """GB of main memory that grow with the records: a resumable stage's index, and gen_dis.py."""
    return {
        "a resumable stage": order.problems * figures["run_bytes"] / GB,
        "gen_dis.py": order.problems * figures["dedup_bytes"] / GB,
    }


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(order: Order, figures: Figures) -> Plan:
    """Return what an order costs.

    Raises:
        MagpieError: not one replica goes onto the nodes.
    """
    replica_gpus = int(figures["replica_gpus"])
    nodes = order.nodes or nodes_for(1, replica_gpus, order.gpus)
    replicas = replicas_on(nodes, replica_gpus, order.gpus)
    if not replicas:
        needed = nodes_for(1, replica_gpus, order.gpus)
        raise MagpieError(
            f"one replica needs {replica_gpus} GPUs, so {needed} nodes of {order.gpus}; there are {nodes}. Raise --nodes, or "
            "choose a smaller model"
        )
    samples = samples_needed(order.problems, figures["clean_share"])
    rows = int(order.problems * figures["kept_share"])
    disk = disk_gb(order, figures, samples, rows)
    stages = [
        *_model_stages(order, figures, samples, replicas, replica_gpus),
        *_processor_stages(order, figures, samples, disk),
    ]
    stages.sort(key=lambda stage: CHAIN.index(stage.name))
    written = math.fsum(stage.tokens_written for stage in stages)
    gpu_hours = math.fsum(stage.gpu_hours for stage in stages)
    return Plan(
        order=order,
        samples=samples,
        rows=rows,
        nodes=nodes,
        replicas=replicas,
        replica_gpus=replica_gpus,
        stages=stages,
        tokens_read=math.fsum(stage.tokens_read for stage in stages),
        tokens_written=written,
        gpu_hours=gpu_hours,
        money=None if order.gpu_price is None else gpu_hours * order.gpu_price,
        hours=math.fsum(stage.hours for stage in stages),
        deadline_nodes=_deadline_nodes(order, stages, replicas, replica_gpus),
        disk=disk,
        memory=memory_gb(order, figures),
    )


def _model_stages(order: Order, figures: Figures, samples: int, replicas: int, replica_gpus: int) -> list[Stage]:
    """Return the stages that a language model works for."""
    answers = {
        "gen_res": order.num_responses,
        "gen_res, votes": order.votes,
        "gen_res, pairs": order.pairs,
    }
    work = [("gen_ins", samples, samples, figures["problem_prompt_tokens"], figures["problem_tokens"])]
    for name, each in answers.items():
        work.append((name, order.problems, order.problems * each, figures["answer_prompt_tokens"], figures["answer_tokens"]))
    tags = order.problems * order.missions
    work.append(("unitag", order.problems, tags, figures["tag_prompt_tokens"], figures["tag_tokens"]))
    stages = []
    for name, records, requests, read, written in work:
        hours = generation_hours(requests * written, figures["tokens_per_second"], figures["engine_share"], replicas)
        if requests:
            stage = Stage(name, records, requests * read, requests * written, hours * replicas * replica_gpus, hours)
            stages.append(stage)
    return stages


def _processor_stages(order: Order, figures: Figures, samples: int, disk: dict[str, float]) -> list[Stage]:
    """Return the stages that need no language model."""
    problems, parts = order.problems, min(order.parts, order.cores)
    answers = problems * ((order.votes or order.num_responses) + order.pairs)
    compared = disk["votes and checks"] / (ANSWER_COPIES + 1 if order.votes else ANSWER_COPIES)
    hours = {
        "clean_ins": core_hours(samples, figures["clean_seconds"], parts),
        "verify": core_hours(answers, figures["verify_seconds"], order.cores),
        "gen_dis, embedding": core_hours(problems, figures["embed_seconds"], order.cores),
        "gen_dis, comparing": core_hours(problems, figures["same_problem_seconds"])
        + search_hours(problems, figures["search_seconds"], order.cores),
        "decontaminate": core_hours(problems, figures["decontaminate_seconds"], parts),
        "filter, export": core_hours(compared * (1 + figures["kept_share"]), figures["pass_seconds_per_gb"], parts),
    }
    if order.pairs:
        hours["gen_po_pairs"] = core_hours(problems, figures["pairs_seconds"], parts)
    records = {"clean_ins": samples, "verify": answers}
    return [Stage(name, records.get(name, problems), 0.0, 0.0, 0.0, time) for name, time in hours.items()]


def _deadline_nodes(order: Order, stages: list[Stage], replicas: int, replica_gpus: int) -> int | None:
    """Return the nodes that keep the deadline, or None: no number does, or there is none."""
    if order.deadline is None:
        return None
    model_hours = math.fsum(stage.hours for stage in stages if stage.gpu_hours)
    others = math.fsum(stage.hours for stage in stages if not stage.gpu_hours)
    needed = deadline_replicas(model_hours * replicas, others, order.deadline)
    return None if needed is None else nodes_for(needed, replica_gpus, order.gpus)


def as_json(found: Plan) -> dict[str, object]:
    """Return a plan for machines: the fields of `Plan`, and the sum of the disk."""
    return asdict(found) | {
        "disk_gb": math.fsum(found.disk.values()),
        "longest_stage_hours": max(s.hours for s in found.stages),
    }

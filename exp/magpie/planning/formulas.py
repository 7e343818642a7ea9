"""The cost of a job: tokens, GPU hours, hours of each stage, disk and memory, by formulas over `configs/planning.yaml`.

Every formula is a pure function whose docstring gives its units. Stages run one after the other, as the launchers do it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from magpie.common.console import MagpieError
from magpie.compute.vector_index import PARTITION

SECONDS_PER_HOUR = 3600
GB = 1e9
RESPONSE_COPIES = 5
"""Files with all compared responses beside the responses' own: tagged, verified, distance, decontaminated, and filtered, whose
kept and dropped rows together are one copy."""
CHAIN = (
    *("gen_ins", "clean_ins", "gen_res", "gen_res, votes", "gen_res, pairs", "unitag", "verify", "gen_dis, embedding"),
    *("gen_dis, comparing", "decontaminate", "filter, export", "gen_po_pairs"),
)
"""Stages in the order of the launchers."""
JSON_KEYS = {"workload": "order", "cost": "money"}
"""Fields of `Plan` → keys of plan.py --json."""
Figures = Mapping[str, float]
"""The values of `configs/planning.yaml` by name."""


@dataclass(frozen=True)
class Workload:
    """The data to make, in problems and responses per problem, and the machine to make it on.

    Args:
        problems: clean problems that are answered.
        num_responses: responses per problem in the main job.
        votes: further responses per problem that are compared (0: none).
        pairs: further responses per problem for preference pairs (0: none).
        missions: tags per problem that a language model gives (0: none).
        gpus: GPUs per node.
        nodes: nodes (None: as many as one replica needs).
        cores: processor cores of the machine that runs the stages.
        parts: files that the job is kept in, so that stages of one process do them side by side.
        gpu_price: cost of a GPU hour (None: unknown).
        deadline: hours that the whole job may take (None: any).
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
    """A stage of the plan: records read, tokens read and written by the model, GPU hours, wall-clock hours."""

    name: str
    records: int
    tokens_read: float
    tokens_written: float
    gpu_hours: float
    hours: float


@dataclass(frozen=True)
class Plan:
    """The cost of a workload; disk and memory in GB (10^9 bytes)."""

    workload: Workload
    samples: int
    rows: int
    nodes: int
    replicas: int
    replica_gpus: int
    stages: list[Stage]
    tokens_read: float
    tokens_written: float
    gpu_hours: float
    cost: float | None
    hours: float
    deadline_nodes: int | None
    disk: dict[str, float]
    memory: dict[str, float]


# --- formulas ---------------------------------------------------------------------------------------------------------


def samples_needed(problems: int, clean_share: float) -> int:
    """Return the samples to draw for so many clean problems: problems / share of the samples that become one, rounded up."""
    return math.ceil(problems / clean_share)


def generation_hours(tokens: float, tokens_per_second: float, engine_share: float, replicas: int) -> float:
    """Return the hours to write tokens: tokens / (replicas x tokens/s per replica x engine share) / 3,600.

    The engine share is the part of the engine's speed that the programs reach.

    Tokens read are not counted: published speeds are of runs that read as much as they write, and here fewer are read.
    """
    return tokens / (replicas * tokens_per_second * engine_share) / SECONDS_PER_HOUR


def nodes_for(replicas: int, replica_gpus: int, gpus: int) -> int:
    """Return the nodes for so many replicas: each on whole nodes if it is larger than one, else as many per node as fit."""
    if replica_gpus > gpus:
        return replicas * math.ceil(replica_gpus / gpus)
    return math.ceil(replicas / (gpus // replica_gpus))


def replicas_on(nodes: int, replica_gpus: int, gpus: int) -> int:
    """Return the replicas that fit onto so many nodes; 0 if not even one does."""
    if replica_gpus > gpus:
        return nodes // math.ceil(replica_gpus / gpus)
    return nodes * (gpus // replica_gpus)


def core_hours(count: float, seconds: float, workers: int = 1) -> float:
    """Return the wall-clock hours of processor work: count x core seconds each / workers / 3,600."""
    return count * seconds / workers / SECONDS_PER_HOUR


def search_hours(vectors: int, search_seconds: float, cores: int) -> float:
    """Return the hours to search all neighbours: N x sqrt(N) x core seconds / cores / 3,600; in partitions of P beyond.

    The index has 6 sqrt(N) lists, each query is compared with their centres and with 8 lists of sqrt(N) / 6 vectors; with
    partitions it is so compared N / P times, with sqrt(P) in place of sqrt(N).
    """
    compared = math.sqrt(vectors) if vectors <= PARTITION else vectors / math.sqrt(PARTITION)
    return vectors * compared * search_seconds / cores / SECONDS_PER_HOUR


def deadline_replicas(single_hours: float, other_hours: float, deadline: float) -> int | None:
    """Return the replicas for a deadline: hours of one / (deadline - hours without a model), rounded up; None if none do."""
    if other_hours >= deadline:
        return None
    return max(1, math.ceil(single_hours / (deadline - other_hours)))


def disk_gb(workload: Workload, figures: Figures, samples: int, rows: int) -> dict[str, float]:
    """Return the GB on disk: what stays, by kind, and beside it at most the `.part` file of the largest resumable stage.

    That file holds several responses of a record twice: each as it was finished, and all in the record.

    Every stage writes whole records, so the compared responses (the votes; without any, the main ones) are in
    `RESPONSE_COPIES` more files, those for pairs in three (responses, verified, pairs). A record has `problem_bytes`, and
    `bytes_per_token` for each token of its responses.
    """
    answer = figures["answer_tokens"] * figures["bytes_per_token"]
    problem = figures["problem_bytes"]
    answered = workload.problems * (problem + workload.num_responses * answer)
    compared = workload.problems * (problem + (workload.votes or workload.num_responses) * answer)
    paired = workload.problems * (problem + workload.pairs * answer) if workload.pairs else 0.0
    several = max(workload.num_responses, workload.votes, workload.pairs)
    part = workload.problems * (problem + several * answer * (2 if several > 1 else 1))
    copies = RESPONSE_COPIES + 1 if workload.votes else RESPONSE_COPIES
    found = {
        "problems": 2 * samples * problem,
        "answers": answered,
        "votes and checks": copies * compared,
        "pairs": 3 * paired,
        "data set": rows * (problem + answer),
        "embeddings": workload.problems * figures["embedding_bytes"],
        "while it runs": part,
    }
    return {name: size / GB for name, size in found.items()}


def memory_gb(workload: Workload, figures: Figures) -> dict[str, float]:
    """Return the GB of main memory that grow with the records: a resumable stage's index, and gen_dis.py."""
    return {
        "a resumable stage": workload.problems * figures["run_bytes"] / GB,
        "gen_dis.py": workload.problems * figures["dedup_bytes"] / GB,
    }


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(workload: Workload, figures: Figures) -> Plan:
    """Return the cost of a workload.

    Raises:
        MagpieError: not even one replica fits onto the nodes.
    """
    replica_gpus = int(figures["replica_gpus"])
    nodes = workload.nodes or nodes_for(1, replica_gpus, workload.gpus)
    replicas = replicas_on(nodes, replica_gpus, workload.gpus)
    if not replicas:
        needed = nodes_for(1, replica_gpus, workload.gpus)
        raise MagpieError(
            f"one replica needs {replica_gpus} GPUs, so {needed} nodes of {workload.gpus}; there are {nodes}. "
            "Raise --nodes, or choose a smaller model"
        )
    samples = samples_needed(workload.problems, figures["clean_share"])
    rows = int(workload.problems * figures["kept_share"])
    disk = disk_gb(workload, figures, samples, rows)
    stages = [
        *_model_stages(workload, figures, samples, replicas, replica_gpus),
        *_processor_stages(workload, figures, samples, disk),
    ]
    stages.sort(key=lambda stage: CHAIN.index(stage.name))
    written = math.fsum(stage.tokens_written for stage in stages)
    gpu_hours = math.fsum(stage.gpu_hours for stage in stages)
    return Plan(
        workload=workload,
        samples=samples,
        rows=rows,
        nodes=nodes,
        replicas=replicas,
        replica_gpus=replica_gpus,
        stages=stages,
        tokens_read=math.fsum(stage.tokens_read for stage in stages),
        tokens_written=written,
        gpu_hours=gpu_hours,
        cost=None if workload.gpu_price is None else gpu_hours * workload.gpu_price,
        hours=math.fsum(stage.hours for stage in stages),
        deadline_nodes=_deadline_nodes(workload, stages, replicas, replica_gpus),
        disk=disk,
        memory=memory_gb(workload, figures),
    )


def _model_stages(workload: Workload, figures: Figures, samples: int, replicas: int, replica_gpus: int) -> list[Stage]:
    """Return the stages that need a language model."""
    answers = {
        "gen_res": workload.num_responses,
        "gen_res, votes": workload.votes,
        "gen_res, pairs": workload.pairs,
    }
    work = [("gen_ins", samples, samples, figures["problem_prompt_tokens"], figures["problem_tokens"])]
    for name, each in answers.items():
        work.append(
            (name, workload.problems, workload.problems * each, figures["answer_prompt_tokens"], figures["answer_tokens"])
        )
    tags = workload.problems * workload.missions
    work.append(("unitag", workload.problems, tags, figures["tag_prompt_tokens"], figures["tag_tokens"]))
    stages = []
    for name, records, requests, read, written in work:
        hours = generation_hours(requests * written, figures["tokens_per_second"], figures["engine_share"], replicas)
        if requests:
            stage = Stage(name, records, requests * read, requests * written, hours * replicas * replica_gpus, hours)
            stages.append(stage)
    return stages


def _processor_stages(workload: Workload, figures: Figures, samples: int, disk: dict[str, float]) -> list[Stage]:
    """Return the stages that need no language model."""
    problems, parts = workload.problems, min(workload.parts, workload.cores)
    answers = problems * ((workload.votes or workload.num_responses) + workload.pairs)
    compared = disk["votes and checks"] / (RESPONSE_COPIES + 1 if workload.votes else RESPONSE_COPIES)
    hours = {
        "clean_ins": core_hours(samples, figures["clean_seconds"], parts),
        "verify": core_hours(answers, figures["verify_seconds"], workload.cores),
        "gen_dis, embedding": core_hours(problems, figures["embed_seconds"], workload.cores),
        "gen_dis, comparing": core_hours(problems, figures["same_problem_seconds"])
        + search_hours(problems, figures["search_seconds"], workload.cores),
        "decontaminate": core_hours(problems, figures["decontaminate_seconds"], parts),
        "filter, export": core_hours(compared * (1 + figures["kept_share"]), figures["pass_seconds_per_gb"], parts),
    }
    if workload.pairs:
        hours["gen_po_pairs"] = core_hours(problems, figures["pairs_seconds"], parts)
    records = {"clean_ins": samples, "verify": answers}
    return [Stage(name, records.get(name, problems), 0.0, 0.0, 0.0, time) for name, time in hours.items()]


def _deadline_nodes(workload: Workload, stages: list[Stage], replicas: int, replica_gpus: int) -> int | None:
    """Return the nodes that keep the deadline; None if no number does, or if there is none."""
    if workload.deadline is None:
        return None
    model_hours = math.fsum(stage.hours for stage in stages if stage.gpu_hours)
    others = math.fsum(stage.hours for stage in stages if not stage.gpu_hours)
    needed = deadline_replicas(model_hours * replicas, others, workload.deadline)
    return None if needed is None else nodes_for(needed, replica_gpus, workload.gpus)


def as_json(found: Plan) -> dict[str, object]:
    """Return what plan.py --json prints: the fields of `Plan`, the sum of the disk, and the longest stage."""
    content = {JSON_KEYS.get(name, name): value for name, value in asdict(found).items()}
    return content | {
        "disk_gb": math.fsum(found.disk.values()),
        "longest_stage_hours": max(s.hours for s in found.stages),
    }

"""Layout flags of exp/serve.py, and the commands that it prints instead of running them (--dry_run)."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import replace

from magpie.cli import flags
from magpie.common.console import MagpieError, log, printable
from magpie.common.seeds import hashed_seed
from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import QUANTISED
from magpie.models.hardware import Machine, this_machine
from magpie.serving.engine import engine_arguments, has_gpu
from magpie.serving.parallelism import RAY_PORT, Layout, Wanted, described, layout

DRY_PORT = 8000
REPLICA_HOST = "ITS_NODE"
"""Printed instead of a real start's free port, and of the address of the node that Ray chooses for a replica."""


def add_layout(parser: flags.Parser) -> None:
    """Add the flags of the layout: how the model is split, and over which machines."""
    group = parser.add_argument_group("layout")
    group.add_argument(
        "--tensor_parallel",
        type=flags.positive,
        help="GPUs to split every layer over (default: the fewest with room for eight full-length requests)",
    )
    group.add_argument(
        "--pipeline_parallel", type=flags.positive, help="stages to split the layers into (default: one per node needed)"
    )
    group.add_argument(
        "--data_parallel",
        type=flags.positive,
        help="copies behind one address (default: as many as fit on the node's GPUs, for a model without experts)",
    )
    flags.switch(
        group,
        "--expert_parallel",
        "spread a mixture's experts over all GPUs (default: on for models with experts on several GPUs)",
        default=None,
    )
    group.add_argument(
        "--quantization",
        type=quantization,
        help=f"quantise a bfloat16 model's weights: {', '.join(QUANTISED)} (default: as in the model's files)",
    )
    group.add_argument("--kv_cache_dtype", help="type of the KV cache, like fp8 (default: the model's own)")
    group.add_argument("--max_model_len", type=flags.positive, help="context length in tokens (default: the preset's)")
    group = parser.add_argument_group("several nodes")
    group.add_argument("--nodes", type=flags.positive, default=1, help="available nodes, each like this one (default 1)")
    group.add_argument(
        "--backend",
        choices=["mp", "ray"],
        help="mp: start this program on every node; ray: on the first one of a Ray cluster (default mp)",
    )
    group.add_argument("--node_rank", type=flags.not_negative, default=0, help="number of this node, for mp (default 0)")
    group.add_argument("--master_addr", help="address of the first node, for mp")
    group = parser.add_argument_group("dry run")
    flags.switch(group, "--dry_run", "print the commands and start nothing")
    group.add_argument("--gpus", type=flags.positive, help="GPUs per node of the described machine (default: this machine)")
    flags.add_gpu_memory(group, "of the described machine")


def quantization(text: str) -> str:
    """Check, as an argparse type, that the engine can apply a quantisation while loading."""
    if text not in QUANTISED:
        raise argparse.ArgumentTypeError(
            f"the engine cannot quantise a model to {text!r} while it loads it, only to {', '.join(QUANTISED)}. One that is "
            "already quantised (AWQ, GPTQ, NVFP4, …) needs no --quantization: name its own repo or folder as the model"
        )
    return text


def wanted_of(args: argparse.Namespace) -> Wanted:
    """Return the requested layout: that of each replica, if there are several."""
    wanted = flags.options_from(args, Wanted)
    return replace(wanted, data_parallel=wanted.data_parallel or 1) if args.replicas > 1 else wanted


def machine_of(args: argparse.Namespace) -> Machine:
    """Return the described machine, or this one.

    Raises:
        MagpieError: the description is incomplete, or given for a real start.
    """
    if not args.gpus and not args.gpu_memory:
        return this_machine()
    if not args.dry_run:
        raise MagpieError("--gpus and --gpu_memory describe another machine: they need --dry_run")
    if not args.gpus or not args.gpu_memory:
        raise MagpieError("a machine is described by both --gpus and --gpu_memory")
    return described(args.gpus, args.gpu_memory)


def layout_of(preset: ModelPreset, args: argparse.Namespace) -> Layout:
    """Return the layout for the command line, and log its capacity.

    Raises:
        MagpieError: it does not fit, or this node has no part in it.
    """
    found = layout(preset, machine_of(args), wanted_of(args))
    if found.nodes < args.nodes:
        log.info(
            "%s fits on %d of the %d nodes: a server on each serves more (scripts/slurm/replicas.sbatch), and "
            "--pipeline_parallel spreads one over all",
            *(preset.model, found.nodes, args.nodes),
        )
    if found.requests is not None:
        where = f" in each of {found.data_parallel} copies" if found.data_parallel > 1 else ""
        n = int(found.requests)
        log.info("the KV cache has room for about %d request%s of full length at once%s", n, "s" * (n > 1), where)
    if not args.dry_run:
        _check_node(args, found)
    return found


def _check_node(args: argparse.Namespace, found: Layout) -> None:
    if args.node_rank >= found.commands:
        raise MagpieError(
            f"--node_rank {args.node_rank}: the model is started on {found.commands} node(s) only, numbered from 0"
        )
    if found.commands > 1 and not has_gpu():
        raise MagpieError("several nodes need GPUs: the engine that is installed here serves on one node only")
    if found.commands > 1 and not args.master_addr:
        raise MagpieError("several nodes need --master_addr, the address at which all of them reach the first")
    if args.node_rank and args.command:
        raise MagpieError("a command runs on the first node (--node_rank 0) only")


def printed(preset: ModelPreset, found: Layout, args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of --dry_run: a shell's commands, each below a comment that says where it runs."""
    gpu = bool(args.gpus) or has_gpu()
    master = args.master_addr or ("FIRST_NODE" if found.nodes > 1 else "127.0.0.1")
    if found.backend == "ray":
        yield f"# on the first node, before the rest\nray start --head --port={RAY_PORT}"
        if found.nodes > 1:
            yield f"# on each of the others ({found.nodes - 1})\nray start --address={master}:{RAY_PORT}"
    if args.replicas > 1:
        yield _replicas(found, args)
    environment = {} if gpu else preset.server.cpu_environment
    settings = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items())
    for rank in range(found.commands):
        arguments = engine_arguments(
            preset,
            found.flags(rank, master),
            gpu=gpu,
            host=args.host if args.replicas == 1 else REPLICA_HOST,
            port=args.port or DRY_PORT,
            seed=hashed_seed(args.seed, args.replica, 0),
        )
        program = ["vllm", *arguments[2:]] if gpu else ["python", *arguments]
        where = (
            "replica 1's node; the others differ in --seed and --host"
            if args.replicas > 1
            else "the node"
            if found.nodes == 1
            else f"node {rank + 1} of {found.nodes}"
        )
        yield f"# on {where}{', which serves' if found.nodes > 1 and not rank else ''}"
        yield printable(f'VLLM_API_KEY="$MAGPIE_API_KEY" {settings}{shlex.join([*program, *args.engine_flags])}')


def _replicas(found: Layout, args: argparse.Namespace) -> str:
    """Return the comment on the number of replicas and the GPUs of each."""
    gpus = len(machine_of(args).gpus)
    if not gpus:
        return f"# {args.replicas} replicas on a Ray cluster without GPUs, one CPU each"
    nodes = -(-args.replicas // (gpus // found.gpus))
    return (
        f"# {args.replicas} replicas on a Ray cluster, {found.gpus} GPU(s) each: {gpus // found.gpus} go onto a node of {gpus} "
        f"GPU(s), so {nodes} such node(s)"
    )

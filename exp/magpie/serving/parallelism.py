"""The layout of one model on the GPUs of one node or several, chosen before it is loaded from the memory that it needs.

Tensor parallelism within a node, pipeline stages across nodes, expert parallelism for mixtures of experts; data parallelism on
request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from magpie.common.console import MagpieError, log
from magpie.config.model_presets import Architecture, ModelPreset
from magpie.models.checkpoint import model_config, needed_gb, weights_gb_held
from magpie.models.hardware import GB, Gpu, Machine

CPU_CACHE_GB = 5.0
"""Main memory for the KV cache on a machine without a GPU."""
BFLOAT16_SINCE = 8.0
"""The first CUDA compute capability with bfloat16 (Ampere)."""
SHARE, LARGEST_SHARE = 0.92, 0.95
"""Share of a GPU's memory for the engine: vLLM 0.32's default, and the maximum if that leaves LEFT_GB for everything else."""
LEFT_GB = 4.0
RESERVE_GB = 2.5
"""A GPU's memory for activations, CUDA graphs and NCCL. An assumption, not measured."""
COMFORTABLE = 8
"""Requests of full length at once; with fewer the engine gets a larger share of a GPU's memory, or more GPUs."""
RPC_PORT, RAY_PORT = 13345, 6379


@dataclass(frozen=True)
class Wanted:
    """The user's settings; None: chosen here. `nodes`: nodes available, each like this machine."""

    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    data_parallel: int | None = None
    expert_parallel: bool | None = None
    nodes: int = 1
    backend: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    max_model_len: int | None = None


@dataclass(frozen=True)
class Layout:
    """The split of a model. `requests`: requests of full length that the KV cache of one copy holds; None: unknown."""

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    nodes: int = 1
    backend: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    requests: float | None = None

    @property
    def gpus(self) -> int:
        """The total number of GPUs."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def commands(self) -> int:
        """The number of nodes on which the engine is started by hand: Ray starts it on the others."""
        return 1 if self.backend == "ray" else self.nodes

    def flags(self, node_rank: int = 0, master_addr: str = "127.0.0.1") -> dict[str, Any]:
        """Return the engine's flags for one node."""
        out = self.settings | {"tensor-parallel-size": self.tensor_parallel}
        if self.pipeline_parallel > 1:
            out["pipeline-parallel-size"] = self.pipeline_parallel
        if self.expert_parallel:
            out["enable-expert-parallel"] = True
        if self.data_parallel > 1:
            return out | {"data-parallel-size": self.data_parallel} | self._data_parallel_flags(node_rank, master_addr)
        if self.backend == "ray":
            out["distributed-executor-backend"] = "ray"
        elif self.nodes > 1:
            out |= {"nnodes": self.nodes, "node-rank": node_rank, "master-addr": master_addr, "headless": node_rank > 0}
        return out

    def _data_parallel_flags(self, node_rank: int, master_addr: str) -> dict[str, Any]:
        local = self.data_parallel // self.nodes
        if self.backend == "ray":
            return {"data-parallel-size-local": local, "data-parallel-backend": "ray"}
        if self.nodes == 1:
            return {}
        flags = {"data-parallel-size-local": local, "data-parallel-address": master_addr, "data-parallel-rpc-port": RPC_PORT}
        return flags | ({"data-parallel-start-rank": node_rank * local, "headless": True} if node_rank else {})


def architecture(preset: ModelPreset) -> Architecture:
    """Return the model's shape from its own config.json if that is on this machine, else from its preset."""
    config = model_config(preset)
    config = config | config.get("text_config", {})
    known = preset.architecture
    if not config.get("num_attention_heads"):
        return known
    heads = int(config["num_attention_heads"])
    size = config.get("head_dim") or int(config.get("hidden_size") or 0) // heads
    kv_heads, values = config.get("num_key_value_heads") or heads, 2 * size
    if config.get("kv_lora_rank"):  # latent attention: one vector per token, shared by all heads
        kv_heads, values = 1, config["kv_lora_rank"] + config["qk_rope_head_dim"]
    experts = next((config[name] for name in ("n_routed_experts", "num_experts", "num_local_experts") if config.get(name)), 0)
    return Architecture(
        layers=config.get("num_hidden_layers") or 0,
        heads=heads,
        kv_heads=kv_heads,
        kv_values=values,
        experts=experts,
        expert_share=known.expert_share if experts else 0.0,
    )


def layout(preset: ModelPreset, machine: Machine, wanted: Wanted | None = None) -> Layout:
    """Return the layout of a model on up to `wanted.nodes` machines like this one.

    It takes the fewest nodes, then the fewest GPUs, on which the KV cache holds COMFORTABLE requests; if there are none, the
    layout that holds most.

    Raises:
        MagpieError: it does not fit, or it cannot be quantised as asked.
    """
    wanted = wanted or Wanted()
    _check_quantization(preset, machine, wanted)
    needed = needed_gb(preset, wanted.quantization)
    if needed is None:
        log.info("the memory that %s needs is unknown; the engine will find out", preset.model)
    asked = {
        "quantization": wanted.quantization,
        "kv-cache-dtype": wanted.kv_cache_dtype,
        "max-model-len": wanted.max_model_len,
    }
    settings = {name: value for name, value in asked.items() if value}
    if not machine.gpus:
        return _without_gpus(preset, machine, wanted, needed, settings)
    if machine.gpus[0].capability < BFLOAT16_SINCE:
        settings["dtype"] = "half"
    memory = _GpuMemory(preset, min(gpu.memory_gb for gpu in machine.gpus), wanted, needed)
    found: list[tuple[float, Layout]] = []
    for candidate in _candidates(preset, len(machine.gpus), wanted):
        if memory.share_of_weights(candidate) * (needed or 0.0) > memory.gpu_gb:
            continue
        for share in memory.shares:
            requests = memory.requests(candidate, share)
            raised = {"gpu-memory-utilization": share} if share != SHARE else {}
            made = replace(candidate, settings=settings | raised, requests=requests)
            if requests is None or requests >= COMFORTABLE:
                return replace(made, data_parallel=_copies(preset, made, len(machine.gpus), wanted))
            found.append((requests, made))
    most, roomiest = max(found, key=lambda each: each[0], default=(0.0, None))
    if roomiest and most >= 1:
        return replace(roomiest, data_parallel=_copies(preset, roomiest, len(machine.gpus), wanted))
    if most:
        raise MagpieError(_no_cache_room(preset, machine, wanted, int(most * (memory.context or 0))))
    raise MagpieError(_does_not_fit(preset, machine, wanted, needed))


def _copies(preset: ModelPreset, found: Layout, gpus: int, wanted: Wanted) -> int:
    """Return the copies of a model that the GPUs of its node take: each answers on its own, and no GPU is idle.

    Copies of a mixture share its experts and wait for one another: they are only on request. An unknown model may be
    one.
    """
    chosen = wanted.data_parallel or wanted.tensor_parallel or wanted.pipeline_parallel or wanted.backend
    if chosen or found.nodes > 1 or found.requests is None or architecture(preset).experts:
        return found.data_parallel
    return gpus // found.gpus


def described(gpus: int, memory_gib: float) -> Machine:
    """Return a machine of `gpus` GPUs with `memory_gib` GiB each, as vendors count (an H100 has 80)."""
    return Machine((Gpu(f"GPU of {memory_gib:g} GB", memory_gib * 2**30 / GB, 9.0),) * gpus, 0.0)


def _check_quantization(preset: ModelPreset, machine: Machine, wanted: Wanted) -> None:
    """Check a requested quantisation before the engine would fail on it while it loads.

    Raises:
        MagpieError: the weights are quantised already, or there is no GPU.
    """
    if not wanted.quantization:
        return
    own = model_config(preset).get("quantization_config", {}).get("quant_method")
    own = own or ("fp8" if preset.memory_gb else None)  # R1, if its config.json is not on this machine
    if own and own != wanted.quantization:
        raise MagpieError(
            f"{preset.model} is quantised already ({own}): the engine cannot make it {wanted.quantization}. Leave "
            "--quantization out, or name the bfloat16 model"
        )
    if not own and not machine.gpus:
        raise MagpieError("--quantization needs a GPU: the CPU engine cannot quantise a model. Leave it out")


# --- candidates --------------------------------------------------------------------------------------------------------


def _candidates(preset: ModelPreset, gpus: int, wanted: Wanted) -> Iterator[Layout]:
    """Yield possible layouts, fewest nodes and GPUs first; the GPUs of a stage must divide the attention heads."""
    shape = architecture(preset)
    given = wanted.tensor_parallel or preset.server.flags.get("tensor-parallel-size")
    sizes = [int(given)] if given else [size for size in range(1, gpus + 1) if shape.heads % size == 0]
    copies = wanted.data_parallel or 1
    fixed = wanted.pipeline_parallel or wanted.tensor_parallel or copies > 1
    for nodes in [wanted.nodes] if fixed else range(1, wanted.nodes + 1):
        for size in sizes:
            stages = wanted.pipeline_parallel or (1 if copies > 1 or size > gpus else nodes)
            world = size * stages * copies
            if world % nodes or world // nodes > gpus or (copies > 1 and copies % nodes):
                continue
            spread = shape.experts > 0 and size * copies > 1
            yield Layout(
                tensor_parallel=size,
                pipeline_parallel=stages,
                data_parallel=copies,
                expert_parallel=spread if wanted.expert_parallel is None else wanted.expert_parallel,
                nodes=nodes,
                backend=wanted.backend,
            )


def _without_gpus(
    preset: ModelPreset, machine: Machine, wanted: Wanted, needed: float | None, settings: dict[str, Any]
) -> Layout:
    if (needed or 0.0) > machine.memory_gb * wanted.nodes:
        raise MagpieError(_does_not_fit(preset, machine, wanted, needed))
    # the CPU engine claims 0.92 of main memory unless this flag, named after the GPU's, says less
    share = ((needed or 0.0) + CPU_CACHE_GB) / machine.memory_gb
    return Layout(
        tensor_parallel=wanted.tensor_parallel or 1,
        pipeline_parallel=wanted.pipeline_parallel or 1,
        data_parallel=wanted.data_parallel or 1,
        expert_parallel=bool(wanted.expert_parallel),
        nodes=wanted.nodes,
        backend=wanted.backend,
        settings=settings | {"gpu-memory-utilization": round(min(share, SHARE), 3)},
    )


# --- memory ------------------------------------------------------------------------------------------------------------


class _GpuMemory:
    """The memory of one GPU, `gpu_gb` GB, and the part of it that is left for the KV cache."""

    def __init__(self, preset: ModelPreset, gpu_gb: float, wanted: Wanted, needed: float | None) -> None:
        self.gpu_gb, self._shape = gpu_gb, architecture(preset)
        self._weights = weights_gb_held(preset, wanted.quantization) or needed or 0.0
        self._value_bytes = 1 if (wanted.kv_cache_dtype or "").startswith(("fp8", "int8")) else 2
        self.context = wanted.max_model_len or preset.server.flags.get("max-model-len")
        fixed = preset.server.flags.get("gpu-memory-utilization")
        larger = [LARGEST_SHARE] if (1 - LARGEST_SHARE) * gpu_gb >= LEFT_GB else []
        self.shares = [fixed] if fixed else [SHARE, *larger]

    def share_of_weights(self, candidate: Layout) -> float:
        """Return the share of the weights that one GPU holds; data-parallel copies share only spread experts."""
        spread = self._shape.expert_share if candidate.expert_parallel else 0.0
        copy = candidate.tensor_parallel * candidate.pipeline_parallel
        return (1 - spread) / copy + spread / (copy * candidate.data_parallel)

    def requests(self, candidate: Layout, share: float) -> float | None:
        """Return the number of requests of full length that the KV cache holds; None: unknown shape or context."""
        shape = self._shape
        if not (shape.layers and shape.kv_values and self.context):
            return None
        # a head is never split: GPUs beyond their number hold copies
        heads = max(1.0, shape.kv_heads / candidate.tensor_parallel)
        token = shape.layers / candidate.pipeline_parallel * heads * shape.kv_values * self._value_bytes / GB
        left = share * self.gpu_gb - RESERVE_GB - self._weights * self.share_of_weights(candidate)
        return max(0.0, left) / (token * self.context)


def _found(machine: Machine, wanted: Wanted) -> str:
    return machine.summary if wanted.nodes == 1 else f"{wanted.nodes} nodes, each {machine.summary}"


def _does_not_fit(preset: ModelPreset, machine: Machine, wanted: Wanted, needed: float | None) -> str:
    """Return the message that a model needs more memory than there is."""
    where = "".join(
        f" with {name} {value}"
        for name, value in (
            ("--tensor_parallel", wanted.tensor_parallel),
            ("--pipeline_parallel", wanted.pipeline_parallel),
            ("--data_parallel", wanted.data_parallel if (wanted.data_parallel or 1) > 1 else None),
        )
        if value
    )
    more_nodes = ""
    if machine.gpus and needed and not where:
        nodes = int(-(-needed // sum(gpu.memory_gb for gpu in machine.gpus)))
        more_nodes = f" {nodes} such nodes (--nodes {nodes})," if nodes > wanted.nodes else ""
    return (
        f"{preset.model} does not fit: it needs {needed or 0:.0f} GB of memory{where}, found: {_found(machine, wanted)}. "
        f"Use{_quantised(preset, machine, wanted)}{more_nodes} a server elsewhere (MAGPIE_BASE_URL=http://host:8000/v1), or a "
        "smaller model (configs/models)"
    )


def _quantised(preset: ModelPreset, machine: Machine, wanted: Wanted) -> str:
    """Return the settings with which a model fits after all, for a message; nothing where there are none."""
    for cache in () if wanted.quantization or not machine.gpus else (None, "fp8"):
        try:
            layout(preset, machine, replace(wanted, quantization="fp8", kv_cache_dtype=wanted.kv_cache_dtype or cache))
        except MagpieError:
            continue
        return f" --quantization fp8{' --kv_cache_dtype fp8' if cache and not wanted.kv_cache_dtype else ''},"
    return ""


def _no_cache_room(preset: ModelPreset, machine: Machine, wanted: Wanted, tokens: int) -> str:
    """Return the message that the KV cache cannot hold one request."""
    return (
        f"{preset.model} does not fit: besides its weights there is room for {tokens} tokens in the KV cache, less than the "
        f"context of one request, found: {_found(machine, wanted)}. Use --max_model_len {tokens // 256 * 256}, "
        f"{'' if wanted.kv_cache_dtype else '--kv_cache_dtype fp8, '}{'' if wanted.quantization else '--quantization fp8, '}"
        "or more GPUs"
    )

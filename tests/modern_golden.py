"""What the frames of modern_families are, what ends a turn, and how the models write a response."""

from __future__ import annotations

from typing import Any

from made_tokenizers import BOS, EOS

HARMONY_SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    "Current date: 2024-07-26\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included "
    "for every message.<|end|>"
)
MINISTRAL_SYSTEM = (
    "<s>[SYSTEM_PROMPT]# HOW YOU SHOULD THINK AND ANSWER\n\nFirst draft.[THINK]Your thoughts.[/THINK]Here, a response."
    "[/SYSTEM_PROMPT]"
)
BUDGET = (
    "The current thinking budget is 0, so I will directly start answering the question.</seed:cot_budget_reflect>\n"
    "</seed:think>"
)
CHATML = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
SHUT = "\n\n</think>\n\n"

# family: prefix, what follows the user's words, the same without thinking, what ends a response, format
GOLDEN: dict[str, tuple[str, str, str, set[str], str]] = {
    "gpt-oss": (
        HARMONY_SYSTEM + "<|start|>user<|message|>",
        "<|end|><|start|>assistant",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        {"<|return|>", "<|endoftext|>", "<|call|>"},
        "harmony",
    ),
    "ministral-3": (
        MINISTRAL_SYSTEM + "[INST]",
        "[/INST]",
        "[/INST][THINK][/THINK]",
        {"</s>", "[INST]", "[/INST]"},
        "brackets",
    ),
    "mistral-small-3.2": (
        "<s>[SYSTEM_PROMPT]The current date is 2024-07-26.[/SYSTEM_PROMPT][INST]",
        "[/INST]",
        "[/INST]",
        {"</s>", "[INST]", "[/INST]"},
        "brackets",
    ),
    "seed-oss": (
        "<seed:bos>user\n",
        "<seed:eos><seed:bos>assistant\n",
        f"<seed:eos><seed:bos>assistant\n<seed:think><seed:cot_budget_reflect>{BUDGET}",
        {"<seed:eos>", "<seed:bos>"},
        "seed",
    ),
    "gemma-4": (
        "<bos><|turn>user\n",
        "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        {"<eos>", "<turn|>", "<|tool_response>", "<|turn>"},
        "gemma-4",
    ),
    "apriel-1.5": (
        "<s><|system|>\nAnswer as [BEGIN FINAL RESPONSE] ... [END FINAL RESPONSE].\n<|end|>\n<|user|>\n",
        "\n<|end|>\n<|assistant|>\n",
        "\n<|end|>\n<|assistant|>\n",
        {"</s>", "<|end|>", "<|user|>", "<|assistant|>"},
        "final-response",
    ),
    "deepseek-v3.1": (
        f"{BOS}<｜User｜>",
        "<｜Assistant｜></think>",
        "<｜Assistant｜></think>",
        {EOS, "<｜User｜>", "<｜Assistant｜>"},
        "think",
    ),
    "deepseek-v3.2": (
        f"{BOS}<｜User｜>",
        "<｜Assistant｜><think>",
        "<｜Assistant｜></think>",
        {EOS, "<｜User｜>", "<｜Assistant｜>"},
        "think",
    ),
    "qwen3.5": (
        CHATML[0],
        CHATML[1] + "<think>\n",
        CHATML[1] + "<think>" + SHUT,
        {"<|im_end|>", "<|endoftext|>", "<|im_start|>"},
        "think",
    ),
    "qwen3.5-2b": (
        CHATML[0],
        CHATML[1] + "<think>" + SHUT,
        CHATML[1] + "<think>" + SHUT,
        {"<|im_end|>", "<|endoftext|>", "<|im_start|>"},
        "think",
    ),
    "glm-4.6": (
        "[gMASK]<sop><|user|>\n",
        "<|assistant|>",
        "/nothink<|assistant|>\n<think></think>",
        {"<|endoftext|>", "<|user|>", "<|observation|>", "<|assistant|>"},
        "think",
    ),
    "glm-4.7": (
        "[gMASK]<sop><|user|>",
        "<|assistant|><think>",
        "<|assistant|></think>",
        {"<|endoftext|>", "<|user|>", "<|observation|>", "<|assistant|>"},
        "think",
    ),
    "kimi-k2-thinking": (
        "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>"
        "<|im_user|>user<|im_middle|>",
        "<|im_end|><|im_assistant|>assistant<|im_middle|>",
        "<|im_end|><|im_assistant|>assistant<|im_middle|><think>" + SHUT,
        {"<|im_end|>", "<|im_user|>", "<|im_assistant|>"},
        "think",
    ),
    "nemotron-3": (
        "<|im_start|>system\n<|im_end|>\n" + CHATML[0],
        CHATML[1] + "<think>\n",
        CHATML[1] + "<think></think>",
        {"<|im_end|>", "<|im_start|>"},
        "think",
    ),
    "granite-3.3": (
        "<|start_of_role|>system<|end_of_role|>Today's Date: July 26, 2024.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>",
        "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        {"<|end_of_text|>", "<|start_of_role|>"},
        "granite",
    ),
    "phi-4-reasoning": (
        "<|im_start|>system<|im_sep|>You are Phi. Use <think> Thought </think> Solution.<|im_end|><|im_start|>user<|im_sep|>",
        "<|im_end|><|im_start|>assistant<|im_sep|>",
        "<|im_end|><|im_start|>assistant<|im_sep|><think>" + SHUT,
        {"<|im_end|>", "<|im_start|>"},
        "think",
    ),
}
LEFT_OFF = {
    "gemma-4": "enable_thinking=true",
    "deepseek-v3.1": "enable_thinking=true",
    "qwen3.5-2b": "enable_thinking=true",
    "granite-3.3": "thinking=true",
}
"""The families whose templates leave thinking off, and what turns it on."""
USER_ENDS = {"gpt-oss": {"<|end|>", "<|start|>", "<|return|>", "<|endoftext|>", "<|call|>"}}
"""What ends a user's turn, where it is not what ends an assistant's."""
WORDS = "What is 17 + 25?"
SOLUTION = "17 + 25 = \\(\\boxed{42}\\)."
THOUGHT = "We need 17 + 25. Carry: 7 + 5 = 12.\n\nSo 42."

# How the models write: the shapes, not the words, of openai/harmony's docs/format.md; of the examples on the cards of Seed-OSS
# and Apriel, of vLLM's parsers and tests for Mistral and Gemma 4; `<think>` as in the records of R1 and Qwen3.
WRITES: dict[str, tuple[dict[str, Any], str]] = {
    "gpt-oss": (
        {},
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{SOLUTION}<|return|>",
    ),
    "ministral-3": ({}, f"[THINK]{THOUGHT}[/THINK]{SOLUTION}</s>"),
    "seed-oss": ({}, f"<seed:think>\n{THOUGHT}\n</seed:think>{SOLUTION}<seed:eos>"),
    "gemma-4": ({"enable_thinking": True}, f"<|channel>thought\n{THOUGHT}\n<channel|>{SOLUTION}<turn|>"),
    "apriel-1.5": ({}, f"{THOUGHT}\n[BEGIN FINAL RESPONSE]\n{SOLUTION}\n[END FINAL RESPONSE]\n<|end|>"),
    "deepseek-v3.1": ({"thinking": True}, f"{THOUGHT}</think>{SOLUTION}{EOS}"),
    "deepseek-v3.2": ({}, f"{THOUGHT}</think>{SOLUTION}{EOS}"),
    "qwen3.5": ({}, f"{THOUGHT}\n</think>\n\n{SOLUTION}<|im_end|>"),
    "qwen3.5-2b": ({"enable_thinking": True}, f"{THOUGHT}\n</think>\n\n{SOLUTION}<|im_end|>"),
    "glm-4.6": ({}, f"\n<think>{THOUGHT}</think>\n{SOLUTION}<|user|>"),
    "glm-4.7": ({}, f"{THOUGHT}</think>{SOLUTION}<|user|>"),
    "kimi-k2-thinking": ({}, f"<think>{THOUGHT}</think>{SOLUTION}<|im_end|>"),
    "nemotron-3": ({}, f"{THOUGHT}\n</think>\n{SOLUTION}<|im_end|>"),
    "granite-3.3": ({"thinking": True}, f"<think>{THOUGHT}</think>\n\n<response>{SOLUTION}</response><|end_of_text|>"),
    "phi-4-reasoning": ({}, f"<think>{THOUGHT}</think>\n{SOLUTION}<|im_end|>"),
    "mistral-small-3.2": ({}, f"{SOLUTION}</s>"),
}

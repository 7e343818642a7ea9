"""Families of late 2026: their special tokens, and templates in our own words that put around a turn what the models' own do.

Sources of each: the template that llama.cpp or vLLM keep of it (models/templates, vllm/parser), or the model's card.
"""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

from made_tokenizers import CHATML_TOKENS, DEEPSEEK, GEMMA_PLAIN, QWEN, THINK, Family

HARMONY_TOKENS = ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>")
HARMONY = """{{- '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\nKnowledge cutoff: 2024-06\\n' -}}
{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\\n\\nReasoning: ' + (reasoning_effort | default('medium')) -}}
{{- '\\n\\n# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' -}}
{%- for m in messages -%}
  {%- if m.role == 'system' %}{{ '<|start|>developer<|message|># Instructions\\n\\n' + m.content + '\\n\\n<|end|>' }}
  {%- elif m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}
  {%- else %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif -%}"""

MISTRAL_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]")
MINISTRAL = """{%- set own = '# HOW YOU SHOULD THINK AND ANSWER\\n\\nFirst draft.[THINK]Your thoughts.[/THINK]Here, a response.' -%}
{{- bos_token -}}
{%- set first = messages[0].role == 'system' -%}
{{- '[SYSTEM_PROMPT]' + (messages[0].content if first else own) + '[/SYSTEM_PROMPT]' -}}
{%- for m in (messages[1:] if first else messages) -%}
  {%- if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif -%}
{%- endfor -%}"""

MISTRAL_SMALL = """{{- bos_token + '[SYSTEM_PROMPT]The current date is ' + strftime_now('%Y-%m-%d') + '.[/SYSTEM_PROMPT]' -}}
{%- for m in messages -%}
  {%- if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif -%}
{%- endfor -%}"""

SEED = """{%- if messages[0].role == 'system' %}{{ '<seed:bos>system\\n' + messages[0].content + '<seed:eos>' }}{% endif -%}
{%- if thinking_budget is defined and thinking_budget == 0 %}{{ '<seed:bos>systemYour thinking budget is 0.<seed:eos>' }}{% endif -%}
{%- for m in messages if m.role != 'system' -%}
  {%- if m.role == 'user' %}{{ '<seed:bos>user\\n' + m.content + '<seed:eos>' }}
  {%- else %}{{ '<seed:bos>assistant\\n' + m.content + '<seed:eos>' }}{% endif -%}
{%- endfor -%}
{%- set marks = ['<seed:think>', '</seed:think>'] -%}
{%- if add_generation_prompt -%}
  {{- '<seed:bos>assistant\\n' -}}
  {%- if thinking_budget is defined and thinking_budget == 0 %}{{ marks[0] + '<seed:cot_budget_reflect>' }}{% endif -%}
{%- endif -%}"""

GEMMA_4 = """{%- set first = messages[0].role == 'system' -%}
{%- set think = enable_thinking is defined and enable_thinking -%}
{{- bos_token -}}
{%- if think or first -%}
  {{- '<|turn>system\\n' + ('<|think|>' if think else '') + (messages[0].content | trim if first else '') + '<turn|>\\n' -}}
{%- endif -%}
{%- for m in (messages[1:] if first else messages) -%}
  {{- '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content.split('<channel|>')[-1] | trim + '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|turn>model\\n' + ('' if think else '<|channel>thought\\n<channel|>') }}{% endif -%}"""

APRIEL = """{{- bos_token -}}
{%- if messages[0].role != 'system' %}{{ '<|system|>\\nAnswer as [BEGIN FINAL RESPONSE] ... [END FINAL RESPONSE].\\n<|end|>\\n' }}{% endif -%}
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '\\n<|end|>\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}"""

DEEPSEEK_31 = """{%- set thinking = thinking if thinking is defined else (enable_thinking | default(false)) -%}
{{- bos_token -}}{%- for m in messages if m.role == 'system' %}{{ m.content }}{% endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}
  {%- elif m.role == 'assistant' %}{{ '<｜Assistant｜></think>' + m.content.split('</think>')[-1] + eos_token }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}{% endif -%}"""

QWEN_TURNS = """{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' }}{% endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if enable_thinking is defined and enable_thinking is CASE %}{{ '<think>\\nOTHER' }}{% else %}{{ '<think>\\nDEFAULT' }}{% endif -%}
{%- endif -%}"""
SHUT = "\\n</think>\\n\\n"
QWEN_35 = QWEN_TURNS.replace("CASE", "false").replace("OTHER", SHUT).replace("DEFAULT", "")
QWEN_35_SMALL = QWEN_TURNS.replace("CASE", "true").replace("OTHER", "").replace("DEFAULT", SHUT)

GLM = """{{- '[gMASK]<sop>' -}}
{%- set off = enable_thinking is defined and not enable_thinking -%}
{%- for m in messages -%}
  {%- if m.role == 'assistant' %}{{ '<|assistant|>\\n<think></think>\\n' + m.content }}
  {%- else %}{{ '<|' + m.role + '|>\\n' + m.content + ('/nothink' if off and m.role == 'user' else '') }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' + ('\\n<think></think>' if off else '') }}{% endif -%}"""
GLM_47 = """{{- '[gMASK]<sop>' -}}
{%- set off = enable_thinking is defined and not enable_thinking -%}
{%- for m in messages -%}
  {{- '<|' + m.role + '|>' + ('</think>' if m.role == 'assistant' else '') + m.content -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' + ('</think>' if off else '<think>') }}{% endif -%}"""
GLM_TOKENS = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM_FAMILY: dict[str, Any] = {
    "special": GLM_TOKENS,
    "plain": THINK,
    "eos": "<|endoftext|>",
    "ends": ("<|endoftext|>", "<|user|>", "<|observation|>"),
}

KIMI = """{%- if messages[0].role != 'system' %}{{ '<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>' }}{% endif -%}
{%- for m in messages -%}
  {{- '<|im_' + m.role + '|>' + m.role + '<|im_middle|>' + ('<think></think>' if m.role == 'assistant' else '') + m.content + '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_assistant|>assistant<|im_middle|>' }}{% endif -%}"""
KIMI_TOKENS = ("[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>")

NEMOTRON = """{%- set first = messages[0].role == 'system' -%}
{{- '<|im_start|>system\\n' + (messages[0].content if first else '') + '<|im_end|>\\n' -}}
{%- for m in (messages[1:] if first else messages) -%}
  {{- '<|im_start|>' + m.role + '\\n' + ('<think></think>' if m.role == 'assistant' else '') + m.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' + ('<think>\\n' if enable_thinking | default(true) else '<think></think>') -}}
{%- endif -%}"""

GRANITE = """{%- set asks = 'Write your thoughts between <think></think> and your response between <response></response>.' -%}
{{- '<|start_of_role|>system<|end_of_role|>Today\\'s Date: ' + strftime_now('%B %d, %Y') + '.' -}}
{{- (asks if thinking else '') + (messages[0].content if messages[0].role == 'system' else '') + '<|end_of_text|>\\n' -}}
{%- for m in messages if m.role != 'system' %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif -%}"""

PHI = """{%- if messages[0].role != 'system' %}{{ '<|im_start|>system<|im_sep|>You are Phi. Use <think> Thought </think> Solution.<|im_end|>' }}{% endif -%}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif -%}"""

MODERN = {
    "gpt-oss": Family(
        HARMONY,
        special=(*HARMONY_TOKENS, "<|message|>", "<|call|>"),
        eos="<|return|>",
        ends=("<|return|>", "<|endoftext|>", "<|call|>"),
    ),
    "ministral-3": Family(MINISTRAL, special=MISTRAL_TOKENS, bos="<s>", eos="</s>", ends=("</s>",), puts_bos=True),
    "mistral-small-3.2": Family(MISTRAL_SMALL, special=MISTRAL_TOKENS, bos="<s>", eos="</s>", ends=("</s>",), puts_bos=True),
    "seed-oss": Family(
        SEED,
        special=("<seed:bos>", "<seed:eos>", "<seed:pad>", "<seed:think>", "</seed:think>", "<seed:cot_budget_reflect>"),
        plain=("</seed:cot_budget_reflect>",),
        bos="<seed:bos>",
        eos="<seed:eos>",
        ends=("<seed:eos>",),
    ),
    "gemma-4": Family(
        GEMMA_4,
        special=("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<|tool_response>"),
        plain=GEMMA_PLAIN[:4],
        bos="<bos>",
        eos="<turn|>",
        ends=("<eos>", "<turn|>", "<|tool_response>"),
        puts_bos=True,
    ),
    "apriel-1.5": Family(
        APRIEL,
        special=(
            "<s>",
            "</s>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|end|>",
            "[BEGIN FINAL RESPONSE]",
            "[END FINAL RESPONSE]",
        ),
        bos="<s>",
        eos="<|end|>",
        ends=("<|end|>", "</s>"),
    ),
    "deepseek-v3.1": Family(DEEPSEEK_31, **DEEPSEEK),
    "deepseek-v3.2": Family("", **DEEPSEEK),
    "qwen3.5": Family(QWEN_35, **QWEN, plain=THINK),
    "qwen3.5-2b": Family(QWEN_35_SMALL, **QWEN, plain=THINK),
    "glm-4.6": Family(GLM, **GLM_FAMILY),
    "glm-4.7": Family(GLM_47, **GLM_FAMILY),
    "kimi-k2-thinking": Family(KIMI, special=KIMI_TOKENS, plain=THINK, eos="<|im_end|>", ends=("<|im_end|>",)),
    "nemotron-3": Family(NEMOTRON, special=CHATML_TOKENS, plain=THINK, eos="<|im_end|>", ends=("<|im_end|>",)),
    "granite-3.3": Family(
        GRANITE,
        special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
        eos="<|end_of_text|>",
        ends=("<|end_of_text|>",),
    ),
    "phi-4-reasoning": Family(
        PHI,
        special=("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        plain=THINK,
        eos="<|im_end|>",
        ends=("<|im_end|>",),
    ),
}

"""Small real tokenizers: each family's own special tokens, and a chat template that behaves as the family's does.

The vocabulary is a byte-level BPE over a few lines, so a folder is made in a fraction of a second. The templates are written
here in our own words; what they put around a user's turn is what the models' cards and chat templates put there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
LINES = (
    "Find the sum of all positive integers n such that n^2 + 12n - 2007 is a perfect square.",
    "Let f(x) = x^2 + 3x + 2. What is the value of f(5)? The answer is \\boxed{42}.",
    "What is 3 times 4? 3 times 4 is 12. Give the number.",
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "You are a helpful assistant. You write mathematics problems: one problem, clear and complete.",
    "Prove that \\(\\sqrt{2}\\) is irrational.\nSuppose that \\(\\sqrt{2} = \\frac{p}{q}\\) in lowest terms.",
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nuser\n\nassistant\n\nsystem\n\nmodel\n",
    "\\[ \\int_0^1 x^2 \\, dx = \\frac{1}{3} \\]",
)
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Where words end, line breaks together with what stands before them: what is before a user's words keeps its tokens."""

R1 = """{{- bos_token -}}
{%- for m in messages if m.role == 'system' %}{{ m.content }}{% endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}
  {%- elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif -%}"""

R1_0528 = """{{- bos_token -}}
{%- for m in messages if m.role == 'system' %}{{ m.content }}{% endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'user' %}{{ '<｜User｜>' + m.content + '<｜Assistant｜>' }}
  {%- elif m.role == 'assistant' %}{{ m.content.split('</think>')[-1] + eos_token }}{% endif -%}
{%- endfor -%}"""

CHATML = """{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nDEFAULT<|im_end|>\\n' }}{% endif -%}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}"""

QWEN3 = """{%- set place = namespace(last_user=-1) -%}
{%- for m in messages %}{% if m.role == 'user' %}{% set place.last_user = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'assistant' -%}
    {%- set parts = m.content.split('</think>') -%}
    {%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if loop.index0 > place.last_user %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif -%}
    {{- parts[-1].lstrip('\\n') + '<|im_end|>\\n' -}}
  {%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif -%}
{%- endif -%}"""

LLAMA_TURN = "'<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>'"
LLAMA_PROMPT = "{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif -%}"
LLAMA_3 = f"""{{{{- bos_token -}}}}
{{%- for m in messages %}}{{{{ {LLAMA_TURN} }}}}{{% endfor -%}}
{LLAMA_PROMPT}"""

LLAMA_31 = f"""{{%- if date_string is not defined %}}{{% set date_string = strftime_now('%d %b %Y') %}}{{% endif -%}}
{{%- set first = messages[0].role == 'system' -%}}
{{{{- bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n' -}}}}
{{{{- 'Today Date: ' + date_string + '\\n\\n' + (messages[0].content | trim if first else '') + '<|eot_id|>' -}}}}
{{%- for m in (messages[1:] if first else messages) %}}{{{{ {LLAMA_TURN} }}}}{{% endfor -%}}
{LLAMA_PROMPT}"""

GEMMA_TURNS = """{%- for m in turns -%}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('the roles must alternate') }}{% endif -%}
  {{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' -}}
  {{- (before if loop.first else '') + m.content | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}"""

GEMMA_3 = (
    """{{- bos_token -}}
{%- set first = messages[0].role == 'system' -%}
{%- set before = messages[0].content + '\\n\\n' if first else '' -%}
{%- set turns = messages[1:] if first else messages -%}
"""
    + GEMMA_TURNS
)

GEMMA_2 = (
    """{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif -%}
{{- bos_token -}}{%- set before = '' -%}{%- set turns = messages -%}
"""
    + GEMMA_TURNS
)


@dataclass(frozen=True)
class Family:
    """What a made tokenizer is given.

    `special` are left out by `skip_special_tokens`; `plain` are in the vocabulary as one token each, like any word. `ends` are
    the eos tokens of generation_config.json. `puts_bos`: encoding with special tokens puts one in front.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    ends: tuple[str, ...]
    bos: str | None = None
    plain: tuple[str, ...] = ()
    puts_bos: bool = False


THINK = ("<think>", "</think>")
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
GEMMA_PLAIN = ("\n", "\n\n", "\n\n\n\n", "▁▁▁▁", "<table>", "</table>")
"""Gemma's white space and HTML are added tokens too, though nothing special."""
DEEPSEEK: dict[str, Any] = {
    "special": (BOS, EOS, "<｜▁pad▁｜>"),
    "plain": ("<｜User｜>", "<｜Assistant｜>", *THINK),
    "bos": BOS,
    "eos": EOS,
    "ends": (EOS,),
    "puts_bos": True,
}
QWEN: dict[str, Any] = {"special": CHATML_TOKENS, "eos": "<|im_end|>", "ends": ("<|im_end|>", "<|endoftext|>")}
LLAMA: dict[str, Any] = {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>", "puts_bos": True}
GEMMA: dict[str, Any] = {
    "special": GEMMA_TOKENS,
    "plain": GEMMA_PLAIN,
    "bos": "<bos>",
    "eos": "<eos>",
    "ends": ("<eos>", "<end_of_turn>"),
    "puts_bos": True,
}
BOXED = "Please reason step by step, and put your final answer within \\\\boxed{}."
SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

FAMILIES = {
    "deepseek-r1": Family(R1, **DEEPSEEK),
    "deepseek-r1-0528": Family(R1_0528, **DEEPSEEK),
    "qwen2.5-math": Family(CHATML.replace("DEFAULT", BOXED), **QWEN),
    "qwen2-math": Family(CHATML.replace("DEFAULT", "You are a helpful assistant."), **QWEN),
    "qwen3": Family(QWEN3, **QWEN, plain=(*THINK, "<tool_call>", "</tool_call>")),
    "llama-3": Family(LLAMA_3, special=LLAMA_TOKENS, ends=("<|end_of_text|>", "<|eot_id|>"), **LLAMA),
    "llama-3.1": Family(
        LLAMA_31, special=(*LLAMA_TOKENS, "<|eom_id|>"), ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"), **LLAMA
    ),
    "gemma-3": Family(GEMMA_3, **GEMMA),
    "gemma-2": Family(GEMMA_2, **GEMMA),
    "smollm2": Family(
        CHATML.replace("DEFAULT", SMOLLM), special=CHATML_TOKENS, bos="<|im_start|>", eos="<|im_end|>", ends=("<|im_end|>",)
    ),
}


def make_family(family: Family, folder: Path) -> Path:
    """Make a tokenizer of a family that is not among FAMILIES."""
    return _save(family, folder)


def make(family: str, folder: Path) -> Path:
    """Make a family's tokenizer in `folder`, with a generation_config.json, and return the folder."""
    return _save(FAMILIES[family], folder)


def _save(family: Family, folder: Path) -> Path:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=1, show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    inner.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.plain])
    if family.puts_bos and family.bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            pair=f"{family.bos} $A {family.bos} $B",
            special_tokens=[(family.bos, inner.token_to_id(family.bos))],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=family.bos, eos_token=family.eos, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = family.template or None
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    ends = [inner.token_to_id(token) for token in family.ends]
    settings = {"eos_token_id": ends if len(ends) > 1 else ends[0]}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


POLICY = "{{ 'Task: judge the last user message.\\n\\nUSER: ' + messages[-1].content | trim + '\\n\\nThe verdict:' }}"
GUARDS = {
    "qwen3guard": (
        "qwen3",
        "{{ '<|im_start|>user\\n' }}" + POLICY + "{{ '<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}",
    ),
    "llama-guard-3": (
        "llama-3",
        "{{ bos_token + '<|start_header_id|>user<|end_header_id|>\\n\\n' }}" + POLICY + "{{ '<|eot_id|>' }}" + LLAMA_PROMPT,
    ),
}
"""Guard models' templates: the policy stands in them, and Qwen3Guard's closes the chain of thought itself."""


def make_guard(form: str, folder: Path) -> Path:
    """Make the tokenizer of a guard model in `folder`."""
    family, template = GUARDS[form]
    make(family, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


TURN = "{{ '<|im_start|>user\\n' + messages[-1].content + '<|im_end|>\\n' }}"
BROKEN_TEMPLATES = {
    "syntax error": "{% for m in messages %}{{ m.content }}",
    "raises": "{{ raise_exception('only for tools') }}",
    "wrong type": TURN + "{{ messages[-1].content + 1 }}",
    "repeats": TURN + TURN,
    "leaves out": "<|im_start|>user\n",
    "by length": TURN + "{{ messages[-1].content | length }}",
    "by value": TURN + "{{ 'maths' if 'User' in messages[-1].content else 'other' }}",
}
BROKEN = (*BROKEN_TEMPLATES, "no template", "no tokenizer", "torn tokenizer", "torn generation config")


def make_broken(kind: str, folder: Path) -> Path:
    """Make a model's folder that cannot be used, in one of the ways of `BROKEN`."""
    make("smollm2", folder)
    template = folder / "chat_template.jinja"
    if kind in BROKEN_TEMPLATES:
        template.write_text(BROKEN_TEMPLATES[kind], encoding="utf-8")
    elif kind == "no template":
        template.unlink()
    elif kind == "no tokenizer":
        for file in list(folder.iterdir()):
            file.unlink()
        (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    else:
        torn = folder / ("tokenizer.json" if kind == "torn tokenizer" else "generation_config.json")
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    return folder


def make_without_eos(folder: Path) -> Path:
    """Make a tokenizer that names no eos token; generation_config.json does."""
    make("smollm2", folder)
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("eos_token")
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder

"""Chat templates: the pre-query prefix, prompts as token ids, and what ends a turn.

The pre-query prefix is derived from the model's own tokenizer: a user message whose content is a sentinel is rendered, and the
text before the sentinel is the prefix. Two different sentinels must give the same frame.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from magpie.common.console import MagpieError, printable
from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import require_model
from magpie.models.tokenizer import load_tokenizer, model_file
from magpie.text.reasoning import CLOSE, OPEN

SENTINELS = ("MAGPIESENTINELONE", "WHERETHEUSERSPEAKS")
DATE = "26 Jul 2024"
"""Llama 3.1 and later put today's date into the prompt; with the example date of their template runs are reproducible."""
THINK_TAGS = (OPEN, CLOSE)
MOST_CHARACTERS = 1_000_000
"""Characters that a template may add to the messages; real ones add some thousands at most."""
MOST_TOKENS = 1 << 31
OTHER_TOKENIZER = "Use an instruct model's tokenizer (--tokenizer)"


@dataclass(frozen=True)
class Frame:
    """The rendered text before and after the content of a user's turn."""

    pre_query: str
    after: str


class ChatTemplate:
    """A model's tokenizer and chat template.

    Args:
        preset: the model; a prefix in it that disagrees with the tokenizer is an error.
        tokenizer: a folder or hub id to load the tokenizer from, if not the model's own.
    """

    def __init__(self, preset: ModelPreset, tokenizer: str | None = None) -> None:
        self.source = tokenizer or preset.path
        if tokenizer is None:
            require_model(preset)
        self._tokenizer = load_tokenizer(self.source)
        self._eos = self._ends_of_sequence()  # refuses broken files before anything is written
        frame = self.frame()
        if preset.pre_query_template not in (None, frame.pre_query):
            raise MagpieError(
                f"pre_query_template of {preset.model} disagrees with the tokenizer at {self.source}: configured "
                f"{preset.pre_query_template!r}, derived {frame.pre_query!r}. Correct configs/models, or use the tokenizer "
                "that belongs to the model"
            )
        if preset.assistant_prefix is not None and not frame.after.endswith(preset.assistant_prefix):
            raise MagpieError(
                f"assistant_prefix of {preset.model} disagrees with the tokenizer at {self.source}: configured "
                f"{preset.assistant_prefix!r}, the template continues the user's turn with {frame.after!r}"
            )

    def frame(self, system: str | None = None) -> Frame:
        """Return the text that the template puts before and after a user's message.

        Raises:
            MagpieError: the template depends on the message, repeats it, or fails.
        """
        found = []
        for sentinel in SENTINELS:
            text = self._render([*_system(system), {"role": "user", "content": sentinel}])
            if text.count(sentinel) != 1:
                raise MagpieError(
                    f"the chat template of {self.source} shows the user's words {text.count(sentinel)} times. {OTHER_TOKENIZER}"
                )
            found.append(Frame(*text.split(sentinel)))
        if found[0] != found[1]:
            raise MagpieError(
                f"the chat template of {self.source} depends on the user's words; no prefix can be derived. {OTHER_TOKENIZER}"
            )
        return found[0]

    def _render(self, messages: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        wrong = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, SyntaxError, MemoryError)
        try:
            text = self._tokenizer.render(messages, add_generation_prompt=True, date_string=DATE)
            if len(text) > MOST_CHARACTERS + sum(len(message["content"]) for message in messages):
                raise ValueError(f"it writes {len(text):,} characters")
            return text
        except (TemplateError, *wrong) as error:
            steered = any(message["role"] == "system" for message in messages)
            reason = printable(" ".join(str(error)[:10_000].split()) or type(error).__name__, 300)
            remedy = "It may know no system prompt: try --control_tasks none" if steered else OTHER_TOKENIZER
            raise MagpieError(f"the chat template of {self.source} fails: {reason}. {remedy}") from error

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a templated text, without a second BOS."""
        return self._tokenizer.encode(text)

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids without the tokens that end a turn; all other special tokens are included."""
        return self._tokenizer.decode([i for i in ids if i not in self._stop_set])

    def prompt(self, user: str, system: str | None = None, *, thinking: bool = True) -> list[int]:
        """Return the token ids of a user's turn up to the assistant's; without `thinking` past an empty chain of thought."""
        text = self._render([*_system(system), {"role": "user", "content": user}])
        return self.encode(text if thinking else text + self._empty_thought)

    @cached_property
    def _empty_thought(self) -> str:
        """An empty chain of thought, as in Qwen3's own template."""
        if self.forced_think:
            return f"\n{CLOSE}\n\n"
        thinks = set(THINK_TAGS) <= set(self._tokenizer.added_tokens)
        return f"{OPEN}\n\n{CLOSE}\n\n" if thinks and CLOSE not in self.frame().after else ""

    def escape_special_tokens(self, text: str) -> str:
        """Return a text in which no added token is left whole: one inside a problem would end its turn."""
        for token in (*self.added_tokens, *THINK_TAGS):
            if len(token) > 2 and token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    @cached_property
    def forced_think(self) -> bool:
        """True if the template itself opens the chain of thought."""
        return self.frame().after.rstrip().endswith(THINK_TAGS[0])

    @cached_property
    def stop_token_ids(self) -> list[int]:
        """The ids of the tokens that end a generation: those that end a turn or open another one."""
        frame = self.frame()
        marks = {
            i
            for token, i in self._tokenizer.added_tokens.items()
            if token.strip() and token in frame.pre_query + frame.after and token not in THINK_TAGS
        }
        return sorted(marks | self._eos)

    def _ends_of_sequence(self) -> set[int]:
        own = self._tokenizer.eos_token_id
        return {*_generation_eos(self.source), *([] if own is None else [own])}

    @cached_property
    def _stop_set(self) -> frozenset[int]:
        return frozenset(self.stop_token_ids)

    @cached_property
    def stop_strings(self) -> list[str]:
        """The same tokens as texts, for servers without `stop_token_ids`; at most four, as OpenAI's API allows."""
        ids = sorted(self.stop_token_ids, key=lambda i: (i not in self._eos, i))
        return [self._tokenizer.token(i) for i in ids[:4]]

    @cached_property
    def added_tokens(self) -> list[str]:
        """The tokens added to the vocabulary, none of which belongs in a problem."""
        return [token for token in self._tokenizer.added_tokens if token.strip() and token not in THINK_TAGS]

    def ids_starting_with(self, openers: tuple[str, ...]) -> list[int]:
        """Return the ids of all tokens whose text, without leading white space, starts with one of the openers."""
        texts = self._tokenizer.decode_each(range(len(self._tokenizer)))
        return [i for i, text in enumerate(texts) if text.lstrip().startswith(openers)]


def _system(system: str | None) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system else []


def _generation_eos(source: str) -> list[int]:
    found = model_file(source, "generation_config.json")
    if found is None:
        return []
    try:
        eos = json.loads(found.read_text(encoding="utf-8")).get("eos_token_id")
        ends = [i for i in (eos if isinstance(eos, list) else [eos]) if i is not None]
        if not all(isinstance(i, int) and 0 <= i < MOST_TOKENS for i in ends):
            raise ValueError("eos_token_id is no token id")
    except (ValueError, AttributeError, RecursionError) as error:
        raise MagpieError(f"{found}: broken ({printable(str(error), 300)}). Get the model's files again") from error
    return ends

"""Chat templates: the pre-query prefix, prompts as token ids, and what ends a turn.

The pre-query prefix is derived from the model's own tokenizer: a user message whose content is a sentinel is rendered, and the
text before the sentinel is the prefix. Two different sentinels must give the same frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from magpie.common.console import MagpieError, printable
from magpie.config.model_presets import ModelPreset
from magpie.models.checkpoint import require_model
from magpie.models.reasoning_formats import detect_format, format_named
from magpie.models.tokenizer import TODAY, load_tokenizer, model_file
from magpie.text.reasoning import CLOSE, NONE, OPEN, ReasoningFormat

SENTINELS = ("MagpieSentinelOne", "WhereTheUserSpeaks")
ANSWER, NEXT = "MagpieAssistantAnswers", "MagpieAsksAgain"
"""An assistant's message, and the next one of the user."""
THINK_TAGS = (OPEN, CLOSE)
MOST_CHARACTERS = 1_000_000
"""Characters that a template may add to the messages; real ones add a few thousand at most."""
MOST_TOKENS = 1 << 31
OTHER_TOKENIZER = "Use an instruct model's tokenizer (--tokenizer)"
VARIABLE = "Give it what it asks for with --template_variables NAME=VALUE, or use another tokenizer (--tokenizer)"
UNKNOWN_TAG = re.compile(r"(?!</?think>)</?[a-z]{0,20}:?(?:think|thought|reason)[a-z]{0,10}>|◁/?think▷")
"""Names of chain-of-thought tags."""


@dataclass(frozen=True)
class Frame:
    """The rendered text before and after the content of a user's turn."""

    pre_query: str
    after: str


@dataclass(frozen=True)
class TurnEnds:
    """The tokens that end a generation, by id; and as texts, at most four, as OpenAI's API allows."""

    ids: list[int]
    texts: list[str]


class ChatTemplate:
    """A model's tokenizer and chat template.

    Args:
        preset: the model; a prefix in it that disagrees with the tokenizer is an error.
        tokenizer: a folder or hub id to load the tokenizer from, if not the model's own.
        variables: given to the template, over the preset's.

    Attributes:
        reasoning: how the model writes its chain of thought.
        thinks: whether there is a sign that it does.
    """

    def __init__(self, preset: ModelPreset, tokenizer: str | None = None, variables: Mapping[str, Any] | None = None) -> None:
        self.source = tokenizer or preset.path
        if tokenizer is None:
            require_model(preset)
        self._tokenizer = load_tokenizer(self.source, preset.chat_template)
        self._variables = {**preset.template_variables, **(variables or {})}
        self.reasoning, self.thinks = self._reasoning_of(preset)
        self._eos = self._ends_of_sequence()  # refuses broken files before anything is written
        frame = self.frame()
        if variables:  # the user's variables may change the prefixes
            return
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

    def _reasoning_of(self, preset: ModelPreset) -> tuple[ReasoningFormat, bool]:
        if preset.reasoning:
            form = format_named(preset.reasoning, preset.model)
            return form, form is not NONE
        return detect_format(self._tokenizer.chat_template or "", self._tokenizer.added_tokens)

    def frame(self, system: str | None = None, **variables: Any) -> Frame:
        """Return the text that the template puts before and after a user's message; `variables` go over the usual ones.

        Raises:
            MagpieError: the template depends on the message, repeats it, or fails.
        """
        found = []
        for sentinel in SENTINELS:
            text = self._render([*_system(system), _user(sentinel)], **variables)
            if text.count(sentinel) != 1:
                raise MagpieError(
                    f"the chat template of {self.source} shows the user's text {text.count(sentinel)} times. {OTHER_TOKENIZER}"
                )
            found.append(Frame(*text.split(sentinel)))
        if found[0] != found[1]:
            raise MagpieError(
                f"the chat template of {self.source} depends on the user's text; no prefix can be derived. {OTHER_TOKENIZER}"
            )
        return found[0]

    def _render(self, messages: list[dict[str, str]], **variables: Any) -> str:
        from jinja2 import TemplateError

        wrong = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, SyntaxError, MemoryError)
        try:
            given = {"date_string": f"{TODAY:%d %b %Y}", **self._variables, **variables}
            text = self._tokenizer.render(messages, add_generation_prompt=True, **given)
            if len(text) > MOST_CHARACTERS + sum(len(message["content"]) for message in messages):
                raise ValueError(f"it writes {len(text):,} characters")
            return text
        except (TemplateError, *wrong) as error:
            steered = any(message["role"] == "system" for message in messages)
            reason = printable(" ".join(str(error)[:10_000].split()) or type(error).__name__, 300)
            remedy = "It may not support a system prompt: try --control_tasks none" if steered else VARIABLE
            raise MagpieError(f"the chat template of {self.source} fails: {reason}. {remedy}") from error

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a templated text, without a second BOS."""
        return self._tokenizer.encode(text)

    def decode(self, ids: list[int], *, users_turn: bool = False) -> str:
        """Return the text of token ids without the tokens that end the turn; all other special tokens are included."""
        ends = self.user_ends if users_turn else self.ends
        return self._tokenizer.decode([i for i in ids if i not in set(ends.ids)])

    def prompt(self, user: str, system: str | None = None, *, thinking: bool = True) -> list[int]:
        """Return the token ids of a user's turn up to the assistant's; without `thinking`, past an empty chain of thought."""
        messages = [*_system(system), _user(user)]
        if thinking:
            return self.encode(self._render(messages))
        return self.encode(self._render(messages, **self._off) + self._rest_of_empty_thought)

    # --- thinking -------------------------------------------------------------------------------------------------

    @cached_property
    def _off(self) -> dict[str, Any]:
        """The variables that turn thinking off; none for a template that refuses them."""
        try:
            self.frame(**self.reasoning.turn_off)
        except MagpieError:
            return {}
        return self.reasoning.turn_off

    @cached_property
    def _rest_of_empty_thought(self) -> str:
        """The part of an empty chain of thought that the template omits with thinking turned off."""
        form, after = self.reasoning, self.frame(**self._off).after
        if not self.thinks or not form.empty or form.close in after:
            return ""
        begun = max(n for n in range(len(form.empty)) if after.endswith(form.empty[:n]))
        return form.empty[begun:]

    @cached_property
    def forced_think(self) -> bool:
        """True if the template itself opens the chain of thought."""
        opening, header = self.reasoning.open, self.reasoning.header.rstrip()
        return bool(opening) and self.frame().after.rstrip().endswith((opening, opening + header))

    @cached_property
    def unknown_tag(self) -> str:
        """A chain-of-thought tag in the template of a model that is not known to think; else an empty text."""
        found = None if self.thinks else UNKNOWN_TAG.search(self._tokenizer.chat_template or "")
        return found.group() if found else ""

    @cached_property
    def left_off(self) -> str:
        """The --template_variables that turn thinking on, if the template leaves it off; else an empty text."""
        default = self.frame()
        if not self._off or self.frame(**self._off) != default:
            return ""
        changes = (
            f"{name}={json.dumps(on)}" for name, on in self.reasoning.turn_on.items() if self.frame(**{name: on}) != default
        )
        return next(changes, "")

    def escape_special_tokens(self, text: str) -> str:
        """Return a text with every added token broken up: one inside a problem would end its turn."""
        for token in (*self.added_tokens, *THINK_TAGS, *self.reasoning.marks):
            if len(token) > 2 and token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    # --- what ends a turn -----------------------------------------------------------------------------------------

    @cached_property
    def ends(self) -> TurnEnds:
        """The ends of an assistant's turn: the end of the sequence, and the start of another speaker's turn.

        A token that the model writes inside one response (gpt-oss ends each of its messages like a turn) does not.
        """
        return self._ends_without(self.reasoning.marks)

    @cached_property
    def user_ends(self) -> TurnEnds:
        """The ends of a user's turn, which has no thinking."""
        return self._ends_without((self.reasoning.open, self.reasoning.close))

    def _ends_without(self, marks: tuple[str, ...]) -> TurnEnds:
        added = self._tokenizer.added_tokens
        turns = {added[token] for token in self._turn_tokens if not any(token in mark for mark in marks)}
        ids = sorted(turns | self._eos)
        first = sorted(ids, key=lambda i: (i not in self._eos, i))[:4]
        return TurnEnds(ids, [self._tokenizer.token(i) for i in first])

    @cached_property
    def _turn_tokens(self) -> set[str]:
        """The tokens between the last words of one speaker and the name of the next."""
        try:
            text = self._render([_user(SENTINELS[0]), {"role": "assistant", "content": ANSWER}, _user(NEXT)])
        except MagpieError:
            text = ""  # a template for one question and its answer
        behind_answer = text.rpartition(ANSWER)[2] if NEXT in text.rpartition(ANSWER)[2] else ""
        return {*self._leading_tokens(behind_answer), *self._leading_tokens(self.frame().after)}

    def _leading_tokens(self, text: str) -> list[str]:
        """Return the added tokens with which a text begins, white space aside."""
        found = []
        while token := max(
            (t for t in self._tokenizer.added_tokens if t.strip() and text.lstrip().startswith(t)), key=len, default=""
        ):
            found.append(token)
            text = text.lstrip().removeprefix(token)
        return found

    def _ends_of_sequence(self) -> set[int]:
        own = self._tokenizer.eos_token_id
        return {*_generation_eos(self.source), *([] if own is None else [own])}

    @cached_property
    def added_tokens(self) -> list[str]:
        """The tokens added to the vocabulary: none belongs in a problem."""
        return [
            token
            for token in self._tokenizer.added_tokens
            if token.strip() and token not in THINK_TAGS and token not in self.reasoning.marks
        ]

    def ids_starting_with(self, openers: tuple[str, ...]) -> list[int]:
        """Return the ids of all tokens whose text, without leading white space, starts with one of the openers."""
        texts = self._tokenizer.decode_each(range(len(self._tokenizer)))
        return [i for i, text in enumerate(texts) if text.lstrip().startswith(openers)]


def _system(system: str | None) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system else []


def _user(words: str) -> dict[str, str]:
    return {"role": "user", "content": words}


def _generation_eos(source: str) -> list[int]:
    found = model_file(source, "generation_config.json")
    if found is None:
        return []
    try:
        eos = json.loads(found.read_text(encoding="utf-8")).get("eos_token_id")
        ends = [i for i in (eos if isinstance(eos, list) else [eos]) if i is not None]
        if not all(isinstance(i, int) and 0 <= i < MOST_TOKENS for i in ends):
            raise ValueError("eos_token_id is not a token id")
    except (ValueError, AttributeError, RecursionError) as error:
        raise MagpieError(f"{found}: broken ({printable(str(error), 300)}). Download the model's files again") from error
    return ends

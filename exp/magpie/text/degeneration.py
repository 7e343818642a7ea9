"""Signs of a degenerate text: a loop, or a sample from a wrong prefix."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection

from magpie.text.language import looks_english
from magpie.text.reasoning import CLOSE, OPEN

LOOP_WINDOW, LOOP_LENGTH, LOOP_REPEATS = 4000, 200, 6
"""A loop: the text ends in at least 200 characters that repeat one unit at least 6 times; only the last 4,000 are examined."""
LOOP_SIGN = 30
"""The last 30 characters of a loop also occur one unit earlier; if they do not, there is no loop."""
LOOP_SHARE, LOOP_WORDS = 0.6, 3
"""Also a loop: one sentence of at least 3 words, repeated at least 6 times, makes up at least 60% of the examined text."""
RUNNING_TOKENS, RUNNING_REPEATS, RUNNING_SHARE = 300, 3, 0.9
"""A text still being written is a loop if its last 300 tokens are one unit at least 3 times, or 90% one sentence."""
LOOK_AGAIN = 50
"""Tokens after which it is examined again."""
_SENTENCE_END = re.compile(r"\s(?:(?<=[.!?]\s)\s*|(?<=\n)\n*)")
"""Blanks after a full stop, or ends of lines. It begins with a character class, which Python finds faster."""
_COUNTER = re.compile(r"[-*#>\s]{0,8}(?:\(?\d{1,4}[.)]\s*)?")
LEAKED_TOKEN = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>]{1,60}｜>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?s>|<begin_of_|<eot_id>|"
    r"^(?:user|assistant|system)\s*\n",
    re.MULTILINE,
)

TEMPLATE_TOKEN = re.compile(
    r"<\|[a-z_]{2,60}\|?>|<[a-z_]{2,60}\|>|<｜[^｜<>]{1,60}｜>|</?(?:start|end)_of_turn>|\[/?(?:INST|SYSTEM_PROMPT)\]|</s>|"
    r"</?seed:[a-z_]{2,40}>|\[gMASK\]<sop>",
    re.IGNORECASE,
)
"""A chat-template token in a response: stricter than for a sample (`<|x|>` is also an expectation value)."""
OTHER_THOUGHT_MARKS = ("[THINK]", "[/THINK]", "[BEGIN FINAL RESPONSE]")
"""Thought markers other than `<think>` that do not look like tokens."""
_NAME = r"(?:thinking|thoughts?|reasoning|scratchpad|[a-z]{1,20}:think)>"
OTHER_OPEN, OTHER_CLOSE = re.compile(f"<{_NAME}|◁think▷", re.IGNORECASE), re.compile(f"</{_NAME}|◁/think▷", re.IGNORECASE)
"""Tags of a thought that no format of configs/reasoning.yaml has."""
STRIPPED_CHANNELS = re.compile(r"analysis\S.{0,100000}assistantfinal", re.DOTALL)
"""gpt-oss' channels, if the server left out the special tokens."""


def ends_in_loop(text: str, *, cut: bool = False) -> bool:
    """Return whether a text ends in one repeated unit, or is mostly one sentence, numbered or not.

    In a text that was `cut`, numbers in the unit may change.
    """
    tail = text[-LOOP_WINDOW:]
    return _periodic(tail) or _says_one_sentence(tail) or (cut and _periodic(re.sub(r"\d+", "0", tail)))


class LoopWatch:
    """Detects whether a text, while being written piece by piece, has become an endless loop."""

    def __init__(self) -> None:
        self._tail, self._tokens, self._characters, self._seen = "", 0, 0, 0
        self._marks = deque([(0, 0)])  # tokens and characters before each of the last pieces

    def loops(self, piece: str, tokens: int) -> bool:
        """Add a piece with its number of tokens; return whether the text is a loop now."""
        self._tail = (self._tail + piece)[-LOOP_WINDOW:]
        self._tokens += tokens
        self._characters += len(piece)
        self._marks.append((self._tokens, self._characters))
        while self._tokens - self._marks[1][0] >= RUNNING_TOKENS:
            self._marks.popleft()
        before, characters = self._marks[0]
        if self._tokens - self._seen < LOOK_AGAIN or self._tokens - before < RUNNING_TOKENS:
            return False
        self._seen = self._tokens
        return _repeats(self._tail, min(self._characters - characters, len(self._tail)))


def _repeats(text: str, least: int) -> bool:
    """Return whether the last `least` characters, or more if the unit is long, are one repeated unit."""
    sign, at = text[-LOOP_SIGN:], len(text) - LOOP_SIGN
    while (at := text.rfind(sign, 0, at + LOOP_SIGN - 1)) >= 0:
        period = len(text) - LOOP_SIGN - at
        length = max(least, RUNNING_REPEATS * period)
        if length <= len(text) and text[-length:-period] == text[-length + period :]:
            return True
    return _says_one_sentence(text[-least:], RUNNING_SHARE)


def _says_one_sentence(text: str, share: float = LOOP_SHARE) -> bool:
    sentences = [sentence[counter.end() :] for sentence in _SENTENCE_END.split(text) if (counter := _COUNTER.match(sentence))]
    said = Counter(sentence for sentence in sentences if len(sentence.split()) >= LOOP_WORDS)
    return any(
        times >= LOOP_REPEATS and times * len(sentence) >= share * sum(map(len, sentences))
        for sentence, times in said.most_common(1)
    )


def _periodic(text: str) -> bool:
    """Return whether an end of the text has at least `LOOP_LENGTH` characters and a period that fits `LOOP_REPEATS` times.

    The prefix function (Knuth, Morris, Pratt) of the reversed text gives the least period of every one of its ends.
    """
    if text[-LOOP_SIGN:] not in text[:-1]:
        return False
    backwards = text[::-1]
    border = [0] * len(backwards)
    for i in range(1, len(backwards)):
        k = border[i - 1]
        while k and backwards[i] != backwards[k]:
            k = border[k - 1]
        border[i] = k + (backwards[i] == backwards[k])
        length = i + 1
        if length >= LOOP_LENGTH and (length - border[i]) * LOOP_REPEATS <= length:
            return True
    return False


def response_defect(reasoning: str | None, solution: str, added_tokens: Collection[str], marks: Collection[str]) -> str:
    """Return a leftover of a chat template or a chain of thought in a response, or an empty text.

    Args:
        reasoning: the chain of thought that was split off.
        solution: the rest.
        added_tokens: tokens of the model that belong in neither.
        marks: markers around a chain of thought in any format.
    """
    marks = [mark for mark in marks if mark]
    others = OTHER_OPEN.match(solution.lstrip()) or OTHER_CLOSE.search(solution)
    if others or any(mark in solution for mark in marks) or STRIPPED_CHANNELS.match(solution):
        return "thought in the solution"
    if any(mark in (reasoning or "") for mark in marks):
        return "second thought"
    for text in (reasoning or "", solution):
        if TEMPLATE_TOKEN.search(text) or any(
            token in text for token in added_tokens if len(token) > 3 and not token.isalnum()
        ):
            return "template tokens"
    return ""


def training_defect(text: str) -> str:
    """Return why an assistant's message is not fit to train on, or an empty text.

    Args:
        text: the chain of thought in its tags, if there is one, and the solution.
    """
    if TEMPLATE_TOKEN.search(text) or any(mark in text for mark in OTHER_THOUGHT_MARKS) or STRIPPED_CHANNELS.match(text):
        return "template_tokens"
    opened, closed = text.count(OPEN), text.count(CLOSE)
    if opened != closed or len(OTHER_CLOSE.findall(text)) > len(OTHER_OPEN.findall(text)):
        return "unclosed_thought"
    return "second_thought" if opened > 1 else ""


def sample_defect(text: str, finish_reason: str, added_tokens: Collection[str]) -> str:
    """Return why a sample is junk, as from a wrong prefix, or an empty text."""
    if not text.strip():
        return "empty"
    if LEAKED_TOKEN.search(text) or any(token in text for token in added_tokens if len(token) > 3):
        return "template tokens"
    if ends_in_loop(text, cut=finish_reason == "length"):
        return "repeats itself"
    if finish_reason == "length":
        return "never ends"
    if not looks_english(text):
        return "not English"
    return ""

"""From texts to an embedding model's input: each text is tokenised once, and only one too long for the model twice.

sentence-transformers tokenises the texts of every batch; to know where a long text must be cut, its tokens are needed before
that. Here the ids of the first tokenisation are the model's input. Whether that gives what the library would give is asked of
each model once, on texts that differ in length, blanks and capitals; where it does not, the library prepares the batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MOST_SEGMENTS = 16
"""Segments of a text that are embedded; the text after them (beyond about 11,000 characters) is ignored."""
AT_ONCE = 64
"""Texts tokenised at once: the tokens of hostile ones take gigabytes."""
PROBES = ["  Find all $x$ with $x^2 - 5x + 6 = 0$ (É, ∫). ", "A\n", "WHAT is 2 + 2?"]


@dataclass(frozen=True)
class Segment:
    """A part of a text that fits the model."""

    index: int
    """The index of its text."""
    text: str
    tokens: int
    ids: np.ndarray | None = None
    """Its token ids with the special ones; None: the library creates them."""


class Segmenter:
    """Cuts texts into segments that fit a sentence-transformers model, and prepares the model's input."""

    def __init__(self, model: Any) -> None:
        self._model, self._tokenizer = model, model.tokenizer
        self._prompt = (model.prompts or {}).get(model.default_prompt_name or "")
        self._cuts = bool(getattr(self._tokenizer, "is_fast", False) and model.max_seq_length)
        # a text that it cannot cut keeps its length, and the model truncates it
        self._most = model.max_seq_length - self._tokenizer.num_special_tokens_to_add() if self._cuts else 0

    def segments(self, texts: Sequence[str]) -> list[Segment]:
        """Return the segments of texts, in order."""
        # the tokenizer fails on half of a surrogate pair, which JSON allows
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        if not self._cuts:
            return [Segment(index, text, max(1, len(text) // 3)) for index, text in enumerate(clean)]
        starts = range(0, len(clean), AT_ONCE)
        return [segment for start in starts for segment in self._cut(start, clean[start : start + AT_ONCE])]

    def _cut(self, first: int, texts: list[str]) -> Iterator[Segment]:
        parts: list[tuple[int, str, int]] = []
        # no text has more than one token per byte, and a few characters per token are usual
        beginnings = [text[: MOST_SEGMENTS * self._most * 8] for text in texts]
        for index, (text, found) in enumerate(zip(texts, self._encode(beginnings), strict=True), first):
            offsets = [] if len(found) <= self._model.max_seq_length else self._own_offsets(found)
            if len(offsets) <= self._most:
                yield self._segment(index, text, len(found) - sum(found.special_tokens_mask), found)
            for start in range(0, len(offsets) if len(offsets) > self._most else 0, self._most):
                held = offsets[start : start + self._most]
                parts.append((index, text[held[0][0] : held[-1][1]], len(held)))
        again = self._encode([text for _, text, _ in parts], truncated=True)
        for (index, text, tokens), found in zip(parts, again, strict=True):
            yield self._segment(index, text, tokens, found)

    def _segment(self, index: int, text: str, tokens: int, found: Any) -> Segment:
        import numpy as np

        return Segment(index, text, max(1, tokens), np.array(found.ids) if self._ids_are_input else None)

    def _own_offsets(self, found: Any) -> list[tuple[int, int]]:
        """Return the offsets of the text's own tokens."""
        own = [where for where, special in zip(found.offsets, found.special_tokens_mask, strict=True) if not special]
        return own[: MOST_SEGMENTS * self._most]

    def _encode(self, texts: list[str], *, truncated: bool = False) -> list[Any]:
        backend = self._tokenizer.backend_tokenizer
        backend.no_padding()
        if truncated:  # a word cut in two may have a token more when it is read again
            backend.enable_truncation(self._model.max_seq_length)
        else:
            backend.no_truncation()
        found: list[Any] = backend.encode_batch(texts)
        return found

    # --- the model's input ---------------------------------------------------------------------------------------

    def prepared(self, batch: list[Segment]) -> dict[str, Any] | None:
        """Return the library's input for a batch, to be prepared before threads start; None: `padded` makes it from the ids."""
        if batch[0].ids is not None:
            return None
        found: dict[str, Any] = self._model.preprocess([segment.text for segment in batch], prompt=self._prompt)
        return found

    def padded(self, batch: list[Segment]) -> dict[str, Any]:
        """Return the model's input for a batch, from its ids."""
        return self._pad([segment.ids for segment in batch if segment.ids is not None])

    def _pad(self, rows: list[np.ndarray]) -> dict[str, Any]:
        import numpy as np
        import torch

        width = max(map(len, rows))
        ids = np.full((len(rows), width), self._tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            place = slice(0, len(row)) if self._tokenizer.padding_side == "right" else slice(width - len(row), width)
            ids[number, place], mask[number, place] = row, 1
        made: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "modality": "text",
        }
        if "token_type_ids" in self._tokenizer.model_input_names:
            made["token_type_ids"] = torch.zeros_like(made["input_ids"])
        return made

    @cached_property
    def _ids_are_input(self) -> bool:
        """Whether the ids of the first tokenisation, padded here, equal the library's input."""
        import numpy as np
        import torch

        if self._prompt or self._tokenizer.pad_token_id is None:
            return False
        theirs = self._model.preprocess(PROBES, prompt=self._prompt)
        ours = self._pad([np.array(found.ids) for found in self._encode(PROBES)])
        if set(theirs) != set(ours):
            return False
        return all(
            torch.equal(value, ours[name]) if isinstance(value, torch.Tensor) else value == ours[name]
            for name, value in theirs.items()
        )

"""The chain of thought in a generated text."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def split_reasoning(text: str, *, forced_think: bool = False) -> tuple[str | None, str | None]:
    """Split a model's text into its chain of thought and its solution, whichever of the two tags is missing.

    Args:
        text: what the model wrote.
        forced_think: whether the template had opened the chain of thought already.

    Returns:
        (reasoning, solution). No chain of thought: (None, text). One that never ended: (reasoning, None).
    """
    before, closed, after = text.partition(CLOSE)
    opened = before.lstrip().startswith(OPEN)
    reasoning = before.lstrip().removeprefix(OPEN).strip()
    if closed:
        return reasoning or None, after.strip()
    if opened or forced_think:
        return reasoning, None
    return None, text.strip()


def machine_readable(text: str) -> str:
    """Return the machine-readable part of a model's text: without its chain of thought and the fences of a code block."""
    solution = split_reasoning(text)[1] or ""
    return solution.removeprefix("```json").removeprefix("```").removesuffix("```").strip()

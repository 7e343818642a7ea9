"""Tokens of a plain text: words, numbers and symbols, with fractions, braces and brackets in a canonical form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from magpie.similarity.letters import VARIABLE
from magpie.similarity.lexicon import lexicon
from magpie.similarity.number_words import replace_number_words

MAX_DEPTH = 50
"""Brackets nested deeper than this are left unchanged."""
_TOKEN = re.compile(
    rf"[{VARIABLE}]|\d+(?:\.\d+)?|(?<![\w.])\.\d+|\\frac|\\binom|\\choose|[^\W\d_{VARIABLE}]+(?:'(?:s|t|re|ve|ll|d|m)\b)?|"
    r"<=>|=>|->|<=|>=|!=|\+-|\.\.\.|(?<=[\w)}])!(?!=)|[-+/=<>^_|()\[\]{}',;:]|[.?](?=\s|$)"
)
_STOPS = frozenset([",", ";", ":", ".", "?"])
_BINDING = frozenset(["/", "^", "!", "'"])
_RELATIONS = frozenset(["=", "<", ">", "<=", ">=", "!=", "in", "->", "=>", "<=>"])
_ADDITIVE = frozenset(["+", "-", "+-", ","]) | _RELATIONS


def tokenize(plain: str) -> list[str]:
    """Return the tokens of a plain text, with fractions and brackets in a canonical form."""
    tokens = replace_number_words(_resolve_braces(_TOKEN.findall(plain)), lexicon().config.numbers)
    return _without_redundant_brackets(_without_marks(_normalize_numbers(tokens)))


@dataclass
class _Frame:
    """An open bracket: its tokens so far, the bracket, its role, and the roles of arguments that commands still expect."""

    items: list[str]
    bracket: str
    role: str
    waiting: list[str] = field(default_factory=list)


_ARGUMENTS = {"\\frac": ["den", "num"], "\\binom": ["lower", "upper"]}
"""The roles of a command's arguments, the next one last."""


def _resolve_braces(tokens: list[str]) -> list[str]:
    """Return the tokens without braces: `\\frac{a}{b}` as `a / b`, round brackets where they matter."""
    frames = [_Frame([], "", "")]
    for token in tokens:
        top = frames[-1]
        if token in _ARGUMENTS:
            top.waiting += _ARGUMENTS[token]
        elif token == "{":
            if len(frames) < MAX_DEPTH:
                frames.append(_Frame([], "{", top.waiting.pop() if top.waiting else _role(top.items)))
        elif token == "}":
            if top.bracket == "{":
                _close(frames[-2].items, frames.pop())
        elif top.waiting:
            _add_bare_argument(top, token)
        else:
            top.items.append(token)
    while len(frames) > 1:
        frame = frames.pop()
        frames[-1].items += frame.items
    return frames[0].items


def _add_bare_argument(frame: _Frame, token: str) -> None:
    """Add an argument without braces; each digit of `\\frac12` is one."""
    tokens = list(token) if token.isdigit() else [token]
    while tokens and frame.waiting:
        _close(frame.items, _Frame([tokens.pop(0)], "{", frame.waiting.pop()))
    if tokens:
        frame.items.append("".join(tokens))


def _role(items: list[str]) -> str:
    if items and items[-1] in ("^", "_"):
        return "power"
    return "function" if items and items[-1] in lexicon().functions else ""


def _close(items: list[str], frame: _Frame) -> None:
    """Append a closed group to the enclosing items, in round brackets where the meaning needs them."""
    inside, role = frame.items, frame.role
    if "\\choose" in inside:
        inside = ["binom", *(token for token in inside if token != "\\choose")]
    signed = len(inside) == 2 and inside[0] in ("+", "-")
    primes = bool(inside) and all(token == "'" for token in inside)
    if primes and items and items[-1] == "^":
        items.pop()
    bracketed = len(inside) > 1 and not primes
    if role in ("num", "function", "upper", "lower"):
        bracketed = bracketed and not signed and _is_additive(inside)
    elif role == "power":
        bracketed = bracketed and not signed
    elif role != "den":
        bracketed = False
    if role == "upper":
        items.append("binom")
    items += ["/"] if role == "den" else []
    items += ["(", *inside, ")"] if bracketed else inside


def _normalize_numbers(tokens: list[str]) -> list[str]:
    """Return the tokens with `1 / 2` as one number, decimals as fractions, and `2 1/2` as 5/2."""
    found: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token[0] == "." and token[1:].isdigit():
            token = "0" + token
        if (
            token.isdigit()
            and tokens[at + 1 : at + 2] == ["/"]
            and at + 2 < len(tokens)
            and tokens[at + 2].isdigit()
            and not (found and found[-1] in ("^", "/"))
        ):
            token, at = f"{token}/{tokens[at + 2]}", at + 2
        elif "." in token and token[0].isdigit() and len(token) <= 30:
            token = str(Fraction(token))
        elif token.isdigit():
            token = token.lstrip("0") or "0"
        if found and _is_mixed_number(found, token):
            found[-1] = str(int(found[-1]) + Fraction(token))
        else:
            found.append(token)
        at += 1
    return found


def _is_mixed_number(found: list[str], token: str) -> bool:
    if "/" not in token or not token[0].isdigit() or not found[-1].isdigit() or len(found[-1]) + len(token) > 30:
        return False
    above, below = map(int, token.split("/"))
    return 0 < above < below and not (len(found) > 1 and found[-2] in ("^", "/"))


def _without_marks(tokens: list[str]) -> list[str]:
    """Return the tokens with every punctuation mark as `,`, and without marks that say nothing in prose."""
    found: list[str] = []
    for at, token in enumerate(tokens):
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        if token in _STOPS:
            found.append(",")
        elif not (token == "_" or (token == "!" and found and _is_word(found[-1])) or (token in "/^" and _is_word(following))):
            found.append(token)
    return found


def _is_word(token: str) -> bool:
    """Return True for a word of prose: `5!` and `1/x` are formulas, `wow!` and `miles/hour` are not."""
    return len(token) > 1 and token.islower() and token.isalpha() and token not in lexicon().names


def _without_redundant_brackets(tokens: list[str]) -> list[str]:
    """Return the tokens without redundant round brackets: around one token, or around a product."""
    frames = [_Frame([], "", "")]
    for at, token in enumerate(tokens):
        if token == "(" and len(frames) < MAX_DEPTH:
            frames.append(_Frame([], "(", _role(frames[-1].items)))
        elif token == ")" and len(frames) > 1:
            frame = frames.pop()
            before, after = frames[-1].items[-1:], tokens[at + 1 : at + 2]
            bound = any(token in _BINDING for token in before) or (bool(after) and after[0] in _BINDING - {"/"})
            bare = len(frame.items) <= 1 or _is_redundant(frame, bound=bound)
            frames[-1].items += frame.items if bare else ["(", *frame.items, ")"]
        else:
            frames[-1].items.append(token)
    while len(frames) > 1:
        frame = frames.pop()
        frames[-1].items += ["(", *frame.items]
    return frames[0].items


def _is_redundant(frame: _Frame, *, bound: bool) -> bool:
    """Return True if brackets can be dropped: around a sign in a power, or a product that no neighbouring operator binds."""
    if frame.role == "power":
        return len(frame.items) == 2 and frame.items[0] in ("+", "-")
    return not bound and not _is_additive(frame.items)


def _is_additive(items: list[str]) -> bool:
    """Return True if an operator that binds less than a product is outside brackets."""
    depth = 0
    for token in items:
        depth += (token == "(") - (token == ")")
        if token in _ADDITIVE and not depth:
            return True
    return False

"""The pieces of a plain text: words, numbers and symbols, with fractions, braces and brackets brought to one writing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from magpie.similarity.lexicon import tables
from magpie.similarity.number_words import counted

DEPTH = 50
"""Brackets deeper than this are not taken apart."""
_PIECE = re.compile(
    r"\d+(?:\.\d+)?|(?<![\w.])\.\d+|\\frac|\\binom|\\choose|[^\W\d_]+(?:'(?:s|t|re|ve|ll|d|m)\b)?|"
    r"<=>|=>|->|<=|>=|!=|\+-|\.\.\.|(?<=[\w)}])!(?!=)|[-+/=<>^_|()\[\]{}',;:]|[.?](?=\s|$)"
)
_STOPS = frozenset([",", ";", ":", ".", "?"])
_BINDING = frozenset(["/", "^", "!", "'"])
_RELATIONS = frozenset(["=", "<", ">", "<=", ">=", "!=", "in", "->", "=>", "<=>"])
_ADDITIVE = frozenset(["+", "-", "+-", ","]) | _RELATIONS


def pieces_of(plain: str) -> list[str]:
    """Return the tokens, with fractions and brackets in one writing."""
    return _without_lone_brackets(_joined(_fractions(counted(_grouped(_PIECE.findall(plain)), tables().config.numbers))))


@dataclass
class _Frame:
    """An open bracket: what stands in it so far, which one it is, its role, and the arguments that commands in it wait for."""

    items: list[str]
    bracket: str
    role: str
    waiting: list[str] = field(default_factory=list)


_ARGUMENTS = {"\\frac": ["den", "num"], "\\binom": ["lower", "upper"]}
"""The roles of the arguments, the next one last."""


def _grouped(tokens: list[str]) -> list[str]:
    """Return the tokens with `\\frac{a}{b}` as `a / b` and braces gone, round brackets in their place where they matter."""
    frames = [_Frame([], "", "")]
    for piece in tokens:
        top = frames[-1]
        if piece in _ARGUMENTS:
            top.waiting += _ARGUMENTS[piece]
        elif piece == "{":
            if len(frames) < DEPTH:
                frames.append(_Frame([], "{", top.waiting.pop() if top.waiting else _role(top.items)))
        elif piece == "}":
            if top.bracket == "{":
                _close(frames[-2].items, frames.pop())
        elif top.waiting:
            _bare_argument(top, piece)
        else:
            top.items.append(piece)
    while len(frames) > 1:
        frame = frames.pop()
        frames[-1].items += frame.items
    return frames[0].items


def _bare_argument(frame: _Frame, piece: str) -> None:
    """Take an argument without braces: of `\\frac12` each digit is one."""
    pieces = list(piece) if piece.isdigit() else [piece]
    while pieces and frame.waiting:
        _close(frame.items, _Frame([pieces.pop(0)], "{", frame.waiting.pop()))
    if pieces:
        frame.items.append("".join(pieces))


def _role(items: list[str]) -> str:
    if items and items[-1] in ("^", "_"):
        return "power"
    return "function" if items and items[-1] in tables().functions else ""


def _close(items: list[str], frame: _Frame) -> None:
    """Append a closed group to what stands around it, in round brackets where leaving them out would change its meaning."""
    inside, role = frame.items, frame.role
    if "\\choose" in inside:
        inside = ["binom", *(piece for piece in inside if piece != "\\choose")]
    signed = len(inside) == 2 and inside[0] in ("+", "-")
    primes = bool(inside) and all(piece == "'" for piece in inside)
    if primes and items and items[-1] == "^":
        items.pop()
    bracketed = len(inside) > 1 and not primes
    if role in ("num", "function", "upper", "lower"):
        bracketed = bracketed and not signed and any(piece in _ADDITIVE for piece in inside)
    elif role == "power":
        bracketed = bracketed and not signed
    elif role != "den":
        bracketed = False
    if role == "upper":
        items.append("binom")
    items += ["/"] if role == "den" else []
    items += ["(", *inside, ")"] if bracketed else inside


def _fractions(tokens: list[str]) -> list[str]:
    """Return the tokens with `1 / 2` as one number, decimals as fractions, and `2 1/2` as 5/2."""
    found: list[str] = []
    at = 0
    while at < len(tokens):
        piece = tokens[at]
        if piece[0] == "." and piece[1:].isdigit():
            piece = "0" + piece
        if (
            piece.isdigit()
            and tokens[at + 1 : at + 2] == ["/"]
            and at + 2 < len(tokens)
            and tokens[at + 2].isdigit()
            and not (found and found[-1] in ("^", "/"))
        ):
            piece, at = f"{piece}/{tokens[at + 2]}", at + 2
        elif "." in piece and piece[0].isdigit() and len(piece) <= 30:
            piece = str(Fraction(piece))
        elif piece.isdigit():
            piece = piece.lstrip("0") or "0"
        if found and _is_mixed(found, piece):
            found[-1] = str(int(found[-1]) + Fraction(piece))
        else:
            found.append(piece)
        at += 1
    return found


def _is_mixed(found: list[str], piece: str) -> bool:
    if "/" not in piece or not piece[0].isdigit() or not found[-1].isdigit() or len(found[-1]) + len(piece) > 30:
        return False
    above, below = map(int, piece.split("/"))
    return 0 < above < below and not (len(found) > 1 and found[-2] in ("^", "/"))


def _joined(pieces: list[str]) -> list[str]:
    """Return the pieces with letters that stand side by side as one (`A B C` is `ABC`); `,` stands for every stop."""
    found: list[str] = []
    letters = False
    for at, piece in enumerate(pieces):
        letter = len(piece) == 1 and piece.isalpha()
        following = pieces[at + 1] if at + 1 < len(pieces) else ""
        if letter and letters:
            found[-1] += piece.upper()
        elif piece in _STOPS:
            found.append(",")
        elif not (piece == "_" or (piece == "!" and found and _is_word(found[-1])) or (piece in "/^" and _is_word(following))):
            found.append(piece.upper() if letter else piece)
        letters = letter
    return found


def _is_word(piece: str) -> bool:
    """Whether a piece is a word and no name in a formula: `5!` and `1/x` are formulas, `wow!` and `miles/hour` are not."""
    return len(piece) > 1 and piece.islower() and piece.isalpha() and piece not in tables().names


def _without_lone_brackets(pieces: list[str]) -> list[str]:
    """Return the pieces without round brackets that change nothing: around one piece, or around a product."""
    frames = [_Frame([], "", "")]
    for at, piece in enumerate(pieces):
        if piece == "(" and len(frames) < DEPTH:
            frames.append(_Frame([], "(", _role(frames[-1].items)))
        elif piece == ")" and len(frames) > 1:
            frame = frames.pop()
            before, after = frames[-1].items[-1:], pieces[at + 1 : at + 2]
            bound = any(piece in _BINDING for piece in before) or (bool(after) and after[0] in _BINDING - {"/"})
            bare = len(frame.items) <= 1 or _is_bare(frame, bound=bound)
            frames[-1].items += frame.items if bare else ["(", *frame.items, ")"]
        else:
            frames[-1].items.append(piece)
    while len(frames) > 1:
        frame = frames.pop()
        frames[-1].items += ["(", *frame.items]
    return frames[0].items


def _is_bare(frame: _Frame, *, bound: bool) -> bool:
    """Whether brackets can be left out: around a sign in a power, or a product that nothing beside it takes as a whole."""
    if frame.role == "power":
        return len(frame.items) == 2 and frame.items[0] in ("+", "-")
    return not bound and not any(piece in _ADDITIVE for piece in frame.items)

"""Numbers in words: "twenty-one", "2.5 million", "two thirds", "twice", "first". The words are in `configs/likeness.yaml`."""

from __future__ import annotations

from fractions import Fraction

from magpie.similarity.config import NumberWords

LONGEST = 12
"""Words of one number at most: "one hundred twenty-three million four hundred fifty-six thousand" has 9."""


def counted(pieces: list[str], words: NumberWords) -> list[str]:
    """Return the words of a text with numbers as digits; `~2` stands for a number that a rewording may bring or lose."""
    found: list[str] = []
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        length = _length(pieces, at, words)
        if length:
            value = _value(pieces[at : at + length], words)
            found.append("~1" if pieces[at : at + length] == ["one"] else str(value))
            at += length
            continue
        at += 1
        if piece in words.multiples:
            found += [str(words.multiples[piece]), "times"]
        elif piece in words.fractions or piece in words.ordinals:
            _append_part(found, piece, words)
        else:
            found.append(piece)
    return found


def _append_part(found: list[str], piece: str, words: NumberWords) -> None:
    """Append "thirds", "half" or "third": with the number before it a fraction, else a number that may be lost."""
    before = found[-1].lstrip("~") if found else ""
    parts = words.fractions.get(piece)
    if parts and before.isdigit():
        found[-1] = f"{before}/{parts}"
    elif parts:
        found.append(f"1/{parts}" if piece in ("half", "quarter") else f"~1/{parts}")
    elif found and found[-1] == "~1" and piece not in words.never_parts:
        found[-1] = f"1/{words.ordinals[piece]}"
    else:
        found.append(f"~{words.ordinals[piece]}")


def _length(pieces: list[str], at: int, words: NumberWords) -> int:
    """Return how many words the number takes that begins here; 0: none does."""
    before, end = "", at
    while end < min(len(pieces), at + LONGEST):
        kind = _kind(pieces[end], words)
        following = _kind(pieces[end + 1], words) if end + 1 < len(pieces) else ""
        fits = {
            "unit": before in ("", "ten", "scale"),
            "teen": before in ("", "scale"),
            "ten": before in ("", "scale"),
            "scale": True,
            "digits": not before and following == "scale",
            "and": before == "scale" and following in ("unit", "teen", "ten"),
        }
        if not fits.get(kind, False):
            break
        before, end = ("scale" if kind == "and" else kind), end + 1
    return end - at


def _kind(piece: str, words: NumberWords) -> str:
    if piece in words.units:
        return "unit" if 0 < words.units[piece] < 10 else "teen"
    if piece in words.tens:
        return "ten"
    if piece in words.scales:
        return "scale"
    if piece == "and":
        return "and"
    return "digits" if piece[:1].isdigit() and "/" not in piece and len(piece) <= 30 else ""


def _value(pieces: list[str], words: NumberWords) -> Fraction:
    """Return the value of a number in words."""
    total, current = Fraction(0), Fraction(0)
    for piece in pieces:
        scale = words.scales.get(piece)
        if scale and scale < 1000:
            current = (current or Fraction(1)) * scale
        elif scale:
            total, current = total + (current or Fraction(1)) * scale, Fraction(0)
        elif piece != "and":
            current += words.units.get(piece) or words.tens.get(piece) or (Fraction(piece) if piece[0].isdigit() else 0)
    return total + current


def may_be_lost(number: str) -> bool:
    """Whether a rewording can bring or lose a number that is written so: small ones ("second", "both"), and "a third"."""
    return len(number) == 1 or number in ("10", "100") or number.startswith("1/")

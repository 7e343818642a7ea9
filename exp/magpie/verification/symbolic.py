r"""Answers as mathematics: read by Math-Verify's parser, compared exactly and at points, then by Math-Verify.

Runs only in worker processes (pool.py): nothing here limits its own time. Math-Verify's own comparison of numbers is not
used: it compares absolutely, so that 1/2004! and 1/2006! are equal to it. None: not understood.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import permutations
from typing import Any

import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify import verify
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from magpie.verification.config import load_spellings
from magpie.verification.normalize import FEWEST_DIGITS, has_end, rewritten, separated

PRECISION, AGREE = 120, 100
COARSE_PRECISION, COARSE_AGREE = 20, 12
"""Decimal digits of computed numbers, and in which they must agree; coarse ones if a value takes quadrature."""
INTEGER_SYMBOLS = frozenset("nmkjNMKpq")
REALS = ("0.731 1.213 2.377 0.519 1.871 3.141", "2.618 0.577 1.414 4.669 1.202 0.915", "-1.37 2.19 -0.83 1.71 -2.39 0.67")
INTEGERS = ("5 7 11 4 9 6", "8 3 12 10 13 15", "6 9 4 17 8 5")
"""Values of symbols at three points."""
TIDY = NormalizationConfig(True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False)
UNREADABLE = re.compile(r"\\text|dots|(?<![_^\d])\d+\s+\d|\d\s*:\s*\d|\\(?:overline|bar)\s?\{[^{}]*[a-z]|\^\s?\{?(?:T|\\top)\b")


@lru_cache(maxsize=4096)
def read(text: str) -> Any:
    """Return an answer as a SymPy object, `i` the imaginary unit, or None if Math-Verify's parser cannot read it as a whole."""
    text = rewritten(text.strip(" .,"), load_spellings().parser)
    if UNREADABLE.search(text) or {*re.findall(r"\\([a-zA-Z]+)", text)} - load_spellings().commands:
        return None
    config = ConversionConfig(lowercase_symbols=False)
    try:
        tidy = normalize_latex(text, TIDY)
        found = latex2sympy(tidy, is_real=True, convert_degrees=False, normalization_config=None, conversion_config=config)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (a parser may raise anything on a model's text)
        return None
    if not isinstance(found, sympy.Expr):
        return None if isinstance(found, sympy.Basic) and found.has(sympy.nan, sympy.zoo) else found
    found = found.replace(sympy.UnevaluatedExpr, lambda inner: inner)
    return (
        None if found.has(sympy.nan, sympy.zoo) else found.xreplace({s: sympy.I for s in found.free_symbols if s.name == "i"})
    )


def same(one: str, other: str) -> bool | None:
    """Return whether two answers are the same mathematics; None if either cannot be read or the comparison is undecided."""
    a, b = read(one), read(other)
    return None if a is None or b is None else _same(a, b)


def every(verdicts: Any) -> bool | None:
    """Return whether all are true: False if one is false, else None if one is unknown."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _same(a: Any, b: Any) -> bool | None:
    if a == b:
        return True
    a, b = (x.doit().as_explicit() if isinstance(x, sympy.MatrixExpr) else x for x in (a, b))
    if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
        return a.shape == b.shape and every(_same(x, y) for x, y in zip(a.flat(), b.flat(), strict=True))
    for kind, compare in ((sympy.Expr, _same_expressions), (sympy.Eq, _same_equations)):
        if isinstance(a, kind) and isinstance(b, kind):
            return compare(a, b)
    if any(isinstance(x, (sympy.Symbol, type(sympy.I))) for x in (a, b)) and any(
        isinstance(x, sympy.MatrixBase) for x in (a, b)
    ):
        return None  # I: the identity?
    kinds = (sympy.Expr, sympy.MatrixBase, sympy.Set, sympy.Eq)
    return False if any(isinstance(a, kind) != isinstance(b, kind) for kind in kinds) else _math_verify(a, b)


def _math_verify(a: Any, b: Any) -> bool | None:
    pairs = ((a, b), (b, a))
    return any(verify([x], [y], allow_set_relation_comp=True, timeout_seconds=None) for x, y in pairs) or None


def _same_equations(a: Any, b: Any) -> bool | None:
    """Return whether one equation is a multiple of the other; other polynomials are different."""
    if not all(isinstance(side, sympy.Expr) for side in (*a.args, *b.args)):
        return _same(a.rhs, b.rhs) if a.lhs == b.lhs else None
    one, other = (sympy.nsimplify(x.lhs - x.rhs, rational=True) for x in (a, b))
    if not one.free_symbols or not other.free_symbols:
        return None
    ratio = sympy.cancel(sympy.together(one) / sympy.together(other))
    if ratio.is_number or _same_values(one, other) or _same_values(one, -other):
        return ratio.is_zero is not True
    return False if one.is_polynomial() and other.is_polynomial() else None


def _same_expressions(a: Any, b: Any) -> bool | None:
    if not a.free_symbols | b.free_symbols:
        return None if a.has(AppliedUndef) or b.has(AppliedUndef) else _same_numbers(a, b)
    verdict = _same_values(_exact(a), _exact(b))
    if verdict is None:
        return _math_verify(a, b)
    return None if not verdict and renamed(a, b) else verdict


def renamed(a: Any, b: Any) -> bool:
    """Return whether two expressions are equal once the letters that they do not share are identified."""
    mine, theirs = (sorted(x.free_symbols - y.free_symbols, key=str) for x, y in ((a, b), (b, a)))
    if len(mine) != len(theirs) or not 0 < len(mine) <= 3:
        return False
    return any(_same_values(a.xreplace(dict(zip(mine, order, strict=True))), b) for order in permutations(theirs))


FAMILY = re.compile(r"[CcKABD](?:_\{?\d\}?)?|[nkmjl]")
FAMILY_LETTER, COMMAND = re.compile(r"[CcKABDnkmjl]"), re.compile(r"\\(?!ell)[a-zA-Z]+")


def same_up_to_names(one: str, other: str) -> bool | None:
    """Return True where two families are equal, the constants and indices (C, A, n, k) of one for the other's; else False."""
    if re.fullmatch(r"[A-Z]{2,}", one) or not all(FAMILY_LETTER.search(COMMAND.sub("", text)) for text in (one, other)):
        return False  # without one in both there is nothing to rename, and parsing is expensive
    a, b = read(one), read(other)
    apart = a.free_symbols ^ b.free_symbols if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr) else ()
    return bool(apart) and all(FAMILY.fullmatch(s.name) for s in apart) and renamed(a, b)


def _exact(x: Any) -> Any:
    return x.replace(lambda e: e.is_Float, lambda e: sympy.Rational(str(e))) if x.has(sympy.Float) else x


def _same_values(a: Any, b: Any) -> bool | None:
    """Return whether two expressions agree at several points; None if fewer than two points give values."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    valued = 0
    for point in zip(REALS, INTEGERS, strict=True):
        values = {s: sympy.Rational(point[str(s) in INTEGER_SYMBOLS].split()[i % 6]) for i, s in enumerate(symbols)}
        x, y = (_value(expression, values) for expression in (a, b))
        if x is not None and y is not None and not _close(x, y, 1e-20):
            return False
        valued += x is not None and y is not None
    return True if valued >= 2 else None


def _value(expression: Any, values: dict[Any, Any], digits: int = 2 * COARSE_PRECISION) -> Any:
    """Return an expression's value at a point, or None if it has none there."""
    try:
        value = sympy.N(expression.subs(values).doit(), digits)
    except (ValueError, TypeError, NotImplementedError, AttributeError, ArithmeticError):
        return None
    return value if all(part.is_Float or part.is_Rational for part in value.as_real_imag()) else None


def _close(x: Any, y: Any, tolerance: Any) -> bool:
    size = max(abs(x), abs(y))
    return bool(size == 0 or abs(x - y) <= tolerance * size)


def _same_numbers(a: Any, b: Any) -> bool | None:
    """Return whether two expressions without symbols are the same number; None if a value cannot be computed."""
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    if a.is_infinite or b.is_infinite:
        return False
    x, y = (_value(number, {}, 15) for number in (a, b))
    if x is not None and y is not None and not _close(x, y, 1e-4):
        return False  # exact integers of any size are not written out to compare them
    coarse = any(x.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit) for x in (a, b))
    digits, agree = (COARSE_PRECISION, COARSE_AGREE) if coarse else (PRECISION, AGREE)
    x, y = (_value(_exact(number), {}, digits) for number in (a, b))
    if x is None or y is None:
        return None
    steps = [_last_place(number) for number in (a, b)]
    if None not in steps or steps == [None, None] or all(v.is_Rational and has_end(int(v.q)) for v in map(_exact, (a, b))):
        return _close(x, y, sympy.Float(10, digits) ** -agree)
    return bool(abs(x - y) <= next(step for step in steps if step is not None))


def _last_place(x: Any) -> Any:
    """Return a unit in the last place of a decimal that is long enough to approximate another number, else None."""
    floats = [str(found) for found in x.atoms(sympy.Float)]
    digits = len(floats[0].replace(".", "").strip("0-")) if len(floats) == 1 else 0
    return abs(sympy.N(x, 30)) * sympy.Float(10, 30) ** (1 - digits) if digits >= FEWEST_DIGITS else None


BUILDER = re.compile(r"\\\{\s?([a-z])(?:\s?\\in\s?(?:\\mathbb\{R\}|R))?\s?(?:\\mid|\\vert|\\colon|[|:])\s?(.+?)\\\}", re.DOTALL)
IS_SET = re.compile(
    r"[<>]|\\(?:le|ge|ne|cup|in|infty|setminus|mid)(?![a-zA-Z])|mathbb\{R\}|^[(\[][^()\[\]]*,[^()\[\]]*\]$|^\[[^()\[\]]*,.*\)$"
)
"""Marks of a set of real numbers: "(1, 2)" alone may be a point."""


@lru_cache(maxsize=1024)
def real_set(text: str) -> tuple[Any, str] | None:
    r"""Return a set of real numbers, and its symbol: intervals, inequalities, `\{x \mid …\}`, `\ne`, `\setminus`."""
    builder = BUILDER.fullmatch(text)
    found = read(re.sub(r"^\s?(?=<|>|\\le|\\ge)", "x", separated(builder[2].strip() if builder else text)))
    found = found.rhs if isinstance(found, sympy.Eq) else found
    if isinstance(found, sympy.Set) and not found.has(Relational):
        return found.doit(), ""
    parts = [found] if isinstance(found, Boolean) else getattr(found, "args", ())
    if len(parts) > 1 and found.has(sympy.Ne):
        return None
    try:
        found = sympy.Or(*parts).replace(AppliedUndef, lambda *_: sympy.Symbol("f", real=True))
        (symbol,) = found.free_symbols
        return found.as_set(), str(symbol)
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        return None

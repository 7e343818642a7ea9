r"""Answers as mathematics: read by Math-Verify's parser, compared by exact and numeric checks, then by Math-Verify.

Runs in worker processes alone (pool.py): nothing here limits its own time. Math-Verify's own comparison of numbers is
not used: it compares absolutely, so that 1/2004! and 1/2006! are equal to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

PRECISION, AGREE = 120, 100
COARSE_PRECISION, COARSE_AGREE = 20, 12
"""Decimal digits that numbers are computed to, and in which they must agree; the coarse ones where a value takes quadrature."""
FEWEST_DIGITS = 6
"""Significant digits from which on a decimal may stand for a number that it rounds or cuts off."""
INTEGER_SYMBOLS = frozenset("nmkijNMKpq")
REAL_POINTS = (
    (0.731, 1.213, 2.377, 0.519, 1.871, 3.141),
    (2.618, 0.577, 1.414, 4.669, 1.202, 0.915),
    (-1.37, 2.19, -0.83, 1.71, -2.39, 0.67),
)
INTEGER_POINTS = ((5, 7, 11, 4, 9, 6), (8, 3, 12, 10, 13, 15), (6, 9, 4, 17, 8, 5))
RELATION = re.compile(r"=|<|>|\\(?:le|ge|ne|in|equiv|mid|sim|approx|cong|parallel|perp|subset|notin)(?![a-zA-Z])")


@lru_cache(maxsize=2048)
def read(text: str) -> Any:
    """Return an answer as a SymPy object, or None if Math-Verify's parser cannot read it as a whole."""
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.math_normalization import normalize_latex
    from math_verify.grader import should_treat_as_complex
    from math_verify.parser import LatexExtractionConfig

    text = re.sub(r"\\text\{\s*[.,]?\s*\}", " ", text)
    if "\\text" in text or "\\ldots" in text or "\\dots" in text or "\\cdots" in text or re.search(r"\d\s*:\s*\d", text):
        return None
    tidy = normalize_latex(text, LatexExtractionConfig().normalization_config)
    if not tidy:
        return None
    try:
        found = latex2sympy(tidy, is_real=not should_treat_as_complex(tidy), convert_degrees=False, normalization_config=None)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (whatever a parser makes of a model's text)
        return None
    return None if _meaningless(found) else found


def _meaningless(found: Any) -> bool:
    import sympy

    return found is None or (isinstance(found, sympy.Basic) and found.has(sympy.nan, sympy.zoo))


def same(one: str, other: str) -> bool | None:
    """Whether two answers are the same mathematics, tried in both directions; None if either cannot be read."""
    a, b = read(one), read(other)
    if a is None or b is None:
        return None
    return same_objects(a, b)


def same_objects(a: Any, b: Any) -> bool:
    """Whether two SymPy objects are equal."""
    import sympy

    if a == b:
        return True
    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        return _same_expressions(a, b)
    if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
        return a.shape == b.shape and all(same_objects(x, y) for x, y in zip(a.flat(), b.flat(), strict=True))
    if isinstance(a, sympy.Eq) and isinstance(b, sympy.Eq):
        return _same_equations(a, b)
    return _math_verify(a, b)


def _math_verify(a: Any, b: Any) -> bool:
    from math_verify import verify

    return any(verify([x], [y], allow_set_relation_comp=True, timeout_seconds=None) for x, y in ((a, b), (b, a)))


def _same_equations(a: Any, b: Any) -> bool:
    """Whether one equation is a multiple of the other."""
    import sympy

    if any(isinstance(side, (sympy.Set, sympy.Tuple, sympy.MatrixBase)) for side in (*a.args, *b.args)):
        return a.lhs == b.lhs and same_objects(a.rhs, b.rhs)
    one, other = a.lhs - a.rhs, b.lhs - b.rhs
    if one.free_symbols != other.free_symbols or not one.free_symbols:
        return False
    ratio = sympy.cancel(one / other)
    return bool(ratio.is_number and ratio.is_zero is False) or bool(
        _same_expressions(one, other) or _same_expressions(one, -other)
    )


def _same_expressions(a: Any, b: Any) -> bool:

    a, b = _plain(a), _plain(b)
    if a.is_Rational and b.is_Rational and not (a.is_Float or b.is_Float):
        return bool(a == b)
    if _same_names(a, b):
        return True
    if not a.free_symbols and not b.free_symbols:
        verdict = same_numbers(a, b)
        return _math_verify(a, b) if verdict is None else verdict
    verdict = _same_at_points(a, b)
    return _math_verify(a, b) if verdict is None else verdict


def _same_names(a: Any, b: Any) -> bool:
    """Whether one is a name and the other the product of its letters, as a parser may read it."""
    import sympy

    def letters(x: Any) -> str:
        names = [str(f) for f in (x.args if x.is_Mul else (x,))]
        return "".join(sorted("".join(names).lower())) if all(len(n) >= 1 and n.isalpha() for n in names) else ""

    return (isinstance(a, sympy.Symbol) or isinstance(b, sympy.Symbol)) and letters(a) == letters(b) != ""


def _plain(x: Any) -> Any:
    """Return an expression without the marks that keep a percentage unevaluated."""
    import sympy

    return x.replace(sympy.UnevaluatedExpr, lambda inner: inner) if x.has(sympy.UnevaluatedExpr) else x


def same_numbers(a: Any, b: Any) -> bool | None:
    """Whether two expressions without symbols are the same number; None if a value cannot be had."""
    import sympy

    if _clearly_apart(a, b):
        return False
    a, b = a.doit(), b.doit()
    floats = a.has(sympy.Float) or b.has(sympy.Float)
    if a.is_Rational and b.is_Rational and not floats:
        return bool(a == b)
    coarse = any(x.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit) for x in (a, b))
    digits, agree = (COARSE_PRECISION, COARSE_AGREE) if coarse else (PRECISION, AGREE)
    x, y = sympy.N(a, digits), sympy.N(b, digits)
    if x.has(sympy.oo, -sympy.oo) or y.has(sympy.oo, -sympy.oo):
        return bool(x == y)
    if x.has(sympy.nan, sympy.zoo) or y.has(sympy.nan, sympy.zoo) or not (_is_complex_number(x) and _is_complex_number(y)):
        return None
    return _close(x, y, 10.0**-FEWEST_DIGITS if floats else sympy.Float(10, digits) ** -agree)


def _clearly_apart(a: Any, b: Any) -> bool:
    """Whether a coarse look at two numbers is enough; exact integers of any size are never written out for it."""
    import sympy

    try:
        x, y = sympy.N(a, 15), sympy.N(b, 15)
        return bool(_is_complex_number(x) and _is_complex_number(y) and not _close(x, y, 1e-5))
    except (ValueError, TypeError, ArithmeticError, AttributeError, NotImplementedError):
        return False


def _is_complex_number(x: Any) -> bool:
    return all(part.is_Float or part.is_Rational for part in x.as_real_imag())


def _close(x: Any, y: Any, tolerance: Any) -> bool:
    size = max(abs(x), abs(y))
    return bool(size == 0 or abs(x - y) <= tolerance * size)


def _same_at_points(a: Any, b: Any) -> bool | None:
    """Whether two expressions agree at several points; None where fewer than two points give values."""
    import sympy

    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    tolerance, valued = (1e-6 if a.has(sympy.Float) or b.has(sympy.Float) else 1e-20), 0
    for reals, integers in zip(REAL_POINTS, INTEGER_POINTS, strict=True):
        values = {
            symbol: sympy.Integer(integers[i % 6]) if str(symbol) in INTEGER_SYMBOLS else sympy.Rational(str(reals[i % 6]))
            for i, symbol in enumerate(symbols)
        }
        x, y = (_value(expression, values) for expression in (a, b))
        if x is None or y is None:
            continue
        if not _close(x, y, tolerance):
            return False
        valued += 1
    return True if valued >= 2 else None


def _value(expression: Any, values: dict[Any, Any]) -> Any:
    """Return an expression's value at a point, or None if it has none there."""
    import sympy

    try:
        value = sympy.N(expression.subs(values).doit(), COARSE_PRECISION * 2)
    except (ValueError, TypeError, ZeroDivisionError, NotImplementedError, AttributeError, ArithmeticError):
        return None
    return value if not value.has(sympy.nan, sympy.zoo, sympy.oo) and _is_complex_number(value) else None

r"""Answers as mathematics: read by Math-Verify's parser, compared exactly and at points, then by Math-Verify.

Runs in worker processes alone (pool.py): nothing here limits its own time. Math-Verify's own comparison of numbers is not
used: it compares absolutely, so that 1/2004! and 1/2006! are equal to it. None is said of what was not understood.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from magpie.verification.config import load_spellings
from magpie.verification.normalize import separated

PRECISION, AGREE = 120, 100
COARSE_PRECISION, COARSE_AGREE = 20, 12
"""Decimal digits that numbers are computed to, and in which they must agree; the coarse ones where a value takes quadrature."""
FEWEST_DIGITS = 6
"""Significant digits from which on a decimal may stand for a number that is none."""
INTEGER_SYMBOLS = frozenset("nmkjNMKpq")
REAL_POINTS = (
    (0.731, 1.213, 2.377, 0.519, 1.871, 3.141),
    (2.618, 0.577, 1.414, 4.669, 1.202, 0.915),
    (-1.37, 2.19, -0.83, 1.71, -2.39, 0.67),
)
INTEGER_POINTS = ((5, 7, 11, 4, 9, 6), (8, 3, 12, 10, 13, 15), (6, 9, 4, 17, 8, 5))


@lru_cache(maxsize=4096)
def read(text: str) -> Any:
    """Return an answer as a SymPy object, or None if Math-Verify's parser cannot read it as a whole."""
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex

    text = re.sub(r"(?<=_)\{?\\text\{(\w{1,12})\}\}?", r"{\1}", text.strip(" .,"))
    text = re.sub(r"\\cis\s?(\([^()]{1,40}\)|[\w.\\{} ]{1,40}$)", r"e^{i\1}", text)
    if (
        "\\text" in text
        or "dots" in text
        or re.search(r"(?<![_^\d])\d+\s+\d", text)
        or re.search(r"\d\s*:\s*\d|\^\s?\{?(?:T|\\top)\b", text)
        or set(re.findall(r"\\([a-zA-Z]+)", text)) - load_spellings().commands
    ):
        return None
    text = re.sub(
        r"(\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\}|(?<![a-zA-Z])[a-z]|\([^()]{1,40}\))\s?\\degrees", r"(\\frac{\1\\pi}{180})", text
    )
    text = re.sub(
        r"(?<!\d)\.(?=\d)",
        "0.",
        re.sub(r"((?<![\^_\w.])\d[\d.]*|\))\s?\(", r"\1\\cdot (", re.sub(r"\)\s?(?=\d)", r")\\cdot ", text)),
    )
    tidy = normalize_latex(
        text, NormalizationConfig(True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False)
    )
    if not tidy:
        return None
    config = ConversionConfig(lowercase_symbols=False)
    try:
        found = latex2sympy(tidy, is_real=True, convert_degrees=False, normalization_config=None, conversion_config=config)
        return _meant(found)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (whatever a parser makes of a model's text)
        return None


def _meant(found: Any) -> Any:
    """Return what was read with `i` as the imaginary unit and without marks; None if it is undefined."""
    import sympy

    if found is None or (isinstance(found, sympy.Basic) and found.has(sympy.nan, sympy.zoo)):
        return None
    if isinstance(found, sympy.Expr):
        if found.has(sympy.UnevaluatedExpr):
            found = found.replace(sympy.UnevaluatedExpr, lambda inner: inner)
        found = found.xreplace({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"})
    return found


def components(text: str, size: int) -> str:
    r"""Return `3\hat{i} - \hat{j}` as the tuple of so many components; an empty text for anything else."""
    import sympy

    found = read(text) if "\\hat" in text else None
    units = [sympy.Symbol(f"hat{{{letter}}}", real=True) for letter in "ijk"[:size]]
    if not isinstance(found, sympy.Expr) or any(str(s).startswith("hat") and s not in units for s in found.free_symbols):
        return ""
    parts = [sympy.expand(found).coeff(unit) for unit in units]
    return (
        f"({', '.join(sympy.latex(part) for part in parts)})"
        if sympy.expand(found - sum(map(sympy.Mul, parts, units))) == 0
        else ""
    )


def same(one: str, other: str) -> bool | None:
    """Whether two answers are the same mathematics; None if either cannot be read or the comparison says nothing."""
    a, b = read(one), read(other)
    return None if a is None or b is None else same_objects(a, b)


def same_objects(a: Any, b: Any) -> bool | None:
    """Whether two SymPy objects are equal."""
    import sympy

    if a == b:
        return True
    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        return _same_expressions(a, b)
    a, b = (x.doit().as_explicit() if isinstance(x, sympy.MatrixExpr) else x for x in (a, b))
    if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
        return a.shape == b.shape and every(same_objects(x, y) for x, y in zip(a.flat(), b.flat(), strict=True))
    if isinstance(a, sympy.Eq) and isinstance(b, sympy.Eq):
        return _same_equations(a, b)
    kinds = [sympy.Expr, sympy.MatrixBase, sympy.Set, sympy.Eq]
    if [isinstance(a, kind) for kind in kinds] != [isinstance(b, kind) for kind in kinds]:
        return False
    strict = (sympy.StrictLessThan, sympy.StrictGreaterThan)
    chains = [[x for x in getattr(chain, "args", ()) if isinstance(x, strict)] for chain in (a, b)]
    if {(x.lts, x.gts) for x in chains[0]} & {(x.gts, x.lts) for x in chains[1]}:
        return False  # a < b < c and b < a < c
    return True if _math_verify(a, b) else None


def every(verdicts: Any) -> bool | None:
    """Return whether all are true: False if one is false, else None if one is not known."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _math_verify(a: Any, b: Any) -> bool:
    from math_verify import verify

    return any(verify([x], [y], allow_set_relation_comp=True, timeout_seconds=None) for x, y in ((a, b), (b, a)))


def _same_equations(a: Any, b: Any) -> bool | None:
    """Whether one equation is a multiple of the other; polynomials that are not are different."""
    import sympy

    if any(isinstance(side, (sympy.Set, sympy.Tuple, sympy.MatrixBase)) for side in (*a.args, *b.args)):
        return same_objects(a.rhs, b.rhs) if a.lhs == b.lhs else None
    one, other = (sympy.nsimplify(x.lhs - x.rhs, rational=True) for x in (a, b))
    if not one.free_symbols or not other.free_symbols:
        return None
    ratio = sympy.cancel(sympy.together(one) / sympy.together(other))
    if ratio.is_number:
        return ratio.is_zero is False
    if _same_at_points(one, other) or _same_at_points(one, -other):
        return True
    return False if one.is_polynomial() and other.is_polynomial() else None


def _same_expressions(a: Any, b: Any) -> bool | None:
    import sympy
    from sympy.core.function import AppliedUndef

    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    if not a.free_symbols and not b.free_symbols:
        return None if a.has(AppliedUndef) or b.has(AppliedUndef) else same_numbers(a, b)
    exact = [x.replace(lambda e: e.is_Float, lambda e: sympy.Rational(str(e))) if x.has(sympy.Float) else x for x in (a, b)]
    verdict = _same_at_points(*exact)
    if verdict is None:
        return True if _math_verify(a, b) else None
    if verdict is False and _differ_by_names(*exact):
        return None
    return verdict


def _differ_by_names(a: Any, b: Any) -> bool:
    """Whether two expressions are equal once the letters that they do not share are taken for each other."""
    from itertools import permutations

    mine, theirs = (sorted(x.free_symbols - y.free_symbols, key=str) for x, y in ((a, b), (b, a)))
    if len(mine) != len(theirs) or not 0 < len(mine) <= 3:
        return False
    return any(_same_at_points(a.xreplace(dict(zip(mine, order, strict=True))), b) for order in permutations(theirs))


CONSTANT, INDEX = re.compile(r"[CcKABD](?:_\{?\d\}?)?"), frozenset("nkmjl")


def same_up_to_constants(one: str, other: str) -> bool | None:
    """Return True where two general solutions are equal with the constants of one for the other's (C, C_1, A, B), else None."""
    a, b = read(one), read(other)
    if not all(hasattr(x, "free_symbols") for x in (a, b)):
        return None
    mine, theirs = ({s for s in x.free_symbols if CONSTANT.fullmatch(s.name)} for x in (a, b))
    return _differ_by_names(a, b) or None if mine and theirs and not mine & theirs else None


def family(text: str) -> tuple[Any, Any, str] | None:
    """Return the step, the offset and the index of "5k + 2": one value for every integer."""
    import sympy

    found = read(text)
    indices = [s for s in found.free_symbols if s.name in INDEX] if isinstance(found, sympy.Expr) else []
    if len(indices) != 1 or found.free_symbols != set(indices) or found.diff(indices[0]).free_symbols:
        return None
    return found.diff(indices[0]), found.subs(indices[0], 0), indices[0].name


def same_family(one: tuple[Any, Any, str], other: tuple[Any, Any, str], *, shifted: bool) -> bool | None:
    """Whether two families have the same values; None where one is the other's, shifted, for some integers only."""
    import sympy

    if not any(sympy.simplify(one[0] - sign * other[0]) == 0 for sign in (1, -1)):
        return False
    shift = sympy.simplify((one[1] - other[1]) / one[0])
    if shift == 0 or (shifted and shift.is_integer):
        return one[0] == other[0] or shifted or None
    return None if shift.is_integer is not False and one[2] != other[2] else False


def same_numbers(a: Any, b: Any) -> bool | None:
    """Whether two expressions without symbols are the same number; None if a value cannot be had."""
    import sympy

    if _clearly_apart(a, b):
        return False
    a, b = a.doit(), b.doit()
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    coarse = any(x.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit) for x in (a, b))
    digits, agree = (COARSE_PRECISION, COARSE_AGREE) if coarse else (PRECISION, AGREE)
    rounded = [_rounded(x) for x in (a, b)]
    a, b = (x.replace(lambda e: e.is_Float, lambda e: sympy.Rational(str(e))) if x.has(sympy.Float) else x for x in (a, b))
    x, y = sympy.N(a, digits), sympy.N(b, digits)
    if x.has(sympy.oo, -sympy.oo) or y.has(sympy.oo, -sympy.oo):
        return bool(x == y)
    if x.has(sympy.nan, sympy.zoo) or y.has(sympy.nan, sympy.zoo) or not (_is_complex_number(x) and _is_complex_number(y)):
        return None
    exact = sympy.Float(10, digits) ** -agree
    step = next((r for r in rounded if r is not None), None)
    if step is None or None not in rounded or all(value.is_Rational and has_end(value.q) for value in (a, b)):
        return _close(x, y, exact)
    return bool(abs(x - y) <= step)


def has_end(denominator: int) -> bool:
    """Whether a fraction of this denominator is a decimal with an end."""
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _rounded(x: Any) -> Any:
    """Return a unit in the last place of a decimal that is long enough to stand for another number, else None."""
    import sympy

    floats = x.atoms(sympy.Float)
    if len(floats) != 1:
        return None
    shown = str(sympy.Rational(str(next(iter(floats)))).limit_denominator(10**15))
    digits = len(str(next(iter(floats))).replace(".", "").strip("0-"))
    return abs(sympy.N(x, 30)) * sympy.Float(10, 30) ** (1 - digits) if digits >= FEWEST_DIGITS and shown else None


def _clearly_apart(a: Any, b: Any) -> bool:
    """Whether a coarse look at two numbers is enough; exact integers of any size are never written out for it."""
    import sympy

    try:
        x, y = sympy.N(a, 15), sympy.N(b, 15)
        return bool(_is_complex_number(x) and _is_complex_number(y) and not _close(x, y, 1e-4))
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
    valued = 0
    for reals, integers in zip(REAL_POINTS, INTEGER_POINTS, strict=True):
        values = {
            symbol: sympy.Integer(integers[i % 6]) if str(symbol) in INTEGER_SYMBOLS else sympy.Rational(str(reals[i % 6]))
            for i, symbol in enumerate(symbols)
        }
        x, y = (_value(expression, values) for expression in (a, b))
        if x is None or y is None:
            continue
        if not _close(x, y, 1e-20):
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


BUILDER = re.compile(r"\\\{\s?([a-z])(?:\s?\\in\s?(?:\\mathbb\{R\}|R))?\s?(?:\\mid|\\vert|\\colon|[|:])\s?(.+?)\\\}", re.DOTALL)
IS_SET = re.compile(
    r"[<>]|\\(?:le|ge|ne|cup|in|infty|setminus|mid)(?![a-zA-Z])|mathbb\{R\}|^[(\[][^()\[\]]*,[^()\[\]]*\]$|^\[[^()\[\]]*,.*\)$"
)
"""What only a set of real numbers has: "(1, 2)" may be a point."""


@lru_cache(maxsize=1024)
def real_set(text: str) -> tuple[Any, str] | None:
    r"""Return a set of real numbers, and its symbol: intervals, inequalities, `\{x \mid …\}`, `\ne`, `\setminus`."""
    builder = BUILDER.fullmatch(text)
    text = separated(builder[2].strip() if builder else text)
    try:
        return _set_of(read(re.sub(r"^\s?(?=<|>|\\le|\\ge)", "x", text)))
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        return None


def _set_of(found: Any) -> tuple[Any, str] | None:
    import sympy

    if isinstance(found, sympy.Eq):
        return (found.rhs.doit(), str(found.lhs)) if isinstance(found.rhs, sympy.Set) else None
    together, args = type(found).__name__ == "And", getattr(found, "args", ())
    if together or (
        args and all(isinstance(part, sympy.core.relational.Relational) or type(part).__name__ == "And" for part in args)
    ):
        pairs = [_set_of(part) for part in args]
        if None in pairs or len({name for _, name in pairs}) != 1:  # type: ignore[misc]
            return None
        narrowing = [values for (values, _), part in zip(pairs, args, strict=True) if together or isinstance(part, sympy.Ne)]  # type: ignore[misc]
        others = [values for values, _ in pairs if values not in narrowing]  # type: ignore[misc]
        return sympy.Intersection(*narrowing, sympy.Union(*others) if others else sympy.S.Reals), pairs[0][1]  # type: ignore[index]
    if isinstance(found, sympy.core.relational.Relational):
        return _solved(found)
    return (found.doit(), "") if isinstance(found, sympy.Set) else None


def _solved(relation: Any) -> tuple[Any, str] | None:
    """Return the set and the symbol of `x > 2` and `2 < f(x)`, without solving anything, and of any other of one symbol."""
    import sympy
    from sympy.core.function import AppliedUndef

    if not isinstance(relation.lhs, (sympy.Symbol, AppliedUndef)) and isinstance(relation.rhs, (sympy.Symbol, AppliedUndef)):
        relation = relation.reversed
    name, end = relation.lhs, relation.rhs
    if not isinstance(name, (sympy.Symbol, AppliedUndef)) or end.has(name):
        symbols = relation.free_symbols
        return (relation.as_set(), str(next(iter(symbols)))) if len(symbols) == 1 and not relation.has(AppliedUndef) else None
    if isinstance(relation, sympy.Ne):
        return sympy.S.Reals - sympy.FiniteSet(end), str(name)
    strict = isinstance(relation, (sympy.StrictLessThan, sympy.StrictGreaterThan))
    low = isinstance(relation, (sympy.GreaterThan, sympy.StrictGreaterThan))
    return (sympy.Interval(end, sympy.oo, strict, True) if low else sympy.Interval(-sympy.oo, end, True, strict)), str(name)


def same_sets(a: Any, b: Any) -> bool | None:
    """Whether two sets of real numbers are the same, end by end where their ends are not plain numbers."""
    import sympy

    x, y = (list(s.args) if isinstance(s, sympy.Union) else [s] for s in (a, b))
    if a == b or len(x) != len(y) or not all(isinstance(s, (sympy.Interval, sympy.FiniteSet)) for s in (*x, *y)):
        return a == b or (None if a.free_symbols or b.free_symbols else False)
    return every(
        type(one) is type(two)
        and len(one.args) == len(two.args)
        and every(same_objects(p, q) if isinstance(p, sympy.Expr) else p == q for p, q in zip(one.args, two.args, strict=True))
        for one, two in zip(x, y, strict=True)
    )

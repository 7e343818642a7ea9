"""The one scanner of formulas."""

from __future__ import annotations

import pytest

from magpie.text.latex import MATH, find_formulas
from processor_time import check_takes


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        (r"a $x$, $$y$$, \(z\) and \[w\]", ["x", "y", "z", "w"]),
        (r"\begin{align*} a &= b \end{align*} and [asy]label(\"$A$\");[/asy]", [" a &= b ", r"label(\"$A$\");"]),
        (r"$$\text{if $x$ is even} \begin{cases}1\end{cases}$$", [r"\text{if $x$ is even} \begin{cases}1\end{cases}"]),
        (r"He has $5 and she has $10, \$3 more than $n$", ["n"]),
        ("It costs $20$ to $30$ dollars", ["20", "30"]),
        ("He paid $5 for a pen and $3 for a book.", []),
        (r"\\(x) is no formula, nor \$x\$", []),
        ("$a\n\nb$", []),
        (r"\(a \(b\)", ["b"]),
        (r"\begin{align} a \end{gather}", []),
        ("", []),
    ],
)
def test_what_is_a_formula_and_what_is_none(text: str, contents: list[str]) -> None:
    formulas = find_formulas(text)
    assert [each.content for each in formulas.found] == contents
    assert all(text[each.start : each.end].startswith(each.opener) for each in formulas.found)
    assert len(formulas.masked) == len(text) and formulas.any == bool(contents) == (MATH in formulas.masked)


def test_the_text_is_its_formulas_and_what_is_outside() -> None:
    text = r"Let $x$ be \[y\]. Find $$z.$$"
    formulas = find_formulas(text)
    first, *others = formulas.outside()
    assert first + "".join(text[f.start : f.end] + o for f, o in zip(formulas.found, others, strict=True)) == text
    assert formulas.masked == f"Let {MATH * 3} be {MATH * 5}. Find {MATH * 5}."


@pytest.mark.parametrize(
    ("text", "at"), [(r"so \[x", 3), ("pay $5", -1), (r"\(a \(b\)", 0), ("a $x$ b $y", 8), (r"\begin{align} a", 0)]
)
def test_where_a_formula_was_left_open(text: str, at: int) -> None:
    assert find_formulas(text).open_at == at


@pytest.mark.parametrize(
    "piece", ["$", "$$ ", r"\(", r"\[ \( ", r"\begin{a}", "$5 and ", r"\begin{a}$", "[asy]", "\\", r"$\text{", "$x\n\n"]
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    check_takes(60, lambda: find_formulas(text).masked)

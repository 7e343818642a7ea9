"""Verdicts on pairs of answers, kind by kind: equal in another notation, different though they look alike, not comparable."""

from __future__ import annotations

import pytest

from magpie.verification.equality import Verdict, compare

RIGHT: dict[str, list[tuple[str, str]]] = {
    "quantities with a name": [
        (r"\mathrm{Cov}(X,Y) = 3", "3"),
        (r"\mathbb{P}(X > 1) = \frac15", "0.2"),
        ("E[Y] = 2.5", r"\frac52"),
        ("[ABCD] = 20", "20"),
        (r"g^{-1}(x) = x+3", "x+3"),
        (r"\frac{dy}{dt} = 4t", "4t"),
        (r"\vec{u} = (1,-1)", r"\langle 1,-1\rangle"),
        (r"\lim_{n\to\infty} b_n = 5", "5"),
    ],
    "parts": [
        ("(a) 6 (b) 8", "6, 8"),
        (r"\text{(i) } x \text{ (ii) } y", "(x, y)"),
        ("a) 10, b) 11", "(a) 10; (b) 11"),
    ],
    "numbers in other notations": [
        ("3,75", r"\frac{15}{4}"),
        ("4 million", "4{,}000{,}000"),
        ("2.000.000", "2000000"),
        ("3e7", r"3\times10^7"),
        ("0.272727...", r"\frac{3}{11}"),
        (r"{7 \choose 3}", "35"),
        ("7C3", "35"),
        ("]2, 3]", "(2,3]"),
    ],
    "units of one letter, temperatures": [
        (r"9\ \mathrm{V}", "9 volts"),
        (r"3 \mathrm{cm^2}", r"3 \text{ cm}^2"),
        ("54 km/h", "15 m/s"),
        (r"40^\circ F", "40 degrees Fahrenheit"),
        ("15 USD", r"\$15"),
    ],
    "several choices": [("B, D", "BD"), (r"\text{B and D}", "B, D"), ("A and C", "(A), (C)")],
    "complex numbers": [
        (r"(1+i)^2", "2i"),
        (r"i^{2}", "-1"),
        (r"|3+4i|", "5"),
        (r"\frac{1}{i}", "-i"),
        (r"2e^{i\pi/3}", r"1+\sqrt{3}i"),
        (r"\frac{5}{2-i}", "2+i"),
        (r"3 \operatorname{cis} 90^\circ", "3i"),
        (r"\sqrt{-9}", "3i"),
    ],
    "plain text": [
        ("pi/2", r"\frac{\pi}{2}"),
        ("3*sqrt(2)/2", r"\frac{3\sqrt{2}}{2}"),
        ("x**2 - 4*x", "x^2-4x"),
        ("exp(3)", "e^3"),
        ("x >= 4", r"[4,\infty)"),
        ("(a+b)/(c+d)", r"\frac{a+b}{c+d}"),
        ("log(8)/log(2)", r"\frac{\ln 8}{\ln 2}"),
    ],
    "families": [
        (r"\frac{\pi}{6}+n\pi", r"\frac{\pi}{6}+k\pi"),
        ("2k+1", "2n+1"),
        ("5m - 2, m \\in \\mathbb{Z}", "5k-2"),
        (r"x^3 + C", r"x^3 + c"),
        (r"C_1 e^{2x} + C_2 e^{-x}", r"A e^{2x} + B e^{-x}"),
        (r"x = \frac{\pi}{3} + 2\pi k, k\in\mathbb{Z}", r"\frac{\pi}{3} + 2\pi n"),
    ],
    "sets of reals": [
        (r"|x-1|\le 3", "[-2,4]"),
        (r"[1,2]\cup[2,3]", "[1,3]"),
        (r"\mathbb{R}\setminus\{0\}", r"(-\infty,0)\cup(0,\infty)"),
        (r"\{x : x \ge 7\}", r"[7,\infty)"),
        (r"\{t \in \mathbb{R} \mid 0 < t \leq 1\}", "(0,1]"),
        (r"x < -3 \text{ or } x > 3", "|x|>3"),
        (r"4 > y \ge 0", "[0,4)"),
    ],
    "units": [
        (r"3 \text{ m}", r"300 \text{ cm}"),
        (r"2.5 \text{ hours}", r"150 \text{ min}"),
        (r"1 \text{ ft } 6 \text{ in}", r"18 \text{ inches}"),
        (r"72 \text{ km/h}", r"20 \text{ m/s}"),
        (r"50 \text{ cm}^2", "50"),
        (r"1 \text{ kg}", r"1000 \text{ grams}"),
        (r"60 \text{ miles per hour}", r"60 \text{ mph}"),
        (r"2 \text{ dozen}", "24"),
        (r"1.5 \text{ million}", "1500000"),
        ("£30", "30"),
        (r"12 \text{ square units}", r"12 \text{ units}^2"),
        (r"45^\circ", r"\frac{\pi}{4}"),
    ],
    "marks around the answer": [
        (r"\textcolor{red}{17}", "17"),
        (r"\boldsymbol{x+1}", "x+1"),
        (r"\text{Area: } 36\pi", r"36\pi"),
        (r"28 \text{ percent}", r"28\%"),
        (r"\underline{12}", "12"),
        (r"\$\,450", "450"),
        (r"6 \text{ (approximately)}", "6"),
        (r"\mathbf{\frac{3}{4}}", "0.75"),
    ],
    "values that must be computed": [
        (r"\sin 60^\circ", r"\frac{\sqrt3}{2}"),
        (r"\sum_{k=1}^{4} k^2", "30"),
        (r"\binom{6}{2}", "15"),
        (r"\prod_{j=1}^{4} j", "24"),
        (r"\log_3 81", "4"),
        (r"\begin{vmatrix}2&0\\0&3\end{vmatrix}", "6"),
    ],
    "order and names": [
        ("b=7, a=5", "a=5, b=7"),
        (r"(x,y)=(3,4)", "y=4, x=3"),
        (r"(y,x)=(4,3)", "x=3,y=4"),
        (r"x=1,y=2 \text{ or } x=3,y=4", "(3,4),(1,2)"),
        ("7=x", "x=7"),
        (r"\angle ABC = 35^\circ", r"35^\circ"),
        ("AB = 12", "12"),
        (r"f(t)=3t-1", "f(x)=3x-1"),
        (r"5 \text{ boys}, 6 \text{ girls}", r"6 \text{ girls}, 5 \text{ boys}"),
    ],
    "words and numbers": [
        (r"\text{thirty-two}", "32"),
        ("one hundred five", "105"),
        (r"3 \text{ to } 5", "3:5"),
        ("6:4", "3:2"),
        ("7:45 am", r"7{:}45 \text{ AM}"),
        ("undefined", r"\text{does not exist}"),
        (r"1011_{\text{two}}", "1011_2"),
        (r"\text{the function is increasing}", r"\text{increasing}"),
    ],
}
"""Certainly equal."""

DIFFERENT: dict[str, list[tuple[str, str]]] = {
    "parts, commas, temperatures": [
        ("(a) 6 (b) 8", "(a) 8 (b) 6"),
        ("2,75", "2.57"),
        ("2,75", "275"),
        (r"20^\circ C", r"20^\circ F"),
        ("AC", "A, B"),
        ("ABD", "ABC"),
        (r"x^{-1} = 2", "2"),
        ("f(3)=2", "f(2)=3"),
    ],
    "names": [(r"\text{Olga}", r"\text{Pedro}"), ("Rome", "Lisbon")],
    "names swapped": [
        ("m=2, n=5", "m=5, n=2"),
        ("(p,q)=(2,7)", "(q,p)=(2,7)"),
        (r"P(X)=\frac14, P(Y)=\frac34", r"P(X)=\frac34, P(Y)=\frac14"),
        ("x=3", "z=3"),
        ("f(0)=4", "f(4)=0"),
        ("g'(x)=6x", "g(x)=6x"),
        (r"x=1,y=4 \text{ or } x=2,y=3", r"x=1,y=3 \text{ or } x=2,y=4"),
    ],
    "an equation and a part of it": [
        ("x^2+y^2=16", "16"),
        ("x^2=9", "x=9"),
        ("2a+b=7", "7"),
        ("pq=15", "15"),
        ("(x-2)^2+(y+1)^2=9", "9"),
        ("3x-2y=0", "3x-2y"),
        ("x^2=9", "x=3"),
    ],
    "words swapped": [
        (r"2 \text{ red and } 5 \text{ blue}", r"5 \text{ red and } 2 \text{ blue}"),
        (r"\text{Ann beats Carl}", r"\text{Carl beats Ann}"),
        (r"\text{first Tim, then Sue}", r"\text{first Sue, then Tim}"),
        (r"\text{min } 3, \text{ max } 8", r"\text{min } 8, \text{ max } 3"),
        ("CAB", "ABC"),
        (r"7 \text{ remainder } 1", r"1 \text{ remainder } 7"),
        ("4R1", "1R4"),
    ],
    "scale and unit": [
        (r"7 \text{ billion}", "7"),
        (r"4 \text{ dozen}", "4"),
        (r"9 \text{ m}^2", r"9 \text{ m}^3"),
        (r"80 \text{ km/h}", r"80 \text{ mph}"),
        (r"45^\circ", r"45 \text{ radians}"),
        (r"\$20", r"20\%"),
        (r"\$3", r"3 \text{ cents}"),
        (r"15\% \text{ increase}", r"15\% \text{ decrease}"),
        (r"6 \text{ euros}", r"6 \text{ dollars}"),
        (r"2 \text{ a.m.}", r"2 \text{ p.m.}"),
        (r"3 \text{ feet}", r"3 \text{ inches}"),
    ],
    "conditions": [
        (r"n \text{ even}", r"n \text{ odd}"),
        (r"p \text{ prime}", r"p \text{ composite}"),
        (r"4k \text{ for odd } k", r"4k \text{ for even } k"),
        (r"x \ge 3", "x = 3"),
        (r"x \ne 2", "2"),
        (r"\text{at least } 4", r"\text{at most } 4"),
        (r"6 \text{ or more}", r"6 \text{ or fewer}"),
        (r"x^2 \text{ if } x>0", r"x^2 \text{ if } x<0"),
    ],
    "near numbers": [
        ("9876.54", "9876.55"),
        ("0.999999", "1"),
        ("271828.1", "271828.2"),
        (r"1.41421", "1.41422"),
        ("3.1416", r"\pi"),
        (r"10^{15}+1", "10^{15}"),
        ("0.1666", r"\frac16"),
    ],
    "sets, brackets, signs": [
        (r"\{\{1,2\}\}", r"\{1,2\}"),
        (r"\{1,\{2\}\}", r"\{1,2\}"),
        ("(0,5]", "[0,5)"),
        (r"(-\infty,1)\cup(1,\infty)", r"\mathbb{R}"),
        (r"\{0\}", r"\emptyset"),
        (r"\pm 4", "4"),
        ("-3^2", "9"),
        (r"\overline{AB}=5,\overline{BC}=6", r"\overline{AB}=6,\overline{BC}=5"),
        ("(1,2,3)", "(3,2,1)"),
    ],
    "families": [
        (r"\frac{\pi}{4}+n\pi", r"\frac{\pi}{4}+2n\pi"),
        ("3k+1", "3k+2"),
        (r"k\pi", "0"),
        ("x^2+C", "x^2"),
        (r"2n+1", r"2n"),
        (r"x \equiv 2 \pmod 5", r"x \equiv 2 \pmod 7"),
    ],
    "yes, no and none": [
        (r"\text{No}", r"\text{no solution}"),
        (r"\text{nobody}", r"\text{no solution}"),
        (r"\text{Yes, it is bounded}", r"\text{No, it is not bounded}"),
        (r"\text{possible}", r"\text{impossible}"),
        (r"\text{none}", "0"),
        (r"\text{infinitely many}", r"\text{no solutions}"),
    ],
}
"""Certainly different: never called equal; the kinds of `SURELY_WRONG` are called different."""

SURELY_WRONG = frozenset({"near numbers", "an equation and a part of it"})

UNKNOWN: dict[str, list[tuple[str, str]]] = {
    "one word short for another, or in another form": [
        ("Mon", "Monday"),
        ("Converges", "Convergent"),
        ("Growing", "Increases"),
        (r"\text{Rob}", r"\text{Robert}"),
    ],
    "a letter for a matrix, a conjugate": [(r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", "I"), (r"\overline{3+i}", "3-i")],
    "prose": [
        (r"\text{the sequence settles down}", r"\text{the sequence converges}"),
        (r"\text{a circle of radius 2}", "x^2+y^2=4"),
        (r"\text{it depends on the parameter}", "4"),
        (r"\text{the larger root}", r"2+\sqrt3"),
        ("see the solution", "5"),
        (r"\text{half of them}", r"50\%"),
        (r"\text{see the figure}", "12"),
        (r"\text{by symmetry the same as before}", "7"),
        (r"\text{the midpoint of AB}", "M"),
        (r"\text{same as in part (a)}", "9"),
        (r"\text{Tom, the eldest}", r"\text{the eldest brother}"),
    ],
    "broken LaTeX": [
        (r"\frac{1}{", r"\frac12"),
        (r"\sqrt{3", r"\sqrt3 + 1"),
        (r"\begin{pmatrix}1&2", r"(1,2)"),
        (r"x^{", "x"),
        ("((2", "2 + 1"),
        (r"\left\{ \frac{", "0"),
    ],
    "notation of its own": [
        (r"\spadesuit + \heartsuit", "5"),
        (r"A \rtimes B", "6"),
        (r"\mathcal{F} \dashv \mathcal{G}", "1"),
        (r"[a \oslash b]", r"\frac{a}{b}"),
        (r"\Gamma \vdash p", "p"),
        ("aabba⇒abab", "4"),
        (r"S_3 \wr S_2", "72"),
    ],
    "nouns nobody can convert": [
        (r"45 \text{ guests}", r"50 \text{ visitors}"),
        (r"3 \text{ baskets}", r"36 \text{ apples}"),
        (r"2 \text{ decks}", r"104 \text{ cards}"),
        (r"12 \text{ pieces}", r"3 \text{ cakes}"),
        (r"1 \text{ pair}", r"2 \text{ shoes}"),
    ],
    "dots": [
        (r"1, 2, 4, \ldots", r"2^0, 2^1, 2^2, \ldots"),
        (r"2, 3, 5, \dots", r"\text{the primes}"),
        (r"1+2+\cdots+n", r"\frac{n(n+1)}{2}"),
    ],
}
"""Not to be decided by rules: neither right nor wrong."""


def pairs(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(kind, *pair) for kind, found in table.items() for pair in found]


@pytest.mark.parametrize(("kind", "one", "other"), pairs(RIGHT))
def test_equal_in_another_notation(kind: str, one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == Verdict.RIGHT


@pytest.mark.parametrize(("kind", "one", "other"), pairs(DIFFERENT))
def test_different_though_alike(kind: str, one: str, other: str) -> None:
    verdicts = {compare(one, other), compare(other, one)}
    assert verdicts <= ({Verdict.WRONG} if kind in SURELY_WRONG else {Verdict.WRONG, Verdict.UNPARSED})
    assert len(verdicts) == 1


@pytest.mark.parametrize(("kind", "one", "other"), pairs(UNKNOWN))
def test_not_to_be_decided(kind: str, one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == Verdict.UNPARSED


def test_the_tables_are_of_some_size() -> None:
    assert len(pairs(RIGHT)) >= 60
    assert len(pairs(DIFFERENT)) >= 60
    assert len(pairs(UNKNOWN)) >= 30

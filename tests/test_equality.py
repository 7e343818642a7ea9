"""Equality of answers: truth tables in both directions, Math-Verify's known wrong verdicts among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostile_answers import hostile_answers
from magpie.verification.equality import Verdict, cheaply, compare
from magpie.verification.guards import danger
from magpie.verification.measures import measure
from magpie.verification.normalize import number, plain
from processor_time import check_takes

PROJECT = Path(__file__).resolve().parents[1]
MATH = PROJECT / "../shared/data/benchmarks/math500.jsonl"

SAME = [
    (r"1", r"1.0"),
    (r"\frac12", r"0.5"),
    (r"1/2", r"\frac{1}{2}"),
    (r"1\frac{1}{10}", r"\frac{11}{10}"),
    (r"3 1/2", r"3.5"),
    (r"10{,}000", r"10000"),
    (r"10,\!080", r"10080"),
    (r"50,625", r"50625"),
    (r"\$32,\!348", r"32348"),
    (r"(1,2)", r"(1, 2)"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"1,2", r"2,1"),
    (r"1 \text{ and } 3", r"1, 3"),
    (r"1 \text{ and } 3", r"n = 1 \text{ and } n = 3"),
    (r"33 \text{ and } 107", r"n=33, 107"),
    (r"3k", r"3k \text{ for any integer } k"),
    (r"3k", r"n = 3k, k \in \mathbb{Z}"),
    (r"\text{prime}", r"29 \text{ is a prime number}"),
    (r"\text{prime}", r"a prime number"),
    (r"\text{No solutions}", r"\text{There are no solutions}"),
    (r"\text{No solutions}", r"\emptyset"),
    (r"\text{None}", r"\text{No such integers exist}"),
    (r"\text{No}", r"\text{No, it does not}"),
    (r"\text{Yes}", r"\text{Yes, it converges}"),
    (r"\text{Evelyn}", r"Evelyn"),
    (r"\text{(C)}", r"C"),
    (r"(C)", r"\textbf{(C)}~12"),
    (r"12", r"\textbf{(C)}~12"),
    (r"x=5", r"5"),
    (r"x \in [-2,7]", r"[-2,7]"),
    (r"[-2,7]", r"-2 \le x \le 7"),
    (r"(2,\infty)", r"x>2"),
    (r"(-\infty,2)\cup(3,\infty)", r"x<2 \text{ or } x>3"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)"),
    (r"90^\circ", r"90"),
    (r"90^\circ", r"\frac{\pi}{2}"),
    (r"10\%", r"10"),
    (r"10\%", r"0.1"),
    (r"5.4 \text{ cents}", r"5.4"),
    (r"864 \mbox{ inches}^2", r"864"),
    (r"864 \mbox{ inches}^2", r"864 \text{ square inches}"),
    (r"15\mbox{ cm}^2", r"15"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"\{1\pm\sqrt{5},-2\}", r"-2, 1-\sqrt5, 1+\sqrt5"),
    (r"x = 3 \pm 2\sqrt{2}", r"3+2\sqrt{2}, 3-2\sqrt{2}"),
    (r"4210_{5}", r"4210_5"),
    (r"4210_{5}", r"4210"),
    (r"y = 2x + 3", r"2x+3"),
    (r"y=2x+3", r"2x - y + 3 = 0"),
    (r"5x - 7y + 11z + 4 = 0", r"-5x+7y-11z-4=0"),
    (r"2x+4y-3=0", r"y = -\frac{1}{2}x+\frac{3}{4}"),
    (r"(a+5)(b+2)", r"ab+2a+5b+10"),
    (r"\frac{1}{2} n(n+1)", r"\frac{n(n+1)}{2}"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}"),
    (r"\begin{pmatrix} -2 \\ -14 \end{pmatrix}", r"\begin{bmatrix} -2 \\ -14 \end{bmatrix}"),
    (r"n \equiv 1 \pmod{4}", r"1 \pmod 4"),
    (r"f(x)=2x", r"2x"),
    (r"f(x)=2x", r"y=2x"),
    (r"0.333333", r"\frac13"),
    (r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}"),
    (r"\pi", r"3.14159265"),
    (r"e^{16}-1", r"-1+e^{16}"),
    (r"\text{13}", r"13"),
    (r"2\sqrt{113}", r"\sqrt{452}"),
    (r"\sec^2(y)", r"\tan^2(y)+1"),
    (r"11\sqrt2", r"11\sqrt{2}"),
    (r"\binom{2n}{n}", r"\frac{(2n)!}{n!n!}"),
    (r"\left\lfloor\log _{2} n\right\rfloor+1", r"\lfloor \log_2 n \rfloor + 1"),
    (r"6+9i", r"9i+6"),
    (r"m \geq \sqrt{2}", r"[\sqrt{2}, +\infty)"),
    (r"(0, 12.5)", r"0 < x < 12.5"),
    (r"\frac{3}{2}, -13", r"-13, 1.5"),
    (r"(6,7) \text{ and } (7,6)", r"(7,6),(6,7)"),
    (r"x=2, y=3", r"(2,3)"),
    (r"(x,y)=(2,3)", r"(2,3)"),
    (r"2 \times 3 \times 5", r"2 \cdot 3 \cdot 5"),
    (r"2 \times 3 \times 5", r"30"),
    (r"37.50", r"\$37.5"),
    (r"\mathbb{R}", r"\text{all real numbers}"),
    (r"(-\infty,\infty)", r"\mathbb{R}"),
    (r"1,234", r"1234"),
    (r"\frac{\pi}{6}, \frac{5\pi}{6}", r"\frac{5\pi}{6}, \frac{\pi}{6}"),
    (r"\text{even}", r"\text{The function is even}"),
    (r"2^{1009}", r"2^{1009}"),
    (r"k \geqslant 2", r"k \geq 2"),
    (r"\cot x", r"\frac{1}{\tan x}"),
    (r"\text{east}", r"East"),
    (r"3:30 \text{ p.m.}", r"3:30 PM"),
    (r"-34x-45y+20z-100=0", r"34x+45y-20z+100=0"),
    (r"ab", r"ba"),
    (r"\infty", r"+\infty"),
    (r"\{5\}", r"5"),
    (r"\langle 1,2\rangle", r"(1,2)"),
    (r"S=\{1,2\}", r"\{2,1\}"),
    (r"F_n = \sum_{k=0}^{n-1} F_k", r"F_n=\sum_{k=0}^{n-1}F_k"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"(1,2)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1 & 2\\ 3 & 4\end{bmatrix}"),
    (r"\frac{8}{2}", r"4"),
    (r"\text{(A) 5}", r"A"),
    (r"\dfrac{1}{3}", r"1/3"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"-\frac{1}{2}", r"-0.5"),
    (r"1{,}234{,}567", r"1234567"),
    (r"60^{\circ}", r"60 \text{ degrees}"),
    (r"\text{5 minutes}", r"5"),
    (r"5 minutes", r"5"),
    (r"\$5.00", r"5 \text{ dollars}"),
    (r"x^2 + 2x + 1", r"(x+1)^2"),
    (r"99\frac{1}{2}\%", r"99.5\%"),
    (r"\$18.90", r"18.90"),
    (r"\frac{3}{4}\text{ hours}", r"0.75"),
    (r"\text{Monday}", r"Monday"),
    (r"0.\overline{3}", r"\frac{1}{3}"),
    (r"0.\overline{45}", r"\frac{5}{11}"),
    (r"25 \text{ or } 30", r"30, 25"),
    (r"x=1 \text{ or } x=3", r"\{1,3\}"),
    (r"3, -3", r"\pm 3"),
    (r"x = \pm 3", r"3, -3"),
    (r"\sqrt[3]{2}", r"2^{1/3}"),
    (r"10^{-3}", r"0.001"),
    (r"1.2 \times 10^5", r"120000"),
    (r"\approx 3.1415927", r"3.1415927"),
    (r"p = 2, q = 3", r"(2,3)"),
    (r"\text{True}", r"\text{Yes}"),
    (r"2^{10}", r"1024"),
    (r"5!", r"120"),
    (r"x = 3, y = 4", r"(3, 4)"),
    (r"(x, y) = (6, 7) \text{ and } (x,y) = (7,6)", r"(7,6),(6,7)"),
    (r"\{(6,7),(7,6)\}", r"(6,7), (7,6)"),
    (r"6k \pm 1", r"6k+1, 6k-1"),
    (r"6k \pm 1", r"6k + 1 \text{ or } 6k - 1"),
    (r"\text{no real roots}", r"\text{There are no real roots}"),
    (r"\text{all odd integers}", r"\text{odd integers}"),
    (r"\text{Yes}", r"\text{Yes, } 29 \text{ is prime}"),
    (r"2^3 \cdot 3 \cdot 5", r"2^3 \times 3 \times 5"),
    (r"\text{infinitely many}", r"\infty"),
    (r"\text{infinitely many}", r"\text{There are infinitely many}"),
    (r"\text{The statement is true}", r"\text{True}"),
    (r"17 \text{ is prime}", r"\text{prime}"),
    (r"(-\infty,-2]\cup[2,\infty)", r"x \le -2 \text{ or } x \ge 2"),
    (r"\frac{-3 \pm \sqrt{5}}{2}", r"\frac{-3+\sqrt5}{2}, \frac{-3-\sqrt5}{2}"),
    (r"\log_2 3", r"\frac{\ln 3}{\ln 2}"),
    (r"\text{5 cm}", r"5"),
    (r"2x^2 - 3x", r"x(2x-3)"),
    (r"5\text{ and }7", r"5, 7"),
    (r"7 \text{ (mod 12)}", r"x \equiv 7 \pmod{12}"),
    (r"\text{composite}", r"\text{51 is composite}"),
    (r"\text{not prime}", r"\text{No, it is not prime}"),
    (r"\text{does not exist}", r"\text{No such number exists}"),
    (r"1, 2, 4, 8", r"\{1, 2, 4, 8\}"),
    (r"\text{Yes, because } 5 \text{ divides it}", r"\text{Yes}"),
    (r"\frac{1}{3}", r"33\frac{1}{3}\%"),
    (r"\frac{2\sqrt{3}}{3}", r"\frac{2}{\sqrt{3}}"),
    (r"\$1.50", r"1.5 \text{ dollars}"),
    (r"45", r"45 \text{ students}"),
    (r"12 \text{ square units}", r"12"),
    (r"x^2+y^2=4", r"x^2 + y^2 - 4 = 0"),
    (r"\text{3 and 5}", r"3, 5"),
    (r"p=3", r"3"),
    (r"a=1,b=2,c=3", r"(1,2,3)"),
    (r"n=1, n=3", r"1 \text{ and } 3"),
    (r"k = 4", r"4"),
    (r"\text{one}", r"1"),
    (r"\text{two}", r"2"),
    (r"0", r"\text{zero}"),
    (r"2 \text{ solutions}", r"2"),
    (r"(2, 3), (3, 2)", r"(2,3) \text{ and } (3,2)"),
    (r"\text{Only } n = 1", r"1"),
    (r"n = 1 \text{ only}", r"1"),
    (r"\text{all positive integers } n", r"\text{All positive integers}"),
    (r"\mathbb{Z}", r"\text{all integers}"),
    (r"\mathbf{42}", r"42"),
    (r"42^\text{nd}", r"42"),
    (r"-\frac{\sqrt{2}}{2}", r"-\frac{1}{\sqrt{2}}"),
    (r"\left\{\frac{1}{2},3\right\}", r"3,\frac12"),
]
DIFFERENT = [
    (r"1", r"2"),
    (r"(1,2)", r"(2,1)"),
    (r"(1,2)", r"[1,2]"),
    (r"[1,2)", r"(1,2]"),
    (r"(3,4)", r"\{3,4\}"),
    (r"1,2", r"1,2,3"),
    (r"x=1", r"y=1"),
    (r"\text{Yes}", r"\text{No}"),
    (r"\text{prime}", r"\text{composite}"),
    (r"\text{prime}", r"\text{not prime}"),
    (r"\text{Evelyn}", r"\text{Navin}"),
    (r"(A)", r"(B)"),
    (r"A", r"B"),
    (r"\text{No solutions}", r"0"),
    (r"\text{No solutions}", r"(6, 7) \text{ and } (7, 6)"),
    (r"\text{converges}", r"\text{diverges}"),
    (r"\text{even}", r"\text{odd}"),
    (r"4210_5", r"4210_6"),
    (r"5 \text{ cm}", r"5 \text{ m}"),
    (r"5\%", r"6\%"),
    (r"0.33", r"\frac13"),
    (r"3.14", r"\pi"),
    (r"10^{30}+1", r"10^{30}"),
    (r"\frac{2^{200}+1}{2^{200}}", r"1"),
    (r"x^2+1", r"x^2+2"),
    (r"\sqrt{2}", r"1.414"),
    (r"x>2", r"x<2"),
    (r"x>2", r"x \ge 2"),
    (r"(2,\infty)", r"(-\infty,2)"),
    (r"3k", r"3k+1"),
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    (r"7, 11, 13", r"\text{No primitive roots}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    (r"\frac{n(n+1)}{2}", r"\frac{3n^2 + 2n}{4}"),
    (r"y=x", r"y=-x"),
    (r"3k \text{ for even } k", r"3k \text{ for odd } k"),
    (r"2,3", r"3"),
    (r"-\infty", r"\infty"),
    (r"100,200", r"100"),
    (r"\text{There are infinitely many primes}", r"\text{There are finitely many primes}"),
    (r"i", r"1"),
    (r"2i", r"-2i"),
    (r"\sqrt{-4}", r"2"),
    (r"1-12i", r"1+12i"),
    (r"\text{odd}", r"\text{not odd}"),
    (r"0", r"\emptyset"),
    (r"\text{converges absolutely}", r"\text{converges conditionally}"),
]
# Different, for all that is said; but not all of it is understood: never equal.
NOT_EQUAL = [
    (r"4:30p..", r"4:30 \text{ p.m.}"),
    (r"\text{north}", r"\text{north east}"),
    (r"\varphi(m \cdot n) \geq \varphi(m)", r"\varphi(m \cdot n) \geq \varphi(n)"),
    (r"\text{stays bounded}", r"\text{diverges}"),
    (r"abc", r"abd"),
]
# Residues are equal to nothing but the same residue: anything else is not known.
UNKNOWN = [
    (r"n \equiv 1 \pmod{4}", r"4k+1"),
    (r"x \equiv 1, 4 \pmod 5", r"x \equiv 1 \pmod 5 \text{ or } x \equiv 4 \pmod 5"),
    (r"x \equiv -1 \pmod 7", r"6 \pmod{7}"),
    (r"5 \pmod 7", r"5"),
    (r"n \equiv 0 \pmod 3 \text{ or } n \equiv 1 \pmod 3", r"n \equiv 0, 1 \pmod{3}"),
    (r"n \equiv 0 \pmod 3", r"3k"),
    (r"5 \pmod 7", r"5 \pmod 8"),
    (r"n \equiv 1 \pmod 4", r"n \equiv 3 \pmod 4"),
    (r"n \equiv 1 \pmod 4", r"4k+3"),
]
# Math-Verify's issues 14 (the first nine), 60, 41, 64: it calls these equal, or did.
KNOWN_FALSE_POSITIVES = [
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"2004!", r"2006!"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    (r"n=2, 3, 4", r"n=1, 2, 3"),
    (r"D = (0, 1)", r"D = (0, 1.5)"),
    (r"F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}", r"F_n = \sum_{k=0}^{n-2} F_k F_{n-k-2}"),
    (r"19, 46, \text{ and } 82", r"21, 36, and 82"),
    (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}"),
    (r"1 - \frac{1}{\mathrm{e}}", r"1 + \frac{1}{\mathrm{e}}"),
    (r"\pm 2021", r"2021"),
    (r"12:00", r"1:00"),
    (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1"),
    (r"1:2:3:\ldots", r"1:4:9:\ldots"),
    (r"3*x-1*y+13=0", r"3x + 4y + 14=0"),
    (r"4", r"4\sqrt(2)"),
    (r"f(x) = 0", r"\forall x>0, f(x) = 0"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_answer_in_another_form(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == Verdict.RIGHT


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_answer(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == Verdict.WRONG


@pytest.mark.parametrize(("one", "other"), UNKNOWN)
def test_residues_in_another_form_are_not_decided(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == Verdict.UNPARSED


@pytest.mark.parametrize(("one", "other"), [*KNOWN_FALSE_POSITIVES, *NOT_EQUAL])
def test_what_is_not_equal_and_math_verify_may_confuse(one: str, other: str) -> None:
    verdicts = {compare(one, other), compare(other, one)}
    assert len(verdicts) == 1
    assert verdicts <= {Verdict.WRONG, Verdict.UNPARSED}  # unread text is not equal to anything else


def test_equality_is_reflexive_for_answers_of_every_kind() -> None:
    for one, other in [*SAME, *DIFFERENT]:
        assert compare(one, one) == compare(other, other) == Verdict.RIGHT


@pytest.mark.skipif(not MATH.exists(), reason="needs ../shared/data/benchmarks")
def test_the_answers_of_math_500_in_other_spellings() -> None:
    answers = [json.loads(line)["answer"] for line in MATH.read_text(encoding="utf-8").splitlines()]
    wrong = []
    for answer in dict.fromkeys(answers):
        for other in (
            f"${answer}$",
            answer.replace("\\frac", "\\dfrac"),
            answer.replace(" ", ""),
            f"\\({answer}\\).",
            f"**{answer}**",
        ):
            if compare(answer, other) is not Verdict.RIGHT:
                wrong.append((answer, other))
    assert wrong == []


def test_texts_alone_decide_where_nothing_need_be_read() -> None:
    assert cheaply("12", "12.0") is Verdict.RIGHT
    assert cheaply("12", "13") is Verdict.WRONG
    assert cheaply("\\dfrac{x}{2}", "$\\frac{x}{2}$") is Verdict.RIGHT
    assert cheaply("\\frac{x}{2}", "0.5x") is None
    assert cheaply("", "1") is Verdict.UNPARSED


DANGERS = {
    "9^{9^{9^{9}}}": "power",
    "2^{99999999999}": "power",
    "100000000!": "factorial",
    "((9!)!)!": "factorial",
    "1" * 10_000: "long",
    "7" * 500: "digits",
    "(" * 40 + "1" + ")" * 40: "deep",
    "\\input{/etc/passwd}": "program",
    "__import__('os')": "program",
}


@pytest.mark.parametrize("answer", DANGERS)
def test_dangerous_answers_are_never_read(answer: str) -> None:
    assert DANGERS[answer] in danger(answer)
    assert compare(answer, "1") is Verdict.UNPARSED


@pytest.mark.parametrize(
    "answer", ["2^{1009}", "\\frac{100!}{2^{50}}", "2004!", "x^{n^{2}}", "e^{-x^2}", "10^{100}", "2^{2^{3}}", "(2n)!"]
)
def test_large_but_harmless_answers_are_read(answer: str) -> None:
    assert danger(answer) == ""
    assert compare(answer, f"{answer} + 0") is Verdict.RIGHT


def test_every_hostile_answer_is_looked_at_quickly_before_it_is_read() -> None:
    check_takes(30, lambda: [(cheaply(answer, "12"), danger(answer)) for answer in hostile_answers()])


def test_numbers_and_units() -> None:
    assert number("1{,}000") is None
    assert number(plain("1{,}000")) == number("1000")
    assert number("1 1/2") == number("3/2")
    assert number("11/2").value == number("5.5").value  # type: ignore[union-attr]
    assert number("1" * 100_000) is None
    assert measure(plain("5 \\text{ cm}")).unit == measure(plain("5 centimeters")).unit == "cm"
    assert measure("x^2").unit == ""

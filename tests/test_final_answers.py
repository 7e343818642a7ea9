"""Final answers: where a response states one, in which order of preference, and none where there is none."""

from __future__ import annotations

from functools import partial

import pytest

from magpie.verification.extract import TAIL, final_answer
from processor_time import check_takes

ANSWERS: dict[str, tuple[str, str | None]] = {
    "a box": (r"So \(x\) is \(\boxed{42}\).", "42"),
    "the last of several boxes": (r"First \boxed{1}. That was wrong. Therefore the value is \boxed{2}.", "2"),
    "nested braces": (r"\[\boxed{\frac{1}{\sqrt{2}}}\]", r"\frac{1}{\sqrt{2}}"),
    "escaped braces": (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    "fbox": (r"\fbox{7}", "7"),
    "a box without braces": (r"$\boxed 5$", "5"),
    "boxes that are listed": (r"\(\boxed{1}\) and \(\boxed{3}\).", "1, 3"),
    "boxes that are listed with names": (r"$x = \boxed{1}$, or $x = \boxed{-2}$", "1, -2"),
    "a box that was cut off, after a whole one": (r"\boxed{4} and then \boxed{n(n+1", "4"),
    "an empty box": (r"\boxed{} The answer is 5.", "5"),
    "a box before its explanation": (r"\boxed{3k} for any integer \(k\).", "3k"),
    "after the thought": (r"<think>\boxed{1}</think> It is \boxed{2}", "2"),
    "a box comes before words": (r"\boxed{9}. The answer is odd.", "9"),
    "the answer is": ("We get 12 in all. The answer is 12.", "12"),
    "the final answer is, emphasised": ("**Final Answer:** 7/3", "7/3"),
    "the last answer counts": ("The answer is 3. No: the answer is 4.", "4"),
    "a decimal": ("The answer is 3.5.", "3.5"),
    "a formula on its own line": ("The answer is:\n\\[\nx = 5\n\\]", "x = 5"),
    "answer with what it is of": ("The answer to the problem is $12$.", "12"),
    "a choice": ("Therefore the correct option is (C).", "C"),
    "a choice as the answer": ("The answer is (B).", "(B)"),
    "a conclusion": ("It has no divisors. Therefore, 29 is a prime number.", "a prime number"),
    "a conclusion with a formula": ("Thus, the sum is equal to \\(18\\).", "18"),
    "a conclusion of none": ("Hence there are no such integers.", "no such integers"),
    "a conclusion that was cut off": ("Therefore, the number of solutions is", None),
    "a sentence that concludes nothing": ("Primes are fascinating. They are the atoms of arithmetic.", None),
    "a question": ("Could you provide the problem statement?", None),
    "nothing": ("", None),
    "a box that never closes": (r"The value is \boxed{\frac{1}{2", None),
}


@pytest.mark.parametrize("which", ANSWERS)
def test_the_final_answer(which: str) -> None:
    response, answer = ANSWERS[which]
    assert final_answer(response) == answer


def test_only_the_end_of_a_long_response_is_looked_at() -> None:
    assert final_answer(r"\boxed{1}" + "x" * TAIL) is None
    assert final_answer("x" * 10**7 + r"\boxed{1}") == "1"


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "answer is ",
        "therefore is ",
        "$",
        "\\[",
        "\n",
        " ",
        "1",
        "answer to a ",
        "\\boxed{1}, ",
        "*",
        "(A) option ",
        "}",
    ],
)
def test_no_response_takes_long(piece: str) -> None:
    for end in ("", ".", "}", "\\boxed{2}"):
        text = piece * (200_000 // len(piece)) + end
        check_takes(30, partial(final_answer, text))

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
    "an answer line after an earlier box": ("\\boxed{3} is a start.\n\n**Answer: D**", "D"),
    "words after a box": ("\\boxed{3}\n\nAnswer: as computed above in the last line", "3"),
    "answer tags": ("<think>x</think>\n<answer>42</answer>", "42"),
    "a box in answer tags": ("<answer>It is \\boxed{42}.</answer>", "42"),
    "GSM8K's mark": ("So 60 + 60 = 120 apples.\n#### 120", "120"),
    "boxes of parts": ("(a) \\boxed{3} (b) \\boxed{5}", "3, 5"),
    "a box and its rounding": (r"\(\boxed{\frac13} \approx \boxed{0.333}\)", r"\frac13"),
    "a rounded box": (r"Exactly \boxed{\sqrt2}, numerically \boxed{1.414}", r"\sqrt2"),
    "an answer with its reason": ("The answer is 42 because 6 times 7 is 42.", "42"),
    "an answer before the words": ("Thus, 42 is the answer.", "42"),
    "a relation before the words": (r"Therefore $x \geq 5$ is the solution.", r"x \geq 5"),
    "a heading and a formula": ("## Final Answer\n\n$$x = 5$$", "x = 5"),
    "a heading and a sentence": ("Final Answer: The volume of the prism is 120. I hope it is correct.", "120"),
    "a thought that never ends": ("<think>I get \\boxed{3} at first", None),
    "prose that ends in a formula": (r"Adding both gives \(x\), and the sum is \(12\).", "12"),
    "prose that ends in a number": ("Nine and three apples were bought. The total is 12.", "12"),
    "what a program printed": ("```python\nprint(3)\n```\n```output\n3.0\n```\nThree trucks are needed.", "3.0"),
    "a letter and its reason": ("The answer: D, it cannot be A.", "D"),
    "a special token after the end": ("The answer is 7.<|im_end|>\n<|im_start|>user", "7"),
    "a formula and nothing else": (r"x = \frac{1}{2}", r"x = \frac{1}{2}"),
    "a number in a sentence that goes on": ("There are 12 of them, and I will look at each", None),
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

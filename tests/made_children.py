"""Forty rewritten problems as a model would write them: harder ones, reworded ones, and ones that carry their solution."""
# ruff: noqa: E501

PARENTS = {
    "letters": "In how many ways can the letters of the word LEVEL be arranged?",
    "square": "Find all integers $n$ such that $n^2 - 5n + 6 = 0$.",
    "dice": "Two fair dice are rolled. What is the probability that the sum is 7?",
    "integral": r"Compute $\int_0^1 x^2 \, dx$.",
    "triangle": "A right triangle has legs 6 and 8. What is the length of its hypotenuse?",
    "remainder": "What is the remainder when $7^{100}$ is divided by 5?",
    "train": "A train travels at 60 km/h for 3 hours. How far does it go?",
    "matrix": r"Let $A = \begin{pmatrix} 2 & 1 \\ 1 & 2 \end{pmatrix}$. Find the eigenvalues of $A$.",
    "sequence": "A sequence is given by $a_1 = 1$ and $a_{n+1} = 2a_n + 1$. Find $a_{10}$.",
    "group": "How many elements of order 2 does the symmetric group $S_4$ have?",
}
CONDITION = {
    "letters": "In how many ways can the letters of the word LEVEL be arranged so that no two equal letters stand next to each other?",
    "square": "Find all integers $n$ such that $n^2 - 5n + 6$ is the square of a prime number.",
    "dice": "Two fair dice are rolled until the sum of a roll is 7. What is the probability that no roll showed a double before that?",
    "integral": r"Let $f$ be a continuous function on $[0, 1]$ with $\int_0^1 f(x) \, dx = 0$. Find the least value of $\int_0^1 (x^2 - f(x))^2 \, dx$.",
    "triangle": "A right triangle has legs 6 and 8. A circle touches both legs and passes through the midpoint of the hypotenuse. "
    "Find the larger of its two possible radii.",
    "remainder": "What is the remainder when $7^{100} + 7^{10} + 1$ is divided by 125?",
    "train": "A train travels at 60 km/h for 3 hours, and a bird flies between it and its goal at 90 km/h, turning at once each time. "
    "How far does the bird go before the train arrives?",
    "matrix": r"Let $A = \begin{pmatrix} 2 & 1 \\ 1 & 2 \end{pmatrix}$. Find the trace of $A^{10} + A^{-10}$.",
    "sequence": "A sequence is given by $a_1 = 1$ and $a_{n+1} = 2a_n + 1$. How many of the first 100 terms are divisible by 7?",
    "group": "How many elements of order 2 does the symmetric group $S_4$ have that commute with a fixed cycle of length three?",
}
INVERTED = {
    "letters": "The letters of a word of five letters can be arranged in exactly 30 ways. In how many ways can its letters be arranged "
    "so that it reads the same backwards, if that is possible at all?",
    "square": "The integers $n$ with $n^2 - bn + c = 0$ are exactly two consecutive primes. Find $b^2 - 4c + bc$.",
    "dice": "Two dice have positive integers on their faces, not all different, and the sum 7 has probability $1/4$. What is the "
    "greatest probability that the sum 2 can have?",
    "integral": r"For which real $c > 0$ is $\int_0^c x^2 \, dx = \int_c^{2c} \frac{1}{x} \, dx$?",
    "triangle": "A right triangle with integer sides has a hypotenuse of length 65. Find the sum of all possible areas.",
    "remainder": "Find the least exponent $k > 1$ such that $7^k$ leaves the remainder 7 when it is divided by 1000.",
    "train": "A train goes 180 km. If it were 10 km/h faster it would arrive 54 minutes earlier. How fast is it?",
    "matrix": r"A symmetric matrix with integer entries and two rows has the eigenvalues 1 and 3. How many such matrices are there?",
    "sequence": "A sequence satisfies $a_{n+1} = 2a_n + 1$ and $a_{10} = 2047$. For which first terms $a_1$ is $a_5$ a prime number?",
    "group": "For which $n$ does the symmetric group $S_n$ have exactly 25 elements of order 2?",
}
REWORDED = {
    "letters": "Determine the number of distinct arrangements of the letters in the word LEVEL.",
    "square": "Determine every integer $n$ that satisfies the equation $n^2 - 5n + 6 = 0$.",
    "dice": "You throw two fair dice. Find the probability of getting a total of 7.",
    "integral": r"Evaluate the definite integral $\int_0^1 x^2 \, dx$.",
    "triangle": "The legs of a right triangle measure 6 and 8. Determine how long the hypotenuse is.",
    "remainder": "Find the remainder that $7^{100}$ leaves upon division by 5.",
    "train": "For 3 hours a train moves with a speed of 60 km/h. Determine the distance that it covers.",
    "matrix": r"Determine all eigenvalues of the matrix $A = \begin{pmatrix} 2 & 1 \\ 1 & 2 \end{pmatrix}$.",
    "sequence": "Let $a_1 = 1$ and $a_{n+1} = 2a_n + 1$ for a sequence. What is the value of $a_{10}$?",
    "group": "Determine how many elements of the symmetric group $S_4$ are of order 2.",
}
SOLVED = {
    "letters": CONDITION["letters"] + " (Answer: 12)",
    "square": CONDITION["square"] + "\n\nSolution: We factor the expression as $(n-2)(n-3)$, two consecutive integers.",
    "dice": CONDITION["dice"] + " The probability is found by conditioning on the last roll, so the answer is 25/36.",
    "integral": CONDITION["integral"] + r" Hence the minimum is $\boxed{\frac{4}{45}}$.",
    "triangle": CONDITION["triangle"] + "\n\n**Answer:** 5",
    "remainder": CONDITION["remainder"] + " By Euler's theorem $7^{100} \\equiv 1$, so we get 1 + 7^{10} + 1.",
    "train": CONDITION["train"] + " To solve this, note that the bird flies for 3 hours. It goes 270 km.",
    "matrix": CONDITION["matrix"] + "\n\nStep 1: The eigenvalues are 1 and 3.\nStep 2: Add their powers.",
    "sequence": CONDITION["sequence"] + " Hint: $a_n = 2^n - 1$, so the answer is 33.",
    "group": CONDITION["group"] + "\n\nThe final answer is 0.",
}

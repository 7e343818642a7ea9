"""Raw turns in the habits of several models, with certain verdicts: problems in unusual dress, and what is no problem."""

from __future__ import annotations

PROBLEMS = (
    # asked without a question mark or a number
    "Prove that every compact Hausdorff space is normal.",
    "Prove that the composition of two injective functions is injective.",
    "Show that a continuous image of a connected space is connected.",
    "Prove that every finite integral domain is a field.",
    "Prove or disprove: every bounded monotone sequence of real numbers converges.",
    "Let $G$ be a finite group and $H$ a subgroup. Prove that the order of $H$ divides the order of $G$.",
    "Let $(a_n)$ be a Cauchy sequence in a metric space. Show that $(a_n)$ is bounded.",
    "Explain why the sum of two odd integers is always even.",
    "Find the derivative of the sine function from first principles.",
    "Classify all groups of order eight up to isomorphism.",
    "State and prove the intermediate value theorem for polynomials with real coefficients.",
    "Describe all continuous functions from the reals to the rationals.",
    "Is the union of two convex sets always convex?",
    "Can a triangle have two right angles? Justify your answer.",
    "Can you find two prime numbers whose sum is 38",
    "Could you tell me the remainder when 17 to the power of 9 is divided by 5",
    "I need to know how many ways there are to seat six people around a round table.",
    "I want to compute the area of a triangle whose sides are 7, 8 and 9.",
    "Given that 3x - 7 = 11, the value of x is ____.",
    "2x + 5 = 17. Solve for x.",
    "The least common multiple of 12, 18 and 30 is ____.",
    "Evaluate: (3 + 4i)(2 - i)",
    "Factor completely: 6x^2 - 7x - 20",
    "simplify (2a^3b)^2 / (4ab^2)",
    "integrate x sin x from 0 to pi",
    "what is the cube root of minus twenty seven",
    "A fair coin is tossed until two heads appear in a row. What is the expected number of tosses?",
    # stories
    "Priya is three times as old as her brother. In twelve years she will be only twice as old. How old is Priya now?",
    "A machine produces 40 litres of juice every hour. A second machine produces 25 litres every half hour. How many litres "
    "do both produce in six hours?",
    "A farmer has a barn. It is made of wood. The farmer walks around it every day. Each side is 12 m long and the barn is "
    "square. In a week, how far does the farmer walk?",
    "Tom writes code for a living. He earns $35 an hour and works 38 hours a week. How much does he earn in four weeks?",
    "To bake a cake, Mia needs 250 g of flour. She has 2 kg. How many cakes can she bake?",
    "We are given a bag with five red and seven blue marbles. Two are drawn without replacement. Compute the probability "
    "that both are red.",
    "First, Ann writes the number 1 on the board. Then she doubles it and adds 3, again and again. Which number stands on the "
    "board after five rounds?",
    "Since a leap year has 366 days, it has more than 52 weeks. What is the probability that a leap year has 53 Sundays?",
    "A career fair has 24 booths in a rectangular grid. Every row has two more booths than there are rows. How many rows?",
    "A chat server handles 120 messages a second. Each takes 3 ms of processor time. What share of one processor is busy?",
    "You are a shopkeeper. You buy 80 pens for $64 and sell each for $1.10. What is your profit in percent?",
    "Consider a Python list with 10 distinct integers. In how many orders can its elements be arranged?",
    "Imagine a clock whose hands show 3:15. What is the smaller angle between the hour hand and the minute hand?",
    "Here is a puzzle for you. I am a two-digit number. My digits add up to 9, and reversing me makes me 27 larger. Which "
    "number am I?",
    # many parts, tables, choices
    "Let $f(x) = x^3 - 3x$.\n\n(a) Find all critical points of $f$.\n(b) Determine the intervals on which $f$ increases.\n"
    "(c) Sketch the graph of $f$.",
    "1. Find $\\gcd(84, 126)$.\n2. Find $\\operatorname{lcm}(84, 126)$.\n3. Verify that their product is $84 \\cdot 126$.",
    "The table shows the scores of a class.\n\n| score | students |\n|---|---|\n| 5 | 3 |\n| 6 | 8 |\n| 7 | 4 "
    "|\n\nWhat is the mean score?",
    "Which of the following is a prime number?\nA) 51\nB) 57\nC) 59\nD) 63",
    "Which of these functions is even?\n\n(A) $x^3$\n(B) $\\cos x$\n(C) $e^x$\n(D) $x + 1$\n(E) None of the above",
    "Solve the system\n\n$$\\begin{cases} x + y = 7 \\\\ x - y = 1 \\end{cases}$$",
    "Consider the following data: 4, 8, 15, 16, 23, 42.\n\nCalculate\n- the mean\n- the median\n- the range",
    "Given:\n- $AB = 6$\n- $BC = 8$\n- $\\angle ABC = 90^\\circ$\n\nFind $AC$.",
    "**Part 1.** Prove that $n^3 - n$ is divisible by 6 for every integer $n$.\n\n**Part 2.** For which $n$ is it "
    "divisible by 24?",
    # heavy LaTeX, long
    "\\[ \\int_0^{\\pi/2} \\frac{\\sin^{3} x}{\\sin^{3} x + \\cos^{3} x} \\, dx \\]\nEvaluate this integral.",
    "Let $A \\in \\mathbb{R}^{n \\times n}$ be symmetric with $A^3 = I_n$. Show that $A = I_n$.",
    "Determine all functions $f \\colon \\mathbb{R} \\to \\mathbb{R}$ such that\n\\[ f(x + f(y)) = f(x) + y "
    "\\]\nfor all $x, y \\in \\mathbb{R}$.",
    "Suppose $\\sum_{n=1}^\\infty a_n$ converges absolutely. Must $\\sum_{n=1}^\\infty a_n^2$ converge?",
    "For $n \\ge 1$ let $S_n = \\{1, \\dots, n\\}$. How many subsets of $S_n$ contain no two consecutive "
    "integers? Express your "
    "answer in terms of Fibonacci numbers $F_k$, where $F_1 = F_2 = 1$.",
    "In $\\triangle ABC$, $AB = 13$, $BC = 14$, $CA = 15$. Let $D$ be the foot of the altitude from $A$, and let $E$ be the "
    "midpoint of $BC$. Point $F$ lies on $AC$ with $AF = 5$. The lines $AE$ and $BF$ meet at $P$. Find the ratio $AP : PE$. "
    "Give your answer in the form $m:n$ with coprime $m$ and $n$.",
    "Compute $\\det\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}$. Note that the order of the rows matters.",
    "Find all real $x$ with $|x - 2| + |x + 3| = 7$. Write your answers in increasing order, separated by commas.",
    "Express $0.1\\overline{27}$ as a fraction in lowest terms. (The bar means that 27 repeats.)",
    "Solve $\\log_2(x) + \\log_2(x - 2) = 3$, given that $x > 2$. Remember to check for extraneous solutions.",
    "Let $p$ be a prime. We call an integer $n$ lucky if $p$ divides $n^2 + 1$. We denote by $L$ the set of lucky integers. "
    "For which $p$ is $L$ empty?",
    "A number is chosen at random from 1 to 100. What is the probability that it is divisible by 6 or 8? Round to "
    "two decimals.",
    "Assume that the earth is a sphere of radius 6371 km. A plane flies from a point on the equator a quarter of "
    "the way round. "
    "To the nearest kilometre, how long is its path?",
)
"""Each passes as it is."""

LEAKING = (
    ("How many diagonals has a convex polygon with 12 sides?", " The number of diagonals is 54."),
    ("What is the sum of the first 20 odd numbers?", " The sum is 400."),
    ("What is the sum of the first 20 odd numbers?", " (Answer: 400)"),
    ("Find the circumference of a circle with radius 4.5.", " Answer: $9\\pi$"),
    ("Find the circumference of a circle with radius 4.5.", "\n\n【Solution】 It is twice the radius times pi."),
    ("Find the circumference of a circle with radius 4.5.", " (Answer: 9π)"),
    ("Compute $7 \\cdot 8 - 6$.", " \\boxed{50}"),
    ("Compute $7 \\cdot 8 - 6$.", "\n\n$$\\boxed{50}$$"),
    ("Solve $x^2 - 5x + 6 = 0$.", " Factoring gives $(x - 2)(x - 3) = 0$, so $x = 2$ or $x = 3$."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\n## Step 1: Factor\nThe roots are 2 and 3."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\n**Step 1.** Look for two numbers with product 6."),
    ("Solve $x^2 - 5x + 6 = 0$.", " Using the quadratic formula, $x = \\frac{5 \\pm 1}{2}$."),
    ("Solve $x^2 - 5x + 6 = 0$.", " Note: this problem is meant for beginners in algebra."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\nOkay, so I need to find the roots. Let me think."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n<think>\nThe roots are 2 and 3.\n</think>"),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\nassistant\nThe roots are 2 and 3."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\n### Response:\nThe roots are 2 and 3."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\nA: 2 and 3"),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\nThe correct answer is 2 and 3."),
    ("Solve $x^2 - 5x + 6 = 0$.", "\n\n```python\nimport sympy\nprint(sympy.solve('x**2 - 5*x + 6'))\n```"),
    ("Solve $x^2 - 5x + 6 = 0$.", " $\\blacksquare$"),
    (
        "A box holds 8 red and 4 green pens. What is the chance to draw a red one?",
        " There are 12 pens in total, so it is 8/12.",
    ),
    (
        "A box holds 8 red and 4 green pens. What is the chance to draw a red one?",
        "\n\nHere's how to solve it: count the pens.",
    ),
    (
        "A box holds 8 red and 4 green pens. What is the chance to draw a red one?",
        "\n\nProblem 2: A box holds 3 pens. How many?",
    ),
    ("A box holds 8 red and 4 green pens. What is the chance to draw a red one?", "\n\nThis problem tests basic probability."),
    (
        "A box holds 8 red and 4 green pens. What is the chance to draw a red one?",
        "\n\nThank you for your question! I am glad to help.",
    ),
    ("Which is larger, 3/7 or 4/9?\nA) 3/7\nB) 4/9\nC) They are equal", "\n\nThe best answer is B."),
    ("Which is larger, 3/7 or 4/9?\nA) 3/7\nB) 4/9\nC) They are equal", "\nCorrect Answer: B"),
    (
        "Prove that the product of two odd integers is odd.",
        " Let $a = 2m + 1$ and $b = 2n + 1$. Then $ab = 2(2mn + m + n) + 1$.",
    ),
    (
        "Prove that the product of two odd integers is odd.",
        "\n\nProof. Let $a$ and $b$ be odd integers. Then their product is odd.",
    ),
    (
        "Prove that the product of two odd integers is odd.",
        "\n\n---\n\nSuppose $a$ and $b$ are odd. Then $ab$ leaves 1 modulo 2.",
    ),
    ("Let $f(x) = 2x + 1$. What is $f(f(3))$?", " $f(3) = 7$ and $f(7) = 15$."),
    ("Let $f(x) = 2x + 1$. What is $f(f(3))$?", "\n\nLet $f(x) = 2x + 1$. What is $f(f(3))$?\n\nLet $f(x) = 2x + 1$. What is"),
    ("Let $f(x) = 2x + 1$. What is $f(f(3))$?", " What is $f(f(3))$? What is $f(f(3))$? What is $f(f(3))$?"),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", " It takes 5 days."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", " Lena eats 2 apples a day, so she needs 5 days."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", "\n\n14 - 4 = 10, and 10 / 2 = 5."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", " Therefore, 5 days."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", "\n\nLevel: easy. Topic: arithmetic."),
)
"""A problem, and what leaked behind it."""

PRESENTED = (
    ("Here is the new problem:\n\n", "A tank holds 90 litres and leaks 4 litres an hour. When is it half empty?"),
    ("**Rewritten problem:** ", "Find the least positive integer with exactly six divisors."),
    ("Sure, here is a math problem:\n\n", "Find the least positive integer with exactly six divisors."),
    ("### Problem 7\n\n", "Find the least positive integer with exactly six divisors."),
    ("Modified Problem:\n", "Find the least positive integer with exactly six divisors."),
    ("Here's a challenging question for you:\n\n", "What is the last digit of $7^{2025}$?"),
    ("New question: ", "What is the last digit of $7^{2025}$?"),
    ("<|im_start|>user\n", "What is the last digit of $7^{2025}$?"),
)
"""What stands before a problem and is taken off, and the problem."""

NO_PROBLEMS = (
    # solutions in the user's place
    "## Step 1: Understand the problem\nWe have to find the number of primes below 50.\n\n## Step 2: List "
    "them\n2, 3, 5, 7, 11.",
    "# Step 1: Identify the given values\nThe radius is 5 and the height is 12. What remains is the volume.",
    "The problem is asking for the sum of the digits of $2^{10}$. We compute $2^{10} = 1024$, so the sum is 7.",
    "# 4.1: Using the Quadratic Formula\n\n## Step 1: Write the equation\n$x^2 - 3x + 2 = 0$",
    "To find the area of the circle, we use $A = \\pi r^2$. With $r = 3$ we get $9\\pi$.",
    "First, we factor the polynomial $x^2 - 9 = (x - 3)(x + 3)$. Hence the roots are $3$ and $-3$.",
    "Let's solve this step by step. We have $3x = 12$, so $x = 4$.",
    "Okay, so I need to find how many ways there are to arrange 5 books. Let me think. That is 5! = 120.",
    "<think>\nThe user asks for the sum of 3 and 4. That is 7.\n</think>\nThe sum is 7.",
    "Solution: Since $a + b = 5$ and $ab = 6$, the numbers are 2 and 3.",
    "We are asked to compute $\\int_0^1 x\\,dx$. The antiderivative is $x^2/2$, so the value is $1/2$.",
    "The answer is 42.",
    "Certainly! The quadratic formula says that $x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$.",
    "Step 1: Add 5 to both sides. Step 2: Divide by 3. The solution is x = 4.",
    "I think the answer is 15 because 3 times 5 is 15.",
    "The final answer is: $\\boxed{17}$",
    # programs
    "Write a Python function that takes a list of integers and returns the sum of its even elements.",
    "Implement binary search in C++ for a sorted array of 100 integers.",
    "Can you write a SQL query that finds the three customers with the highest total?",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n\nWhat does this code print for n = 10?",
    "```java\npublic class Main { public static void main(String[] a) { int x = 5; } }\n```\nWhy does this not compile?",
    "How do I reverse a string in JavaScript? I tried 2 ways and neither works.",
    "Given an array nums and an integer target, return indices of the two numbers that add up to target. Write "
    "the solution in Python.",
    "I get a TypeError in line 12 of my pandas script. How can I fix it?",
    "Create an HTML page with 3 buttons that change the background colour.",
    # chat, careers, everyday life
    "Hello! How are you today?",
    "I'm 28 and want to change my career from sales to data science. What should I do first?",
    "What are the best books to learn mathematics for a beginner?",
    "Can you recommend 5 restaurants in Rome?",
    "I have to give a talk in 3 days and I am nervous. How do I calm down?",
    "Write a poem about a lonely mathematician.",
    "Write a short story of 300 words about two friends on a boat.",
    "I bought a used car from 2015. What should I look at before a long trip?",
    "What is the capital of Australia?",
    "Who won the world cup in 1998?",
    "Translate the following sentence into French: The number of students is growing.",
    "I'm an AI assistant. What can you do for me?",
    "Give me 10 ideas for a birthday party.",
    "You are a helpful assistant. You answer questions about mathematics politely.",
    "My boss asked me to write an email to 20 customers. Can you help me with the wording?",
    "How do I teach multiplication to a child who does not like school?",
    "What was the population of Paris in 1900, and why did it grow?",
    "Summarize the plot of the novel in five sentences.",
    # talk about mathematics
    "What is mathematics?",
    "Why is math so hard?",
    "I need help with calculus. Can you explain it to me in simple words?",
    "Can you explain what a derivative is?",
    "Explain what prime numbers are to a child.",
    "Tell me about the history of algebra.",
    "How is statistics used in everyday life?",
    "What are some good ways to study for an algebra exam?",
    "The Pythagorean theorem is a fundamental result in geometry. It states that $a^2 + b^2 = c^2$ in a right triangle.",
    "A derivative measures the rate of change of a function. It is the limit of a difference quotient.",
    # a problem that is not there
    "Can you help me with a math problem?",
    "I need help solving a difficult math problem.",
    "How do I solve this equation?",
    "What is the mathematical answer to this question.",
    "I'm going to give you a math problem. Please solve it step by step.",
    "Please solve the following problem:",
    "Give me a math problem with 3 steps.",
    "Create a word problem about fractions.",
    "Here is a problem that I cannot solve. Can you do it?",
    "What is the answer to question 5?",
    "A really hard problem. Solve it in two lines.",
    # what needs a picture or a link
    "In the figure below, what is the measure of angle $x$?",
    "Find the area of the shaded region shown in the diagram.",
    "Look at https://example.org/puzzle.png and tell how many triangles there are.",
    "![triangle](triangle.png) Find the length of the side $AB$.",
    "The graph of $f$ is shown. Find $f(2)$.",
    # nothing asked, or broken off
    "The sum of the angles of a triangle is 180 degrees.",
    "Let $n$ be a positive integer with $n > 5$.",
    "A train leaves the station at 8 am at 60 km/h. Another train leaves at 9 am at 80 km/h.",
    "Find all positive integers $n$ such that",
)
"""None of these is a problem that can be answered."""

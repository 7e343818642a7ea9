"""Raw turns in the habits of several models, with certain verdicts: problems in unusual dress, and what is no problem."""

from __future__ import annotations

PROBLEMS = (
    # arithmetic that is asked for, claims to be proved, slips of the pen
    "Round 7.4512 to the nearest hundredth.",
    "Round to the nearest ten: 4,567",
    "Write 45% as a decimal.",
    "Divide 144 by 12.",
    "How do we prove that the sum of two odd integers is even?",
    "Mia is 30 years, 20 months and 10 weeks old today, the 5th of May. When was her last birthday?",
    "There are 4 red and 6 blue cars; red ones cost 3 and blue ones 2 coins. If Ann has 9 and Bo 8, who can buy the most cars?",
    "Let $g(n) = n^2 + 1$. Compute the sum $g(1) + g(2) + g(3).",
    "The figure shows a circle with centre $O$ and a chord $AB$ of length $6$ at distance $4$ from $O$. What is its radius?",
    # of a graduate course, without a number or a formula
    "What is the fundamental group of the Klein bottle?",
    "Is every Banach space isomorphic to its bidual reflexive? Give a counterexample or a proof.",
    "What is the chromatic number of the Petersen graph?",
    "Determine the least ordinal that is not recursive.",
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
    # a second set, written after the first was met
    "Show that there is no rational number whose square is two.",
    "Prove the Cauchy-Schwarz inequality for real vectors.",
    "A circle is inscribed in a square. What fraction of the square lies outside the circle?",
    "Which regular polygons tile the plane?",
    "Does every nonempty open subset of the real line contain a rational number?",
    "Give an example of a continuous function on the real line that is nowhere differentiable.",
    "Derive the formula for the volume of a cone by integration.",
    "Solve: $3^{x} = 81$",
    "Sam has 3 times as many marbles as Lee, and together they own 48. Work out how many marbles Lee owns.",
    "The product of two consecutive even integers is 168. Name the integers.",
    "A bus holds 48 people and makes seven trips a day; on average five seats stay empty. How many passengers are "
    "carried each day",
    "Let $X$ be uniform on $[0,1]$. Find $E[X^2]$. Then find $\\mathrm{Var}(X)$.",
    "If today is Wednesday, what day of the week is it in 100 days?",
    "It takes Ana 6 hours to paint a fence, and Ben 4 hours. How long do they need together?",
    "Three friends share a pizza. One eats a third, another a quarter. What part is left for the third friend?",
    "What comes next: 1, 1, 2, 3, 5, 8?",
    "Find the next term: 2, 6, 12, 20, 30, ...",
    "Let $V$ be a finite-dimensional vector space and $T: V \\to V$ linear. Suppose $T^2 = T$. Prove that $V = "
    "\\ker T \\oplus \\operatorname{im} T$.",
    "Compute the limit $$\\lim_{n\\to\\infty} \\left(1 + \\frac{2}{n}\\right)^n.$$",
    "In how many ways can the letters of the word BANANA be arranged?",
    "Express 0.375 as a fraction.",
    "Convert 255 to binary.",
    "Round 3.14159 to two decimal places.",
    "A rope is cut into four equal pieces. Each piece is 1.25 m long. How long was the rope?",
    "Is it possible to cover a chessboard without two opposite corners with dominoes?",
    "True or false: the sum of two irrational numbers is always irrational.",
    "Suppose that $f$ is entire and bounded. What can be said about $f$? Justify.",
    "A tank is filled by pipe A in 3 h and emptied by pipe B in 5 h. Both are open. After how many hours is the "
    "empty tank full?",
    "Write $z = 1 - i$ in polar form.",
    "Describe the set of all points equidistant from two given points in space.",
    "Let ABC be a triangle with right angle at C. Let D be the foot of the altitude from C. Show that CD^2 = AD * DB.",
    "Sketch the graph of y = |x - 3| and state its vertex.",
    # what is asked of a thing that brings its numbers with it
    "A regular nonagon is drawn on a card. What is the least number of degrees by which the card must be turned about the "
    "centre of the nonagon so that it looks the same as before?",
    "How many edges does a regular dodecahedron have?",
    "What is the maximum number of regions into which six lines can divide the plane?",
    "A robot faces east and turns 1170 degrees clockwise. Which direction does it face now?",
    # illustrations that are not needed, or drawn
    "Find the number of lattice paths from $(0,0)$ to $(5,5)$ that never cross the diagonal, as in the example shown below.",
    "Count the squares of all sizes on a 5 by 5 board. The grid below is an example of such a board of size 2.\n"
    "\\[\\begin{array}{|c|c|}\\hline & \\\\ \\hline & \\\\ \\hline\\end{array}\\]",
    # words of talk in real problems
    "A library holds 12 books of poems and 8 short story collections. How many books is that altogether?",
    "There are 7 different types of sandwiches and 3 kinds of drinks. How many different lunches of one sandwich and one drink "
    "are possible?",
    "What is the formula for the $n$th term of the sequence 5, 8, 11, 14, ...?",
    "What is the difference between the largest and the smallest three-digit multiples of 17?",
    "If a continuous function on a closed interval takes both signs, must it have a zero? Prove your claim.",
)
"""Each passes as it is."""

LEAKING = (
    ("If $x^2 = 49$, then the number of values of $x$ is", "\n## Step 1: Take the square root\nWe get $x = \\pm 7$."),
    ("The slope of the line through (1, 2) and (3, 8) is\n(a) 2\n(b) 3\n(c) 4", "\n\nTo solve this, subtract the coordinates."),
    (
        "The value of $\\sin 30^\\circ$ is\n$\\textbf{(A)}\\ 1 \\qquad \\textbf{(B)}\\ \\frac12 \\qquad \\textbf{(C)}\\ 0$",
        "\n\nThe best way to do this problem is to draw a triangle.",
    ),
    (
        "I have to explain to you how to do this one. Here's the problem:\n\nFind the maximum of f(x) = 4x - x^2.",
        "\n\nSolution: f(2) = 4.",
    ),
    ("How many diagonals has a convex polygon with 12 sides?", " The number of diagonals is 54."),
    ("What is the sum of the first 20 odd numbers?", " The sum is 400."),
    ("What is the sum of the first 20 odd numbers?", " (Answer: 400)"),
    ("Find the circumference of a circle with radius 4.5.", " Answer: $9\\pi$"),
    ("Find the circumference of a circle with radius 4.5.", "\n\n【Solution】 It is twice the radius times pi."),
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
    ("Find the number of ways to arrange the letters of BANANA.", "\n#1\nThere are 6 letters."),
    ("What is $5^3 - 3^5$?\nA. -118\nB. 118\nC. 0", "\n\nThe correct choice is A."),
    ("Let $f(x) = 2x + 1$. What is $f(f(3))$?", "\n\nLet $f(x) = 2x + 1$. What is $f(f(3))$?\n\nLet $f(x) = 2x + 1$. What is"),
    ("Let $f(x) = 2x + 1$. What is $f(f(3))$?", " What is $f(f(3))$? What is $f(f(3))$? What is $f(f(3))$?"),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", " It takes 5 days."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", " Lena eats 2 apples a day, so she needs 5 days."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", "\n\n14 - 4 = 10, and 10 / 2 = 5."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", " Therefore, 5 days."),
    ("Lena has 14 apples and eats 2 a day. After how many days are 4 left?", "\n\nLevel: easy. Topic: arithmetic."),
    *(
        ("What is the least common multiple of 6 and 8?", leak)
        for leak in (
            " It is 24.",
            " The least common multiple of 6 and 8 is 24.",
            "\n24",
            "\n\nExplanation: list the multiples.",
            " Answer. 24",
            " (The answer is 24.)",
            "\n\nOptions: unknown. Difficulty: easy.",
            " Multiples of 6 are 6, 12, 18, 24.",
            " ANSWER: 24",
            "\n\n<answer>24</answer>",
            "\n\n**Answer**\n24",
            "\n\n#### 24",
            " So the answer is 24.",
            " 答案：24",
            "\n\nLet me know if you need help!",
            "\n\nI hope this helps.",
            "\n\nFirst list the multiples of 6, then those of 8.",
            "\n\n1. List the multiples of 6: 6, 12, 18, 24.\n2. List those of 8: 8, 16, 24.",
            "\n\nWhat is the least common multiple of 6 and 8? It is 24.",
            "\n\nThe user wants the least common multiple.",
        )
    ),
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

r"""Answers in words: "No solutions" and "there are none", "prime" and "29 is a prime number", "3k for any integer k".

Words are compared in order, without stop words, and two answers in different words are different only if
the words exclude each other (`exclusive` in configs/verify/answers.yaml); else it is undecided.
"""

from __future__ import annotations

import re

from magpie.verification.config import load_answer_words
from magpie.verification.normalize import TEXT, elements, inside, key, separated, split

NOTHING = re.compile(
    r"(?:(?:therefore|thus|it|there|has|have|having|is|are|exists?) )*(?:none|not any|no(?= ))(?: such)?"
    r"(?P<noun> (?!one\b)[a-z -]{2,40}?)?(?: exists?| can exist| that .*| satisf.*)?|"
    r"(?:[a-z]+ ){0,2}(?:does|do) not exist(?P<noun2> [a-z ]{2,40})?"
)
YES_NO = re.compile(
    r"(yes|true|no|false)\b(?!\s(?:one|such|real|solution|value|integer|number|root|prim|posit|more|change|other))[\s,.:;!]*(.*)"
)
LABEL = re.compile(r"\\text\{([^{}]{1,60}?)\s*(?::|\b(?:is|are|equals|equal to)\b:?)\s*([^{}]*)\}[\s:]*(.+)")
SYMBOL_IS = re.compile(r"([^{}=<>]{1,20}|\\[a-z]+)\s*\\text\{\s*(?:is|are|equals)\b\s*([^{}]*)\}\s*(.*)")
CONDITION = re.compile(
    r"[,(\s]*\\text\{[\s,(]*(?:where|for|with|if|such that|when|provided|assuming)\b|"
    r"[,(\s]\s{0,3}(?:\\forall\s{0,3})?[a-zA-Z]\s{0,3}\\in\s{0,3}\\?(?:mathbb|Z|N|R|Q)"
)
CASE = re.compile(r"\b(?:if|otherwise|when|unless)\b")
IN_FRONT = re.compile(r"(\\forall\s?[^,]{1,40}|\\text\{[Ff]or (?:all|every|any|each)[^,]{0,40}),\s*(.+)")
INDEX = re.compile(r"\b[nmkija]\s?(?:\\ge|>|\\ne)\s?-?[012](?!\d)")
WORD = re.compile(r"[a-zA-Z]+|\d+(?:\.\d+)?|[^\s\w.,'{}()$:;\"!?-]")


def loose(text: str) -> str:
    """Return an answer's words and symbols in lower case, without the marks of text."""
    return " ".join(TEXT.sub(r" \1 ", text).lower().split()).strip(" .!")


def is_wordy(text: str) -> bool:
    r"""Return whether an answer is at least partly in words: a `\text{}` that is more than a connective."""
    return any(re.search(r"[a-zA-Z]{2}", said) and said.strip(" ,").lower() not in ("and", "or") for said in TEXT.findall(text))


def content(words: str) -> tuple[str, ...]:
    """Return the words that carry the answer, in their order, singular and in lower case, negations as "not"."""
    config = load_answer_words()
    tokens = WORD.findall(words.lower().replace("n't", " not").replace("'s", ""))
    kept = ("not" if token in config.negations else token for token in tokens if token not in config.stop_words)
    return tuple(token[:-1] if len(token) > 3 and re.search("[^s]s$", token) else token for token in kept)


def nothing(text: str) -> tuple[str, ...] | None:
    """Return the thing of which an answer says there is none (`()`: unnamed), or None if it says something else."""
    words = loose(text)
    if words in load_answer_words().nothing or re.sub(r"\s", "", text) in ("\\emptyset", "\\{\\}"):
        return ()
    match = NOTHING.fullmatch(words)
    return content(match["noun"] or match["noun2"] or "") if match else None


def polarity(text: str) -> tuple[bool, str] | None:
    """Return the yes or no that an answer begins with, and what follows it."""
    match = YES_NO.fullmatch(loose(text))
    return (match[1] in ("yes", "true"), match[2]) if match else None


def labelled(text: str) -> tuple[str, str]:
    r"""Return the label and the value of `\text{Area: } 25\pi` or `x \text{ is } 5`; the label of anything else is empty."""
    match = LABEL.fullmatch(text) or SYMBOL_IS.fullmatch(text)
    value = (f"\\text{{{match[2]}}} " * bool(match[2].strip()) + match[3]).strip() if match else ""
    return (match[1], value) if match and value else ("", text)


def skeleton(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the words of an answer, with a mark for every formula between them, and the formulas."""
    pieces = [
        piece if i % 2 else piece.strip(" ,.()") for i, piece in enumerate(TEXT.split(text))
    ]  # formulas and words alternate
    found = [content(piece) if i % 2 else ("#",) * bool(piece) for i, piece in enumerate(pieces)]
    return tuple(word for words in found for word in words), [formula for formula in pieces[::2] if formula]


def split_condition(text: str) -> tuple[str, str]:
    """Return an answer and its condition ("3k for any integer k"); an empty text: none."""
    if front := IN_FRONT.fullmatch(text):
        return front[2].strip(), front[1]
    match = None if inside(text) else CONDITION.search(text)
    if not match or len(CASE.findall(text)) > 1 or not text[: match.start()].strip(" ,("):
        return text, ""
    return text[: match.start()].rstrip(" ,("), text[match.start() :].strip(" ,)")


def narrows(condition: str) -> tuple[str, ...]:
    """Return the words and signs of a condition beyond the kind of number that a symbol is."""
    condition = re.sub(r"\\text\{|[{}]|\\(?:mathbb|mathbf|in|forall|quad|exists)(?![a-zA-Z])", " ", condition)
    tokens = re.findall(r"[a-zA-Z]{2,}|\d+|\\[a-zA-Z]+|[<>=]", INDEX.sub(" ", condition))
    ignored = load_answer_words().quantifiers | load_answer_words().stop_words
    return tuple(
        token.lower().removesuffix("s") for token in tokens if not {token.lower(), token.lower().removesuffix("s")} & ignored
    )


def exclude(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether two answers in words differ in words that exclude each other (prime and composite), or in one "not"."""
    if len(one) != len(other):
        short, long = sorted((one, other), key=len)
        return any(word == "not" and (*long[:i], *long[i + 1 :]) == short for i, word in enumerate(long))
    apart = [{a, b} for a, b in zip(one, other, strict=True) if a != b]
    return bool(apart) and all(any(pair <= words for words in load_answer_words().exclusive) for pair in apart)


NAMED = re.compile(r"\\text\{([A-Z][a-z]+)\}")
NO_NAME = re.compile(
    r"(?:ing|ed|ly|[ae]nt|[ai]ble|[ai]ve|ous|al|ic|ion|ity|ar|ry|less|ness|ment|[ae]nce|[gst]es|ical|ect|ors?|ers?)$"
)
"""Endings of words that are seldom names: two of them may mean the same."""


def other_names(one: str, other: str) -> bool:
    """Return whether two answers are names (one capitalised word each), neither the other's short or inflected form."""
    a, b = NAMED.fullmatch(one), NAMED.fullmatch(other)
    if not a or not b or NO_NAME.search(a[1]) or NO_NAME.search(b[1]):
        return False
    return a[1][:3].lower() != b[1][:3].lower() and not load_answer_words().known & {a[1].lower(), b[1].lower()}


LETTER = r"(?:[a-zA-Z]|\\(?!text|frac|sqrt|sin|cos|tan|log|ln|pi(?![a-z]))[a-zA-Z]+)"
SYMBOL = (
    rf"{LETTER}(?:\s?_\s?(?:\{{[\w\\ ,+-]{{1,12}}\}}|\w))?(?:\^\s?(?:\{{\s?(?:[*+']|\\prime|\\ast)\s?\}}|[*+]|\\ast))?'{{0,3}}"
)
SEGMENT = (
    r"(?:m?\s?\\(?:angle|triangle|over(?:line|rightarrow|arc)|vec|hat|bar)\s?)?(?:\{[A-Z]{1,4}\}|[A-Z]{1,4}(?:_\{?\w{1,3}\}?)?)"
)
ONE = (
    rf"(?:{SYMBOL}(?:\s?\([^()=]{{1,20}}\))?|\|?{SEGMENT}\|?|\\(?:sin|cos|tan)\s?\(?(?:[A-Z]|\\[a-z]+)\)?|"
    r"(?:\\(?:text|mathbb)\{[a-zA-Z]{1,12}\}|[A-Z])\s?[(\[][^()\[\]]{1,40}[)\]]|\[[A-Z]{3,6}\]|[a-zA-Z]\^\{?-1\}?\s?\([^()=]{1,20}\)|"
    r"\\frac\{(?:d|\\partial) ?[a-zA-Z]?\}\{(?:d|\\partial) ?[a-z]\}|\\vec\s?\{?[a-zA-Z]\}?|"
    r"\{[a-zA-Z]\}|\\(?:lim|sum|prod|int)(?![a-zA-Z]).{1,80})"
)
NAME = re.compile(
    rf"{ONE}|\\frac\{{{SEGMENT}\}}\{{{SEGMENT}\}}|{ONE}(?:\s?[:/]\s?{ONE}){{1,3}}|\\text\{{[^{{}}]{{1,60}}\}}(?:\s?{SYMBOL})?"
)
NAMES = re.compile(rf"\(\s?{SYMBOL}(?:\s?,\s?{SYMBOL}){{1,6}}\s?\)")


def assigned(text: str) -> tuple[str, str]:
    r"""Return the name and the value of `x = 5`, `5 = x`, `f(x) = …`, `\text{Area: } 5`; else no name."""
    exact, *rounded = split(re.sub(r"\\approx(?![a-zA-Z])", "≈", text), "≈")
    equal = split(re.sub(r"([<>!:])=", r"\1≐", exact), "=")
    first, last = equal[0], equal[-1]
    if len(equal) + len(rounded) < 2 or not all((*equal, *rounded)):
        return labelled(text)
    names = NAME.fullmatch(first) or NAMES.fullmatch(first)
    if len(equal) == 1:  # x ≈ 11, or 1/3 ≈ 0.33
        return (first, rounded[0]) if names else ("", first)
    letters = [bool(re.fullmatch(SYMBOL, side)) and side not in ("e", "i") for side in (first, last)]
    if (len(equal) == 2 and letters[1] and not names) or all(letters):
        return ("", text) if letters[0] else (last, first)  # x = y; 5 = x
    if names:
        return first, last
    numbers = not re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+|(?<![a-zA-Z])[ei](?![a-zA-Z])", "", first + last))
    return "", last if numbers or first.startswith("\\{") else text  # 1+2+3=6


def is_equation(text: str) -> bool:
    """Return whether an answer, not a list, has two sides."""
    return len(elements(text)) == 1 and bool(re.search(r"(?<![<>!:])=(?!=)", re.sub(r"\\ne\s?=|_\{[^{}]*\}", "", text)))


def bare_name(name: str) -> str:
    r"""Return a name for comparison: a label's words, or a symbol without the mark of a segment or of an angle's measure."""
    words = " ".join(content(name.removeprefix("\\text{"))) if "\\text" in name else ""
    return words or re.sub(r"^m(?=\\angle)|\\overline|[{}|]", "", key(name))


Solution = dict[str, str]


def solutions(text: str) -> list[Solution]:
    """Return names and values of what `x=1, y=2 or (x,y)=(2,1)` gives; none if a part has no name, or all have one name."""
    found: list[Solution] = []
    for group in split(separated(text), ";") if "=" in text or "\\text" in text else ():
        found.append({})
        for part in split(group, ","):
            name, value = assigned(part)
            several = inside(value) if NAMES.fullmatch(name) else None
            names, values = (split(name.strip("()")), split(several[1])) if several else ([name], [value])
            if not name or len(names) != len(values):
                return []
            pairs = dict(zip(map(bare_name, names), values, strict=True))
            if found[-1].keys() & pairs.keys():
                found.append({})
            found[-1] |= pairs
    return found if any(len(solution) > 1 for solution in found) else []

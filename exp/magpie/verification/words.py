r"""Answers in words: "No solutions" and "there are none", "prime" and "29 is a prime number", "3k for any integer k"."""

from __future__ import annotations

import re

from magpie.verification.config import load_answer_words
from magpie.verification.normalize import AND, TEXT

WORD = re.compile(r"[a-zA-Z]+")
SHORT_WORDS = frozenset({"yes", "no", "odd", "one", "two", "six", "ten", "all", "none", "true", "even", "dne", "am", "pm"})
FUNCTIONS = frozenset(
    {
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "sqrt",
        "frac",
        "infty",
        "lcm",
        "gcd",
        "max",
        "min",
        "begin",
        "end",
        "matrix",
    }
)
COMMAND = re.compile(r"\\(?:begin|end)\{[a-zA-Z*]{1,20}\}|\\(?!text\{)[a-zA-Z]+")
BARE = re.compile(r"(?<![a-zA-Z])[a-zA-Z]{4,}(?![a-zA-Z])")
NOTHING = re.compile(
    r"^(?:therefore )?(?:there (?:is|are|exists?|do|does) (?:no\b|none|not (?:exist )?any\b)|"
    r"(?:it |they )?(?:do|does) not exist\b|(?:has|have|having) no\b|no\b(?!t)|none\b|nothing\b)|"
    r"\b(?:does|do) not exist$|\bhas no\b|\bhave no\b|\bcannot exist\b"
)
YES, NO = re.compile(r"^(?:yes|true)\b"), re.compile(r"^(?:no|false)\b")
EMPTY_SETS = frozenset({"\\emptyset", "\\{\\}", "\\{ \\}"})
CONDITION = re.compile(
    r"(?:\s|,|\\text\{|\()\s{0,3},?\s{0,3}(?:where|for|with|if|such that|when|provided|assuming)(?![a-zA-Z])|"
    r"[,(\s]\s{0,3}(?:\\forall\s{0,3})?[a-zA-Z]\s{0,3}\\in\s{0,3}(?:\\mathbb|\\mathbf|\\text\{[ZNQR]|[ZNQR](?![a-zA-Z]))"
)
CASE = re.compile(r"\b(?:if|otherwise|when|unless)\b")
PREDICATE = re.compile(r"\b(?:is|are|equals|be)\b")


def loose(text: str) -> str:
    """Return an answer's words and symbols in lower case, without the marks of text."""
    return " ".join(TEXT.sub(lambda m: f" {m[1]} ", text).lower().replace("}", " ").replace("\\text{", " ").split()).strip(" .")


def is_wordy(text: str) -> bool:
    r"""Whether an answer is, at least in part, said in words: `\text{}` of more than a connective, or a bare word."""
    text = AND.sub(" ; ", text)
    if any(WORD.search(words) and len(words.strip()) > 1 for words in TEXT.findall(text)):
        return True
    bare = COMMAND.sub(" ", TEXT.sub(" ", text))
    if bare.strip().lower() in SHORT_WORDS:
        return True
    return any(word.lower() not in FUNCTIONS for word in BARE.findall(bare))


def says_nothing(text: str) -> bool:
    """Whether an answer says that there is none: no solutions, none, the empty set."""
    words = loose(text)
    return text.strip() in EMPTY_SETS or words in load_answer_words().nothing or bool(NOTHING.search(words))


def same_words(one: str, other: str) -> bool:
    """Whether two answers in words say the same."""
    nothing = says_nothing(one), says_nothing(other)
    if any(nothing):
        return all(nothing) or (any(NO.match(loose(text)) for text in (one, other)) and _both_negative(one, other))
    a, b = _readings(one), _readings(other)
    return any(x and x == y for x in a for y in b)


def _both_negative(one: str, other: str) -> bool:
    return all(NO.match(loose(text)) or loose(text).startswith(("not ", "it is not")) for text in (one, other))


def _readings(text: str) -> list[frozenset[str]]:
    """Return what an answer may be boiled down to: all its words, those after "is", and a yes or no that it begins with."""
    words = loose(text)
    whole = _content(words)
    found = [whole]
    if YES.match(words):
        found.append(frozenset({"yes"}))
    pieces = PREDICATE.split(words)
    if len(pieces) > 1 and (predicate := _content(pieces[-1])):
        found.append(predicate)
    return found


def _content(words: str) -> frozenset[str]:
    """Return the words that carry the answer, singular; negations are kept apart from what they negate."""
    config = load_answer_words()
    tokens = re.findall(r"[a-z]+|\d+(?:\.\d+)?|[^\sa-z\d.,'{}()\\$]", words.replace("n't", " not").replace("'s", ""))
    renamed = {"true": "yes", "false": "no"}
    kept = []
    for token in tokens:
        token = renamed.get(token, token)
        if token in config.negations:
            kept.append("not")
        elif token not in config.stop_words:
            kept.append(token[:-1] if len(token) > 3 and token.endswith("s") and not token.endswith("ss") else token)
    if len([token for token in kept if len(token) > 1]) > 1:
        kept = [token for token in kept if len(token) > 1 or not token.isalpha()]  # "all positive integers n"
    if kept.count("not") == 0:
        return frozenset(kept)
    return frozenset({*kept, f"not×{kept.count('not')}"})


def predicate(text: str) -> str:
    r"""Return what an answer says after its last "is" (`x \text{ is } 5` → `5`), or an empty text."""
    match = list(re.finditer(r"(?:^|(?<=[\s{]))(?:is|are|equals)(?=[\s}:])\s{0,3}:?\s{0,3}\}?", text))
    return text[match[-1].end() :].strip(" .}") if match else ""


def split_condition(text: str) -> tuple[str, str]:
    """Return an answer and the condition that stands behind it ("3k for any integer k"); an empty text where there is none."""
    match = CONDITION.search(text)
    if len(CASE.findall(text)) > 1:  # one value here, another there
        return text, ""
    if not match or not match.start() or not text[: match.start()].strip(" ,("):
        return text, ""
    main = text[: match.start()].rstrip(" ,(")
    return main, text[match.start() :]


def excludes(condition: str) -> bool:
    """Whether a condition leaves out a part of what the answer without it says: "for even k"."""
    return not load_answer_words().narrowing.isdisjoint(re.findall(r"[a-z]+", condition.lower()))


def narrows(condition: str) -> frozenset[str]:
    """Return the words and signs of a condition that say more than what kind of number a symbol is."""
    ignored = {*load_answer_words().quantifiers, *load_answer_words().stop_words}
    content = re.sub(r"\\(?:mathbb|mathbf|in|forall|text|ge|geq|quad|dots|ldots)(?![a-zA-Z])", " ", condition)
    tokens = re.findall(r"[a-zA-Z]{2,}|\d+|\\[a-zA-Z]+|[<>=]", content)
    singular = (token.lower().removesuffix("s") for token in tokens)
    return frozenset(token for token in singular if token not in ignored and f"{token}s" not in ignored)

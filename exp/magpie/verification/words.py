r"""Answers in words: "No solutions" and "there are none", "prime" and "29 is a prime number", "3k for any integer k".

Words are compared in their order: what is not a stop word counts, and two answers of different words are different only where
the words exclude each other (`exclusive` in configs/verify/answers.yaml); else nobody knows.
"""

from __future__ import annotations

import re

from magpie.verification.config import load_answer_words
from magpie.verification.normalize import TEXT

NOTHING = re.compile(
    r"^(?:therefore |thus )?(?:there (?:is|are|exists?) )?(?:no|none|not any)(?: such)?(?: (?P<noun>(?!one\b)[a-z -]{2,40}?))?"
    r"(?: exists?| can exist| that .*| satisf.*)?$|"
    r"^(?:it |they |there |the limit |the value )?(?:does|do) not exist(?: (?:any )?(?P<noun2>[a-z ]{2,40}))?$|"
    r"^(?:it )?(?:has|have|having) no (?P<noun3>[a-z -]{2,40})$"
)
YES_NO = re.compile(
    r"^(yes|true|no|false)\b(?!\s(?:one|such|real|solution|value|integer|number|root|prim|posit|more|change|other))[\s,.:;!]*"
)
LABEL = re.compile(
    r"^\\text\{(?P<label>[^{}]{1,60}?)\s*(?::|\b(?:is|are|equals|equal to)\b:?)\s*(?P<rest>[^{}]*)\}\s*(?::)?\s*(?=.)"
)
SYMBOL_IS = re.compile(r"^(?P<label>[^{}=<>]{1,20}|\\[a-z]+)\s*\\text\{\s*(?:is|are|equals)\b\s*(?P<rest>[^{}]*)\}\s*")
CONDITION = re.compile(
    r"[,(\s]*\\text\{[\s,(]*(?:where|for|with|if|such that|when|provided|assuming)\b|"
    r"[,(\s]\s{0,3}(?:\\forall\s{0,3})?[a-zA-Z]\s{0,3}\\in\s{0,3}\\?(?:mathbb|Z|N|R|Q)"
)
CASE = re.compile(r"\b(?:if|otherwise|when|unless)\b")
IN_FRONT = re.compile(r"^(\\forall\s?[^,]{1,40}),\s*(.+)$|^(\\text\{[Ff]or (?:all|every|any|each)[^,]{0,40}),\s*(.+)$")
WORD = re.compile(r"[a-zA-Z]+|\d+(?:\.\d+)?|[^\s\w.,'{}()$:;\"!?-]")


def loose(text: str) -> str:
    """Return an answer's words and symbols in lower case, without the marks of text."""
    return " ".join(TEXT.sub(lambda m: f" {m[1]} ", text).lower().split()).strip(" .!")


def is_wordy(text: str) -> bool:
    r"""Whether an answer is, at least in part, said in words: a `\text{}` that is more than a connective."""
    return any(
        re.search(r"[a-zA-Z]{2}", words) and words.strip(" ,").lower() not in ("and", "or") for words in TEXT.findall(text)
    )


def content(words: str) -> tuple[str, ...]:
    """Return the words that carry the answer, in their order, singular and in lower case, negations as "not"."""
    config = load_answer_words()
    kept = []
    for token in WORD.findall(words.lower().replace("n't", " not").replace("'s", "")):
        if token in config.negations:
            kept.append("not")
        elif token not in config.stop_words:
            kept.append(token[:-1] if len(token) > 3 and token.endswith("s") and not token.endswith("ss") else token)
    return tuple(kept)


def nothing(text: str) -> tuple[str, ...] | None:
    """Return what an answer says that there is none of (`()`: it does not say), or None if it says something else."""
    words = loose(text)
    if words in load_answer_words().nothing or re.sub(r"\s", "", text) in ("\\emptyset", "\\{\\}"):
        return ()
    match = NOTHING.match(words) if words != "no" else None
    return content(next((group for group in match.groups() if group), "")) if match else None


def polarity(text: str) -> tuple[bool, str] | None:
    """Return the yes or no that an answer begins with, and what follows it."""
    words = loose(text)
    match = YES_NO.match(words)
    return (match[1] in ("yes", "true"), words[match.end() :]) if match else None


def labelled(text: str) -> tuple[str, str]:
    r"""Return the label and the value of `\text{Area: } 25\pi` or `x \text{ is } 5`; the label of anything else is empty."""
    match = LABEL.match(text) or SYMBOL_IS.match(text)
    if not match:
        return "", text
    rest = f"\\text{{{match['rest']}}}" if match["rest"].strip() else ""
    value = f"{rest} {text[match.end() :]}".strip()
    return (match["label"], value) if value else ("", text)


def skeleton(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the words of an answer, with a mark for every formula between them, and the formulas."""
    pieces = TEXT.split(text)  # formulas and words in turn
    formulas = [formula.strip(" ,.()") for formula in pieces[::2]]
    found = [("#",) * bool(formulas[i // 2]) if i % 2 == 0 else content(piece) for i, piece in enumerate(pieces)]
    return tuple(word for words in found for word in words), [formula for formula in formulas if formula]


def predicate(text: str) -> tuple[str, ...]:
    """Return the words of what an answer says of something: "29 is a prime number"."""
    return content("".join(re.split(r"\b(?:is|are)\b", TEXT.sub(r" \1 ", text), maxsplit=1)[1:]))


def split_condition(text: str) -> tuple[str, str]:
    """Return an answer and the condition that it is given under ("3k for any integer k"); an empty text: none."""
    if front := IN_FRONT.match(text):
        return (front[2] or front[4]).strip(), front[1] or front[3] + "}"
    match = CONDITION.search(text)
    if not match or len(CASE.findall(text)) > 1 or not text[: match.start()].strip(" ,("):
        return text, ""
    return text[: match.start()].rstrip(" ,("), text[match.start() :].strip(" ,)")


def narrows(condition: str) -> tuple[str, ...]:
    """Return the words and signs of a condition that say more than what kind of number a symbol is."""
    ignored = {*load_answer_words().quantifiers, *load_answer_words().stop_words}
    condition = re.sub(r"\\text\{|[{}]|\\(?:mathbb|mathbf|in|forall|quad|dots|ldots|exists)(?![a-zA-Z])", " ", condition)
    condition = (
        re.sub(r"[a-zA-Z]\s?(?:\\ge|\\geq|>|\\ne)\s?-?[012](?!\d)|\b[ZNRQ]\b\s?(?:\^?[+*])?", " ", condition)
        if INDEX.search(condition)
        else condition
    )
    tokens = re.findall(r"[a-zA-Z]{2,}|\d+|\\[a-zA-Z]+|[<>=]", re.sub(r"\b[ZNRQ]\b", " ", condition))
    singular = (token.lower().removesuffix("s") for token in tokens)
    return tuple(token for token in singular if token not in ignored and f"{token}s" not in ignored)


INDEX = re.compile(r"\b[nmkija]\s?(?:\\ge|>|\\ne)")


def exclusive(words: tuple[str, ...]) -> bool:
    """Whether an answer is one of several words that exclude each other."""
    return len(words) == 1 and any(words[0] in line for line in load_answer_words().exclusive)


def exclude(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two answers in words differ in nothing but words that exclude each other: prime and composite."""
    if len(one) != len(other):
        short, long = sorted((one, other), key=len)
        return len(long) == len(short) + 1 and any(
            (*long[:i], *long[i + 1 :]) == short for i, w in enumerate(long) if w == "not"
        )
    apart = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    sets = load_answer_words().exclusive
    return len(apart) > 0 and all(any(a in words and b in words for words in sets) for a, b in apart)

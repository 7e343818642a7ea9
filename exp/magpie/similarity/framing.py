"""The text around a problem that is not part of it: introductions, chatter, answer instructions, options."""

from __future__ import annotations

import re

from magpie.similarity.lexicon import lexicon, stem

_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_SENTENCE_END = re.compile(r"(?<=[.?!:])\s+|\n+|, (?:and|but) (?=i )")
_MATHS = re.compile(r"[\d\\=^<>+{}_$]")
_OPTION = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf) ?\{ ?)?\(([A-G])\)|^[*( ]{0,3}([A-G])[.)]", re.MULTILINE)
LONGEST_OPTION = 150
"""Characters after the last option's letter."""
_OF_OPTIONS = re.compile(r"(?i)following|\bthese\b|options?\b|choices|below|\(A\)")
_FIRST_PERSON = frozenset(["i", "i'm", "i've", "i'd", "me", "my", "us", "thanks"])


def without_options(text: str) -> str:
    """Return a text without options at its end, (A) to (C) or more, unless the question is about them."""
    marks = list(_OPTION.finditer(text))
    letters = "".join(mark[1] or mark[2] for mark in marks)
    at = letters.rfind("ABC")
    if at < 0 or letters[at:] not in "ABCDEFG" or len(text) - marks[-1].end() > LONGEST_OPTION:
        return text
    question = text[: marks[at].start()]
    return text if len(question.split()) < 3 or _OF_OPTIONS.search(question) else question


def strip_framing(plain: str) -> str:
    """Return the text without introductions and answer instructions."""
    known = lexicon()
    for _ in range(3):
        found = known.introductions.match(plain)
        if not found or not found.end():
            break
        plain = plain[found.end() :]
    plain = known.formats.sub(" ", plain)
    sentences = [sentence for sentence in _SENTENCE_END.split(plain) if sentence.strip()]
    first, last = 0, len(sentences)
    while last - first > 1 and _is_chatter(sentences[first]):
        first += 1
    while last - first > 1 and _is_chatter(sentences[last - 1]):
        last -= 1
    plain = "\n".join(sentences[first:last])
    found = known.introductions.match(plain)
    return plain[found.end() :] if found else plain


def _is_chatter(sentence: str) -> bool:
    """Return True if a sentence is only about asking and answering: only such words, or the writer's own troubles with it."""
    if len(sentence) >= 200 or _MATHS.search(sentence):
        return False
    known, words = lexicon(), _WORD.findall(sentence)
    stems = set(map(stem, words))
    if stems <= known.meta:
        return True
    speaks = not _FIRST_PERSON.isdisjoint(words) and not known.talk.isdisjoint(stems)
    return speaks and not any(
        word in known.config.numbers.multiples or word in known.config.numbers.fractions for word in words
    )

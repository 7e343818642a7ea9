r"""The final answer of a response: between `<answer>` tags, after `####` or under "Final Answer", the last
`\boxed{}`, what "the answer is" introduces, a named choice, the conclusion that a finished response ends with.

Every step examines a bounded piece of text, and every pattern is linear or bounded, so no input takes long.
"""

from __future__ import annotations

import re

from magpie.text.latex import find_formulas

TAIL = 20_000
"""Characters examined at a response's end, where the final answer is."""
LONGEST = 20_000
"""Maximum characters of an answer (one inside a box may fill all that is examined)."""
LONGEST_LINE = 300
"""Maximum characters of an answer outside a box."""

BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s{0,5}")
BARE_BOX = re.compile(r"-?[\w.]{1,40}|\\[a-zA-Z]{1,20}")
BETWEEN_BOXES = re.compile(
    r"(?:[\s$*.;]|\\[()\[\]]|\\quad|\\qquad|\\,)*(?:,|and|or|,\s{0,3}and|,\s{0,3}or|\\text\{[^{}]{0,30}\b(?:and|or)\s{0,3}\})"
    r"(?:[\s$*]|\\[()\[\]]|\\quad|\\qquad|\\,)*(?:[a-zA-Z](?:_\{?\w\}?)?\s{0,3}=\s{0,3})?(?:[\s$])*"
)
ANSWER_IS = re.compile(
    r"\banswer(?:s|\s{0,3}\*{1,2})?(?:\s(?:to|of|for)\s[^.\n:]{0,100}?)?\s{0,3}(?::\s{0,3}\*{0,2}|\bis\b:?|\bare\b:?|\bbe\b:?|=|"
    r"\\[a-zA-Z]{1,10}row)",
    re.IGNORECASE,
)
CHOICE_IS = re.compile(
    r"\b(?:option|choice)(?:\s(?:is|are))?\s{0,3}:?\s{0,3}\*{0,2}\(?([A-J])\b\)?|\*{0,2}\(([A-J])\)\*{0,2}\s(?:is|must be)\s"
    r"(?:the\s)?(?:correct|right)",
)
CONCLUDES = re.compile(
    r"\b(?:therefore|thus|hence|so|consequently|accordingly|we conclude|in conclusion|conclusion|it follows that|finally|"
    r"this means)\b",
    re.IGNORECASE,
)
PREDICATE = re.compile(
    r"\s(?:is|are|equals|equal to|must be|be)(?=[\s:])\s?:?\s{0,3}|(?<![<>!\\])=|\s(?=there\s(?:is|are)\sno\b)"
)
DISPLAYS = ("$", "$$", r"\[")
SENTENCE_END = re.compile(r"(?<=[.!?])(?:\*{0,2})\s+(?=[A-Z\\$(*#])|\n\s{0,20}\n|\n(?=\s{0,8}(?:[-*#]|\d{1,3}\.)\s)")
HEDGES = re.compile(
    r"^(?:(?:indeed|therefore|thus|also|then|given by|equal to|exactly|simply|just|as follows)\b[\s:,]{0,3})+", re.I
)
PARTS = frozenset(f"{a}{b}" for a, b in zip("abcdefg", "bcdefgh", strict=True))
SPECIAL_TOKEN = re.compile(r"<\|(?:im_start|im_end|eot_id|endoftext|end|start_header_id|user)\|>")
TAGGED = re.compile(r"<answer>(.{1,2000}?)</answer>", re.DOTALL)
HEADING = re.compile(
    r"^[\s#*>✅-]{0,12}(?:(?:the\s)?(?:final|correct)\s)?answers?\s?\*{0,2}\s{0,3}(?::|(?=\n)|(?=\$|\\[(\[]))|^####\s|(?-i:\bFinal\sAnswer)\*{0,2}\s?:",
    re.IGNORECASE | re.MULTILINE,
)
ROUNDED = re.compile(r"\\approx|≈|numerically|approximately|\babout\b")
OUTPUT = re.compile(r"```output\s{0,3}\n([^\n`]{1,100})\n```([^`]{0,400})$")
IS_ANSWER = re.compile(
    r"(?:^|[.\n])\s{0,3}(?:(?:so|thus|hence|therefore)\b,?\s)?([^.\n]{1,120}?)\s(?:is|are)\s(?:the|our|my)\s(?:final\s|correct\s)?(?:answers?|solutions?)\b",
    re.IGNORECASE,
)
LEADS_TO = re.compile(
    r"[A-Z][^$\\]{5,200}(?:\b(?:is|are|that|get|have|obtain|find)|:|=)\s{0,3}\$([^$]{1,300})\$\s?\.?", re.DOTALL
)
LEADS_TO_LAST = re.compile(r"(?:\b(?:is|are|be|was|equals|to|get|have|obtain|find|that|gives?|answer)|:|=)\s{0,3}$")
LAST_NUMBER = re.compile(
    r"\b(?:is|are|be|was|equals|to|get|gives?|about|=)\s([$€£]?-?\d[\d,]{0,20}(?:\.\d{1,12})?(?:/\d{1,9})?\s?(?:[%€$£]|[a-z]{1,12})?)[.!]?$"
)
ENDED = (".", "!", "$", ")", "]", "*", "}")


def final_answer(response: str) -> str | None:
    """Return the final answer as written in the response, or None if there is none (its thought never ends, say)."""
    _, closed, after = response.rpartition("</think>")
    if not closed and "<think>" in response:
        return None
    tail = SPECIAL_TOKEN.split(after[-TAIL:], maxsplit=1)[0]
    for find in (_tagged, _headed, _boxed, _introduced, _chosen, _printed, _concluded, _formula_alone):
        answer = find(tail)
        if answer:
            return answer[:LONGEST]
    return None


def _tagged(text: str) -> str:
    """Return the content of the last pair of `<answer>` tags."""
    found = TAGGED.findall(text)
    return (_boxed(found[-1]) or trimmed(found[-1])) if found else ""


def _headed(text: str) -> str:
    """Return the text under a heading "Answer" or after `####`, after every box, if it looks like an answer."""
    for match in reversed(list(HEADING.finditer(text))[-3:]):
        if BOX.search(text, match.end()):
            return ""
        answer = _formula_or_line(text[match.end() : match.end() + 2 * LONGEST_LINE].lstrip(" *:\n"))
        if again := list(ANSWER_IS.finditer(answer)):
            answer = trimmed(answer[again[-1].end() :])
        if re.search(r"[\d\\]|^\(?[A-J]\)?$", answer) or len(answer.split()) < 4:
            return _letter_alone(_predicate(answer))
    return ""


def _predicate(answer: str) -> str:
    """Return what a sentence says about its subject: "The volume of the prism is 120"."""
    if not re.match(r"(?:The|So|There|It|We|This|Thus|Therefore)\b", answer):
        return answer
    pieces = PREDICATE.split(answer)
    return trimmed(HEDGES.sub("", pieces[-1])) if len(pieces) > 1 else answer


def _letter_alone(answer: str) -> str:
    """Return the letter of a choice without the reason that follows it: "D, it cannot be A"."""
    match = re.match(r"\(?([A-J])\)?[.,:;]\s+(?=[a-z])", answer)
    return match[1] if match else answer


def stated(answer: str) -> str:
    """Return the answer within an answer that is itself a response: with a box, or a sentence that leads to one formula."""
    if BOX.search(answer) or SPECIAL_TOKEN.search(answer) or ("\\text" not in answer and ANSWER_IS.search(answer)):
        return final_answer(answer) or answer
    if len(answer) > 8 and "$" in answer and (match := LEADS_TO.fullmatch(answer.strip())):
        return match[1].strip()
    return answer


def braced(text: str, at: int) -> int:
    """Return where the group that opens at `at` ends (after its brace), or -1 if it never does."""
    depth, i = 0, at
    while i < len(text):
        char = text[i]
        if char == "\\":
            i += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                return i + 1
        i += 1
    return -1


def _boxed(text: str) -> str:
    r"""Return the content of the last complete `\boxed{}`, with those that it is listed with ("\boxed{1} and \boxed{2}")."""
    boxes = [box for match in list(BOX.finditer(text))[-20:] if (box := _box(text, match))]
    if not boxes:
        return ""
    start, _, content = boxes.pop()
    contents = [content]
    while boxes:
        between = text[boxes[-1][1] : start] if boxes[-1][1] <= start else "\n" * 99
        if not (joined := _joined(between)) and not (len(between) <= 60 and ROUNDED.search(between + contents[0][:9])):
            if not (parts := _part(text[: boxes[-1][0]]) + _part(text[:start])) or parts not in PARTS:
                break
            joined = True
        start, _, content = boxes.pop()
        contents = [content, *contents] if joined else [content]
    return ", ".join(contents)


def _part(before: str) -> str:
    """Return the letter of the part "(a)" whose answer follows, or an empty text."""
    found = re.findall(r"(?:^|[\s*(])\(?([a-h])\)(?=[\s*.:])", before[-LONGEST_LINE:])
    return found[-1] if found else ""


def _joined(between: str) -> bool:
    return len(between) <= 60 and (not between or bool(BETWEEN_BOXES.fullmatch(between)))


def _box(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """Return where a box starts and ends and its content; None if it is empty or was cut off."""
    at = match.end()
    if text[at : at + 1] == "{":
        end = braced(text, at)
        content = text[at + 1 : end - 1].strip() if end > 0 else ""
    else:
        bare = BARE_BOX.match(text, at)
        end, content = (bare.end(), bare[0]) if bare else (-1, "")
    return (match.start(), end, content) if content else None


def _introduced(text: str) -> str:
    """Return what the last "the answer is" introduces: the rest of its line, or the formula that follows it."""
    matches = list(ANSWER_IS.finditer(text))
    for match in reversed(matches[-5:]):
        rest = text[match.end() : match.end() + 2 * LONGEST_LINE]
        if answer := _formula_or_line(rest):
            return _letter_alone(answer)
    found = IS_ANSWER.findall(text[-2000:])
    return trimmed(found[-1]) if found else ""


def _formula_or_line(rest: str) -> str:
    indent = len(rest) - len(rest.lstrip())
    display = next((each for each in find_formulas(rest).found[:1] if each.start == indent and each.opener in DISPLAYS), None)
    line = rest.lstrip(" *:").partition("\n")[0]
    if display and (not line.strip() or not _goes_on(rest[display.end :])):
        return trimmed(display.content)
    return trimmed(_first_sentence(line if line.strip() else rest.lstrip()[:LONGEST_LINE].partition("\n")[0]))


def _goes_on(rest: str) -> bool:
    """Whether a sentence continues after a formula, other than to say where it holds."""
    return bool(re.match(r"\s{0,3}(?:,\s{0,3}\$|,?\s{0,3}(?:and|or|%|[a-z°])\b)", rest))


def _first_sentence(line: str) -> str:
    line = re.split(r"(?<=[^\d\s])[.!](?:\s|$)|(?<=\d)\.(?:\s|$)", line[:LONGEST_LINE], maxsplit=1)[0]
    return re.split(r",?\s(?:because|since|as\s(?:we|it|the)|which\s(?:is|was|means))\b", line, maxsplit=1)[0]


def _chosen(text: str) -> str:
    """Return the letter of the choice named as the right one, or with which the response begins or ends."""
    if edge := re.match(r"\s*\(?([A-J])[.)](?=\s+[A-Z]?[a-z])", text) or re.search(
        r"\b(?:it's|it is|choose|pick|select)\s\(?([A-J])\)?\.?$", text[-50:].strip()
    ):
        return edge[1]
    matches = list(CHOICE_IS.finditer(text[-2000:]))
    return next((group for group in matches[-1].groups() if group), "") if matches else ""


def _printed(text: str) -> str:
    """Return a program's last printed line, if only a sentence follows."""
    match = OUTPUT.search(text)
    return trimmed(match[1]) if match else ""


def _formula_alone(text: str) -> str:
    """Return the formula or number that a finished response ends with, or a response that is only a formula."""
    text = text.strip()
    if len(text) <= LONGEST_LINE and not re.search(r"(?<![\\a-zA-Z{])[a-zA-Z]{3,}(?![a-zA-Z}(])", text):
        return trimmed(text)
    if not text.endswith((*ENDED, "€", "%")):
        return ""
    if last := _last_formula(text):
        return trimmed(last)
    match = LAST_NUMBER.search(text[-800:])
    return trimmed(match[1]) if match else ""


def _last_formula(text: str) -> str:
    """Return the formula that a text ends with, if words or a sign lead to it."""
    last = next(iter(find_formulas(text).found[-1:]), None)
    if not last or last.opener not in ("$", "$$", r"\(", r"\[") or len(last.content) > LONGEST_LINE:
        return ""
    ends = re.fullmatch(r"\s{0,3}[.!]?", text[last.end :])
    return last.content if ends and LEADS_TO_LAST.search(text[max(0, last.start - 20) : last.start]) else ""


def _concluded(text: str) -> str:
    """Return the predicate of the concluding sentence that a finished response ends with."""
    text = text.rstrip()
    if not text.endswith(ENDED):
        return ""
    sentence = SENTENCE_END.split(text[-1500:])[-1].strip()
    if len(sentence) > 600 or not CONCLUDES.search(sentence):
        return ""
    pieces = PREDICATE.split(sentence.replace("\n", " "))
    if len(pieces) < 2:
        return ""
    answer = trimmed(HEDGES.sub("", pieces[-1]))
    return answer if len(answer) <= LONGEST_LINE else ""


def trimmed(text: str) -> str:
    """Return a text without the marks around it: emphasis, formula delimiters, a full stop."""
    text = text.strip()
    while text != (shorter := _shorter(text)):
        text = shorter
    return text


def _shorter(text: str) -> str:
    text = text.strip().rstrip(".,;").strip()
    for left, right in (("**", "**"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"), ('"', '"')):
        inner = text[len(left) : len(text) - len(right)]
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and left not in inner:
            return inner
    for mark in ("\\)", "\\]", "$$", "$", "**"):  # the other one of the pair is before the cut
        opening = mark.replace(")", "(").replace("]", "[")
        if text.endswith(mark) and opening not in text[: -len(mark)]:
            return text[: -len(mark)]
        if text.startswith(opening) and mark not in text[len(opening) :]:
            return text[len(opening) :]
    return text

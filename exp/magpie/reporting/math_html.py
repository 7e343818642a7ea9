"""Texts with LaTeX as HTML, with formulas as MathML, or as Markdown, with formulas as LaTeX; all else is escaped.

Model output is hostile. A formula is converted within limits of length, depth and time; of the result only the
elements and attributes named here are written, with their texts escaped. One beyond the limits is shown as written.
"""

from __future__ import annotations

import html
import importlib.util
import re
import signal
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from types import FrameType
from typing import TYPE_CHECKING

from magpie.text.latex import Formula, find_formulas

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FORMULA_LIMIT, DEPTH_LIMIT, FORMULA_SECONDS = 1000, 40, 0.5
"""Limits of a formula: characters, nesting, seconds of conversion; beyond them it is shown as written."""

ELEMENTS = frozenset(
    (
        *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msup", "msub", "msubsup", "mover"),
        *("munder", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose"),
    )
)
_TRUTH, _SMALL = r"true|false", r"-?[0-3](\.\d{1,4})?(em|ex)"
ATTRIBUTES = {
    **dict.fromkeys(("stretchy", "fence", "separator", "movablelimits", "accent", "displaystyle", "largeop"), _TRUTH),
    **dict.fromkeys(("columnspacing", "rowspacing", "lspace", "rspace", "width", "minsize", "maxsize"), _SMALL),
    "form": "prefix|infix|postfix",
    "display": "inline|block",
    "mathvariant": "[a-z-]{1,30}",
    "columnalign": "(left|right|center| ){1,60}",
    "linethickness": "0|[0-3]px",
    "scriptlevel": "[0-3]",
    "notation": "box|circle|updiagonalstrike|downdiagonalstrike|updiagonalstrike downdiagonalstrike",
}
"""Attributes that an element may have, with their values; all others are removed (colours, links, styles, …)."""
MACROS = re.compile(r"\\(newcommand|renewcommand|def|let|require|href|style|class|cssId|input|include)(?![a-zA-Z])")
"""Commands that could expand endlessly, or are not mathematics: such a formula is shown as written."""

_ENVIRONMENT = re.compile(r"(?:align|equation|gather|multline|cases|aligned|array|[pbv]?matrix)\*?")
_BRACES = r"\{(?:[^{}$\n]|\{(?:[^{}$\n]|\{[^{}$\n]*\})*\})*\}"
_BOXED = re.compile(rf"(\\boxed{_BRACES})")
"""The final answer, often without dollar signs."""
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_OUTER = re.compile(r"\\(begin|end)\{(align|gather|multline|equation)\*?\}")
"""Environments not allowed inside a displayed formula, with their replacements."""
_UNSAFE_IN_MARKDOWN = re.compile(r"[`$#]|(?<!\\)%|\\(unicode|bbox|mmlToken|toggle|color|char|verb)(?![a-zA-Z])")
"""Text that viewers could read as the end of a formula, and MathJax commands that `mathml` may read differently."""
_UNKNOWN_COMMAND = re.compile(r"\\[a-zA-Z]")


_FENCED = re.compile(r"^```[\w+-]{0,20}[ \t]*\n(.*?)\n```[ \t]*$", re.DOTALL | re.MULTILINE)
"""A block of code in Markdown."""


class _Refused(Exception):
    """A formula that must not be written into a page."""


class MathText:
    """Turns texts into HTML; once a page's bytes and seconds for formulas are used up, formulas are shown as written."""

    def __init__(self, *, most_bytes: int, most_seconds: float) -> None:
        self._bytes_left, self._seconds_left = most_bytes, most_seconds
        self._available = importlib.util.find_spec("latex2mathml") is not None
        self.shown = self.raw = 0
        """Number of formulas converted, and of those shown as written."""

    def html(self, text: str) -> str:
        """Return a text as HTML that contains only text, MathML and code blocks."""
        parts = _FENCED.split(text)  # every second one is code
        return "".join(f"<pre>{html.escape(visible(p))}</pre>" if i % 2 else self._prose(p) for i, p in enumerate(parts))

    def _prose(self, text: str) -> str:
        return "".join(self._formula(*each) if each[1] else html.escape(each[0]) for each in pieces(visible(text)))

    def _formula(self, written: str, latex: str, block: bool) -> str:
        started = time.monotonic()
        made = ""
        if self._available and self._bytes_left > 0 and self._seconds_left > 0:
            made = mathml(latex, "block" if block else "inline")
        self._seconds_left -= time.monotonic() - started
        if not made or len(made) > self._bytes_left:
            self.raw += 1
            return f"<code>{html.escape(written)}</code>"
        self._bytes_left -= len(made)
        self.shown += 1
        return made


def markdown(text: str) -> str:
    """Return a text as Markdown that contains only text and formulas, for notebook viewers.

    A formula stays LaTeX, for the viewer to render, if `mathml` can convert it too, so only mathematics gets there.
    """
    return "".join(_marked_up(*each) if each[1] else _plain(each[0]) for each in pieces(visible(text)))


def _marked_up(written: str, latex: str, block: bool) -> str:
    fence = "$$" if block else "$"
    fits = not _UNSAFE_IN_MARKDOWN.search(latex) and mathml(latex, "inline")
    return f"{fence}{_for_markdown(latex)}{fence}" if fits else _as_code(written)


def formulas(text: str) -> int:
    """Return the number of formulas in a text."""
    return sum(1 for _, latex, _ in pieces(text) if latex)


def pieces(text: str) -> Iterator[tuple[str, str, bool]]:
    """Yield a text piece by piece: as written, as LaTeX (empty: show as written), whether it is a displayed formula."""
    formulas = find_formulas(text)
    for outside, formula in zip_longest(formulas.outside(), formulas.found):
        yield from ((piece, piece if i % 2 else "", False) for i, piece in enumerate(_BOXED.split(outside)))
        if formula:
            yield text[formula.start : formula.end], _latex(formula, text), formula.opener not in ("$", r"\(")


def _latex(formula: Formula, text: str) -> str:
    """Return the LaTeX of a formula to convert; none for a drawing, an unknown environment, one too long or `$ spaced $`."""
    latex = text[formula.start : formula.end] if formula.environment else formula.content
    spaced = formula.opener == "$" and latex != latex.strip()
    known = formula.opener != "[asy]" and (not formula.environment or _ENVIRONMENT.fullmatch(formula.environment))
    return latex if known and not spaced and latex.strip() and len(latex) <= FORMULA_LIMIT else ""


def _for_markdown(latex: str) -> str:
    latex = _OUTER.sub(lambda found: f"\\{found[1]}{{{'aligned' if found[2] == 'align' else 'gathered'}}}", latex)
    latex = latex.replace("<", r"\lt ").replace(">", r"\gt ").replace("&", "& ")  # not a tag, and not a reference like &lt;
    return " ".join(latex.split())


def _plain(text: str) -> str:
    """Return a text as Markdown in which nothing is marked up, and no viewer finds a formula: a tag ends one."""
    spelled = re.sub(r"[^\w\s,;?!'\"()=%]", lambda found: f"&#{ord(found[0])};", text).replace("_", "&#95;")
    apart = re.sub(r"(&#36;|&#92;)", r"<span>\1</span>", spelled)
    return re.sub(r"\n{2,}", "<br><br>", apart).replace("\n", "<br>")


def _as_code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"


def visible(text: str) -> str:
    """Return a text with invisible characters made visible: control characters, marks of the writing direction, …"""
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or unicodedata.category(c) not in _UNSEEN else "\ufffd" for c in text)


def mathml(latex: str, display: str) -> str:
    """Return a formula as MathML, or nothing if it cannot be converted within the limits."""
    from latex2mathml.converter import Converter

    if len(latex) > 2 * FORMULA_LIMIT or MACROS.search(latex):
        return ""
    try:
        with _seconds(FORMULA_SECONDS):
            return "".join(_written(Converter(display=display).convert_to_element(latex), 0))
    except _Refused:
        return ""
    except Exception:  # noqa: BLE001 - for a formula that is not LaTeX the converter may raise anything
        return ""


@contextmanager
def _seconds(limit: float) -> Iterator[None]:
    """Raise if the block takes longer; only in the main thread, where signals work and programs run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Refused(f"more than {limit} seconds")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _written(element: Element, depth: int) -> Iterator[str]:
    tag = element.tag
    if tag not in ELEMENTS or depth > DEPTH_LIMIT or (element.tail or "").strip() or (tag == "math") != (depth == 0):
        raise _Refused(tag)
    text = visible(html.unescape(element.text or ""))  # the converter writes some characters as references
    if _UNKNOWN_COMMAND.search(text):
        raise _Refused(text)
    attributes = "".join(f' {name}="{value}"' for name, value in element.attrib.items() if _allowed(name, value))
    yield f"<{tag}{attributes}>{html.escape(text)}"
    for child in element:
        yield from _written(child, depth + 1)
    yield f"</{tag}>"


def _allowed(name: str, value: str) -> bool:
    return name in ATTRIBUTES and re.fullmatch(ATTRIBUTES[name], value) is not None

"""Check that a report is readable, in a real browser, at two widths, light and dark.

    python benchmarks/report_page.py data/JOB/report.html --screenshots docs/images

Fails (exit code 1) on a page that is wider than the window, on text whose contrast with its background is below WCAG AA (4.5,
or 3 for large text), on an image that does not load, on anything in the
browser's console, and on a filter box that does not filter.
Needs `pip install playwright` and a Chromium: `playwright install chromium`, or an installed one (--browser).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

WIDTHS, SCHEMES = (1100, 390), ("light", "dark")
OVERFLOW = "document.scrollingElement.scrollWidth - window.innerWidth"
BROKEN = "[...document.images].filter(one => !one.complete || !one.naturalWidth).length"
CONTRAST = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const f = c.slice(0, 3).map(v => linear(v / 255));
    return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = one => { const own = parse(getComputedStyle(one).backgroundColor);
    return own[3] === 1 ? own : over(own, one.parentElement ? behind(one.parentElement) : [255, 255, 255, 1]); };
  const found = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !one.checkVisibility() || one.tagName === 'SCRIPT') continue;
    const style = getComputedStyle(one), back = behind(one), fore = over(parse(style.color), back);
    const [a, b] = [light(fore), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + .05) / (b + .05);
    if (ratio < (large ? 3 : 4.5)) found.set(style.color + ' on ' + back.slice(0, 3).map(Math.round),
      ratio.toFixed(2) + ': ' + walk.currentNode.data.trim().slice(0, 40));
  }
  return [...found].map(([colours, text]) => colours + ' ' + text);
}"""
FILTER = """() => { const box = document.querySelector('input.filter'); if (!box) return 'no filter box';
  const rows = [...document.getElementById(box.dataset.of).children], all = rows.length;
  box.value = 'no such words anywhere'; box.dispatchEvent(new Event('input'));
  const none = rows.filter(row => !row.hidden).length;
  box.value = ''; box.dispatchEvent(new Event('input'));
  return none || rows.filter(row => !row.hidden).length !== all ? 'the filter box does not filter' : ''; }"""


def _note(wrong: list[str], where: str, message: Any) -> None:
    wrong.append(f"{where}: {message.text}")


def main() -> int:
    """Check the page, and print its faults."""
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--screenshots", type=Path, help="folder for screenshots (default: none)")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="a Chromium (default: the installed one)")
    args = parser.parse_args()
    wrong: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=args.browser, args=["--no-sandbox", "--disable-background-networking"])
        for width in WIDTHS:
            for scheme in SCHEMES:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                where = f"{width} pixels, {scheme}"
                page.on("console", partial(_note, wrong, where))
                page.goto(args.page.resolve().as_uri())
                if (more := page.evaluate(OVERFLOW)) > 0:
                    wrong.append(f"{where}: {more} pixels wider than the window")
                if broken := page.evaluate(BROKEN):
                    wrong.append(f"{where}: {broken} images are broken")
                wrong += [f"{where}: contrast of {text}" for text in page.evaluate(CONTRAST)]
                wrong += [f"{where}: {text}" for text in [page.evaluate(FILTER)] if text]
                if args.screenshots:
                    args.screenshots.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=args.screenshots / f"report_{width}_{scheme}.png")
                page.close()
        browser.close()
    sys.stdout.write("\n".join([*wrong, f"{len(wrong)} faults"]) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())

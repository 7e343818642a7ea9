"""The report of a job: its counts, its page against hostile records, and its size."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conftest import program
from magpie.common.reservoir import Reservoir
from magpie.reporting.facts import Facts, read_job
from magpie.reporting.funnel import line_of
from magpie.reporting.math_html import ATTRIBUTES, ELEMENTS, MathText, mathml, visible
from magpie.reporting.page import SCRIPT, page
from magpie.reporting.streaming_stats import MOST_LABELS, OTHERS, Labels, Numbers
from magpie.runs.jobs import run_files
from magpie.runs.one_pass import open_stream
from magpie.runs.run import Run

Record = dict[str, Any]

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title></textarea><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) <a href='javascript:alert(1)'>x</a>",
    "$\\href{javascript:alert(1)}{x}$ $\\text{<script>alert(1)</script>}$ $\\style{background:url(http://x)}{y}$",
    "$\\text{&lt;script&gt;alert(2)&lt;/script&gt;}$ \\(\\unicode{x}<img src=x onerror=alert(1)>\\)",
    "<math><mi>unclosed <mtable><mtr> </math",
    "$" + "{" * 500 + "x$ $$\\frac{\\frac{\\frac{$$ \\begin{align*} x & = \\left( \\end{align*}",
    "$\\newcommand{\\a}{\\b\\b}\\newcommand{\\b}{\\a\\a}\\a$",
    "\\frac{1}{2}" * 100_000,  # more than 1 MB
    "$" + "x^{" * 330_000 + "$",
    "\u202egnp.exe\u202c \u2066\u2067\u200f\u0007\x1b[31m a",
    "{{ report.__class__ }} {% raw %} ${7*7} <!--#exec cmd='ls'--> ]]> &#60;script&#62;",
    "{{ ''.__class__ }}\u2028\ufeff\ud7ff \"><svg/onload=alert(1)>",
]


def stage(path: Path, name: str, kept: Iterable[Record], dropped: Iterable[tuple[Record, str]] = (), **more: Any) -> None:
    """Write a stage's files as a stage does."""
    run = Run(name, path, rows=0, arguments=more.pop("arguments", {}))
    with open_stream(run) as out:
        for record in kept:
            out.keep(record)
        for record, reason in dropped:
            out.drop(record, reason)
        out.note(more.pop("statistics", {}))
        run.totals.completion_tokens = more.pop("tokens", 0)


def records(number: int) -> Iterator[Record]:
    draw = random.Random(0)
    for i in range(number):
        yield {
            "id": f"job-{i}",
            "instruction": f"Find the sum $\\sum_{{k=1}}^{{{i}}} k$ of the first {i} numbers, and say why $a_{i}<b$.",
            "domain": draw.choice(["algebra", "geometry", "calculus"]),
            "difficulty": draw.choice(["easy", "hard"]),
            "difficulty_measured": draw.choice(["very easy", "very hard"]),
            "response": f"It is \\[\\frac{{{i}\\cdot({i}+1)}}{{2}}=\\boxed{{{i * (i + 1) // 2}}}\\]"
            + " so" * draw.randrange(200),
            "reasoning": "Let me think. " * draw.randrange(100) or None,
            "finish_reason": draw.choice(["stop", "stop", "length"]),
            "completion_tokens": draw.randrange(500),
            "majority_answer": "1" if i % 4 else None,
            "answer_groups": [0, 0, 0, None],
            "agreement": 1.0,
            "pass_rate": draw.random(),
            "min_neighbor_distance": draw.random(),
            "duplicate_of": None if i % 10 else "job-1",
        }


def made_job(folder: Path, number: int) -> Path:
    """A job whose every stage is finished: of `number` answered records a fourth is not verified, a tenth is a duplicate."""
    folder.mkdir()
    made = list(records(number))
    left = [({"id": f"d-{i}", "instruction": "?"}, "cut_at_max_tokens") for i in range(5)]
    stem = "job_ins"
    stage(folder / f"{stem}.jsonl", "gen_ins.py", made, left, tokens=1234)
    for suffix, name in (
        ("_clean", "clean_ins.py"),
        ("_4res", "gen_res.py"),
        ("_verified", "verify.py"),
        ("_distance", "gen_dis.py"),
    ):
        stem += suffix
        stage(folder / f"{stem}.jsonl", name, made)
    kept = [(record, "low_quality") for record in made[number // 2 :]]
    stage(folder / f"{stem}_filtered_sft.jsonl", "filter.py", made[: number // 2], kept)
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return made_job(tmp_path / "job", 200)


# --- counts ----------------------------------------------------------------------------------------------------------


def test_every_step_of_the_funnel_adds_up(job: Path) -> None:
    report = read_job(job)
    assert [(step.name, step.read, step.count) for step in report.steps] == [
        ("generated", 205, 200),
        ("clean", 200, 200),
        ("answered", 200, 200),
        ("verified", 200, 200),
        ("unique", 200, 200),
        ("kept", 200, 100),
    ]
    for step in report.steps:
        assert step.read == step.count + sum(step.reasons.values())
    assert report.steps[0].reasons == {"cut_at_max_tokens": 5} and report.steps[3].marked == {"not verified": 50}
    assert report.missing == ["decontaminated"]
    text = page(report)
    for words in ("low_quality 100", "not verified 50 (marked)", "Not done: decontaminated", "1,234"):
        assert words in text


def test_verified_goes_by_the_reference_answer_where_there_is_one(tmp_path: Path) -> None:
    rows = [
        {"reference_answer": "1", "is_correct": [False, True], "response_index": 0},
        {"reference_answer": "1", "is_correct": [False, True]},
        {"majority_answer": "1", "answer_groups": [0, 0], "agreement": 1.0},
        {"majority_answer": "1", "answer_groups": [0, 0, 0], "agreement": 1.0},
    ]
    stage(tmp_path / "a_verified.jsonl", "verify.py", ({"id": i, "instruction": "?"} | row for i, row in enumerate(rows)))
    [step] = read_job(tmp_path).steps
    assert (step.count, step.marked) == (4, {"not verified": 2})


def test_the_data_came_by_the_filtered_file_or_by_the_longest_way(job: Path) -> None:
    stage(job / "job_ins_clean_5res.jsonl", "gen_res.py", [])
    stage(job / "job_ins_clean_5res_verified_pairs.jsonl", "gen_po_pairs.py", [])
    assert line_of(run_files(job))[-1].stem == "job_ins_clean_4res_verified_distance_filtered_sft"
    (job / "job_ins_clean_4res_verified_distance_filtered_sft.run.json").unlink()
    assert line_of(run_files(job))[-1].stem == "job_ins_clean_4res_verified_distance"


def test_what_is_counted_of_records() -> None:
    facts = Facts(0)
    chosen = {"response": "b", "previous": {"responses": ["a", "b", "c"], "finish_reason": ["stop", "stop", "length"]}}
    facts.add(
        {"instruction": "1+1?", "domain": "algebra", "difficulty": "easy", "reward_model": "m", "rewards": [1.5, None]} | chosen
    )
    facts.add({"instruction": "?", "target_domain": "geometry", "response": "d", "completion_tokens": 7, "pass_rate": 0.25})
    assert facts.labels["field"] == {"algebra": 1, "geometry": 1}
    assert facts.grid["difficulty"] == {("algebra", "easy"): 1}
    assert facts.labels["finish_reason"] == {"stop": 2, "length": 1}
    assert len(facts.numbers["solution, characters"]) == 4
    assert facts.numbers["pass rate"].bars() == [("0.2", 1)]
    assert len(facts.numbers["reward by m"]) == 1 and facts.numbers["answer, tokens"].mean == 7


def test_validity_and_doubts_have_a_section_of_their_own(job: Path, tmp_path: Path) -> None:
    assert "Validity and doubts" not in page(read_job(job))
    problems = [
        {"id": n, "instruction": "?", "validity": label, "validity_reasons": reasons}
        for n, (label, reasons) in enumerate([("valid", []), ("invalid", ["data_contradict"]), (None, []), ("valid", [])])
    ]
    folder = tmp_path / "judged"
    stage(folder / "x_tagged.jsonl", "unitag.py", problems)
    kept = [row for row in problems if row["validity"] != "invalid"]
    stage(folder / "x_tagged_filtered_valid.jsonl", "filter.py", kept, [(problems[1], "invalid")])
    shares = [{"unsolvable": share, "unparsed": 0.25, "no_majority": share > 0} for share in (0.0, 0.5, 0.75)]
    made = [row | {"doubts": doubts} for row, doubts in zip(kept, shares, strict=True)]
    stage(folder / "x_tagged_filtered_valid_2res_verified.jsonl", "verify.py", made)
    report = read_job(folder)
    assert report.facts and report.facts.doubted == 2 and report.facts.labels["majority"] == {"no majority": 2, "a majority": 1}
    assert report.facts.labels["validity"] == {"valid": 2, "invalid": 1, "undecided or not judged": 1}
    _, section = page(report).split('<h2 id="soundness">')
    for words in ("data_contradict", "undecided or not judged", "2 problems, half", "say it cannot be solved"):
        assert words in section


def test_numbers_and_labels_and_samples_stay_small() -> None:
    numbers, free = Numbers([0, 1, 2], 0), Numbers(None, 0)
    for value in (-5, 0, 1.5, 2, 9, None, True, "x", 1e300):
        numbers.count(value)
    assert numbers.bars() == [("0", 2), ("1", 3)] and len(numbers) == 5 and (numbers.least, numbers.most) == (-5, 9)
    for value in range(10_000):
        free.count(value / 7)
    assert 6 <= len(free.bars()) <= 14 and abs(sum(count for _, count in free.bars()) - 10_000) < 20
    assert abs(free.quantile(0.5) - 10_000 / 14) < 50
    labels = Labels()
    for i in range(1000):
        labels.count(f"label {i}")
    assert len(labels) == MOST_LABELS + 1 and labels[OTHERS] == 1000 - MOST_LABELS
    first, second = Reservoir[int](5, 1), Reservoir[int](5, 1)
    for reservoir in (first, second):
        for i in range(1000):
            reservoir.offer(lambda i=i: i)  # type: ignore[misc]
    assert first.kept == second.kept and len(set(first.kept)) == 5 and max(first.kept) > 5


# --- the page --------------------------------------------------------------------------------------------------------

VOID = {"img", "input", "meta", "rect"}
HTML = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "h4",
        "p",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ),
    *("div", "section", "details", "summary", "dl", "dt", "dd", "code", "span", "pre", "b", "nav", "a"),
    *("img", "label", "input", "output", "script"),
}
SAFE_ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "id", "scope", "dir", "style", "viewbox", "width", "height"),
    *("alt", "src", "href", "aria-label", "open", "hidden", "title", "type", "placeholder", "data-of"),
}
STYLE = re.compile(r"background: rgb\(var\(--bar\) / [\d.]+\)")


class Strict(HTMLParser):
    """Reads a page and refuses what is not closed, and any element, attribute or style that the page may not have."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.maths = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = "math" in self.open or tag == "math"
        assert tag in (ELEMENTS if inside else HTML), tag
        self.maths += tag == "math"
        for name, value in attrs:
            assert name in (ATTRIBUTES if inside else SAFE_ATTRIBUTES), (tag, name)
            assert name != "style" or STYLE.fullmatch(value or ""), value
            assert name == "alt" or not re.search("javascript|http:|url", value or ""), value
            assert name != "href" or re.fullmatch("#[a-z-]+", value or ""), value
            assert name != "src" or re.fullmatch("data:image/svg[+]xml;base64,[A-Za-z0-9+/=]+", value or ""), value
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        assert decl == "DOCTYPE html"

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_a_page_has_its_sections_and_mathematics(job: Path) -> None:
    parser = read(page(read_job(job)))
    text = "".join(parser.text)
    for words in (
        "Fields by difficulty",
        "pass rate",
        "agreement",
        "finish reason",
        "distance to the nearest neighbour",
        "tokens/s",
    ):
        assert words in text
    assert parser.maths > 50


def test_the_first_screen_says_what_became_of_the_problems(job: Path) -> None:
    """Generated, clean, in the dataset, verified; the funnel ends at what was exported, and marks are no steps."""
    report = read_job(job)
    assert [(name, value) for name, value, _ in report.tiles] == [
        ("generated", "205"),
        ("clean", "200"),
        ("so far", "100"),
        ("verified", "75%"),
    ]
    kept = job / "job_ins_clean_4res_verified_distance_filtered_sft.jsonl"
    exported = program("export", "--input_file", kept, "--format", "messages", "--output_folder", job / "job_sft")
    assert exported.returncode == 0, exported.stderr
    steps = read_job(job).steps
    assert steps[-1].name == "in the dataset" and 0 < steps[-1].count < steps[-2].count == 100  # what was cut is left out
    assert steps[-1].read == steps[-1].count + sum(steps[-1].reasons.values())


def test_what_says_nothing_is_hidden(tmp_path: Path) -> None:
    """A label that all records have, and a number that is always the same, get no chart."""
    rows = [{"id": i, "instruction": "?", "domain": "algebra", "language": "en", "pass_rate": 0.5} for i in range(9)]
    stage(tmp_path / "a_ins.jsonl", "gen_ins.py", rows)
    assert "<h3>language" not in (same := page(read_job(tmp_path))) and "<h3>pass rate" not in same
    rows[0] |= {"language": "ja", "pass_rate": 0.75}
    stage(tmp_path / "b_ins.jsonl", "gen_ins.py", rows)
    (tmp_path / "a_ins.run.json").unlink()
    assert "<h3>language" in (other := page(read_job(tmp_path))) and "<h3>pass rate" in other


def test_votes_are_unfolded_and_the_filters_edge_is_shown(tmp_path: Path) -> None:
    """Each response stands under its own final answer; the least agreed that was kept beside the most agreed that was not."""
    base = {"response": "so \\boxed{4}", "answers": ["4", None], "previous": {"responses": ["so 4", "I give up"]}}
    kept = [{"id": i, "instruction": f"kept {i}", "agreement": share} | base for i, share in enumerate((0.9, 0.6))]
    left = [({"id": f"l{i}", "instruction": f"left {i}", "agreement": s}, "low_agreement") for i, s in enumerate((0.1, 0.5))]
    stage(tmp_path / "a_ins.jsonl", "gen_ins.py", kept + [record for record, _ in left])
    stage(tmp_path / "a_ins_filtered_sft.jsonl", "filter.py", kept, left)
    report = read_job(tmp_path)
    assert [[sample.title for sample in side] for side in report.edge] == [["1", "0"], ["l1", "l0"]]
    assert report.edge[0][0].votes == [("4", "so 4", 4), ("no final answer", "I give up", 9)]
    assert ("agreement", "0.60", "good") in report.edge[0][0].chips and ("agreement", "0.50", "bad") in report.edge[1][0].chips
    assert "the 2 responses that voted" in page(report)


def hostile_job(folder: Path) -> Path:
    folder.mkdir()
    made = [
        dict.fromkeys(("instruction", "domain", "difficulty", "response", "reasoning", "majority_answer"), text)
        | {"finish_reason": text, "reward_model": text, "rewards": [1.0, -2.0], "id": f"{i} {text[:5000]}"}
        for i, text in enumerate(HOSTILE)
    ]
    pairs = [
        {"id": i, "pair": 0, "why": text, "answer_chosen": text, "prompt": [{"role": "user", "content": text}]}
        | {side: [{"role": "assistant", "content": text}] for side in ("chosen", "rejected")}
        for i, text in enumerate(HOSTILE)
    ]
    left = [(record, text[:300]) for record, text in zip(made, HOSTILE, strict=True)]
    stage(folder / "<img src=x onerror=1>.jsonl", "gen_ins.py", made, left)
    statistics = {"pairs_by": HOSTILE[0], HOSTILE[1]: HOSTILE[2]}
    stage(folder / "<b>_pairs.jsonl", "gen_po_pairs.py", pairs, arguments={"strategy": HOSTILE[0]}, statistics=statistics)
    return folder


def test_nothing_that_models_wrote_becomes_markup(tmp_path: Path) -> None:
    started = time.monotonic()
    text = page(read_job(hostile_job(tmp_path / "<script>1<")))
    assert time.monotonic() - started < 30
    parser = read(text)
    shown = "".join(parser.text)
    assert "<script>alert(1)</script>" in shown and "javascript:alert(1)" in shown  # as text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200f\u0007\x1b\u2028\ufeff]", text)
    assert text.lower().count("<script") == 1 and SCRIPT.read_text() in text and "{{ report.__class__ }}" in shown
    assert "default-src 'none'" in text
    assert len(text.encode()) < 5_000_000


def test_a_page_of_many_long_records_stays_small(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    long = "<&>\"'" * 200 + " $\\frac{a}{b}$" * 2000
    many = ({"id": i, "instruction": long, "response": long, "reasoning": long, "domain": f"{i}"} for i in range(500))
    stage(
        folder / "x_ins.jsonl", "gen_ins.py", many, (({"id": f"d{i}", "instruction": long}, f"reason {i}") for i in range(100))
    )
    text = page(read_job(folder))
    read(text)
    assert len(text.encode()) < 5_000_000


@pytest.mark.parametrize(
    ("latex", "holds"),
    [
        ("\\frac{1}{2} < x", "<mfrac>"),
        ("\\boxed{5}", 'notation="box"'),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "<mtable>"),
        ("\\text{<b>}", "&lt;b&gt;"),
        ("\\text{&lt;b&gt;}", "&lt;b&gt;"),
        ("\\color{red}{x}", "<mstyle>"),
        ("\\hspace{9999em}x", "<mspace></mspace>"),
        ("\\href{javascript:1}{x}", ""),
        ("\\newcommand{\\a}{\\a\\a}\\a", ""),
        ("\\nosuchcommand x", ""),
        ("{" * 100 + "x" + "}" * 100, ""),
        ("{" * 999, ""),
        ("\\left(", ""),
        ("x" * 100_000, ""),
    ],
)
def test_formulas_become_mathml_or_nothing(latex: str, holds: str) -> None:
    made = mathml(latex, "inline")
    assert (holds in made and made.startswith("<math ")) if holds else made == ""


def test_a_formula_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from latex2mathml.converter import Converter

    monkeypatch.setattr(Converter, "convert_to_element", lambda *_: time.sleep(30))
    started = time.monotonic()
    assert mathml("x", "inline") == "" and time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "formulas"),
    [("It costs $5 and $10.", 0), ("$x$ and \\(y\\) and \\[z\\] and $$w$$", 4), ("\\$3 is $3$", 1), ("$ x $", 0), ("$x", 0)],
)
def test_what_is_a_formula(text: str, formulas: int) -> None:
    maths = MathText(most_bytes=10**6, most_seconds=10)
    made = maths.html(text)
    assert made.count("<math") == formulas == maths.shown
    spent = MathText(most_bytes=0, most_seconds=10)
    assert "<math" not in spent.html(text) and spent.raw == formulas


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert visible("a\r\n\tb\u00a0é\u202e\x00\u3000") == "a\n    b\u00a0é\ufffd\ufffd\u3000"


# --- as a user runs it -----------------------------------------------------------------------------------------------


def test_the_program_writes_the_page_beside_the_files(job: Path) -> None:
    done = program("report", job)
    assert done.returncode == 0 and str(job / "report.html") in done.stderr, done.stderr
    read((job / "report.html").read_text(encoding="utf-8"))
    done = program("report", job.name, "--output_file", job / "other.html", env={"DATA_DIR": str(job.parent)})
    assert done.returncode == 0 and (job / "other.html").exists()
    assert program("report", job, "--output_file", job / "other.html").returncode == 0  # its own page it makes again
    (job / "mine.html").write_text("mine")
    done = program("report", job, "--output_file", job / "mine.html")
    assert done.returncode == 2 and "is not a report" in done.stderr and (job / "mine.html").read_text() == "mine"


@pytest.mark.parametrize("which", ["no-such-job", "EMPTY"])
def test_what_is_no_job_is_refused(which: str, tmp_path: Path) -> None:
    done = program("report", tmp_path if which == "EMPTY" else which)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert ("not a job" if which == "EMPTY" else "no such folder") in done.stderr


def test_broken_and_older_files_are_told_or_left_out(job: Path) -> None:
    (job / "other.run.json").write_text("{")
    (job / "old.run.json").write_text('{"status": "complete", "stage": "gen_ins.py"}')
    with (job / "job_ins_clean_4res_verified_distance.jsonl").open("a") as file:
        file.write('{"instruction": 5}\n{"torn')
    report = read_job(job)
    assert report.facts and (report.facts.records, report.facts.unreadable) == (200, 2)
    assert "2 rows could not be read" in page(report)


@pytest.mark.parametrize("given", [["/"], ["/", "--split", "train"]])
def test_a_folder_without_a_name_is_refused_in_words(given: list[str]) -> None:
    done = program("report", *given)
    assert done.returncode == 2 and "job" in done.stderr and "Traceback" not in done.stderr

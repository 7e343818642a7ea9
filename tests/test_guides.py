"""The guides: what they say of flags, errors, files and each other is so."""

from __future__ import annotations

import json
import re
import subprocess

import docs as guides
import pytest

from conftest import program
from magpie.config.load import PROJECT

PAGES = [*sorted((PROJECT / "docs").glob("*.md")), *sorted(PROJECT.glob("*.md"))]
STAGES = sorted(path.stem for path in (PROJECT / "exp").glob("*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_program_has_a_page(stage):
    assert f"<!-- flags: {stage} -->" in (PROJECT / "docs" / f"{stage}.md").read_text(encoding="utf-8")
    assert f"({stage}.md)" in (PROJECT / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", list(guides.pages()), ids=lambda page: page.stem)
def test_the_flags_on_a_page_are_those_of_help(page):
    text = page.read_text(encoding="utf-8")
    assert guides.written(text) == text, "run bash scripts/docs.sh"


def test_the_table_has_every_flag_that_help_shows():
    shown = program("gen_res", "--help").stdout
    table = guides.flags_of("gen_res")
    assert {flag for flag in re.findall(r"^  (--\w+)", shown, re.MULTILINE) if f"`{flag}" not in table} == set()


def test_the_script_writes_what_was_changed_by_hand(tmp_path):
    page = tmp_path / "docs" / "serve.md"
    page.parent.mkdir()
    page.write_text("# x\n<!-- flags: serve -->\nto be replaced\n<!-- end of flags -->\nend\n", encoding="utf-8")
    written = guides.written(page.read_text(encoding="utf-8"))
    assert "`--max_restarts MAX_RESTARTS`" in written
    assert "to be replaced" not in written
    assert written.endswith("<!-- end of flags -->\nend\n")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "LOG.md"], ids=lambda page: page.name)
def test_commands_on_a_page_have_flags_that_exist(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for stage, arguments in re.findall(r"python3? exp/(\w+)\.py([^\n`#;|]*)", text):
        known = {name for action in guides.parser_of(stage)._actions for name in action.option_strings}
        own = re.split(r"\s--\s", arguments)[0]
        assert set(re.findall(r"(?<!\S)--\w+", own)) - known == set(), f"{stage}.py{arguments}"


def sources() -> str:
    """Return what the programs, scripts and chains of stages say, with texts that stand in pieces put together."""
    scripts = [file for ending in ("*.sh", "*.sbatch") for file in (PROJECT / "scripts").rglob(ending)]
    files = [*(PROJECT / "exp").rglob("*.py"), *scripts, *(PROJECT / "configs" / "jobs").glob("*.yaml")]
    joined = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r"\"\s*\n\s*f?\"", "", joined)


def test_the_errors_of_the_troubleshooting_page_are_really_printed():
    page = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    said = [
        cell for line in page.splitlines() if line.startswith("| `") for cell in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]
    text = sources()
    assert len(said) > 25
    assert [phrase for phrase in said if phrase not in text] == []


def test_the_japanese_troubleshooting_page_has_the_same_errors_and_sections():
    pages = [(PROJECT / "docs" / name).read_text(encoding="utf-8") for name in ("troubleshooting.md", "troubleshooting.ja.md")]
    cells = [
        [re.findall(r"`([^`]+)`", line.split(" | ")[0]) for line in page.splitlines() if line.startswith("| `")]
        for page in pages
    ]
    assert [one[0] for one in cells[0]] == [one[0] for one in cells[1]]
    assert len(re.findall("^#+ ", pages[0], re.MULTILINE)) == len(re.findall("^#+ ", pages[1], re.MULTILINE))
    assert len(re.findall("^- ", pages[0], re.MULTILINE)) == len(re.findall("^- ", pages[1], re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_scripts_that_are_named_are_there(page):
    named = set(
        re.findall(r"(?:exp|scripts|tests|benchmarks|configs)/[\w/.-]+\.(?:py|sh|yaml)\b", page.read_text(encoding="utf-8"))
    )
    made_up = {"scripts/magpie-X.sh"}
    assert {name for name in named - made_up if not (PROJECT / name).exists() and not name.split("/")[-1][0].isupper()} == set()


def test_a_rule_of_the_filter_page_is_a_filter(tmp_path):
    page = (PROJECT / "docs" / "add-a-filter.md").read_text(encoding="utf-8")
    rules = tmp_path / "mine.yaml"
    rules.write_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    rows = [
        {"id": 1, "instruction": "x", "response": "y", "duplicate_of": None, "agreement": 0.75, "pass_rate": 0.5},
        {"id": 2, "instruction": "x", "response": "y", "duplicate_of": None, "agreement": 0.75, "pass_rate": 1.0},
    ]
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = program("filter", "--config", rules, "--input_file", source)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a_filtered_dropped.jsonl").read_text(encoding="utf-8"))["drop_reason"] == "too_easy"


def test_docs_sh_changes_nothing_when_all_is_in_step():
    before = {page: page.read_bytes() for page in guides.pages()}
    subprocess.run(["bash", str(PROJECT / "scripts" / "docs.sh")], check=True, timeout=600)
    assert {page: page.read_bytes() for page in guides.pages()} == before


def test_examples_are_records_apart_from_what_is_cut():
    for page in guides.pages():
        for block in re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            whole = re.sub(r", …(?=[}\]])|, …\(\d+\)|…(?=\])", "", re.sub(r"\[…\(\d+\)\]", "[]", block))
            assert isinstance(json.loads(whole), dict), f"{page}: {block}"

"""Every number of the book comes from a record: none is typed, all can be made again."""

import re
import shutil

import pandas as pd
import pytest
import toy_records
import toy_study
from matplotlib.figure import Figure

from ctd_lib import ARCHS, paths, records
from ctd_lib.book import readme
from ctd_lib.report import findings, fragments, tables
from ctd_lib.report.findings import recipes

PAGES = sorted(
    path
    for path in [*(paths.CHECKOUT / "book").rglob("*.md"), paths.CHECKOUT / "README.md"]
    if not {"generated", "runs"} & set(path.relative_to(paths.CHECKOUT).parts)
)
RESULT = re.compile(
    r"(?<![\w.])[-\N{MINUS SIGN}+]?\d[\d,.]*\s?"
    r"(?:%|(?:ms|MiB|GiB|s|seconds|points|F1|tokens/s|nats|times (?:faster|slower))\b)"
    r"|(?<![\w.])0\.\d+\b"
)
"""A number with a unit that only results have, or a score."""
ALLOWED = re.compile(
    r"\b95 %"  # the level of all intervals
    r"|\((?:V|S|I)\)"  # the paragraph quotes the paper, with its mark
    r"|\bunder \d"  # what a profile may take at most
    r"|may differ by"  # a tolerance, which is chosen and not measured
)


def typed(text: str) -> list[str]:
    """Paragraphs of a page that have a result typed by hand."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = readme.BLOCK.sub("", text)  # made from records
    text = re.sub(r"^```(?!\{admonition\}).*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    return [
        part.strip()
        for part in re.split(r"\n\s*\n", text)
        if RESULT.search(part) and not ALLOWED.search(part)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_result_is_typed_on_a_page(page):
    assert typed(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["The student keeps 97.4 % of it.", "It needs 120 ms.", "An F1 of 0.93.", "| lsg | 1.5 GiB |"],
)
def test_a_typed_result_is_found(text):
    assert typed(f"# Page\n\nWords.\n\n{text}\n") == [text]


@pytest.mark.parametrize(
    "text",
    ["Up to 98.6 % (V).", "The 95 % interval.", "With `weight 0.5`.", "4,096 tokens, 12 layers."],
)
def test_what_may_be_typed(text):
    assert typed(f"# Page\n\n{text}\n") == []


def test_the_readme_says_what_the_committed_records_say(monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(paths.CHECKOUT))
    [block] = readme.BLOCK.findall((paths.CHECKOUT / "README.md").read_text(encoding="utf-8"))
    assert block == readme.headline(), "run `python -m ctd_lib.book readme`"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A home with toy records of both profiles, of time those of quick, and all made of them."""
    home = tmp_path_factory.mktemp("home")
    made = toy_study.main(ARCHS, recipes.PROBES)
    made += [
        toy_study.finetuned("longformer", "student", task, 0.8, "short-text")
        for task in recipes.PROBES
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_HOME", str(home))
        patch.setattr(Figure, "savefig", lambda *_, **__: None)
        toy_records.write(toy_records.make(), paths.results("quick"))
        toy_study.write(made, paths.results("study"))
        write()
    return home


def write():
    """All pieces; of figures the fragments alone, since drawing them takes long."""
    tables.write_all("quick")
    findings.write_all("quick")


def test_records_alone_make_the_same_pieces_again(written, tmp_path, monkeypatch):
    shutil.copytree(written / "results", tmp_path / "results")
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    write()
    before = written / "book" / "generated"
    again = paths.book_generated()
    for kind in ("*/*.md", "*/*.csv", "*/*.txt"):
        names = [path.relative_to(before) for path in sorted(before.glob(kind))]
        assert len(names) > 10
        for name in names:
            assert (again / name).read_bytes() == (before / name).read_bytes(), name


def test_findings_name_the_study_and_their_links_hold_in_any_folder(written):
    folder = written / "book" / "generated"
    for finding in findings.FINDINGS:
        assert (folder / "findings" / f"{finding.name}.md").is_file()
    text = (folder / "tables" / "finding_short_tasks.md").read_text()
    assert "</book/generated/tables/finding_short_tasks.csv>" in text
    assert "`results/study`" in text
    assert "`results/study` and `results/quick`" in (folder / "tables" / "front.md").read_text()
    figure = (folder / "figures" / "finding_short_tasks.md").read_text()
    assert "{figure} /book/generated/figures/finding_short_tasks.svg" in figure


def test_every_cell_of_a_page_is_a_cell_of_its_file(written):
    folder = written / "book" / "generated" / "tables"
    files = [path.with_suffix(".csv") for path in sorted(folder.glob("*.md"))]
    files = [path for path in files if path.is_file()]
    assert len(files) > 30
    for file in files:
        frame = pd.read_csv(file, keep_default_na=False, dtype=str)
        shown = shown_rows((folder / f"{file.stem}.md").read_text())
        assert len(shown) == len(frame), file.name
        for cells, row in zip(shown, frame.to_dict("records"), strict=True):
            for cell, (column, value) in zip(cells, row.items(), strict=True):
                assert cell in (fragments.cell(value, column), as_number(value, column)), file.name


def test_every_number_of_a_verdict_stands_in_a_table_of_its_page(written, monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(written))
    found = records.load("study")
    checked = 0
    for finding in findings.FINDINGS:
        outcome = finding.build(found)
        cells = {
            as_number(value, column).lstrip("+\N{MINUS SIGN}")
            for piece in outcome.pieces
            for column in piece.frame
            for value in piece.frame[column]
        }
        for answer in outcome.answers:
            for number in re.findall(r"\d+\.\d+", answer.because):
                assert number in cells, (finding.name, number)
                checked += 1
    assert checked > 10


def shown_rows(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def as_number(value, column: str) -> str:
    try:
        return fragments.cell(float(value), column)
    except ValueError:
        return ""

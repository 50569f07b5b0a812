"""What may be published: finished runs that still fit their source; the build without warnings."""

import re
import shutil

import nbformat
import pytest
import toy_records
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ctd_lib import book, paths
from ctd_lib.errors import CtdError
from ctd_lib.report import benchmarks, figures, findings, tables


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A home with toy records, their tables and figures, and one good run of a toy notebook."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_HOME", str(folder))
        toy_records.write(toy_records.make(), paths.results("quick"))
        tables.write_all("quick")
        benchmarks.write_all()
        figures.write_all("quick")
        findings.write_all("quick")
        save(run(), paths.book_runs() / "03_distill-lsg.ipynb")
    save(source(), folder / "notebooks" / "03_distill.ipynb")
    return folder


@pytest.fixture
def home(template, tmp_path, monkeypatch):
    """A copy of the template, the current home."""
    folder = shutil.copytree(template, tmp_path / "home")
    monkeypatch.setenv("CTD_HOME", str(folder))
    monkeypatch.setattr(paths, "notebooks", lambda: folder / "notebooks")
    return folder


def source():
    cells = [
        new_markdown_cell("# Distill"),
        new_code_cell('arch: str = "full"', metadata={"tags": ["parameters"]}),
        new_code_cell("print(arch)"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def run():
    """The source as papermill leaves it: a title, injected parameters, outputs."""
    notebook = source()
    notebook.cells[0].source = "# Distill: lsg"
    injected = new_code_cell("arch = 'lsg'", metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(2, injected)
    for number, cell in enumerate(notebook.cells[1:], start=1):
        cell.execution_count = number
    notebook.cells[3].outputs = [new_output("stream", text="lsg\n")]
    return notebook


def save(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def refused(notebook, message, name="03_distill-lsg"):
    save(notebook, paths.book_runs() / f"{name}.ipynb")
    with pytest.raises(CtdError, match=message):
        book.check()


def test_a_good_run_passes(home):
    book.check()


def test_an_error_is_refused(home):
    failed = run()
    failed.cells[3].outputs = [
        new_output("error", ename="ValueError", evalue="no", traceback=["no"])
    ]
    refused(failed, "03_distill-lsg.ipynb holds an error")


def test_papermills_mark_of_failure_is_refused(home):
    failed = run()
    failed.metadata["papermill"] = {"exception": True}
    refused(failed, "failed")


def test_an_unfinished_run_is_refused(home):
    unfinished = run()
    unfinished.cells[3].execution_count = None
    refused(unfinished, "unfinished")


def test_a_changed_source_makes_a_run_stale(home):
    changed = source()
    changed.cells[2].source = "print(arch, 2)"
    save(changed, paths.notebooks() / "03_distill.ipynb")
    with pytest.raises(CtdError, match="stale"):
        book.check()


def test_a_run_of_no_notebook_is_refused(home):
    refused(run(), "no notebook", name="99_else-lsg")


def test_what_is_no_notebook_is_refused(home):
    (paths.book_runs() / "03_distill-lsg.ipynb").write_text("{")
    with pytest.raises(CtdError, match="no notebook"):
        book.check()


def test_a_record_of_another_schema_is_refused(home):
    record = toy_records.make()[0] | {"schema": 0}
    toy_records.write([record], paths.results("quick"))
    with pytest.raises(CtdError, match="schema"):
        book.check()


def test_predictions_of_another_run_are_refused(home):
    kept = next(paths.results("quick").glob("predictions/*.json.gz"))
    kept.write_bytes(b"of another run")
    with pytest.raises(CtdError, match=f"{kept.name} does not hold the predictions"):
        book.check()


@pytest.mark.parametrize("name", ["tables/headline.md", "figures/latency.svg"])
def test_a_missing_piece_is_named(home, name):
    (paths.book_generated() / name).unlink()
    with pytest.raises(CtdError, match=name.split("/")[1]):
        book.check()


def test_no_records_no_book(home):
    with pytest.raises(CtdError, match="no records"):
        book.check("study")


def test_building_elsewhere_than_in_a_checkout_is_refused(home, capsys):
    assert book.main(["build"]) == 1
    assert "_config.yml" in capsys.readouterr().err


def test_digest_ignores_title_parameters_and_outputs(home, tmp_path):
    first, second = paths.notebooks() / "03_distill.ipynb", tmp_path / "executed.ipynb"
    save(run(), second)
    assert book.source_digest(first) == book.source_digest(second)


@pytest.mark.slow
def test_the_book_builds_without_warnings_or_remote_scripts(home):
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(paths.CHECKOUT / name, home)
    for path in (paths.CHECKOUT / "book").iterdir():
        if path.suffix in (".md", ".bib"):
            shutil.copy(path, home / "book")
        elif path.name in ("_static", "_ext", "findings"):
            shutil.copytree(path, home / "book" / path.name)
    first = book.build()
    assert first.is_file()
    pages = list((home / "_build" / "html" / "book").rglob("*.html"))
    assert {"index.html", "results.html", "03_distill-lsg.html"} <= {page.name for page in pages}
    remote = re.compile(
        r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=.(?:https?:)?//|<script>[^<]*https?://"
    )
    for page in pages:
        text = page.read_text()
        assert not remote.search(text), page
        for image in re.findall(r"<img\b[^>]*>", text):
            assert re.search(r'alt="[^"]+"', image), image

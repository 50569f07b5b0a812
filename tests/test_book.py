"""What may be published: finished runs that still fit their source; the build without warnings."""

import json
import shutil
import zipfile

import nbformat
import pytest
import toy_records
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ctd_lib import book, paths
from ctd_lib.book import browser, builder, versions
from ctd_lib.book.__main__ import main
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
    assert main(["build"]) == 1
    assert "_config.yml" in capsys.readouterr().err


def test_without_executed_notebooks_their_chapter_is_left_out(home, monkeypatch):
    """As in a fresh clone, whose records of the study are there and whose runs are not."""
    calls = []
    monkeypatch.setattr(builder, "_run", lambda root, *options: calls.append(options))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(paths.CHECKOUT / name, home)
    builder.html()
    shutil.rmtree(paths.book_runs())
    builder.html()
    assert calls[0] == () and calls[1][0] == "--toc"
    shown = calls[1][1].read_text()
    assert "book/findings/index" in shown and "glob" not in shown and "executed" not in shown


def test_digest_ignores_title_parameters_and_outputs(home, tmp_path):
    first, second = paths.notebooks() / "03_distill.ipynb", tmp_path / "executed.ipynb"
    save(run(), second)
    assert book.source_digest(first) == book.source_digest(second)


@pytest.fixture
def editions(home, monkeypatch):
    """The home with settings; the builder writes one page that says how often it was called."""
    shutil.copy(paths.CHECKOUT / "_config.yml", home)
    calls = []

    def edition(version, folder):
        calls.append(version)
        page = folder / "_build" / "html" / "book" / "results.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"{version}, build {len(calls)}")
        return page.parents[1]

    monkeypatch.setattr(builder, "edition", edition)
    monkeypatch.setattr(browser, "find", lambda: None)
    return home / "site"


def menu(site):
    text = (site / "versions.js").read_text()
    return json.loads(text.removeprefix("window.ctdVersions = ").removesuffix(";\n"))


def test_published_versions_are_listed_the_newest_first(editions):
    versions.publish("1.0")
    about = json.loads((editions / "1.0" / "version.json").read_text())
    about["date"] = "2000-01-01T00:00:00+00:00"
    (editions / "1.0" / "version.json").write_text(json.dumps(about))
    versions.publish("2.0")
    assert [one["version"] for one in menu(editions)] == ["2.0", "1.0"]
    assert menu(editions)[0]["pages"] == ["book/results.html"]
    listed = (editions / "index.html").read_text()
    assert listed.index("2.0/index.html") < listed.index("1.0/index.html")
    assert about["records"] == len(toy_records.make())


def test_a_published_version_stays(editions):
    versions.publish("1.0")
    with pytest.raises(CtdError, match=r"1\.0 is published already"):
        versions.publish("1.0")
    versions.publish("2.0")
    assert (editions / "1.0" / "book" / "results.html").read_text() == "1.0, build 1"


def test_force_replaces_a_version_and_its_archive(editions):
    versions.publish("1.0")
    versions.publish("1.0", force=True)
    with zipfile.ZipFile(editions / "1.0.zip") as archive:
        assert archive.read("1.0/book/results.html") == b"1.0, build 2"
    assert (editions / "1.0" / "book" / "results.html").read_text() == "1.0, build 2"
    assert sorted(path.name for path in editions.iterdir()) == [
        "1.0", "1.0.zip", "index.html", "versions.js",
    ]  # fmt: skip


def test_a_failed_build_publishes_nothing(editions, monkeypatch):
    versions.publish("1.0")

    def fails(version, folder):
        raise CtdError("the book was not built cleanly")

    monkeypatch.setattr(builder, "edition", fails)
    for version in ("1.0", "2.0"):
        with pytest.raises(CtdError, match="cleanly"):
            versions.publish(version, force=True)
    assert (editions / "1.0" / "book" / "results.html").read_text() == "1.0, build 1"
    assert not list(editions.glob("2.0*"))


@pytest.mark.parametrize("name", ["", "../1.0", "a/b", ".hidden", "v 1"])
def test_a_version_names_a_folder(editions, name):
    with pytest.raises(CtdError, match="folder's name"):
        versions.publish(name)


def test_a_pdf_without_chromium_is_refused_in_a_sentence(editions, capsys):
    assert main(["pdf"]) == 1
    assert capsys.readouterr().err.startswith("error: the PDF edition needs Chromium")


def test_the_archive_of_records_holds_them_all(home):
    book.prepare("quick")
    with zipfile.ZipFile(paths.book_generated() / "records.zip") as archive:
        names = archive.namelist()
    assert names == [f"quick/{p.name}" for p in sorted(paths.results("quick").glob("*.json"))]

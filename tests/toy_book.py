"""The book's own pages over toy records, for the tests of the built book."""

import shutil
from pathlib import Path

import nbformat
import toy_records

from ctd_lib import paths
from ctd_lib.report import benchmarks, figures, findings, tables

RUN = "06_report-quick"


def make(home: Path) -> None:
    """Fill `home`, which is to be CTD_HOME, with all that a build reads."""
    toy_records.write(toy_records.make(), paths.results("quick"))
    tables.write_all("quick")
    benchmarks.write_all()
    figures.write_all("quick")
    findings.write_all("quick")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(paths.CHECKOUT / name, home)
    shutil.copytree(paths.CHECKOUT / "notebooks", home / "notebooks")
    generated = shutil.ignore_patterns("runs", "generated")
    shutil.copytree(paths.CHECKOUT / "book", home / "book", ignore=generated, dirs_exist_ok=True)
    run = nbformat.read(paths.notebooks() / "06_report.ipynb", as_version=4)
    run.cells[0].source = "# Report: quick"
    for number, cell in enumerate(run.cells[1:], start=1):
        cell.execution_count = number
    paths.book_runs().mkdir()
    nbformat.write(run, paths.book_runs() / f"{RUN}.ipynb")

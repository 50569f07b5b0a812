"""Check and build the report: `python -m ctd_lib.book check` or `build`.

Executed notebooks are published as they are, never run again; so a failed, unfinished or stale one
must be kept out here, because the builder itself would publish it without a warning.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nbformat

from ctd_lib import paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import benchmarks, figures, tables

INJECTED = "injected-parameters"
SUMMARY = "summary"


def source_digest(path: Path) -> str:
    """Digest of a notebook's cell sources, the same for a source and for its executed copy.

    The first cell is left out (its title differs from run to run) and so is the cell of parameters
    that papermill injects.

    Raises:
        CtdError: the file is no notebook.
    """
    cells = [
        [cell.cell_type, cell.source]
        for cell in _read(path).cells[1:]
        if INJECTED not in cell.metadata.get("tags", [])
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def check(profile: str = "quick") -> None:
    """Refuse what must not be published.

    Raises:
        CtdError: a run is failed, unfinished, stale or of no known notebook; a record does not fit
            the schema, or lacks the predictions that it was written with; a table or a figure is
            missing.
    """
    for path in sorted(paths.book_runs().glob("*.ipynb")):
        _check_run(path)
    found = records.load(profile)
    for row in found[found.predictions.notna()].itertuples():
        records.check_predictions(row.path, row.predictions)
    if found.empty:
        raise CtdError(f"profile {profile!r} has no records; `make report` makes those of quick.")
    generated = paths.book_generated()
    names = [table.name for table in (*tables.TABLES, *benchmarks.TABLES, benchmarks.TRAINING)] + [
        SUMMARY
    ]
    expected = [generated / "tables" / f"{name}.md" for name in names]
    expected += [generated / "figures" / f"{plot.name}.svg" for plot in figures.PLOTS]
    for path in expected:
        if not path.is_file():
            raise CtdError(f"{path} is missing; run notebooks/06_report.ipynb to make it.")


def build(profile: str = "quick") -> Path:
    """Check, then build the HTML, warnings as errors; return the path of the first page.

    Raises:
        CtdError: the check failed, the book's sources are not there, or the builder found a fault.
    """
    check(profile)
    root = paths.home()
    if not (root / "_config.yml").is_file():
        raise CtdError(f"{root} holds no _config.yml; build the book in a checkout of the project.")
    builder = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*builder, "build", str(root), "-n", "-W", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise CtdError("the book was not built cleanly; the warnings above name page and line.")
    return root / "_build" / "html" / "index.html"


def _check_run(path: Path) -> None:
    notebook = _read(path)
    if notebook.metadata.get("papermill", {}).get("exception"):
        raise CtdError(f"{path} failed; mend the cause and run it again, or delete it.")
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if any(output.output_type == "error" for output in cell.outputs):
            raise CtdError(f"{path} holds an error; mend the cause and run it again, or delete it.")
        if cell.source.strip() and cell.execution_count is None:
            raise CtdError(f"{path} is unfinished; run it again, or delete it.")
    name = path.name.removesuffix(".ipynb").split("-")[0]
    source = paths.notebooks() / f"{name}.ipynb"
    if not source.is_file():
        raise CtdError(f"{path} is a run of no notebook in {source.parent}; delete it.")
    if source_digest(path) != source_digest(source):
        raise CtdError(f"{path} is stale: {source.name} has changed since; run it again.")


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, OSError) as error:
        raise CtdError(f"{path} is no notebook: {error}.") from error


def main(arguments: list[str] | None = None) -> int:
    """The command line; errors of the user are one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m ctd_lib.book", description=__doc__)
    parser.add_argument("verb", choices=["check", "build"])
    parser.add_argument("--profile", default="quick")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "check":
            check(given.profile)
            print("The report may be published.")
        else:
            print(f"The report: {build(given.profile)}")
    except CtdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What may be published, and what is made just before.

Executed notebooks are published as they are, never run again; so a failed, unfinished or stale one
must be kept out here, because the builder itself would publish it without a warning.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import nbformat

from ctd_lib import paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import benchmarks, drift, figures, findings, tables

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
    if records.load(profile).empty:
        raise CtdError(f"profile {profile!r} has no records; `make report` makes those of quick.")
    for name in _profiles(profile):
        found = records.load(name)
        for row in found[found.predictions.notna()].itertuples():
            records.check_predictions(row.path, row.predictions)
    generated = paths.book_generated()
    shown = (*tables.TABLES, *benchmarks.TABLES, *benchmarks.SCRIPTS.values(), *findings.COVERAGE)
    expected = [generated / "tables" / f"{table.name}.md" for table in shown]
    expected += [generated / "tables" / f"{name}.md" for name in (SUMMARY, findings.OVERVIEW)]
    expected += [generated / "findings" / f"{page.name}.md" for page in findings.FINDINGS]
    expected += [generated / "figures" / f"{plot.name}.svg" for plot in figures.PLOTS]
    for path in expected:
        if not path.is_file():
            raise CtdError(f"{path} is missing; run notebooks/06_report.ipynb to make it.")


def prepare(profile: str) -> None:
    """Check, and write the pieces of pages that depend on more than 06_report's own run.

    Raises:
        CtdError: as `check`.
    """
    check(profile)
    drift.write(profile)
    _pack_records(profile)


def _pack_records(profile: str) -> None:
    """The records behind the book's numbers in one archive; the same records, the same bytes."""
    target = paths.book_generated() / "records.zip"
    names = (*_profiles(profile), benchmarks.FOLDER, tables.WALK)
    folders = [paths.results(name) for name in names]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for folder in folders for path in folder.glob("*.json")):
            name = f"{path.parent.name}/{path.name}"
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def _profiles(profile: str) -> list[str]:
    """Whose records the book shows: the profile's, and those of the study."""
    return list(dict.fromkeys((profile, findings.PROFILE)))


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

"""The source notebooks keep the rules that a reader and papermill rely on."""

import ast
import subprocess
import sys

import nbformat
import pytest

from ctd_lib import params, paths

STAGES = {
    "01_convert": params.ConvertParams,
    "02_pretrain": params.PretrainParams,
    "03_distill": params.DistillParams,
    "04_finetune": params.FinetuneParams,
    "05_measure": params.MeasureParams,
    "06_report": params.ReportParams,
}


@pytest.fixture(params=STAGES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(paths.notebooks() / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_sources_carry_no_outputs_and_the_plain_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(notebook))


def test_first_cell_says_what_the_notebook_is_for(notebook):
    text = notebook.cells[0].source
    assert text.startswith("# ")
    assert all(word in text for word in ("**Asks**", "**Reads**", "**Writes**", "**Runtime**"))
    headings = [
        c for c in notebook.cells if c.cell_type == "markdown" and c.source.startswith("# ")
    ]
    assert len(headings) == 1


def test_parameters_cell_names_exactly_the_parameters_of_the_stage(name, notebook):
    cell = notebook.cells[1]
    assert "parameters" in cell.metadata.tags
    assignments = ast.parse(cell.source).body
    assert all(isinstance(node, ast.AnnAssign) for node in assignments)
    given = {node.target.id: ast.literal_eval(node.value) for node in assignments}
    assert set(given) == set(params.names(STAGES[name]))
    lines = [line for line in cell.source.splitlines() if not line.startswith("#")]
    assert all(line.count("=") == 1 and "  # " in line for line in lines)
    chosen = params.make(STAGES[name], **given)
    assert params.as_dict(chosen) == params.as_dict(params.make(STAGES[name]))


def test_code_cells_are_short_and_define_nothing(notebook):
    for cell in code_cells(notebook)[1:]:
        assert len(cell.source.splitlines()) <= 12
        nodes = list(ast.walk(ast.parse(cell.source)))
        banned = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, banned) for node in nodes)
        numbers = [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, float)]
        assert not numbers


def papermill(*arguments, stdin=""):
    command = [sys.executable, "-m", "papermill", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def test_no_call_overwrites_a_source(tmp_path):
    source = paths.notebooks() / "06_report.ipynb"
    before = source.read_bytes()
    onto_itself = papermill(source, source)
    piped = papermill(source, stdin=before.decode())
    for done in (onto_itself, piped):
        assert done.returncode != 0
        assert "is a source notebook" in done.stderr
    assert source.read_bytes() == before


def test_unknown_parameter_stops_the_notebook(tmp_path):
    done = papermill(
        paths.notebooks() / "01_convert.ipynb", tmp_path / "out.ipynb", "-p", "arhc", "lsg"
    )
    assert done.returncode != 0
    assert "unknown parameter 'arhc'" in done.stderr

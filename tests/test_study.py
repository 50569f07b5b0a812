import threading

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ctd_lib import params, paths, pipeline, study
from ctd_lib.errors import CtdError


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of source notebooks with one that works unless it is told to fail."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(paths, "notebooks", lambda: folder)
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    parameters = new_code_cell(
        'profile: str = "quick"\narch: str = "full"', metadata={"tags": ["parameters"]}
    )
    body = new_code_cell('if arch == "lsg":\n    raise ValueError("no such thing")\narch')
    notebook = new_notebook(cells=[new_markdown_cell("# Convert\n\nA toy."), parameters, body])
    notebook.metadata = {
        "kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}
    }
    nbformat.write(notebook, folder / "01_convert.ipynb")
    return folder


def test_matrix_expands_every_combination_in_order(sources):
    (sources / "matrix.yml").write_text(
        "quick:\n"
        "- {notebook: 01_convert, parameters: {arch: [full, lsg]}}\n"
        "- {notebook: 05_measure, alone: true, parameters: {arch: [full], seed: [0, 1]}}\n"
    )
    groups = study.matrix("quick")
    assert [[run.name for run in runs] for runs, _ in groups] == [
        ["01_convert-full", "01_convert-lsg"],
        ["05_measure-full", "05_measure-full-seed1"],
    ]
    assert [alone for _, alone in groups] == [False, True]


def test_every_profile_of_the_project_has_runs_with_distinct_names():
    for profile in ("quick", "study", "paper"):
        names = [run.name for runs, _ in study.matrix(profile) for run in runs]
        assert len(names) == len(set(names)) > 10


def test_the_papers_profile_has_all_of_its_tasks_and_one_student_an_arch():
    """Several seeds of finetuning must not train teachers and students anew."""
    runs = [run.parameters for group, _ in study.matrix("paper") for run in group]
    of_paper = {"conll2003", "squad", "hotpotqa", "triviaqa", "gonerd"}
    glue = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"}
    assert {run["task"] for run in runs if "task" in run} == of_paper | glue
    assert {run["finetune_seed"] for run in runs if "task" in run} == {0, 1, 2}
    assert not any("seed" in run for run in runs)


def test_unknown_profile_is_named(sources):
    (sources / "matrix.yml").write_text("quick: []")
    with pytest.raises(CtdError, match=r"'huge'.*quick"):
        study.matrix("huge")


def test_a_finished_run_is_published_under_its_own_title(sources):
    run = study.Run("01_convert", {"profile": "quick", "arch": "full"})
    study._execute(run, threads=1)
    published = nbformat.read(run.target, as_version=4)
    assert published.cells[0].source.startswith("# Convert: full\n")
    assert "A toy." in published.cells[0].source
    assert "'full'" in str(published.cells[-1].outputs)


def test_a_failed_run_is_not_published_and_says_why(sources):
    run = study.Run("01_convert", {"profile": "quick", "arch": "lsg"})
    with pytest.raises(CtdError, match=r"01_convert-lsg failed .*no such thing"):
        study._execute(run, threads=1)
    assert not run.target.exists()


def test_an_executed_notebook_without_a_record_or_of_a_changed_source_is_run_again(
    sources, monkeypatch
):
    run = study.Run("01_convert", {"profile": "quick", "arch": "full"})
    study._execute(run, threads=1)
    assert not study._up_to_date(run)  # no record
    recorded = params.as_dict(params.make(params.ConvertParams, arch="full"))
    del recorded["variant"]
    found = pd.DataFrame([{"kind": "convert", "params": recorded}])
    monkeypatch.setattr(study.records, "load", lambda profile: found)
    assert study._up_to_date(run)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "REVISIONS", pipeline.REVISIONS | {"convert": 1000})
        assert not study._up_to_date(run)
    path = sources / "01_convert.ipynb"
    path.write_text(path.read_text().replace("no such thing", "another thing"))
    assert not study._up_to_date(run)


def test_a_core_that_is_free_goes_on_with_the_next_group(sources, monkeypatch):
    (sources / "matrix.yml").write_text(
        "quick:\n"
        "- {notebook: 01_convert, parameters: {arch: [full]}}\n"
        "- {notebook: 02_pretrain, parameters: {arch: [full]}}\n"
        "- {notebook: 05_measure, alone: true, parameters: {arch: [full]}}\n"
    )
    started, finished = {one: threading.Event() for one in ("02_pretrain", "05_measure")}, []

    def ensure(one, threads):
        started.get(one.notebook, threading.Event()).set()
        if one.notebook == "01_convert":
            assert started["02_pretrain"].wait(timeout=10), "the second group waited"
            assert not started["05_measure"].is_set()
        finished.append((one.notebook, threads))
        return "done"

    monkeypatch.setattr(study, "_ensure", ensure)
    monkeypatch.setattr(study.runtime, "host", lambda: {"cores": 2})
    monkeypatch.setattr(study.tables, "headline", lambda found: pd.DataFrame())
    study.run("quick")
    assert sorted(finished[:2]) == [("01_convert", 1), ("02_pretrain", 1)]
    assert finished[2] == ("05_measure", 2)


def test_only_runs_of_the_names_that_were_asked_for(sources, monkeypatch):
    (sources / "matrix.yml").write_text(
        "quick:\n- {notebook: 01_convert, parameters: {arch: [full, lsg, bigbird]}}\n"
    )
    made = []
    monkeypatch.setattr(study, "_ensure", lambda one, threads: made.append(one.name))
    monkeypatch.setattr(study.tables, "headline", lambda found: pd.DataFrame())
    study.run("quick", only=["lsg", "full"])
    assert sorted(made) == ["01_convert-full", "01_convert-lsg"]
    with pytest.raises(CtdError, match=r"'quick' has 'lgs' in its name.*study list"):
        study.run("quick", only=["lgs"])

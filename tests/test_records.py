import json
from types import SimpleNamespace

import pytest

from ctd_lib import records, runtime
from ctd_lib.errors import CtdError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    return tmp_path


def an_artifact(key="abc"):
    return SimpleNamespace(key=key, provenance=runtime.provenance(1.5) | {"stage_revision": 1})


def write(key="abc", predictions=None, **params):
    chosen = {"arch": "lsg", "seed": 0, "role": "student", "task": "toy"} | params
    source = {"name": "toy", "licence": "none", "synthetic": True}
    return records.write(
        "finetune", "quick", chosen, {"score": 0.5}, source, an_artifact(key), predictions
    )


def test_what_is_written_is_loaded():
    path = write()
    table = records.load("quick")
    row = table.iloc[0]
    assert list(table.columns) == list(records.COLUMNS)
    assert (row.kind, row.arch, row.role, row.task, row.seed) == (
        "finetune",
        "lsg",
        "student",
        "toy",
        0,
    )
    assert row["values"] == {"score": 0.5}
    assert row.path == path


def test_seeds_of_finetuning_stay_apart():
    write("first", finetune_seed=1)
    write("second", finetune_seed=2)
    write("of-all", finetune_seed=None)
    assert set(records.load("quick").seed) == {0, 1, 2}


def test_a_full_disk_leaves_the_old_record_whole(monkeypatch):
    path = write()
    before = path.read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(records.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(task="another")
    assert path.read_bytes() == before


def test_same_artifact_same_file_and_empty_profile_is_an_empty_table():
    assert write() == write()
    assert len(records.load("quick")) == 1
    assert records.load("study").empty


def test_a_record_that_does_not_fit_is_named():
    path = write()
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"kind": "guess"}))
    with pytest.raises(CtdError, match=r"does not fit the schema at kind"):
        records.load("quick")
    path.write_text("{")
    with pytest.raises(CtdError, match="is no JSON"):
        records.load("quick")


def test_no_value_no_record():
    with pytest.raises(CtdError, match="values"):
        records.write("convert", "quick", {"arch": "lsg", "seed": 0}, {}, None, an_artifact())
    assert records.load("quick").empty


def test_predictions_lie_beside_their_record_and_no_others(tmp_path):
    (tmp_path / "made.json.gz").write_bytes(b"of the model")
    path = write(predictions=tmp_path / "made.json.gz")
    kept = records.predictions_of(path)
    assert (kept.parent.parent, kept.read_bytes()) == (path.parent, b"of the model")
    [row] = records.load("quick").itertuples()
    assert records.check_predictions(row.path, row.predictions) == kept
    kept.write_bytes(b"of another")
    with pytest.raises(CtdError, match=r"abc\.json\.gz does not hold the predictions"):
        records.check_predictions(row.path, row.predictions)
    kept.unlink()
    with pytest.raises(CtdError, match="does not hold"):
        records.check_predictions(row.path, row.predictions)
    assert records.load("quick").predictions.notna().all()
    assert write(key="other").exists() and records.load("quick").predictions.isna().sum() == 1

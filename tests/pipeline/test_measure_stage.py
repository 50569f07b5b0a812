"""Measurement through store and records: own models, a folder, the paper's systems."""

import json
from dataclasses import replace

import pytest

from ctd_lib import cli, measure, models, params, pipeline, records
from ctd_lib.errors import CtdError
from ctd_lib.measure import machine, paper, systems
from ctd_lib.report import views

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "vocab_size": 90, "attention_window": 16, "max_position_embeddings": 66,
}  # fmt: skip
PEAKS = {"peak_bytes": 2**21, "baseline_bytes": 2**20}


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Small products, and no process for memory, which other tests measure."""
    monkeypatch.setattr(machine, "SIZE", {"cpu": 64})
    monkeypatch.setattr(machine, "CALIBRATION_SIZE", {"cpu": 16})

    def peaks(what, lengths, *_):
        return dict.fromkeys(lengths, PEAKS)

    monkeypatch.setattr(measure, "peak_memory", peaks)
    monkeypatch.setattr(paper.memory, "in_a_child", peaks)


def test_own_models_have_rows_ratios_and_machine(home, make):
    chosen = make(params.MeasureParams, arch="longformer", lengths=[16, 128], repeats=3)
    artifact = pipeline.measure(chosen)
    (values,) = records.load("quick").query("kind == 'measure'")["values"]
    assert [(row["role"], row["error"]) for row in values["rows"]] == [
        ("teacher", None), ("student", None),
        ("teacher", "not possible: 64 positions"), ("student", "not possible: 64 positions"),
    ]  # fmt: skip
    (ratio,) = values["ratios"]
    assert (ratio["of"]["role"], ratio["to"]["role"]) == ("student", "teacher")
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert values["machine"]["calibration"]["rounds"] >= 3
    assert (values["dtype"], values["device"]) == ("float32", "cpu")
    table = views.measurements(artifact)
    assert list(table["error"]) == ["", "", *["not possible: 64 positions"] * 2]
    assert views.speed_ups(artifact)["speed_up"][0] == pytest.approx(1 / ratio["ratio"], abs=1e-3)
    assert "matmul float32, GFLOP/s" in views.machine(artifact).index
    with pytest.raises(CtdError, match="length 65 of teacher is not possible: 64 positions"):
        pipeline.measure(replace(chosen, lengths=[65, 70]))


def test_a_price_changes_the_record_and_measures_nothing_anew(home, make):
    chosen = make(params.MeasureParams, arch="full", lengths=[16], repeats=1)
    key = pipeline.measure(chosen).key
    assert pipeline.measure(replace(chosen, price_per_hour=1.5)).key == key
    (found,) = records.load("quick").query("kind == 'measure'")["params"]
    assert found["price_per_hour"] == 1.5


def test_a_folder_is_measured_as_it_is_and_what_is_none_is_named(home, make, tmp_path):
    student = pipeline.distill(make(params.DistillParams, arch="bigbird"))
    chosen = make(params.MeasureParams, model=str(student.path), lengths=[16], repeats=3)
    key = pipeline.measure(chosen).key
    (found,) = records.load("quick").query("kind == 'systems'").to_dict("records")
    assert found["arch"] == "bigbird" and found["params"]["model"] == student.path.name
    rows = found["values"]["rows"]
    assert [row["implementation"] for row in rows] == ["ours", "transformers"]
    assert {row["weights"] for row in rows} == {"trained"} and rows[0]["layers"] == 2
    assert {row["system"] for row in rows} == {student.path.name}
    assert len(found["values"]["ratios"]) == 1
    assert pipeline.measure(chosen).key == key
    (tmp_path / "empty").mkdir()
    with pytest.raises(CtdError, match="empty holds no weights"):
        pipeline.measure(replace(chosen, model=str(tmp_path / "empty")))
    (tmp_path / "empty" / "model.safetensors").write_text("")
    with pytest.raises(CtdError, match="empty' holds no configuration"):
        pipeline.measure(replace(chosen, model=str(tmp_path / "empty")))
    with pytest.raises(CtdError, match="/no/such"):
        pipeline.measure(replace(chosen, model="/no/such"))
    (student.path / "model.safetensors").unlink()
    with pytest.raises(CtdError, match="holds no weights"):
        pipeline.measure(replace(chosen, model=str(student.path)))


def test_the_command_measures_the_papers_systems_without_any_artifact(home, monkeypatch, capsys):
    of_arch = systems.of_arch
    monkeypatch.setattr(
        systems, "of_arch", lambda arch: [replace(s, size=SIZE) for s in of_arch(arch)]
    )
    options = ["--arch=longformer", "--systems=paper", "--lengths=[16, 64]", "--repeats=3"]
    assert cli.run("measure", [*options, "--lsg_python=/some/python"]) == 0
    said = capsys.readouterr().out
    (found,) = records.load("quick").query("kind == 'systems'").to_dict("records")
    assert "convert" not in said and found["params"]["lsg_python"] is None
    rows, ratios = found["values"]["rows"], found["values"]["ratios"]
    assert len(rows) == 12 and len(ratios) == 10
    assert [(r["role"], r["implementation"], r["dtype"]) for r in rows[:6]] == [
        ("teacher", "transformers", "float32"), ("teacher", "ours", "float32"),
        ("student", "ours", "float32"), ("student", "ours", "bfloat16"),
        ("teacher", "ours", "bfloat16"), ("student", "transformers", "float32"),
    ]  # fmt: skip
    assert {row["weights"] for row in rows} == {"random"}
    assert json.loads(json.dumps(found["values"])) == found["values"]
    assert models.max_length(systems.System("Longformer", "teacher", size=SIZE).config()) == 64
    artifact = pipeline.measure(
        params.make(params.MeasureParams, arch="longformer", systems="paper", lengths=[16, 64],
                    repeats=3)
    )  # fmt: skip
    assert str(artifact.path) == said.splitlines()[-1]  # the notebook's call finds the command's
    assert len(views.speed_ups(artifact)) == 10

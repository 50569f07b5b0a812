"""A teacher's outputs from disk teach as the teacher does, and fit no other text."""

import json

import pytest
import torch
from toy_models import ToyTokenizer
from toy_teachers import KINDS, batches, toy

from ctd_lib import distill
from ctd_lib.distill import Recipe
from ctd_lib.distillation import teacher as teachers
from ctd_lib.distillation.student import student_from_teacher
from ctd_lib.errors import CtdError
from ctd_lib.training import masking


def write(teacher, text, folder, **options):
    masked = masking.masked_batches(text, ToyTokenizer(), seed=0)
    given = {"top_k": 30, "temperature": 2.0} | options
    return teachers.write(teacher, masked, folder, **given)


@pytest.mark.parametrize("file_bytes", [1, 2**28])
def test_a_student_of_written_outputs_is_that_of_the_teacher(file_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "FILE_BYTES", file_bytes)
    teacher, text = toy(initializer_range=0.5), batches(5)
    cache = write(teacher, text, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == (5 if file_bytes == 1 else 1)
    logs = [
        distill.distill(
            student_from_teacher(teacher, [0, 2]), source, text, ToyTokenizer(), steps=5
        )
        for source in (teacher, cache)
    ]
    for one, two in zip(*logs, strict=True):
        assert one["mlm"] == pytest.approx(two["mlm"], rel=1e-3)
        assert one["soft_target"] == pytest.approx(two["soft_target"], rel=1e-3)
        assert one["cosine"] == pytest.approx(two["cosine"], rel=2e-2)  # bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_every_arch_writes_in_half_precision(kind, tmp_path):
    write(toy(kind), batches(1), tmp_path, precision="bfloat16")
    assert list(tmp_path.glob("*.safetensors"))


def test_joined_batches_go_on_where_they_were_left(tmp_path):
    teacher, text = toy(initializer_range=0.5), batches(5)
    cache = write(teacher, text, tmp_path, top_k=4)

    def joined():
        return cache.join(masking.masked_batches(text, ToyTokenizer(), seed=0))

    whole, left = list(joined()), joined()
    source = iter(left)
    next(source), next(source)
    taken_up = joined()
    taken_up.load_state_dict(json.loads(json.dumps(left.state_dict())))
    for one, two in zip(whole[2:], taken_up, strict=True):
        torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert whole[0][teachers.IDS].shape == (2, 64, 4)
    assert whole[0][teachers.HIDDEN].dtype == torch.bfloat16


def test_outputs_of_other_text_or_for_another_recipe_are_refused(tmp_path):
    teacher, text = toy(initializer_range=0.5), batches(3)
    cache = write(teacher, text[:2], tmp_path, top_k=4)
    student = student_from_teacher(teacher, [0, 2])

    def run(text, **recipe):
        distill.distill(student, cache, text, ToyTokenizer(), steps=3, recipe=Recipe(**recipe))

    with pytest.raises(CtdError, match="end after 2 batches"):
        run(text)
    with pytest.raises(CtdError, match="batch 0 is not the one"):
        run(text[::-1])
    with pytest.raises(CtdError, match="hold its last layer only"):
        run(text, hidden_layers="all")
    with pytest.raises(CtdError, match="temperature is 3"):
        run(text, temperature=3.0)
    with pytest.raises(CtdError, match="teacher_top_k is 31; it is 1 to 30"):
        write(teacher, text, tmp_path, top_k=31)
    (tmp_path / "outputs-00000000.safetensors").write_bytes(b"")
    with pytest.raises(CtdError, match="cannot be read"):
        run(text)
    with pytest.raises(CtdError, match="holds no outputs"):
        teachers.Cache(tmp_path / "nowhere")

"""Students before they are taught: which layers, which weights, which width."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_teachers import KINDS, batches, toy
from transformers import AutoModelForMaskedLM

from ctd_lib import attention, models
from ctd_lib.distillation.student import layer_map, output_map, student_from_teacher
from ctd_lib.errors import CtdError


def test_layer_maps_of_the_paper():
    assert layer_map(12, 6) == [0, 2, 4, 6, 8, 10]
    assert layer_map(12, 6, "odd") == [1, 3, 5, 7, 9, 11]
    assert layer_map(12, 6, "distilbert") == [0, 2, 4, 7, 9, 11]
    assert layer_map(6, 3) == [0, 2, 4]
    assert layer_map(6, 2, "first") == [0, 1]
    assert layer_map(6, 2, "last") == [4, 5]
    assert layer_map(12, 4, "odd") == [2, 5, 8, 11]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["even", "odd", "first", "last"]))
def test_layer_maps_rise_within_the_teacher(teacher_layers, student_layers, name):
    if student_layers > teacher_layers:
        with pytest.raises(CtdError):
            layer_map(teacher_layers, student_layers, name)
        return
    layers = layer_map(teacher_layers, student_layers, name)
    assert len(set(layers)) == student_layers and layers == sorted(layers)
    assert 0 <= layers[0] and layers[-1] < teacher_layers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, 6, "middle"), "layer map 'middle' is unknown; use one of even, odd, distilbert"),
        ((6, 3, "distilbert"), "is for 12 teacher and 6 student layers, not 6 and 3"),
        ((6, 7), "student_layers is 7; this teacher allows 1 to 6"),
        ((6, 0), "student_layers is 0"),
    ],
)
def test_bad_layer_maps(arguments, message):
    with pytest.raises(CtdError, match=message):
        layer_map(*arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_student_has_its_teachers_weights(kind, tmp_path):
    teacher = toy(kind)
    student = student_from_teacher(teacher, [1, 3])
    assert type(student) is type(teacher)
    assert student.config.num_hidden_layers == len(models.layers(student)) == 2
    assert teacher.config.num_hidden_layers == len(models.layers(teacher)) == 4
    for ours, theirs in ((0, 1), (1, 3)):
        torch.testing.assert_close(
            models.layers(student)[ours].state_dict(),
            models.layers(teacher)[theirs].state_dict(),
            atol=0, rtol=0,
        )  # fmt: skip
    others = {n: p for n, p in teacher.state_dict().items() if ".encoder.layer." not in n}
    torch.testing.assert_close(
        {n: p for n, p in student.state_dict().items() if ".encoder.layer." not in n},
        others, atol=0, rtol=0,
    )  # fmt: skip
    student.save_pretrained(tmp_path)
    reopened = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    input_ids = batches(1)[0]["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(reopened(input_ids).logits, student(input_ids).logits)


def test_student_of_all_layers_is_the_teacher():
    teacher = toy("longformer")
    student = student_from_teacher(teacher, [0, 1, 2, 3])
    input_ids = batches(1)[0]["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(student(input_ids).logits, teacher(input_ids).logits)


def test_student_shares_no_memory_with_its_teacher():
    teacher = toy()
    student = student_from_teacher(teacher, [0])
    before = {name: p.clone() for name, p in teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    torch.testing.assert_close(teacher.state_dict(), before, atol=0, rtol=0)
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight


def test_longformer_windows_follow_their_layers():
    student = student_from_teacher(toy("longformer"), [0, 3])
    assert student.config.attention_window == [4, 32]


def test_fast_attention_is_installed_again():
    teacher = attention.install(toy("longformer"))
    student = student_from_teacher(teacher, [0, 2])
    assert attention.installed(student) and attention.installed(teacher)
    assert not attention.installed(student_from_teacher(toy("longformer"), [0, 2]))


def test_layer_outside_the_teacher():
    with pytest.raises(CtdError, match=r"layers 0 to 3"):
        student_from_teacher(toy(), [0, 4])


@pytest.mark.parametrize(
    ("teacher_layers", "student_layers", "name", "expected"),
    [
        (6, 4, "even", [0, 1, 3, 4]),
        (6, 4, "odd", [0, 2, 3, 5]),
        (12, 5, "even", [0, 2, 4, 7, 9]),
        (12, 5, "odd", [1, 3, 6, 8, 11]),
        (5, 2, "even", [0, 2]),
        (7, 1, "odd", [6]),
    ],
)
def test_layer_maps_of_uneven_depths(teacher_layers, student_layers, name, expected):
    assert layer_map(teacher_layers, student_layers, name) == expected


def test_each_student_layer_stands_for_the_teacher_up_to_the_next():
    assert output_map([0, 2, 4, 6, 8, 10], 12) == [1, 3, 5, 7, 9, 11]
    assert output_map([0, 2, 4, 7, 9, 11], 12) == [1, 3, 6, 8, 10, 11]
    assert output_map([0, 1, 2], 6) == [0, 1, 5]
    assert output_map([3, 4, 5], 6) == [3, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrower_student_has_the_leading_part_of_each_tensor(kind, tmp_path):
    teacher = toy(kind)
    student = student_from_teacher(teacher, [1, 3], hidden_size=16)
    config = student.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 1, 32)
    first, theirs = models.layers(student)[0], models.layers(teacher)[1]
    for name in ("query", "key", "value"):
        part = getattr(first.attention.self, name).weight
        torch.testing.assert_close(part, getattr(theirs.attention.self, name).weight[:16, :16])
    torch.testing.assert_close(
        first.attention.output.dense.weight, theirs.attention.output.dense.weight[:16, :16]
    )
    torch.testing.assert_close(first.output.dense.weight, theirs.output.dense.weight[:16, :32])
    embeddings = student.get_input_embeddings().weight
    torch.testing.assert_close(embeddings, teacher.get_input_embeddings().weight[:, :16])
    assert student.get_output_embeddings().weight is embeddings
    student.save_pretrained(tmp_path)
    reopened = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    input_ids = batches(1)[0]["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(reopened(input_ids).logits, student(input_ids).logits)


@pytest.mark.parametrize("hidden_size", [20, 64])
def test_widths_that_are_no_whole_heads(hidden_size):
    message = f"student_hidden_size is {hidden_size}; .* multiple of 16 up to 32"
    with pytest.raises(CtdError, match=message):
        student_from_teacher(toy(), [0], hidden_size)

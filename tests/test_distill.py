"""Students against their teachers: which weights they start from, and what they are taught."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import ToyTokenizer
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BigBirdConfig,
    BigBirdForMaskedLM,
    LongformerConfig,
    LongformerForMaskedLM,
    NystromformerConfig,
    NystromformerForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from ctd_lib import attention, distill, losses, masking, models
from ctd_lib.errors import CtdError

SIZES = dict(
    vocab_size=30, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=66, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)  # fmt: skip
KINDS = {
    "roberta": (RobertaForMaskedLM, RobertaConfig, {}),
    "bert": (BertForMaskedLM, BertConfig, {}),
    "longformer": (
        LongformerForMaskedLM, LongformerConfig, {"attention_window": [4, 8, 16, 32]}
    ),
    "bigbird": (
        BigBirdForMaskedLM, BigBirdConfig, {"block_size": 4, "num_random_blocks": 1}
    ),
    "nystromformer": (
        NystromformerForMaskedLM, NystromformerConfig,
        {"num_landmarks": 4, "segment_means_seq_len": 64, "conv_kernel_size": 5},
    ),
}  # fmt: skip


def toy(kind: str = "bert", **config):
    torch.manual_seed(0)
    model_class, config_class, extra = KINDS[kind]
    return model_class(config_class(**(SIZES | extra | config))).eval()


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 30, (count, 2, 64), generator=generator)
    return [{"input_ids": i, "attention_mask": torch.ones_like(i)} for i in ids]


def test_layer_maps_of_the_paper():
    assert distill.layer_map(12, 6) == [0, 2, 4, 6, 8, 10]
    assert distill.layer_map(12, 6, "odd") == [1, 3, 5, 7, 9, 11]
    assert distill.layer_map(12, 6, "distilbert") == [0, 2, 4, 7, 9, 11]
    assert distill.layer_map(6, 3) == [0, 2, 4]
    assert distill.layer_map(6, 2, "first") == [0, 1]
    assert distill.layer_map(6, 2, "last") == [4, 5]
    assert distill.layer_map(12, 4, "odd") == [2, 5, 8, 11]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["even", "odd", "first", "last"]))
def test_layer_maps_rise_within_the_teacher(teacher_layers, student_layers, name):
    if student_layers > teacher_layers:
        with pytest.raises(CtdError):
            distill.layer_map(teacher_layers, student_layers, name)
        return
    layers = distill.layer_map(teacher_layers, student_layers, name)
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
        distill.layer_map(*arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_student_has_its_teachers_weights(kind, tmp_path):
    teacher = toy(kind)
    student = distill.student_from_teacher(teacher, [1, 3])
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
    student = distill.student_from_teacher(teacher, [0, 1, 2, 3])
    input_ids = batches(1)[0]["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(student(input_ids).logits, teacher(input_ids).logits)


def test_student_shares_no_memory_with_its_teacher():
    teacher = toy()
    student = distill.student_from_teacher(teacher, [0])
    before = {name: p.clone() for name, p in teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    torch.testing.assert_close(teacher.state_dict(), before, atol=0, rtol=0)
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight


def test_longformer_windows_follow_their_layers():
    student = distill.student_from_teacher(toy("longformer"), [0, 3])
    assert student.config.attention_window == [4, 32]


def test_fast_attention_is_installed_again():
    teacher = attention.install(toy("longformer"))
    student = distill.student_from_teacher(teacher, [0, 2])
    assert attention.installed(student) and attention.installed(teacher)
    assert not attention.installed(distill.student_from_teacher(toy("longformer"), [0, 2]))


def test_layer_outside_the_teacher():
    with pytest.raises(CtdError, match=r"layers 0 to 3"):
        distill.student_from_teacher(toy(), [0, 4])


@pytest.mark.parametrize("positions", losses.POSITIONS)
def test_first_loss_is_the_papers(positions):
    teacher = toy(initializer_range=0.5)
    student = distill.student_from_teacher(teacher, [0, 2])
    text = batches(1)
    # Both read the same masked text; plain losses on plain logits are the oracle.
    batch = next(masking.masked_batches(text, ToyTokenizer(), seed=3))
    labels = batch.pop("labels")
    softened = torch.ones_like(labels) if positions == "all" else labels != masking.IGNORED
    with torch.no_grad():
        ours = student(**batch, output_hidden_states=True)
        theirs = teacher(**batch, output_hidden_states=True)
        mlm = losses.masked_lm_loss(ours.logits, labels)
        soft = losses.soft_target_loss(ours.logits, theirs.logits, softened, 2)
        cosine = losses.hidden_cosine_loss(
            ours.hidden_states[-1], theirs.hidden_states[-1], batch["attention_mask"]
        )
    log = distill.distill(
        student, teacher, text, ToyTokenizer(), steps=1, seed=3, positions=positions
    )
    assert log[0]["mlm"] == pytest.approx(mlm.item(), rel=1e-5)
    assert log[0]["soft_target"] == pytest.approx(soft.item(), rel=1e-5)
    assert log[0]["cosine"] == pytest.approx(cosine.item(), rel=1e-5)
    assert log[0]["loss"] == pytest.approx((2 * mlm + 5 * soft + cosine).item(), rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_student_learns_and_teacher_stays(precision):
    teacher = toy(initializer_range=0.5).train()
    student = distill.student_from_teacher(teacher, [0, 2])
    before = {name: p.clone() for name, p in teacher.state_dict().items()}
    log = distill.distill(
        student, teacher, batches(30), ToyTokenizer(), steps=30, lr=3e-3, precision=precision
    )
    torch.testing.assert_close(teacher.state_dict(), before, atol=0, rtol=0)
    assert teacher.training and all(p.requires_grad for p in teacher.parameters())
    assert log[-1]["soft_target"] < 0.7 * log[0]["soft_target"]
    assert log[-1]["cosine"] < log[0]["cosine"]


def test_unequal_models():
    with pytest.raises(CtdError, match="vocab_size is 31, the teacher's 30"):
        distill.distill(toy(vocab_size=31), toy(), [], ToyTokenizer(), steps=1)
    with pytest.raises(CtdError, match="hidden_size is 16, the teacher's 32"):
        distill.distill(toy(hidden_size=16), toy(), [], ToyTokenizer(), steps=1)
    narrow = toy(hidden_size=16)
    distill.distill(narrow, toy(), batches(1), ToyTokenizer(), steps=1, cosine_weight=0)


def test_bad_temperature():
    with pytest.raises(CtdError, match="temperature is 0"):
        distill.distill(toy(), toy(), [], ToyTokenizer(), steps=1, temperature=0)

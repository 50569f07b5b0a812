"""Students taught by their teachers: the paper's loss and those beyond it."""

import plain_losses
import pytest
import torch
from toy_models import ToyTokenizer
from toy_teachers import batches, toy

from ctd_lib import attention, distill, losses, pretrain
from ctd_lib.distill import Recipe
from ctd_lib.distillation.student import student_from_teacher
from ctd_lib.distillation.teacher import Cache, frozen, write
from ctd_lib.errors import CtdError
from ctd_lib.training import masking


@pytest.mark.parametrize("positions", losses.POSITIONS)
def test_first_loss_is_the_papers(positions):
    teacher = toy(initializer_range=0.5)
    student = student_from_teacher(teacher, [0, 2])
    text = batches(1)
    # Both read the same masked text; plain losses on plain logits are the oracle.
    batch = next(iter(masking.masked_batches(text, ToyTokenizer(), seed=3)))
    labels = batch.pop("labels")
    softened = torch.ones_like(labels) if positions == "all" else labels != masking.IGNORED
    with torch.no_grad():
        ours = student(**batch, output_hidden_states=True)
        theirs = teacher(**batch, output_hidden_states=True)
        mlm = plain_losses.masked_lm_loss(ours.logits, labels)
        soft = plain_losses.soft_target_loss(ours.logits, theirs.logits, softened, 2)
        cosine = losses.hidden_cosine_loss(
            ours.hidden_states[-1], theirs.hidden_states[-1], batch["attention_mask"]
        )
    log = distill.distill(
        student, teacher, text, ToyTokenizer(), steps=1, seed=3, recipe=Recipe(positions=positions)
    )
    assert log[0]["mlm"] == pytest.approx(mlm.item(), rel=1e-5)
    assert log[0]["soft_target"] == pytest.approx(soft.item(), rel=1e-5)
    assert log[0]["cosine"] == pytest.approx(cosine.item(), rel=1e-5)
    assert log[0]["loss"] == pytest.approx((2 * mlm + 5 * soft + cosine).item(), rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_student_learns_and_teacher_stays(precision):
    teacher = toy(initializer_range=0.5).train()
    student = student_from_teacher(teacher, [0, 2])
    before = {name: p.clone() for name, p in teacher.state_dict().items()}
    log = distill.distill(
        student, teacher, batches(30), ToyTokenizer(), steps=30, lr=3e-3, precision=precision
    )
    torch.testing.assert_close(teacher.state_dict(), before, atol=0, rtol=0)
    assert teacher.training and all(p.requires_grad for p in teacher.parameters())
    assert log[-1]["soft_target"] < 0.7 * log[0]["soft_target"]


def test_a_teacher_is_not_copied_where_its_weights_have_their_dtype():
    teacher = toy()
    asked = frozen(teacher, "float32")
    assert not any(p.requires_grad for p in asked.parameters())
    pairs = zip(teacher.parameters(), asked.parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)
    rounded = frozen(teacher, "bfloat16")
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    again = zip(rounded.parameters(), frozen(rounded, "bfloat16").parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in again)


@pytest.mark.parametrize(
    ("term", "others"),
    [
        ("soft_target", {"positions": "masked"}),
        ("cosine", {"hidden_layers": "last"}),
        ("cosine", {"hidden_layers": "all"}),
        ("relation", {"relation_layer": 2}),
    ],
)
def test_each_term_alone_is_learned(term, others):
    weights = {f"{name}_weight": float(name == term)
               for name in ("mlm", "soft_target", "cosine", "relation")}  # fmt: skip
    teacher = toy(initializer_range=0.5)
    student = student_from_teacher(teacher, [0, 2])
    log = distill.distill(
        student, teacher, batches(40), ToyTokenizer(), steps=40, lr=3e-3,
        recipe=Recipe(**weights, **others), layer_map=[0, 2],
    )  # fmt: skip
    assert log[0]["loss"] == pytest.approx(log[0][term])
    assert log[-1][term] < 0.7 * log[0][term]


@pytest.mark.parametrize("kind", ["bert", "longformer", "bigbird", "lsg", "nystromformer"])
def test_a_narrow_student_learns_relations(kind):
    teacher = attention.install(toy(kind, initializer_range=0.5))
    student = student_from_teacher(teacher, [0, 2], hidden_size=16)
    recipe = Recipe(mlm_weight=0, soft_target_weight=0, cosine_weight=0, relation_weight=1,
                    relation_heads=4)  # fmt: skip
    log = distill.distill(
        student, teacher, batches(8) * 5, ToyTokenizer(), steps=40, lr=1e-2, recipe=recipe
    )
    assert log[0]["loss"] == pytest.approx(log[0]["relation"])
    assert log[-1]["relation"] < 0.7 * log[0]["relation"]


def test_cosine_of_all_layers_is_the_mean_over_those_they_stand_for():
    teacher = toy(initializer_range=0.5)
    student = student_from_teacher(teacher, [0, 2])
    text = batches(1)
    batch = next(iter(masking.masked_batches(text, ToyTokenizer(), seed=0)))
    batch.pop("labels")
    with torch.no_grad():
        ours = student(**batch, output_hidden_states=True).hidden_states
        theirs = teacher(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"]
    # Layers 0 and 1 of the student stand for layers up to 1 and up to 3; the first state is input.
    expected = [losses.hidden_cosine_loss(ours[i], theirs[j], mask) for i, j in ((1, 2), (2, 4))]
    recipe = Recipe(hidden_layers="all")
    log = distill.distill(
        student, teacher, text, ToyTokenizer(), steps=1, recipe=recipe, layer_map=[0, 2]
    )
    assert log[0]["cosine"] == pytest.approx(float(sum(expected)) / 2, rel=1e-5)


def test_updates_of_several_batches_are_those_of_one():
    logs = []
    for text, accumulation in ((batches(4), 2), ([
        {name: torch.cat([a[name], b[name]]) for name in a}
        for a, b in zip(batches(4)[::2], batches(4)[1::2], strict=True)
    ], 1)):  # fmt: skip
        teacher = toy(initializer_range=0.5)
        student = student_from_teacher(teacher, [0, 2])
        text = [batch | {"labels": batch["input_ids"]} for batch in text]
        loss_fn = distill._loss_function(Recipe(relation_weight=1), teacher, None)
        logs.append(distill.train.fit(student, loss_fn, text, steps=2, lr=1e-3,
                                      accumulation=accumulation))  # fmt: skip
    for one, two in zip(*logs, strict=True):
        for term in ("loss", "mlm", "soft_target", "cosine", "relation", "gradient_norm"):
            assert one[term] == pytest.approx(two[term], rel=1e-4)


def test_unequal_models():
    def run(student, teacher, **recipe):
        distill.distill(
            student, teacher, batches(1), ToyTokenizer(), steps=1, recipe=Recipe(**recipe)
        )

    with pytest.raises(CtdError, match="vocab_size is 31, the teacher's 30"):
        run(toy(vocab_size=31), toy())
    with pytest.raises(
        CtdError, match=r"hidden_size is 16, the teacher's 32.*relation distillation"
    ):
        run(toy(hidden_size=16), toy())
    run(toy(hidden_size=16), toy(), cosine_weight=0)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"hidden_layers": "some"}, "hidden_layers is 'some'; use one of last, all"),
        ({"hidden_layers": "all"}, "needs the layer map"),
        (
            {"relation_weight": 1, "relation_layer": 4},
            "relation_layer is 4; the teacher has layers 0 to 3",
        ),
        ({"relation_weight": 1, "relation_layer": -5}, "relation_layer is -5"),
        ({"positions": "some"}, "'some' are unknown"),
    ],
)
def test_bad_recipes(recipe, says):
    with pytest.raises(CtdError, match=says):
        distill.distill(toy(), toy(), batches(1), ToyTokenizer(), steps=1, recipe=Recipe(**recipe))


@pytest.mark.parametrize("layer_map", [[0, 2], [0, 1, 2, 4], [0, 0, 1, 2]])
def test_bad_layer_maps(layer_map):
    with pytest.raises(CtdError, match=r"layer_map is .*up to 3, for each of the student's 4"):
        distill.distill(
            toy(), toy(), batches(1), ToyTokenizer(), steps=1, layer_map=layer_map,
            recipe=Recipe(hidden_layers="all"),
        )  # fmt: skip


def test_a_teacher_is_asked_only_for_what_the_loss_needs(monkeypatch, tmp_path):
    """Masked LM alone is pretraining; neither the teacher nor its outputs on disk are needed."""
    alone = Recipe(mlm_weight=1, soft_target_weight=0, cosine_weight=0)
    teacher = toy(initializer_range=0.5)
    text = masking.masked_batches(batches(2), ToyTokenizer())
    cache = write(teacher, text, tmp_path, top_k=4, temperature=2.0)
    monkeypatch.setattr(Cache, "read", lambda *_: pytest.fail("read the teacher's outputs"))
    teacher.bert.register_forward_hook(lambda *_: pytest.fail("asked the teacher"))
    expected = toy()
    pretrain.pretrain(expected, batches(2), ToyTokenizer(), steps=2, lr=1e-3)
    for source in (teacher, cache):
        student = toy()
        distill.distill(student, source, batches(2), ToyTokenizer(), steps=2, lr=1e-3, recipe=alone)
        torch.testing.assert_close(student.state_dict(), expected.state_dict())


def test_the_head_decays_where_no_term_trains_it():
    recipe = Recipe(mlm_weight=0, soft_target_weight=0)
    student = toy()
    before = student.cls.predictions.transform.dense.weight.clone()
    distill.distill(
        student, toy(), batches(1), ToyTokenizer(), steps=1, lr=0.1, warmup_fraction=1.0,
        recipe=recipe, weight_decay=0.5,
    )  # fmt: skip
    after = student.cls.predictions.transform.dense.weight
    torch.testing.assert_close(after, before * (1 - 0.1 * 0.5))


def test_the_teacher_is_asked_where_the_student_is(monkeypatch):
    def no_loss(recipe, asked, layer_map):
        devices.append({p.device.type for p in (*asked.parameters(), *asked.buffers())})

    devices, teacher = [], toy()
    monkeypatch.setattr(distill, "_loss_function", no_loss)
    monkeypatch.setattr(distill.train, "fit", lambda *_, **__: None)
    distill.distill(toy().to("meta"), teacher, batches(1), ToyTokenizer(), steps=1)
    assert devices == [{"meta"}]
    assert {p.device.type for p in (*teacher.parameters(), *teacher.buffers())} == {"cpu"}

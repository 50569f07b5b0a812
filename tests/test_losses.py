"""Losses against numbers worked out by hand, against torch's own, and chunked against plain."""

import plain_losses
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from ctd_lib import losses
from ctd_lib.errors import CtdError
from ctd_lib.models import LmHead, lm_head
from ctd_lib.soft_targets import AllTargets, TopTargets
from ctd_lib.training.masking import IGNORED


def linear_head(width: int, vocabulary: int) -> LmHead:
    return LmHead(nn.Identity(), nn.Linear(width, vocabulary))


def test_hidden_cosine_loss_by_hand():
    student = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]]])
    teacher = torch.tensor([[[0.0, 2.0], [4.0, 3.0], [5.0, 5.0]]])
    # Cosines 0, 24/25 and, were it not padding, 1.
    loss = losses.hidden_cosine_loss(student, teacher, torch.tensor([[1, 1, 0]]))
    assert loss.item() == pytest.approx((1 + 1 / 25) / 2, abs=1e-6)


def test_terms_are_float32_inside():
    torch.manual_seed(0)
    student, teacher = (torch.randn(1, 64, 1000).bfloat16() for _ in range(2))
    mask, labels = torch.ones(1, 64), torch.randint(1000, (1, 64))
    for loss, exact in (
        (
            plain_losses.soft_target_loss(student, teacher, mask),
            plain_losses.soft_target_loss(student.float(), teacher.float(), mask),
        ),
        (
            plain_losses.masked_lm_loss(student, labels),
            plain_losses.masked_lm_loss(student.float(), labels),
        ),
        (
            losses.hidden_cosine_loss(student, teacher, mask),
            losses.hidden_cosine_loss(student.float(), teacher.float(), mask),
        ),
    ):
        assert loss.dtype == torch.float32
        assert loss.item() == exact.item()


def test_nothing_left_is_exactly_zero():
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    head = linear_head(4, 7)
    weight = head.decoder.weight
    none, labels = torch.zeros(2, 3), torch.full((2, 3), IGNORED)
    teacher = torch.randn(2, 3, 4)
    terms = (
        plain_losses.soft_target_loss(head(hidden), head(teacher), none),
        plain_losses.masked_lm_loss(head(hidden), labels),
        losses.hidden_cosine_loss(hidden, teacher, none),
        losses.chunked_loss(hidden, head, labels, AllTargets(teacher, head), none).loss,
        losses.chunked_masked_lm_loss(hidden, head, labels),
    )
    for loss in terms:
        hidden.grad = weight.grad = None
        loss.backward()
        assert loss.item() == 0
        assert not hidden.grad.any()
        assert weight.grad is None or not weight.grad.any()


class TiedModel(nn.Module):
    """Embeddings, one layer, and a head whose decoder is the embeddings."""

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width)
        self.layer = nn.Linear(width, width)
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.decoder = nn.Linear(width, vocabulary)
        self.decoder.weight = self.embeddings.weight

    @property
    def head(self):
        return LmHead(self.transform, self.decoder)

    def forward(self, input_ids):
        return self.layer(self.embeddings(input_ids)).tanh()


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    chunk=st.integers(1, 20),
    positions=st.sampled_from(losses.POSITIONS),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    scale=st.sampled_from([1.0, 0.25]),
)
def test_chunked_equals_plain(seed, chunk, positions, temperature, scale):
    torch.manual_seed(seed)
    student, teacher = TiedModel(11, 6), TiedModel(11, 8).requires_grad_(False)
    input_ids = torch.randint(11, (2, 7))
    mask = torch.rand(2, 7) < 0.8
    labels = input_ids.where(torch.rand(2, 7) < 0.4, IGNORED)  # those of padding do not count
    predicted = labels.where(mask, IGNORED)

    softened = predicted != IGNORED if positions == "masked" else mask
    hidden, teacher_hidden = student(input_ids), teacher(input_ids)
    logits = student.head(hidden)
    mlm = plain_losses.masked_lm_loss(logits, predicted)
    soft = plain_losses.soft_target_loss(
        logits, teacher.head(teacher_hidden), softened, temperature
    )
    expected = gradients(student, scale * (2 * mlm + 5 * soft))

    terms = losses.chunked_loss(
        student(input_ids), student.head, labels,
        AllTargets(teacher_hidden, teacher.head), mask,
        mlm_weight=2, soft_target_weight=5, temperature=temperature, positions=positions,
        chunk=chunk,
    )  # fmt: skip
    torch.testing.assert_close(terms.mlm, mlm)
    torch.testing.assert_close(terms.soft_target, soft)
    torch.testing.assert_close(terms.loss, 2 * mlm + 5 * soft)
    found = gradients(student, scale * terms.loss)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("positions", losses.POSITIONS)
def test_no_mask_is_no_padding(positions):
    torch.manual_seed(0)
    student, teacher = TiedModel(11, 6), TiedModel(11, 6).requires_grad_(False)
    input_ids = torch.randint(11, (2, 7))
    labels = input_ids.where(torch.rand(2, 7) < 0.4, IGNORED)
    targets = AllTargets(teacher(input_ids), teacher.head)
    found, expected = (
        losses.chunked_loss(
            student(input_ids), student.head, labels, targets, mask, positions=positions
        )
        for mask in (None, torch.ones(2, 7))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("positions", losses.POSITIONS)
def test_parts_of_an_update_add_up(positions):
    torch.manual_seed(0)
    student, teacher = TiedModel(11, 6), TiedModel(11, 6).requires_grad_(False)
    input_ids, mask = torch.randint(11, (5, 7)), torch.rand(5, 7) < 0.8
    labels = input_ids.where((torch.rand(5, 7) < 0.4) & mask, IGNORED)
    totals = {"tokens": int(mask.sum()), "labels": int((labels != IGNORED).sum())}

    def loss(rows: slice, totals=None):
        targets = AllTargets(teacher(input_ids[rows]), teacher.head)
        return losses.chunked_loss(
            student(input_ids[rows]), student.head, labels[rows], targets, mask[rows],
            positions=positions, totals=totals, chunk=4,
        )  # fmt: skip

    whole = loss(slice(None))
    parts = [loss(slice(0, 1), totals), loss(slice(1, 5), totals)]
    for one, two in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(one, sum(two))
    expected = gradients(student, whole.loss)
    parts = [loss(slice(0, 1), totals), loss(slice(1, 5), totals)]
    torch.testing.assert_close(gradients(student, parts[0].loss + parts[1].loss), expected)
    cosine = [
        losses.hidden_cosine_loss(
            student(input_ids[r]), teacher(input_ids[r]), mask[r], totals["tokens"]
        )
        for r in (slice(0, 1), slice(1, 5))
    ]
    whole = losses.hidden_cosine_loss(student(input_ids), teacher(input_ids), mask)
    torch.testing.assert_close(sum(cosine), whole)


def top_targets(logits, k: int, temperature: float) -> TopTargets:
    top = (logits / temperature).softmax(-1).topk(k)
    return TopTargets(top.indices.int(), top.values)


@pytest.mark.parametrize("k", [1, 3, 11])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_top_targets_equal_the_divergence_of_their_classes(k, scale):
    torch.manual_seed(0)
    student, teacher_logits = TiedModel(11, 6), scale * torch.randn(2, 7, 11)
    input_ids, mask = torch.randint(11, (2, 7)), torch.ones(2, 7)
    none = torch.full((2, 7), IGNORED)
    targets = top_targets(teacher_logits, k, 2.0)

    ours = F.softmax(student.head(student(input_ids)) / 2, -1)
    theirs = F.softmax(teacher_logits / 2, -1)
    ours, theirs = (
        torch.cat([top := x.gather(-1, targets.ids.long()), 1 - top.sum(-1, keepdim=True)], -1)
        for x in (ours, theirs)
    )
    pieces = torch.special.xlogy(theirs, theirs) - theirs * ours.clamp(min=1e-30).log()
    if k == 11:  # the rest is rounding
        pieces = pieces[..., :-1]
    expected = 4 * pieces.sum(-1).mean()
    wanted = gradients(student, expected)
    loss = losses.chunked_loss(
        student(input_ids), student.head, none, targets, mask, mlm_weight=0, chunk=3
    ).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients(student, loss), wanted, atol=1e-5, rtol=1e-3)


def test_top_targets_of_the_whole_vocabulary_are_the_soft_targets():
    torch.manual_seed(0)
    student, teacher = TiedModel(11, 6), TiedModel(11, 8).requires_grad_(False)
    input_ids, mask = torch.randint(11, (2, 7)), torch.ones(2, 7)
    none = torch.full((2, 7), IGNORED)
    hidden = teacher(input_ids)
    found = []
    for targets in (
        AllTargets(hidden, teacher.head),
        top_targets(teacher.head(hidden), 11, 2.0),
        top_targets(teacher.head(hidden), 4, 2.0),
    ):
        loss = losses.chunked_loss(student(input_ids), student.head, none, targets, mask).loss
        found.append((loss.item(), gradients(student, loss)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-5, rtol=1e-3)
    assert found[2][0] < found[0][0]  # merged classes hide a part of the divergence


def test_top_targets_far_from_the_student_stay_finite():
    logits = torch.zeros(1, 1, 5)
    logits[..., 0] = 200.0  # the student's rest mass is below the smallest float
    hidden, head = logits.clone().requires_grad_(), linear_head(5, 5)
    head.decoder.load_state_dict({"weight": torch.eye(5), "bias": torch.zeros(5)})
    targets = TopTargets(torch.tensor([[[0]]]), torch.tensor([[[0.25]]]))
    loss = losses.chunked_loss(
        hidden, head, torch.full((1, 1), IGNORED), targets, torch.ones(1, 1), temperature=1
    ).loss
    loss.backward()
    assert loss.isfinite() and hidden.grad.isfinite().all()
    assert hidden.grad[0, 0, 0] == pytest.approx(0.75, abs=1e-6)


def test_small_gradients_survive_float16():
    head, hidden = linear_head(8, 40), torch.randn(1, 10, 8, requires_grad=True)
    labels, totals = torch.randint(40, (1, 10)), {"labels": 10**7, "tokens": 10**8}
    exact = losses.chunked_masked_lm_loss(hidden, head, labels, totals)
    expected = torch.autograd.grad(exact, [hidden, head.decoder.weight])
    with torch.autocast("cpu", torch.float16):
        loss = losses.chunked_masked_lm_loss(hidden, head, labels, totals)
    found = torch.autograd.grad(loss, [hidden, head.decoder.weight])
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=2e-2 * two.abs().max(), rtol=0.05)


def test_chunked_agrees_with_transformers_under_autocast():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    input_ids = torch.randint(50, (2, 9))
    labels = input_ids.where(torch.rand(2, 9) < 0.5, IGNORED)
    with torch.autocast("cpu", torch.bfloat16):
        expected = gradients(model, model(input_ids, labels=labels).loss)
        hidden = model.bert(input_ids).last_hidden_state
        found = gradients(
            model, losses.chunked_masked_lm_loss(hidden, lm_head(model), labels, chunk=4)
        )
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-2)


def test_no_logits_of_all_tokens_are_kept(monkeypatch):
    made, saved = [], []

    def watched(x, weight, bias):
        made.append(len(x))
        return F.linear(x, weight, bias)

    monkeypatch.setattr(losses, "linear", watched)
    head, hidden = linear_head(8, 40), torch.randn(1, 100, 8, requires_grad=True)
    teacher_head = nn.Linear(8, 40)
    teacher_head.register_forward_pre_hook(lambda _, args: made.append(len(args[0])))
    labels = torch.randint(40, (1, 100))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.shape) or t, lambda t: t
    ):
        targets = AllTargets(torch.randn(1, 100, 8), teacher_head)
        losses.chunked_loss(hidden, head, labels, targets, torch.ones(1, 100), chunk=16)
    assert made == 12 * [16] + 2 * [4]
    assert (100, 40) not in saved and (1, 100, 40) not in saved


def test_gradients_are_given_once():
    head, hidden = linear_head(8, 40), torch.randn(1, 10, 8, requires_grad=True)
    loss = losses.chunked_masked_lm_loss(hidden, head, torch.randint(40, (1, 10)))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        loss.backward()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_evaluation_computes_no_gradients(mode, monkeypatch):
    head, hidden = linear_head(8, 40), torch.randn(1, 10, 8)
    labels = torch.randint(40, (1, 10))
    monkeypatch.delattr(losses, "_add_product")  # of the weights' gradient
    with mode():
        loss = losses.chunked_masked_lm_loss(hidden, head, labels)
    assert not loss.requires_grad
    expected = F.cross_entropy(head(hidden[0]), labels[0])
    torch.testing.assert_close(loss, expected.detach())


def test_soft_targets_at_masked_positions_skip_the_others():
    head, labels = linear_head(4, 9), torch.tensor([[3, IGNORED, IGNORED]])
    hidden = torch.randn(1, 3, 4, requires_grad=True)
    targets = AllTargets(torch.randn(1, 3, 4), head)
    losses.chunked_loss(
        hidden, head, labels, targets, torch.ones(1, 3), positions="masked"
    ).loss.backward()
    assert hidden.grad[0, 0].any() and not hidden.grad[0, 1:].any()


def test_unknown_positions():
    with pytest.raises(CtdError, match="'some' are unknown"):
        losses.chunked_loss(
            torch.zeros(1, 1, 2), linear_head(2, 3), torch.zeros(1, 1, dtype=int), positions="some"
        )

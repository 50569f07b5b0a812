"""Task distillation against numbers worked out by hand and against scipy's entropy."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import entropy

from ctd_lib.distillation.task import task_distill_loss
from ctd_lib.errors import CtdError

LOG3 = 1.0986122886681098


def outputs(**logits):
    return SimpleNamespace(**{name: torch.as_tensor(x) for name, x in logits.items()})


def divergence(teacher, student, temperature) -> float:
    """Of single rows, by scipy."""
    theirs, ours = ((torch.as_tensor(x) / temperature).softmax(-1) for x in (teacher, student))
    return temperature**2 * float(entropy(theirs.numpy(), ours.numpy()))


def test_classes_by_hand():
    # At temperature 2 the teacher's probabilities are 3/4 and 1/4, then 1/2 and 1/2.
    teacher = outputs(logits=[[2 * LOG3, 0.0], [0.0, 0.0]])
    student = outputs(logits=torch.zeros(2, 2, requires_grad=True))
    loss = task_distill_loss(student, teacher, {}, "classification", 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.261624, abs=1e-6)
    # T (student - teacher probability) / 2 examples.
    torch.testing.assert_close(
        student.logits.grad, torch.tensor([[-0.25, 0.25], [0.0, 0.0]]), atol=1e-6, rtol=0
    )


def test_numbers_are_compared_by_squares():
    teacher, student = outputs(logits=[[2.0], [0.5]]), outputs(logits=[[1.0], [1.0]])
    loss = task_distill_loss(student, teacher, {}, "classification", 2.0)
    assert loss.item() == pytest.approx((1 + 0.25) / 2)


def test_tags_count_where_there_are_labels():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 2, 3, 4)
    labels = torch.tensor([[1, -100, 2], [-100, -100, 0]])
    places = (labels != -100).nonzero().tolist()
    expected = [divergence(theirs[i, j], ours[i, j], 3.0) for i, j in places]
    loss = task_distill_loss(
        outputs(logits=ours), outputs(logits=theirs), {"labels": labels}, "tagging", 3.0
    )
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_starts_and_ends_leave_padding_out():
    torch.manual_seed(0)
    start, end = torch.randn(2, 2, 2, 5)  # student and teacher, (B, T) each
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = [
        divergence(x[1][row][:length], x[0][row][:length], 2.0)
        for x in (start, end)
        for row, length in ((0, 5), (1, 3))
    ]
    ours, theirs = (outputs(start_logits=start[i], end_logits=end[i]) for i in (0, 1))
    loss = task_distill_loss(ours, theirs, {"attention_mask": mask}, "span-qa", 2.0)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)


@pytest.mark.parametrize("family", ["classification", "tagging", "span-qa"])
def test_parts_of_an_update_add_up(family):
    torch.manual_seed(0)
    if family == "span-qa":
        ours, theirs = (
            {n: torch.randn(3, 5) for n in ("start_logits", "end_logits")} for _ in "ab"
        )
    else:
        shape = (3, 4) if family == "classification" else (3, 5, 4)
        ours, theirs = ({"logits": torch.randn(shape)} for _ in "ab")
    labels = torch.tensor([[1, 2, -100, 0, 1], [-100] * 5, [3, -100, 1, 1, 1]])
    batch = {"labels": labels, "attention_mask": torch.ones(3, 5)}
    totals = {"sequences": 3, "labels": 8}

    def loss(rows, totals=None):
        given = [outputs(**{n: x[rows] for n, x in out.items()}) for out in (ours, theirs)]
        return task_distill_loss(
            *given, {n: x[rows] for n, x in batch.items()}, family, 2.0, totals
        )

    parts = loss(slice(0, 2), totals) + loss(slice(2, 3), totals)
    torch.testing.assert_close(parts, loss(slice(None)))


def test_nothing_labelled_is_zero_and_other_labels_are_refused():
    logits = torch.randn(1, 2, 3)
    batch = {"labels": torch.full((1, 2), -100)}
    loss = task_distill_loss(outputs(logits=logits), outputs(logits=-logits), batch, "tagging")
    assert loss.item() == 0
    with pytest.raises(CtdError, match=r"shape \(1, 2, 3\), the teacher \(1, 2, 2\)"):
        task_distill_loss(outputs(logits=logits), outputs(logits=logits[..., :2]), batch, "tagging")
    with pytest.raises(CtdError, match="temperature is 0"):
        task_distill_loss(outputs(logits=logits), outputs(logits=logits), batch, "tagging", 0)

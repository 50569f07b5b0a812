"""The oracle of the losses against numbers worked out by hand."""

import math

import plain_losses
import pytest
import torch

from ctd_lib.training.masking import IGNORED

LOG2, LOG3 = math.log(2), math.log(3)


def test_soft_target_loss_by_hand():
    # Temperature 2 turns the logits 2 log 3 and 0 into probabilities 3/4 and 1/4.
    teacher = torch.tensor([[[2 * LOG3, 0.0], [0.0, 0.0]]])
    student = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    # KL of the first token: 3/4 log(3/2) + 1/4 log(1/2) = 3/4 log 3 - log 2; of the second: 0.
    divergence = 0.75 * LOG3 - LOG2
    loss = plain_losses.soft_target_loss(student, teacher, torch.tensor([[1, 1]]), temperature=2)
    assert loss.item() == pytest.approx(4 * divergence / 2, abs=1e-6)
    assert loss.item() == pytest.approx(0.261624, abs=1e-6)


def test_soft_target_loss_ignores_padding():
    teacher = torch.tensor([[[2 * LOG3, 0.0], [7.0, -3.0]]])
    student = torch.zeros(1, 2, 2, requires_grad=True)
    loss = plain_losses.soft_target_loss(student, teacher, torch.tensor([[1, 0]]), temperature=2)
    loss.backward()
    assert loss.item() == pytest.approx(4 * (0.75 * LOG3 - LOG2), abs=1e-6)
    # d/ds T^2 KL = T (student - teacher probability) = 2 (1/2 - 3/4).
    torch.testing.assert_close(student.grad, torch.tensor([[[-0.5, 0.5], [0.0, 0.0]]]))


def test_masked_lm_loss_by_hand():
    # Probabilities 2/3 and 1/3; then 1/2 and 1/2; the third token is not predicted.
    logits = torch.tensor([[[LOG2, 0.0], [0.0, 0.0], [9.0, -9.0]]])
    loss = plain_losses.masked_lm_loss(logits, torch.tensor([[1, 0, IGNORED]]))
    assert loss.item() == pytest.approx((LOG3 + LOG2) / 2, abs=1e-6)

"""The vocabulary terms on all logits at once, as they are defined: the chunked form's oracle."""

import torch.nn.functional as F
from torch import Tensor

from ctd_lib.training.masking import IGNORED


def soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float = 2.0
) -> Tensor:
    """KL divergence of the softened teacher from the softened student, times temperature squared.

    Args:
        student_logits: (B, T, V).
        teacher_logits: (B, T, V); no gradient flows into it.
        mask: (B, T), true or 1 for the tokens that count.
    """
    mask = mask.bool()
    student = F.log_softmax(student_logits[mask].float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits[mask].detach().float() / temperature, dim=-1)
    total = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return temperature**2 * total / mask.sum().clamp(min=1)


def masked_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the tokens to predict.

    Args:
        logits: (B, T, V).
        labels: (B, T), `IGNORED` where nothing is to be predicted.
    """
    predicted = labels != IGNORED
    total = F.cross_entropy(logits[predicted].float(), labels[predicted], reduction="sum")
    return total / predicted.sum().clamp(min=1)

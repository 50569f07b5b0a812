"""The three terms of the paper's loss: masked LM, soft targets, hidden cosine.

DistilBERT's form of them (Sanh et al. 2019; Brown et al. 2023 take its weights 2, 5, 1 and its
temperature 2). Every term is computed in float32 whatever comes in, ignores padding, and returns
exactly 0 with zero gradients where no token is left.

The logits of a long batch are the largest tensor of the whole step: 4096 tokens of a 50k
vocabulary are 0.8 GB for the teacher and again for the student. `chunked_loss` gives the sum of
the two vocabulary terms and its gradients from hidden states, a chunk of tokens at a time: the
logits of a chunk are made once, used by both terms, differentiated and dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctd_lib.errors import CtdError
from ctd_lib.masking import IGNORED

POSITIONS = ("all", "masked")
CHUNK = 128  # tokens; of 64 to 512 the fastest on a CPU, where larger logits leave the heap
Head = Callable[[Tensor], Tensor]  # (n, C) -> (n, V)


def soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float = 2.0
) -> Tensor:
    """KL divergence of the softened teacher from the softened student, times temperature squared.

    The mean is over tokens ("batchmean"). Without the factor the gradients would shrink with the
    square of the temperature (Hinton et al. 2015, section 2).

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


def hidden_cosine_loss(student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over tokens of 1 - cosine between student and teacher vectors of the last layer.

    Args:
        student_hidden: (B, T, C).
        teacher_hidden: (B, T, C); no gradient flows into it.
        mask: (B, T), true or 1 for the tokens that count.
    """
    mask = mask.bool()
    cosine = F.cosine_similarity(
        student_hidden[mask].float(), teacher_hidden[mask].detach().float(), dim=-1
    )
    return (1 - cosine).sum() / mask.sum().clamp(min=1)


class VocabularyTerms(NamedTuple):
    """The weighted sum, which has a gradient, and its two terms, which have none: to be logged."""

    loss: Tensor
    mlm: Tensor
    soft_target: Tensor


def chunked_masked_lm_loss(
    hidden: Tensor, head: nn.Module, labels: Tensor, chunk: int = CHUNK
) -> Tensor:
    """`masked_lm_loss` from hidden states (B, T, C): logits at the tokens to predict only."""
    return chunked_loss(hidden, head, labels, chunk=chunk).loss


def chunked_soft_target_loss(
    hidden: Tensor,
    head: nn.Module,
    teacher_hidden: Tensor,
    teacher_head: Head,
    mask: Tensor,
    temperature: float = 2.0,
    chunk: int = CHUNK,
) -> Tensor:
    """`soft_target_loss` from hidden states (B, T, C) of student and teacher."""
    return chunked_loss(
        hidden,
        head,
        torch.full(mask.shape, IGNORED, device=mask.device),
        teacher_hidden,
        teacher_head,
        mask,
        mlm_weight=0.0,
        temperature=temperature,
        chunk=chunk,
    ).loss


def chunked_loss(
    hidden: Tensor,
    head: nn.Module,
    labels: Tensor,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    mask: Tensor | None = None,
    *,
    mlm_weight: float = 1.0,
    soft_target_weight: float = 1.0,
    temperature: float = 2.0,
    positions: str = "all",
    chunk: int = CHUNK,
) -> VocabularyTerms:
    """mlm_weight * masked LM + soft_target_weight * soft targets, never all logits at once.

    Without a teacher only the masked LM is computed. The head's weights may be tied to the
    embeddings: their gradients add up as usual.

    Args:
        hidden: the student's last hidden states (B, T, C).
        head: the student's masked-LM head, (n, C) -> (n, V).
        labels: (B, T), `IGNORED` where nothing is to be predicted.
        teacher_hidden: (B, T, C'), without gradient.
        teacher_head: the teacher's masked-LM head, (n, C') -> (n, V).
        mask: (B, T), true or 1 for the tokens that are not padding.
        positions: soft targets at "all" tokens of the mask or at the "masked" (labelled) ones only.
        chunk: tokens whose logits exist at one time.
    """
    if positions not in POSITIONS:
        raise CtdError(f"soft-target positions {positions!r} are unknown; use one of {POSITIONS}.")
    predicted = labels != IGNORED
    if mask is not None:
        predicted &= mask.bool()
    soften_all = teacher_hidden is not None and positions == "all"
    used = mask.bool() if soften_all else predicted  # (B, T): n tokens, flat from here on
    mlm_tokens = predicted.sum().clamp(min=1)
    soft_target_tokens = used.sum().clamp(min=1)
    terms = _Terms(
        labels=labels.where(predicted, IGNORED)[used],
        teacher_hidden=None if teacher_hidden is None else teacher_hidden[used].detach(),
        teacher_head=teacher_head,
        mlm_weight=mlm_weight / mlm_tokens,
        soft_target_weight=soft_target_weight / soft_target_tokens,
        temperature=temperature,
    )
    parameters = [p for p in head.parameters() if p.requires_grad]
    loss, mlm, soft_target = _ChunkedSum.apply(
        hidden[used], head, terms, chunk, torch.is_grad_enabled(), *parameters
    )
    return VocabularyTerms(loss, mlm / mlm_tokens, soft_target / soft_target_tokens)


@dataclass(frozen=True)
class _Terms:
    """Both terms for any of the n tokens, with the gradient: all soft targets, some predicted."""

    labels: Tensor  # (n,)
    teacher_hidden: Tensor | None  # (n, C')
    teacher_head: Head | None
    mlm_weight: Tensor  # of one token, as is the next
    soft_target_weight: Tensor
    temperature: float

    def __call__(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unweighted sums of both terms over `rows`, and the weighted gradient, like `logits`."""
        labels = self.labels[rows]
        predicted = (labels != IGNORED).nonzero().squeeze(1)
        mlm, gradient = _masked_lm_sum(logits[predicted], labels[predicted])
        gradient *= self.mlm_weight
        if self.teacher_hidden is None:
            return mlm, torch.zeros_like(mlm), gradient
        teacher_logits = self.teacher_head(self.teacher_hidden[rows]).float()
        soft_target, soft_gradient = _soft_target_sum(logits, teacher_logits, self.temperature)
        soft_gradient *= self.soft_target_weight
        return mlm, soft_target, soft_gradient.index_add_(0, predicted, gradient)


# The gradients of both sums are written down instead of left to autograd: half the passes over
# the logits, which on a CPU cost more than the products that make them.


def _masked_lm_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    log_probability = F.log_softmax(logits, dim=-1)  # (n, V)
    rows = torch.arange(len(labels), device=labels.device)
    total = -log_probability[rows, labels].sum()
    gradient = log_probability.exp_()
    gradient[rows, labels] -= 1
    return total, gradient


def _soft_target_sum(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    student = F.log_softmax(student_logits / temperature, dim=-1)  # (n, V)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    probability = teacher.exp()
    divergence = torch.dot(probability.flatten(), teacher.sub_(student).flatten())
    gradient = student.exp_().sub_(probability).mul_(temperature)
    return divergence * temperature**2, gradient


class _ChunkedSum(torch.autograd.Function):
    """Runs the head and its backward pass chunk by chunk in forward; backward only scales."""

    @staticmethod
    def forward(ctx, hidden, head, terms, size, differentiate, *parameters):
        mlm = soft_target = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradient = torch.zeros_like(hidden)
        gradients = [torch.zeros_like(p) for p in parameters] if differentiate else []
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            with torch.set_grad_enabled(differentiate):
                part = hidden[rows].detach().requires_grad_()
                logits = head(part)
            mlm_here, soft_target_here, gradient = terms(rows, logits.detach().float())
            mlm = mlm + mlm_here
            soft_target = soft_target + soft_target_here
            if differentiate:
                found = torch.autograd.grad(
                    logits, [part, *parameters], gradient.to(logits.dtype), allow_unused=True
                )
                hidden_gradient[rows] = found[0]
                for total, more in zip(gradients, found[1:], strict=True):
                    if more is not None:
                        total += more
        ctx.save_for_backward(hidden_gradient, *gradients)
        ctx.mark_non_differentiable(mlm, soft_target)
        return terms.mlm_weight * mlm + terms.soft_target_weight * soft_target, mlm, soft_target

    @staticmethod
    def backward(ctx, scale, *_):
        hidden_gradient, *gradients = (gradient * scale for gradient in ctx.saved_tensors)
        return hidden_gradient, None, None, None, None, *gradients

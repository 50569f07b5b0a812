"""The three terms of the paper's loss: masked LM, soft targets, hidden cosine.

DistilBERT's form of them (Sanh et al. 2019; Brown et al. 2023 take its weights 2, 5, 1 and its
temperature 2). Every term is computed in float32 whatever comes in, ignores padding, and returns
exactly 0 with zero gradients where no token is left.

A term is a sum over tokens, divided by the number of them: those of the batch, or those of a whole
update (`Totals`), so that the terms of its micro-batches and processes add up to it.

The logits of a long batch are the largest tensor of the whole step: 4096 tokens of a 50k
vocabulary are 0.8 GB for the teacher and again for the student. `chunked_loss` gives the sum of
the two vocabulary terms and its gradients from hidden states, a chunk of tokens at a time: the
logits of a chunk are made once, used by both terms, differentiated and dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctd_lib.errors import CtdError
from ctd_lib.training.masking import IGNORED

POSITIONS = ("all", "masked")
CHUNK = 128  # tokens; of 64 to 512 the fastest on a CPU, where larger logits leave the heap
Head = Callable[[Tensor], Tensor]  # (n, C) -> (n, V)
Totals = Mapping[str, int]
"""Of a whole update: `tokens` that are not padding, `labels` that are to be predicted."""


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


def hidden_cosine_loss(
    student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor, tokens: int | None = None
) -> Tensor:
    """Mean over tokens of 1 - cosine between student and teacher vectors of one layer.

    Args:
        student_hidden: (B, T, C).
        teacher_hidden: (B, T, C); no gradient flows into it.
        mask: (B, T), true or 1 for the tokens that count.
        tokens: what the sum is divided by; None: the tokens of the mask.
    """
    mask = mask.bool()
    cosine = F.cosine_similarity(
        student_hidden[mask].float(), teacher_hidden[mask].detach().float(), dim=-1
    )
    return (1 - cosine).sum() / (tokens or mask.sum().clamp(min=1))


class VocabularyTerms(NamedTuple):
    """The weighted sum, which has a gradient, and its two terms, which have none: to be logged."""

    loss: Tensor
    mlm: Tensor
    soft_target: Tensor


class SoftTargets(Protocol):
    """What the teacher says of each token of a batch."""

    def at(self, used: Tensor) -> "SoftTargets":
        """Those of the n tokens where `used` (B, T) is true, flat."""

    def compare(self, rows: slice, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Of some of the n tokens the sum of the soft-target term, and its gradient.

        Args:
            rows: which tokens.
            logits: the student's at these (r, V), in float32.
        """


@dataclass(frozen=True)
class AllTargets:
    """The teacher's whole distribution, from its hidden states and its masked-LM head."""

    hidden: Tensor  # (B, T, C') or flat (n, C'); no gradient flows into it
    head: Head

    def at(self, used: Tensor) -> "AllTargets":
        """See `SoftTargets`."""
        return AllTargets(self.hidden[used].detach(), self.head)

    def compare(self, rows: slice, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `SoftTargets`."""
        teacher_logits = self.head(self.hidden[rows]).float()
        return _soft_target_sum(logits, teacher_logits, temperature)


@dataclass(frozen=True)
class TopTargets:
    """The teacher's k highest probabilities, and as one class the mass of all other tokens.

    The divergence is that of the k + 1 classes, at most that of all V and equal to it for k = V.
    Its gradient is that of a teacher that spreads the rest as the student does: the student learns
    how much lies outside of the k tokens, and nothing of how it is spread there.
    """

    ids: Tensor  # (B, T, k) or flat (n, k)
    probabilities: Tensor  # alike, softened with the temperature of the loss

    def at(self, used: Tensor) -> "TopTargets":
        """See `SoftTargets`."""
        return TopTargets(self.ids[used], self.probabilities[used])

    def compare(self, rows: slice, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `SoftTargets`."""
        ids, teacher = self.ids[rows].long(), self.probabilities[rows].float()
        return _top_target_sum(logits, ids, teacher, temperature)


def chunked_masked_lm_loss(
    hidden: Tensor,
    head: nn.Module,
    labels: Tensor,
    totals: Totals | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """`masked_lm_loss` from hidden states (B, T, C): logits at the tokens to predict only."""
    return chunked_loss(hidden, head, labels, totals=totals, chunk=chunk).loss


def chunked_loss(
    hidden: Tensor,
    head: nn.Module,
    labels: Tensor,
    targets: SoftTargets | None = None,
    mask: Tensor | None = None,
    *,
    mlm_weight: float = 1.0,
    soft_target_weight: float = 1.0,
    temperature: float = 2.0,
    positions: str = "all",
    totals: Totals | None = None,
    chunk: int = CHUNK,
) -> VocabularyTerms:
    """mlm_weight * masked LM + soft_target_weight * soft targets, never all logits at once.

    Without a teacher only the masked LM is computed. The head's weights may be tied to the
    embeddings: their gradients add up as usual.

    Args:
        hidden: the student's last hidden states (B, T, C).
        head: the student's masked-LM head, (n, C) -> (n, V).
        labels: (B, T), `IGNORED` where nothing is to be predicted.
        targets: the teacher's, of (B, T) tokens.
        mask: (B, T), true or 1 for the tokens that are not padding.
        positions: soft targets at "all" tokens of the mask or at the "masked" (labelled) ones only.
        totals: what the sums are divided by; None: the tokens and labels of this batch.
        chunk: tokens whose logits exist at one time.
    """
    if positions not in POSITIONS:
        raise CtdError(f"soft-target positions {positions!r} are unknown; use one of {POSITIONS}.")
    predicted = labels != IGNORED
    if mask is not None:
        predicted &= mask.bool()
    soften_all = targets is not None and positions == "all"
    used = mask.bool() if soften_all else predicted  # (B, T): n tokens, flat from here on
    if totals is None:
        totals = {"labels": int(predicted.sum()), "tokens": int(used.sum())}
    mlm_tokens = max(1, totals["labels"])
    soft_target_tokens = max(1, totals["tokens"] if soften_all else totals["labels"])
    terms = _Terms(
        labels=labels.where(predicted, IGNORED)[used],
        targets=None if targets is None else targets.at(used),
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
    targets: SoftTargets | None
    mlm_weight: float  # of one token, as is the next
    soft_target_weight: float
    temperature: float

    @property
    def unit(self) -> float:
        """What gradients are divided by until they are summed: so small, float16 loses them."""
        return max(self.mlm_weight, self.soft_target_weight) or 1.0

    def __call__(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of `rows` the unweighted sums of both terms, and the weighted gradient, in units."""
        labels = self.labels[rows]
        predicted = (labels != IGNORED).nonzero().squeeze(1)
        mlm, gradient = _masked_lm_sum(logits[predicted], labels[predicted])
        gradient *= self.mlm_weight / self.unit
        if self.targets is None:
            return mlm, torch.zeros_like(mlm), gradient
        soft_target, soft_gradient = self.targets.compare(rows, logits, self.temperature)
        soft_gradient *= self.soft_target_weight / self.unit
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


def _top_target_sum(
    student_logits: Tensor, ids: Tensor, teacher: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    log_student = F.log_softmax(student_logits / temperature, dim=-1)  # (n, V)
    at_top = log_student.gather(1, ids)  # (n, k)
    others = log_student.exp().scatter_(1, ids, 0.0)
    student_rest = others.sum(-1, keepdim=True).clamp(min=torch.finfo(others.dtype).tiny)  # (n, 1)
    teacher_rest = (1 - teacher.sum(-1, keepdim=True)).clamp(min=0)
    top = torch.xlogy(teacher, teacher) - teacher * at_top
    rest = torch.xlogy(teacher_rest, teacher_rest / student_rest)
    # The teacher's target: its own at the top, elsewhere the student's, scaled to the rest mass.
    target = others.mul_(teacher_rest / student_rest).scatter_(1, ids, teacher)
    gradient = log_student.exp_().sub_(target).mul_(temperature)
    return (top.sum() + rest.sum()) * temperature**2, gradient


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
        for total in (hidden_gradient, *gradients):
            total *= terms.unit
        ctx.save_for_backward(hidden_gradient, *gradients)
        ctx.mark_non_differentiable(mlm, soft_target)
        return terms.mlm_weight * mlm + terms.soft_target_weight * soft_target, mlm, soft_target

    @staticmethod
    def backward(ctx, scale, *_):
        hidden_gradient, *gradients = (gradient * scale for gradient in ctx.saved_tensors)
        return hidden_gradient, None, None, None, None, *gradients

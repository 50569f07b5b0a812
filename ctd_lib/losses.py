"""The three terms of the paper's loss: masked LM, soft targets, hidden cosine.

DistilBERT's form of them (Sanh et al. 2019; Brown et al. 2023 take its weights 2, 5, 1 and its
temperature 2). Every term is computed in float32 whatever comes in, ignores padding, and returns
exactly 0 with zero gradients where no token is left.

A term is a sum over tokens, divided by the number of them: those of the batch, or those of a whole
update (`Totals`), so that the terms of its micro-batches and processes add up to it.

The logits of a long batch are the largest tensor of the whole step: 4096 tokens of a 50k
vocabulary are 0.8 GB for the teacher and again for the student. `chunked_loss` gives the sum of
the two vocabulary terms and its gradients from hidden states, a chunk of tokens at a time: the
logits of a chunk are made once, used by both terms, and give way to their gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ctd_lib.attention.linear import linear
from ctd_lib.errors import CtdError
from ctd_lib.models import LmHead
from ctd_lib.soft_targets import SoftTargets
from ctd_lib.training.masking import IGNORED

POSITIONS = ("all", "masked")
CHUNK = 256  # tokens of one matrix product: fewer are slower, more hold more memory
OUTPUTS = 8192  # rows of the weights' gradient at a time, where it is cast before it is added
ROWS = 16  # tokens at a time between the products on a CPU: their logits stay in its cache
Totals = Mapping[str, int]
"""Of a whole update: `tokens` that are not padding, `labels` that are to be predicted."""


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


def chunked_masked_lm_loss(
    hidden: Tensor,
    head: LmHead,
    labels: Tensor,
    totals: Totals | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Mean cross-entropy of the tokens to predict, from hidden states (B, T, C)."""
    return chunked_loss(hidden, head, labels, totals=totals, chunk=chunk).loss


def chunked_loss(
    hidden: Tensor,
    head: LmHead,
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

    Masked LM is the mean cross-entropy of the tokens to predict. Soft targets are the mean over
    tokens of the KL divergence of the softened teacher from the softened student ("batchmean"),
    times temperature squared: without that the gradients would shrink with the square of the
    temperature (Hinton et al. 2015, section 2). Without a teacher only the masked LM is computed.
    The head's weights may be tied to the embeddings: their gradients add up as usual.

    Args:
        hidden: the student's last hidden states (B, T, C).
        head: the student's masked-LM head.
        labels: (B, T), `IGNORED` where nothing is to be predicted.
        targets: the teacher's, of (B, T) tokens.
        mask: (B, T), true or 1 for the tokens that are not padding; None: there is none.
        positions: soft targets at "all" tokens of the mask or at the "masked" (labelled) ones only.
        totals: what the sums are divided by; None: the tokens and labels of this batch.
        chunk: tokens whose logits exist at one time.
    """
    if positions not in POSITIONS:
        raise CtdError(f"soft-target positions {positions!r} are unknown; use one of {POSITIONS}.")
    mask = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.bool()
    predicted = mask & (labels != IGNORED)
    soften_all = targets is not None and positions == "all"
    used = mask if soften_all else predicted  # (B, T): n tokens, flat from here on
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
    inputs = head.transform(hidden[used]), head.decoder.weight, head.decoder.bias
    if not torch.is_grad_enabled():  # else their gradients would be computed, for nobody
        inputs = (x.detach() for x in inputs)
    loss, mlm, soft_target = _ChunkedSum.apply(*inputs, terms, chunk)
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

    def replace(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Of `rows` the unweighted sums of both terms.

        The logits (r, V) are overwritten with the gradient of the weighted sum, in units.
        """
        said = None if self.targets is None else self.targets.of(rows)
        labels = self.labels[rows]
        mlm = soft_target = torch.zeros((), device=logits.device)
        size = ROWS if logits.device.type == "cpu" else len(logits)
        for start in range(0, len(logits), size):
            some = slice(start, start + size)
            few = logits[some].float()
            predicted = (labels[some] != IGNORED).nonzero().squeeze(1)
            more, at_predicted = _masked_lm_sum(few[predicted], labels[some][predicted])
            mlm = mlm + more
            at_predicted *= self.mlm_weight / self.unit
            if said is None:
                gradient = at_predicted
            else:
                more, gradient = said.compare(some, few, self.temperature)
                soft_target = soft_target + more
                gradient *= self.soft_target_weight / self.unit
                gradient.index_add_(0, predicted, at_predicted)
            logits[some] = gradient
        return mlm, soft_target


def _masked_lm_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    log_probability = F.log_softmax(logits, dim=-1)  # (n, V)
    rows = torch.arange(len(labels), device=labels.device)
    total = -log_probability[rows, labels].sum()
    gradient = log_probability.exp_()
    gradient[rows, labels] -= 1
    return total, gradient


class _ChunkedSum(torch.autograd.Function):
    """The last linear layer and all after it, its backward pass included; backward only scales.

    The gradient of the weights, as large as the embeddings, is added up in place.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, terms, size):
        found = [
            torch.zeros_like(tensor) if wanted else None
            for tensor, wanted in zip((x, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        of_x, of_weight, of_bias = found
        x, weight, bias = map(_as_computed, (x, weight, bias))
        mlm = soft_target = torch.zeros((), device=x.device)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            logits = linear(x[rows], weight, bias)
            mlm_here, soft_target_here = terms.replace(rows, logits)
            mlm, soft_target = mlm + mlm_here, soft_target + soft_target_here
            if of_x is not None:
                of_x[rows] = logits @ weight
            if of_weight is not None:
                _add_product(of_weight, logits.t(), x[rows])
            if of_bias is not None:
                of_bias += logits.sum(0)
        ctx.found, ctx.unit = found, terms.unit
        ctx.mark_non_differentiable(mlm, soft_target)
        return terms.mlm_weight * mlm + terms.soft_target_weight * soft_target, mlm, soft_target

    @staticmethod
    def backward(ctx, scale, *_):
        if ctx.found is None:
            raise RuntimeError("chunked_loss can be differentiated once: its gradients are gone.")
        found, ctx.found = ctx.found, None
        scale = scale * ctx.unit
        return *(None if x is None else x.mul_(scale) for x in found), None, None


def _as_computed(tensor: Tensor) -> Tensor:
    """Cast for a matrix product as autocast would, but once for all chunks."""
    device = tensor.device.type
    if not torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _add_product(total: Tensor, one: Tensor, other: Tensor) -> None:
    """total += one @ other; the product has the dtype of its factors."""
    if one.dtype == total.dtype:
        total.addmm_(one, other)
        return
    for part, factor in zip(total.split(OUTPUTS), one.split(OUTPUTS), strict=True):
        part += factor @ other

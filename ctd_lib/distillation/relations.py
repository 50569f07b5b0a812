"""Relation distillation: the student's last layer relates tokens to each other as its teacher does.

MiniLMv2 (Wang et al. 2021, arXiv 2012.15828, section 3): of one layer the outputs of the query
projection, of the key projection and of the value projection are each cut into relation heads; the
relation of a token to others is the softmax of the scaled products with its like (queries with
queries, keys with keys, values with values); the loss is the KL divergence of the student's
relations from the teacher's. Neither width nor number of attention heads need agree.

Note:
    Each run of `window` tokens, from the first token on, is treated by itself: relations reach to
    every token of the same run and to no other. With 512, the length of MiniLMv2's own sequences,
    that is its loss on each 512 tokens; all T x T relations are had with a window of T or more.
    Time and memory grow with T x window, and only some runs' relations exist at one time. The
    relations are full ones also where the arch's own attention is sparse: its projections are
    compared, not its pattern.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctd_lib.errors import CtdError

WINDOW = 512
ELEMENTS = 2**21  # relations that exist at one time: 8 MiB stay in a cache of the processor
EXCLUDED = -1e9  # score of a key that is padding


class Projections(NamedTuple):
    """Outputs of the projections of one self-attention, each (B, T, C)."""

    query: Tensor
    key: Tensor
    value: Tensor


@contextmanager
def captured(layer: nn.Module, length: int, front: int = 0) -> Iterator[list[Projections]]:
    """Within it, every forward of an encoder layer appends its projections to the list.

    Args:
        layer: an encoder layer of any arch.
        length: tokens T of the input.
        front: tokens that the model puts in front of it (LSG's global tokens), which are cut off.

    Raises:
        CtdError: at a forward, where the projections are of another layout than (B, T, C).
    """
    found: list[Projections] = []
    parts: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if output.ndim != 3 or output.shape[1] != front + length:
                raise CtdError(
                    f"the {name} projection gives {tuple(output.shape)}, not (B, {front + length},"
                    " C); relation distillation needs the fast attention installed."
                )
            parts[name] = output[:, front:]
            if len(parts) == len(Projections._fields):
                found.append(Projections(**parts))
                parts.clear()

        return hook

    attention = layer.attention.self
    hooks = [
        getattr(attention, name).register_forward_hook(keep(name)) for name in Projections._fields
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def relation_loss(
    student: Projections,
    teacher: Projections,
    mask: Tensor,
    heads: int,
    tokens: int | None = None,
    window: int = WINDOW,
) -> Tensor:
    """Sum over query, key and value of the divergence of relations, a mean over heads and tokens.

    Args:
        student: of the student's last layer, each (B, T, C).
        teacher: of one layer of the teacher, each (B, T, C'); no gradient flows into it.
        mask: (B, T), true or 1 for the tokens that count, both as the one related and as others.
        heads: relation heads; MiniLMv2 takes more of them than attention heads, 48 for width 768.
        tokens: what the sum is divided by; None: the tokens of the mask.
        window: tokens whose relations to each other count.

    Raises:
        CtdError: the width of student or teacher is no multiple of the heads.
    """
    mask = mask.bool()
    total = mask.new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(student, teacher, strict=True):
        for width in (ours.shape[-1], theirs.shape[-1]):
            if width % heads:
                raise CtdError(
                    f"relation_heads is {heads}; the width {width} is no multiple of it."
                )
        total = total + _RelationSum.apply(ours, theirs.detach(), mask, heads, window)
    return total / (heads * (tokens or mask.sum().clamp(min=1)))


class _RelationSum(torch.autograd.Function):
    """The sum and its gradient, some windows at a time; backward only scales."""

    @staticmethod
    def forward(ctx, student, teacher, mask, heads, window):
        length = student.shape[1]
        window = min(window, length)
        ours, theirs = (_windows(x, window) for x in (student, teacher))  # (N, W, C)
        valid = _windows(mask.unsqueeze(-1), window).squeeze(-1)  # (N, W)
        total = student.new_zeros((), dtype=torch.float32)
        gradient = torch.empty(ours.shape, device=ours.device)
        some = max(1, ELEMENTS // (heads * window**2))
        with torch.autocast(student.device.type, enabled=False):
            for start in range(0, len(ours), some):
                rows = slice(start, start + some)
                here, gradient[rows] = _relations(ours[rows], theirs[rows], valid[rows], heads)
                total = total + here
        gradient = gradient.view(len(student), -1, student.shape[-1])[:, :length]
        ctx.save_for_backward(gradient.to(student.dtype))
        return total

    @staticmethod
    def backward(ctx, scale):
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None, None, None, None


def _windows(x: Tensor, window: int) -> Tensor:
    """(B, T, C) -> (N, window, C), the last of each sequence filled up with zeros."""
    x = F.pad(x, (0, 0, 0, -x.shape[1] % window))
    return x.reshape(-1, window, x.shape[-1])


def _relations(
    student: Tensor, teacher: Tensor, valid: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Divergence of the relations of some windows (n, W, C), summed, and its gradient."""
    ours, theirs = (_heads(x, heads) for x in (student, teacher))  # (n, H, W, D)
    log_ours, log_theirs = (x @ x.mT for x in (ours, theirs))  # (n, H, W, W)
    padded = not bool(valid.all())
    if padded:
        for scores in (log_ours, log_theirs):
            scores.masked_fill_(~valid[:, None, None], EXCLUDED)
    log_ours, log_theirs = log_ours.log_softmax(-1), log_theirs.log_softmax(-1)
    probability = log_theirs.exp()
    if padded:  # rows of padding do not count
        probability *= valid[:, None, :, None]
    divergence = torch.dot(probability.flatten(), log_theirs.sub_(log_ours).flatten())
    gradient = log_ours.exp_()  # of the scores, in which a vector is both query and key
    if padded:
        gradient *= valid[:, None, :, None]
    gradient -= probability
    gradient = gradient @ ours + gradient.mT @ ours  # of the vectors (n, H, W, D)
    return divergence, gradient.mul_(ours.shape[-1] ** -0.25).transpose(1, 2).flatten(2)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(n, W, C) -> (n, H, W, D) in float32, scaled so that its products are those of attention."""
    x = x.float().unflatten(-1, (heads, -1)).transpose(1, 2)
    return x * x.shape[-1] ** -0.25

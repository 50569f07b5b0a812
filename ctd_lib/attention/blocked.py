"""Blocked attention: runs of queries against runs of keys in fused calls, joined exactly.

The keys that a query sees are split into parts (its window, the global tokens, random blocks ...).
Each part is one call of the fused kernel, batched over runs of consecutive queries, on strided
views of the keys where it can be. The kernel also returns the logarithm of each query's sum of
exponentials, by which the outputs of the parts are joined into the softmax over all of them (the
rule of FlashAttention, Dao et al. 2022, section 3.1). Nothing of size T x T is ever made.

On devices without that kernel plain products stand in for it; they hold the scores of all runs.

Everything here works on one sequence of a batch, laid out (T, H, D): tokens, heads, head size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MASKED = -30000.0
"""Added to the score of a key that must not be seen: finite, so that a row without any key gives
no NaN, within float16, and far enough down for an exact zero after the softmax."""


class Part(NamedTuple):
    """Keys seen by runs of queries: the n-th of N equal runs of queries sees `key[n]`."""

    key: Tensor
    """(N, H, S, D), any strides but a dense last dimension."""
    value: Tensor
    """(N, H, S, D)"""
    mask: Tensor | None = None
    """Added to the scores, 0 or MASKED: (N or 1, H or 1, T / N or 1, S), in the queries' dtype."""


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Booleans (True = may be seen) as an additive mask of the same shape."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, MASKED)


def windows(x: Tensor, count: int, size: int, step: int, before: int = 0) -> Tensor:
    """Overlapping windows of a sequence, as views of one padded copy.

    Window n starts at position n * step - before; positions outside of the sequence hold zeros.

    Args:
        x: (T, H, D).
        count, size, step: number of windows, their length, the distance between their starts.
        before: how many tokens before the sequence the first window starts; may be negative.

    Returns:
        (count, H, size, D)
    """
    return _Windows.apply(x, count, size, step, before)


def attend(query: Tensor, parts: list[Part], scale: float | None = None) -> Tensor:
    """Softmax attention of one sequence over the keys of all parts, forward and backward.

    Args:
        query: (T, H, D); T a multiple of each part's number of runs.
        parts: a key that appears in two parts counts twice.
        scale: factor on the scores, D ** -0.5 by default.

    Returns:
        (T, H, D), contiguous. A query that sees no key gets a finite value without meaning.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    parts = [part for part in parts if part.key.shape[2]]  # the kernel cannot divide nothing
    masks = [part.mask for part in parts]
    return _Attend.apply(
        query, scale, masks, *(tensor for part in parts for tensor in (part.key, part.value))
    )


class _Windows(torch.autograd.Function):
    """A view forward; backward, overlapping windows are summed by a few large additions."""

    @staticmethod
    def forward(ctx, x, count, size, step, before):
        length, heads, width = x.shape
        ctx.shape, ctx.step, ctx.before = x.shape, step, before
        # One copy with room for the windows, of which only the edges need zeros.
        padded = x.new_empty((count - 1) * step + size, heads, width)
        start = max(before, 0)
        stop = max(start, min(before + length, len(padded)))
        padded[:start] = 0
        padded[start:stop] = x[start - before : stop - before]
        padded[stop:] = 0
        strides = (step * heads * width, width, heads * width, 1)
        return padded.as_strided((count, heads, size, width), strides)

    @staticmethod
    def backward(ctx, grad):
        count, heads, size, width = grad.shape
        step, before = ctx.step, ctx.before
        total = grad.new_zeros((count + size // step + 1) * step, heads, width)
        for start in range(0, size, step):
            piece = grad[:, :, start : start + step].transpose(1, 2)  # (N, step or less, H, D)
            runs = total[start : start + count * step].unflatten(0, (count, step))
            runs[:, : piece.shape[1]] += piece
        grad_x = grad.new_zeros(ctx.shape)
        start = max(-before, 0)
        stop = max(start, min(len(total) - before, len(grad_x)))
        grad_x[start:stop] = total[start + before : stop + before]
        return grad_x, None, None, None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, scale, masks, *tensors):
        kernel = fused_kernel if query.device.type == "cpu" else plain_kernel
        out = lse = None
        for mask, key, value in zip(masks, tensors[::2], tensors[1::2], strict=True):
            part_out, part_lse = kernel(_runs(query, key), key, value, mask, scale)
            part_out = part_out.transpose(1, 2).reshape(query.shape)
            part_lse = part_lse.transpose(1, 2).reshape(query.shape[:2])
            if out is None:
                out, lse = part_out, part_lse
            else:
                share = torch.sigmoid(part_lse - lse).to(out.dtype)
                out = torch.lerp(out, part_out, share.unsqueeze(-1))
                lse = torch.logaddexp(lse, part_lse)
        ctx.save_for_backward(query, out, lse, *tensors)
        ctx.masks, ctx.scale = masks, scale
        return out

    @staticmethod
    def backward(ctx, grad):
        # With the joined output and sum of exponentials in place of a part's own, the kernel's
        # backward gives exactly that part's share of the gradient: both enter it only through the
        # probabilities and the row sums of grad * out.
        query, out, lse, *tensors = ctx.saved_tensors
        grad = grad.contiguous()
        on_cpu = query.device.type == "cpu"
        kernel_backward = fused_kernel_backward if on_cpu else plain_kernel_backward
        grad_query, grads = None, []
        for mask, key, value in zip(ctx.masks, tensors[::2], tensors[1::2], strict=True):
            part_query, part_key, part_value = kernel_backward(
                _runs(grad, key), _runs(query, key), key, value, _runs(out, key), _runs(lse, key),
                mask, ctx.scale,
            )  # fmt: skip
            part_query = part_query.transpose(1, 2).reshape(query.shape)
            grad_query = part_query if grad_query is None else grad_query + part_query
            grads += [part_key, part_value]
        return grad_query, None, None, *grads


def _runs(x, key):
    """(T, H, ...) -> (N, H, T / N, ...), N the number of runs of `key`."""
    return x.unflatten(0, (key.shape[0], -1)).transpose(1, 2)


def fused_kernel(query, key, value, mask, scale):
    """Softmax attention (N, H, M, D) and the logarithms of its sums of exponentials (N, H, M)."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, attn_mask=mask, scale=scale)


def fused_kernel_backward(grad, query, key, value, out, lse, mask, scale):
    """Gradients of queries, keys, values; `out` and `lse` may be those of more keys than these."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return fused(grad, query, key, value, out, lse, 0.0, False, attn_mask=mask, scale=scale)


def plain_kernel(query, key, value, mask, scale):
    """`fused_kernel` on any device."""
    scores = _scores(query, key, mask, scale)
    lse = scores.logsumexp(-1)
    return (scores - lse.unsqueeze(-1)).exp().to(value.dtype) @ value, lse


def plain_kernel_backward(grad, query, key, value, out, lse, mask, scale):
    """`fused_kernel_backward` on any device."""
    weights = (_scores(query, key, mask, scale) - lse.unsqueeze(-1)).exp()
    row = (grad.float() * out.float()).sum(-1, keepdim=True)
    grad_weights = grad.float() @ value.float().transpose(-1, -2)
    grad_scores = (weights * (grad_weights - row) * scale).to(query.dtype)
    grad_value = weights.to(grad.dtype).transpose(-1, -2) @ grad
    return grad_scores @ key, grad_scores.transpose(-1, -2) @ query, grad_value


def _scores(query, key, mask, scale):
    scores = (query @ key.transpose(-1, -2)).float() * scale
    return scores if mask is None else scores + mask

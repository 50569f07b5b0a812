"""Blocked attention: runs of queries against runs of keys in fused calls, joined exactly.

The keys that a query sees are split into parts (its window, the global tokens, random blocks ...).
Each part is one call of the fused kernel, batched over runs of consecutive queries, on strided
views of the keys where it can be. The kernel also returns the logarithm of each query's sum of
exponentials, by which the outputs of the parts are joined into the softmax over all of them (the
rule of FlashAttention, Dao et al. 2022, section 3.1). Nothing of size T x T is ever made.

Where the kernel is missing or slower, plain products stand in for it (products.py).

Everything here works on one sequence of a batch, laid out (T, H, D): tokens, heads, head size.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ctd_lib.attention import products

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
        query: (T, H, D); T a multiple of the number of runs.
        parts: each of the same number of runs, or of one, whose keys all queries see; a key that
            appears in two parts counts twice.
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


def dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of every query over all keys of its sequence, forward and backward.

    It is torch's own, but for short sequences in bfloat16 on a CPU, whose backward products do
    faster, on some CPUs the forward too.

    Args:
        query, key, value: (B, T, H, D) and (B, S, H, D).
        mask: booleans, or added to the scores: (B, H or 1, T or 1, S).

    Returns:
        (B, T, H, D)
    """
    batch, length = query.shape[:2]
    key, value = key.transpose(1, 2), value.transpose(1, 2)
    runs = query.flatten(0, 1)
    if products.faster_than_sdpa(runs, [Part(key, value)]):
        if mask is not None:
            mask = additive(mask, query.dtype) if mask.dtype == torch.bool else mask
            mask = mask.to(query.dtype)
        return attend(runs, [Part(key, value, mask)]).unflatten(0, (batch, length))
    query = query.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)


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
        parts = list(map(Part, tensors[::2], tensors[1::2], masks))
        if products.faster(query):
            out, lse = products.forward(query, parts, scale), None
        else:
            out, lse = fused(query, parts, scale)
        ctx.save_for_backward(query, out, lse, *tensors)
        ctx.masks, ctx.scale = masks, scale
        return out

    @staticmethod
    def backward(ctx, grad):
        query, out, lse, *tensors = ctx.saved_tensors
        grad = grad.contiguous()
        parts = list(map(Part, tensors[::2], tensors[1::2], ctx.masks))
        if lse is None or products.faster_backward(query, parts):
            grad_query, *grads = products.backward(grad, query, out, parts, ctx.scale)
        else:
            grad_query, *grads = fused_backward(grad, query, out, lse, parts, ctx.scale)
        return grad_query, None, None, *grads


def fused(query, parts, scale):
    """One call a part; the outputs (T, H, D) and sums (T, H) of all are joined."""
    out = lse = None
    for part in parts:
        part_out, part_lse = _kernel(_runs(query, part.key), *part, scale)
        part_out = part_out.transpose(1, 2).reshape(query.shape)
        part_lse = part_lse.transpose(1, 2).reshape(query.shape[:2])
        if out is None:
            out, lse = part_out, part_lse
        else:
            share = torch.sigmoid(part_lse - lse).to(out.dtype)
            out = torch.lerp(out, part_out, share.unsqueeze(-1))
            lse = torch.logaddexp(lse, part_lse)
    return out, lse


def fused_backward(grad, query, out, lse, parts, scale):
    """With the joined output and sums in place of a part's own, the kernel's backward gives exactly
    that part's share of the gradient: both enter it only through the probabilities and the row sums
    of grad * out."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    grad_query, grads = None, []
    for key, value, mask in parts:
        part_query, part_key, part_value = fused(
            _runs(grad, key), _runs(query, key), key, value, _runs(out, key), _runs(lse, key),
            0.0, False, attn_mask=mask, scale=scale,
        )  # fmt: skip
        part_query = part_query.transpose(1, 2).reshape(query.shape)
        grad_query = part_query if grad_query is None else grad_query + part_query
        grads += [part_key, part_value]
    return grad_query, *grads


def _runs(x, key):
    """(T, H, ...) -> (N, H, T / N, ...), N the number of runs of `key`."""
    return x.unflatten(0, (key.shape[0], -1)).transpose(1, 2)


def _kernel(query, key, value, mask, scale):
    """Softmax attention (N, H, M, D) and the logarithms of its sums of exponentials (N, H, M)."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, attn_mask=mask, scale=scale)

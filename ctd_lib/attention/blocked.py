"""Blocked attention: runs of queries against runs of keys, each a fused kernel call, joined exactly.

The keys that a query sees are split into parts (its window, the global tokens, random blocks ...). Each part is one call of
the fused kernel, batched over runs of consecutive queries, on strided views of the keys where it can be. The kernel also
returns the logarithm of each query's sum of exponentials, by which the outputs of the parts are joined into the softmax
over all of them (the rule of FlashAttention, Dao et al. 2022, section 3.1). Nothing of size T x T is ever made.

Everything here works on one sequence of a batch, laid out (T, H, D): tokens, heads, head size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MASKED = -30000.0
"""Added to the score of a key that must not be seen: finite, so that a row without any key gives no NaN, within float16, and
far enough down for an exact zero after the softmax."""

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part(NamedTuple):
    """Keys seen by runs of queries: the n-th of N equal runs of consecutive queries sees `key[n]`; N = 1 is all queries."""

    key: Tensor
    """(N, H, S, D), any strides but a dense last dimension."""
    value: Tensor
    """(N, H, S, D)"""
    mask: Tensor | None = None
    """Added to the scores, 0 or MASKED: (N or 1, H or 1, T / N or 1, S), in the dtype of the queries; None sees all."""


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Booleans (True = may be seen) as an additive mask of the same shape."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, MASKED)


def windows(x: Tensor, count: int, size: int, step: int, before: int = 0) -> Tensor:
    """Overlapping windows of a sequence, as views of one padded copy: window n starts at position n * step - before.

    Args:
        x: (T, H, D).
        count, size, step: number of windows, their length, and the distance between their starts, in tokens.
        before: how many tokens the first window starts before the sequence. Positions outside hold zeros.

    Returns:
        (count, H, size, D)
    """
    after = (count - 1) * step + size - before - x.shape[0]
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, before, max(after, 0)))
    return _Windows.apply(padded.contiguous(), count, size, step)


def attend(query: Tensor, parts: list[Part], scale: float | None = None) -> Tensor:
    """Softmax attention of one sequence over the keys of all parts together, forward and backward.

    Args:
        query: (T, H, D); T a multiple of each part's number of runs.
        parts: a key that appears in two parts counts twice.
        scale: factor on the scores, D ** -0.5 by default.

    Returns:
        (T, H, D), contiguous. A query that sees no key gets a finite value without meaning.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    masks = [part.mask for part in parts]
    return _Attend.apply(query, scale, masks, *(tensor for part in parts for tensor in (part.key, part.value)))


class _Windows(torch.autograd.Function):
    """A view forward; backward the gradients of overlapping windows are added up, a few large additions."""

    @staticmethod
    def forward(ctx, padded, count, size, step):
        ctx.shape, ctx.step = padded.shape, step
        tokens, heads, width = padded.stride()
        return padded.as_strided((count, padded.shape[1], size, padded.shape[2]), (step * tokens, heads, tokens, width))

    @staticmethod
    def backward(ctx, grad):
        count, heads, size, width = grad.shape
        step = ctx.step
        total = grad.new_zeros(max(ctx.shape[0], (count + size // step + 1) * step), heads, width)
        for start in range(0, size, step):
            piece = grad[:, :, start : start + step].transpose(1, 2)  # (N, step or less, H, D)
            runs = total[start : start + count * step].unflatten(0, (count, step))
            runs[:, : piece.shape[1]] += piece
        return total[: ctx.shape[0]], None, None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, scale, masks, *tensors):
        out = lse = None
        for mask, key, value in zip(masks, tensors[::2], tensors[1::2], strict=True):
            part_out, part_lse = _kernel(_runs(query, key), key, value, attn_mask=mask, scale=scale)
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
        # With the joined output and sum of exponentials in place of a part's own, the kernel's backward gives exactly that
        # part's share of the gradient: both enter it only through the probabilities and the row sums of grad * out.
        query, out, lse, *tensors = ctx.saved_tensors
        grad = grad.contiguous()
        grad_query, grads = None, []
        for mask, key, value in zip(ctx.masks, tensors[::2], tensors[1::2], strict=True):
            part_query, part_key, part_value = _kernel_backward(
                _runs(grad, key), _runs(query, key), key, value, _runs(out, key), _runs(lse, key), 0.0, False,
                attn_mask=mask, scale=ctx.scale,
            )  # fmt: skip
            part_query = part_query.transpose(1, 2).reshape(query.shape)
            grad_query = part_query if grad_query is None else grad_query + part_query
            grads += [part_key, part_value]
        return grad_query, None, None, *grads


def _runs(x, key):
    """(T, H, ...) -> (N, H, T / N, ...), N the number of runs of `key`."""
    return x.unflatten(0, (key.shape[0], -1)).transpose(1, 2)

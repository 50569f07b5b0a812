"""Blocked attention by plain matrix products, a few runs of queries at a time.

The only way on devices without the CPU's fused kernel, and on many CPUs the faster one in bfloat16:
the fused kernel multiplies small tiles, which bfloat16 hardware takes slowly, its backward most of
all. Scores are kept in the queries' dtype and only for the runs at work; the backward computes them
again, so that it may follow either forward.
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from ctd_lib.attention import probe
from ctd_lib.runtime import multiplies_bfloat16

SCORES = {"cpu": 2**20, "cuda": 2**27}
"""Scores at work at a time, if one run has no more: what fits a CPU's cache, what fills a GPU."""
LARGEST_RUN = 2**22
"""Scores of one run, above which the fused kernel is the faster one on any CPU."""


def faster(query: Tensor) -> bool:
    """Whether queries are attended to by products rather than by the CPU's fused kernel."""
    if query.device.type != "cpu":
        return True
    able = query.dtype == torch.bfloat16 and multiplies_bfloat16(query.device)
    return able and _faster_in_bfloat16()


def faster_backward(query: Tensor, parts: list) -> bool:
    """The same of the backward, after a forward by the fused kernel."""
    able = _small_in_bfloat16(query, parts) and multiplies_bfloat16(query.device)
    return able and _faster_backward_in_bfloat16()


def faster_than_sdpa(query: Tensor, parts: list) -> bool:
    """Whether full attention, a run a sequence, leaves SDPA for a faster forward or backward."""
    if not _small_in_bfloat16(query, parts):
        return False
    return faster(query) or (query.requires_grad and faster_backward(query, parts))


def forward(query: Tensor, parts: list, scale: float) -> Tensor:
    """Softmax attention (T, H, D) over the keys of all parts; see `blocked.attend`."""
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    runs = _runs(query, parts)
    for chosen in _groups(runs, parts):
        weights, _, value = _weights(runs, parts, chosen, scale)
        _runs(out, parts)[chosen] = weights @ value
    return out


def backward(grad: Tensor, query: Tensor, out: Tensor, parts: list, scale: float) -> tuple:
    """Gradients of the queries and of each part's keys and values, in that order."""
    grad_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    grads = [tuple(x.new_zeros(x.shape) for x in (part.key, part.value)) for part in parts]
    runs, grad_runs = _runs(query, parts), _runs(grad, parts)
    # Row sums of weights * their gradients, by a detour that is shorter.
    rows = _runs((grad.float() * out.float()).sum(-1, keepdim=True).to(query.dtype), parts)
    for chosen in _groups(runs, parts):
        weights, key, value = _weights(runs, parts, chosen, scale)
        grad_out = grad_runs[chosen]
        grad_scores = (grad_out @ value.transpose(-1, -2)).sub_(rows[chosen])
        grad_scores.mul_(weights).mul_(scale)
        _runs(grad_query, parts)[chosen] = grad_scores @ key
        grad_key = grad_scores.transpose(-1, -2) @ runs[chosen]
        grad_value = weights.transpose(-1, -2) @ grad_out
        sizes = [part.key.shape[2] for part in parts]
        for each, total in zip((grad_key, grad_value), zip(*grads, strict=True), strict=True):
            for piece, whole in zip(each.split(sizes, dim=2), total, strict=True):
                if len(whole) == 1:
                    whole += piece.sum(0)
                else:
                    whole[chosen] = piece
    return grad_query, *(tensor for pair in grads for tensor in pair)


def _runs(x: Tensor, parts: list) -> Tensor:
    """A view (T, H, D) -> (N, H, T / N, D), N the most runs that a part has."""
    return x.unflatten(0, (max(len(part.key) for part in parts), -1)).transpose(1, 2)


def _groups(runs: Tensor, parts: list) -> Iterator[slice]:
    count, heads, queries, _ = runs.shape
    at_a_time = SCORES.get(runs.device.type, SCORES["cuda"])
    size = max(1, at_a_time // (heads * queries * _keys(parts)))
    return (slice(start, start + size) for start in range(0, count, size))


def _small_in_bfloat16(query: Tensor, parts: list) -> bool:
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return False
    length, heads, _ = query.shape
    return length // max(len(part.key) for part in parts) * heads * _keys(parts) <= LARGEST_RUN


def _keys(parts: list) -> int:
    return sum(part.key.shape[2] for part in parts)


def _weights(runs: Tensor, parts: list, chosen: slice, scale: float):
    """Of some runs of queries: softmax weights, keys and values of all parts, joined."""
    query = runs[chosen]
    key, value = (
        torch.cat(
            [_of(part[place], chosen).expand(len(query), -1, -1, -1) for part in parts], dim=2
        )
        for place in (0, 1)
    )
    scores = (query * scale) @ key.transpose(-1, -2)
    start = 0
    for part in parts:
        stop = start + part.key.shape[2]
        if part.mask is not None:
            scores[..., start:stop] += _of(part.mask, chosen)
        start = stop
    return scores.softmax(-1), key, value


def _of(x: Tensor, chosen: slice) -> Tensor:
    """Some runs of a tensor that has as many as the queries, or one for all of them."""
    return x if len(x) == 1 else x[chosen]


@functools.cache
def _faster_in_bfloat16() -> bool:
    """Timed once a process on a few windows, in processor time of one thread (see linear.py)."""
    from ctd_lib.attention import blocked

    query, parts = _example()
    return probe.faster(
        lambda: forward(query, parts, 0.125), lambda: blocked.fused(query, parts, 0.125)
    )


@functools.cache
def _faster_backward_in_bfloat16() -> bool:
    from ctd_lib.attention import blocked

    query, parts = _example()
    out, lse = blocked.fused(query, parts, 0.125)
    return probe.faster(
        lambda: backward(out, query, out, parts, 0.125),
        lambda: blocked.fused_backward(out, query, out, lse, parts, 0.125),
    )


def _example() -> tuple[Tensor, list]:
    from ctd_lib.attention import blocked

    query, key, value = torch.ones(3, 1024, 4, 64, dtype=torch.bfloat16)
    mask = torch.zeros(8, 1, 128, 640, dtype=query.dtype)
    local = (blocked.windows(x, 8, 640, 128, 256) for x in (key, value))
    return query, [blocked.Part(*local, mask)]

"""FlexAttention on a GPU: the same patterns as one compiled kernel, forward and backward.

The kernel skips blocks of BLOCK x BLOCK scores in which no query sees a key. Which those are is
worked out here from the pattern's block structure, so that no mask of T x T is made, as
`create_block_mask` would.
"""

import functools

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
KERNELS = 64
"""As many may be compiled in one process, see `_compiled`."""


def takes(query: Tensor) -> bool:
    """Whether queries are on a device that the compiled kernel has forward and backward for."""
    return query.device.type == "cuda"


def attend(query: Tensor, key: Tensor, value: Tensor, block_mask: BlockMask) -> Tensor:
    """Softmax attention within a pattern, (B, T, H, D) each; who sees nothing gives zeros."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return _compiled()(query, key, value, block_mask=block_mask).transpose(1, 2)


@functools.cache
def _compiled():
    # Each kind of batch (with gradients or without, of one row or more, of few blocks, padded) has
    # a kernel of its own. Over the limit torch goes on without one, and makes scores of T x T.
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, KERNELS)
    return torch.compile(flex_attention)


def block_mask(sees, some: Tensor, every: Tensor, length: int) -> BlockMask:
    """A pattern for the kernel.

    Args:
        sees: `sees(batch, head, query, key)`, the pattern by positions.
        some: (B, H or 1, N, N), N = T / BLOCK rounded up: at least the blocks of scores in which
            a query sees a key.
        every: the same shape, at most the blocks in which every query sees every key.
        length: T.
    """
    partial_count, partial = _listed(some & ~every)
    full_count, full = _listed(every)
    return BlockMask.from_kv_blocks(
        partial_count, partial, full_count, full, BLOCK, sees, seq_lengths=(length, length)
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row how many blocks, and which, those first."""
    indices = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), indices.int().contiguous()


def any_of(tokens: Tensor) -> Tensor:
    """(..., T) booleans -> (..., N): whether any of a block is true."""
    return _blocks(tokens).any(-1)


def all_of(tokens: Tensor) -> Tensor:
    """(..., T) booleans -> (..., N): whether all of a block are true, which has to be whole."""
    return _blocks(tokens).all(-1)


def _blocks(tokens):
    padded = torch.nn.functional.pad(tokens, (0, -tokens.shape[-1] % BLOCK))
    return padded.unflatten(-1, (-1, BLOCK))

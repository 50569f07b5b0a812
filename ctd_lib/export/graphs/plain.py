"""What the graphs of all archs share: the encoder, blocks of queries, gathered keys."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ctd_lib.attention.blocked import additive
from ctd_lib.attention.swap import Swapped


class Encoder(Swapped):
    """The forward of a base model: embeddings, a plan made once, the layers, the outputs."""

    def forward(
        self, input_ids=None, attention_mask=None, token_type_ids=None,
        global_attention_mask=None, **unused,
    ):  # fmt: skip
        """As the native class, of tokens (B, T) and their masks (B, T)."""
        hidden = self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        plan = self.plan(attention_mask.bool(), global_attention_mask)
        for layer in self.encoder.layer:
            output = layer(hidden, attention_mask=plan)
            hidden = output if isinstance(output, Tensor) else output[0]
        return self.outputs(hidden, None)


def by_head(x: Tensor, count: int) -> Tensor:
    """Split into heads, heads first: (B, T, C) -> (B, H, T, D)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def blocks(x: Tensor, size: int) -> Tensor:
    """Cut into blocks, the last filled up with zeros: (B, H, T, D) -> (B, H, N, size, D)."""
    length = x.shape[2]
    count = (length + size - 1) // size
    return F.pad(x, (0, 0, 0, count * size - length)).unflatten(2, (count, size))


def windows(count, size: int, step: int, before: int, length) -> tuple[Tensor, Tensor]:
    """Positions (N, size) of overlapping windows, and which of them lie in the sequence.

    Window n starts at n * step - before; positions outside are replaced by some inside.
    """
    index = torch.arange(count)[:, None] * step + torch.arange(size) - before
    inside = (index >= 0) & (index < length)
    return index * inside, inside


def softmax(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, scale: float | None = None
) -> Tensor:
    """Attention (..., M, D) to keys (..., S, D), those that booleans (..., M or 1, S) allow."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(-1, -2)
    return (scores + additive(allowed, scores.dtype)).softmax(-1) @ value


def attend(query: Tensor, key: Tensor, value: Tensor, index: Tensor, allowed: Tensor) -> Tensor:
    """Each block of queries (B, H, N, M, D) to keys of its own.

    Args:
        key, value: (B, H, T, D).
        index: which of them each block is shown, (N, S).
        allowed: which of those may be seen, (B, H or 1, N, M or 1, S).

    Returns:
        (B, H, N * M, D)
    """
    key, value = (
        x.index_select(2, index.flatten()).unflatten(2, index.shape) for x in (key, value)
    )
    return softmax(query, key, value, allowed).flatten(2, 3)


def tokens_at(x: Tensor, tokens: Tensor) -> Tensor:
    """Of each sequence the chosen tokens (B, G): (B, T, C) -> (B, G, C)."""
    return x.gather(1, tokens.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

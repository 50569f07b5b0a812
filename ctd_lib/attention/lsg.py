"""LSG attention: local blocks, sparse tokens from further away, and global tokens in front.

Condevaux and Harispe, "LSG Attention: Extrapolation of pretrained Transformers to long sequences",
PAKDD 2023.

Note:
    G global tokens stand before the T tokens of the input. They attend to everything and
    everything attends to them. The input is cut into blocks of `block_size` b. A query sees
    - the G global tokens,
    - its own block and the one on each side (3b tokens),
    - `sparse_block_size` sparse tokens on the left of that window and as many on its right.
    Sparse tokens are the input made `sparsity_factor` f times shorter, each head for itself:
    `norm` keeps of each run of min(b, sparse_block_size) tokens those 1/f whose keys are longest,
    `pooling` replaces each f tokens by the means of their keys and of their values, `none` has no
    sparse tokens; with f = 1 all are kept. Padding is never a key, and is never in a mean.
    An input of at most 2b tokens gets full attention: the sparsity does nothing there.
    The public implementation pads the hidden states to whole blocks; here only the attention is
    padded, with the same outputs. Where b / f is odd it fails, or with f = b takes the sparse
    tokens on the right two places too early; that is not followed here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ctd_lib.attention.blocked import Part, additive, attend, dense, windows
from ctd_lib.errors import CtdError

MAX_GLOBAL_TOKENS = 512
SPARSITY_TYPES = ("norm", "pooling", "none")


@dataclass(frozen=True)
class LsgGeometry:
    """The numbers that shape the pattern; see the module's Note.

    Raises:
        CtdError: numbers that do not fit together.
    """

    block_size: int
    sparse_block_size: int
    sparsity_factor: int
    sparsity_type: str
    num_global_tokens: int

    def __post_init__(self):
        if self.sparsity_type not in SPARSITY_TYPES:
            raise CtdError(
                f"sparsity_type {self.sparsity_type!r} is unknown; take one of"
                f" {', '.join(SPARSITY_TYPES)}."
            )
        if not 1 <= self.num_global_tokens <= MAX_GLOBAL_TOKENS:
            raise CtdError(
                f"num_global_tokens is {self.num_global_tokens}; it must be from 1 to"
                f" {MAX_GLOBAL_TOKENS}."
            )
        if self.is_sparse and (self.block_size % self.run or self.run % self.sparsity_factor):
            raise CtdError(
                f"sparsity_factor {self.sparsity_factor} must divide sparse_block_size"
                f" {self.sparse_block_size}, and that divide block_size {self.block_size}"
                " or be longer."
            )

    @property
    def is_sparse(self) -> bool:
        return self.sparsity_type != "none" and self.sparse_block_size > 0

    @property
    def run(self) -> int:
        """Tokens out of which sparse tokens are chosen together."""
        return min(self.block_size, self.sparse_block_size)

    @classmethod
    def of(cls, config) -> "LsgGeometry":
        """The geometry that a configuration states."""
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})


class LsgLayout(NamedTuple):
    """What the layers share in one forward: made once from the padding mask."""

    keep: Tensor
    """(B, T) True where a token is no padding (and may be seen)."""
    full_mask: Tensor | None
    """(B, 1, 1, G + T) the same with the global tokens; None where everything is seen."""
    local_masks: list[Tensor] | None
    """Of each sequence: (T / b, 1, 1, 3b), additive; None where attention is full."""


def layout(keep: Tensor, geometry: LsgGeometry) -> LsgLayout:
    """Make the masks of one forward from the tokens (B, T) that may be seen."""
    length, block = keep.shape[1], geometry.block_size
    with_global = pad(keep, (geometry.num_global_tokens, 0), value=True)
    full_mask = None if keep.all() else with_global[:, None, None]
    if length <= 2 * block:
        return LsgLayout(keep, full_mask, None)
    keep = pad(keep, (0, -length % block))
    masks = [
        _window_mask(seen[:, None], keep.shape[1] // block, 3 * block, block, block)
        for seen in keep
    ]
    return LsgLayout(keep, full_mask, masks)


def lsg_attention(
    query: Tensor, key: Tensor, value: Tensor, shared: LsgLayout, geometry: LsgGeometry
) -> Tensor:
    """Attention of global tokens and input together, linear in the length, forward and backward.

    Args:
        query, key, value: (B, G + T, H, D).
        shared: of `layout`, for the same B and T.
        geometry: the pattern.

    Returns:
        (B, G + T, H, D)
    """
    if shared.local_masks is None:
        return dense(query, key, value, shared.full_mask)
    count = geometry.num_global_tokens
    from_global = dense(query[:, :count], key, value, shared.full_mask)
    length = query.shape[1] - count
    padding = (0, 0, 0, 0, 0, -length % geometry.block_size)
    rest = []
    batch = zip(query, key, value, shared.keep, shared.local_masks, strict=True)
    for *tokens, keep, local_mask in batch:
        front = (x[:count] for x in tokens[1:])
        rows = (pad(x[count:], padding) for x in tokens)
        rest.append(_blocks(*rows, *front, keep, local_mask, geometry)[:length])
    return torch.cat([from_global, torch.stack(rest)], dim=1)


def _blocks(query, key, value, front_key, front_value, keep, local_mask, geometry):
    """One sequence of whole blocks (T, H, D), its global tokens (G, H, D) as keys in front."""
    block = geometry.block_size
    count = len(query) // block
    local = (windows(x, count, 3 * block, block, before=block) for x in (key, value))
    parts = [
        Part(front_key.transpose(0, 1)[None], front_value.transpose(0, 1)[None]),
        Part(*local, local_mask.to(query.dtype)),
    ]
    if geometry.is_sparse:
        key, value, keep = _sparse_tokens(key, value, keep, geometry)
        size, step = geometry.sparse_block_size, block // geometry.sparsity_factor
        for before in (size + step, -2 * step):
            mask = _window_mask(keep, count, size, step, before).to(query.dtype)
            sides = (windows(x, count, size, step, before) for x in (key, value))
            parts.append(Part(*sides, mask))
    return attend(query, parts)


def _sparse_tokens(key: Tensor, value: Tensor, keep: Tensor, geometry: LsgGeometry):
    """Keys and values (T, H, D) made f times shorter, and which of them may be seen (T / f, H)."""
    factor, heads, width = geometry.sparsity_factor, *key.shape[1:]
    if factor == 1:
        return key, value, keep[:, None]
    if geometry.sparsity_type == "pooling":
        weight = keep.view(-1, factor, 1, 1).to(key.dtype)
        total = weight.sum(1)
        key, value = (
            (x.view(-1, factor, heads, width) * weight).sum(1) / total.clamp(min=1)
            for x in (key, value)
        )
        return key, value, total[..., 0] > 0
    norms = key.detach().norm(dim=-1).masked_fill(~keep[:, None], 0)  # (T, H)
    norms = norms.view(-1, geometry.run, heads)
    chosen = norms.argsort(dim=1)[:, -(geometry.run // factor) :]
    starts = torch.arange(0, len(key), geometry.run, device=key.device)
    chosen = (chosen + starts[:, None, None]).view(-1, heads)  # (T / f, H)
    rows = (chosen * heads + torch.arange(heads, device=key.device)).flatten()
    key, value = (
        x.reshape(-1, width).index_select(0, rows).view(-1, heads, width) for x in (key, value)
    )
    return key, value, keep[chosen]


def _window_mask(keep, count, size, step, before):
    """Which tokens (T, H or 1) each window may see: (count, H or 1, 1, size), additive."""
    seen = windows(keep[..., None].float(), count, size, step, before)
    return additive(seen.transpose(2, 3) > 0, torch.float32)


def install(model, public: bool = False) -> None:
    """Nothing to do: LSG models have this attention built in."""


def pattern(config, length: int, global_tokens: tuple[int, ...] = ()) -> Tensor:
    """Who may attend to whom: (T, T) booleans, row = query, column = key.

    The global token in front is drawn as the first token, whose place it takes; a sparse token is
    drawn at every token that it may be chosen from. `global_tokens` are others to draw likewise.
    """
    geometry = LsgGeometry.of(config)
    block, factor = geometry.block_size, geometry.sparsity_factor
    if length <= 2 * block:
        return torch.ones(length, length, dtype=torch.bool)
    token = torch.arange(length)
    query, key = token[:, None] // block, token[None] // block
    seen = (query - key).abs() <= 1
    if geometry.is_sparse:
        sparse, step = token[None] // factor, block // factor
        left, right = (query - 1) * step, (query + 2) * step
        reach = geometry.sparse_block_size
        seen |= (left - reach <= sparse) & (sparse < right + reach)
    for position in (0, *global_tokens):
        seen[position] = seen[:, position] = True
    return seen


def attention_flops(config, length: int) -> int:
    """FLOP of the attention products of one forward, the choice of sparse tokens left out."""
    geometry = LsgGeometry.of(config)
    front = geometry.num_global_tokens
    if length <= 2 * geometry.block_size:
        pairs = (front + length) ** 2
    else:
        sparse = 2 * geometry.sparse_block_size if geometry.is_sparse else 0
        pairs = length * (front + 3 * geometry.block_size + sparse) + front * (front + length)
    return 4 * config.hidden_size * pairs * config.num_hidden_layers

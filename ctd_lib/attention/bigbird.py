"""Big Bird: window, global and random blocks (Zaheer et al. 2020, arXiv 2007.14062).

Note:
    Tokens are seen in blocks of `block_size`. The first and the last block see everything and are
    seen by everyone. Any other block sees itself, both neighbours, and `num_random_blocks` more,
    drawn for each head and layer by transformers' own rule and seed, so that they are the same in
    training and in evaluation. Each key counts once. Where the sequence has no more blocks than a
    block may see, everyone sees everyone. Padding is seen by nobody, and a padded token's output is
    zero. Attention-probability dropout is not applied.

    The last block is that of the padded input, and so is the number of blocks that random ones are
    drawn from: as in transformers, a document's output depends on how far its batch is padded.

    `public=True` computes what transformers 5 does: full attention up to (5 + 2 num_random_blocks)
    block_size tokens, block 0 in the place of every random block outside of training, and blocks
    drawn twice counted twice.
"""

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.big_bird import modeling_big_bird as native

from ctd_lib.attention import blocked, flex, swap
from ctd_lib.attention.blocked import Part
from ctd_lib.attention.encoder import Encoder, heads
from ctd_lib.errors import CtdError

PAPER_LENGTHS = (1024, 3072, 4096)
"""In tokens, for which transformers has a rule of its own to draw random blocks by."""
BLOCKS = 64
"""Whose random blocks are copied at a time, 18 MiB of keys at width 768 in float32."""


def install(model, public=False):
    """See `ctd_lib.attention.install`.

    Raises:
        CtdError: the model is a decoder, its configuration asks for full attention, or its block
            size is below 1.
    """
    _check_block_size(model.config)
    if model.config.is_decoder or model.config.add_cross_attention:
        raise CtdError("Big Bird as a decoder has no fast attention; only encoders are supported.")
    if model.config.attention_type != "block_sparse":
        raise CtdError(
            "attention_type must be 'block_sparse' for Big Bird,"
            f" not '{model.config.attention_type}'."
        )
    swap.swap(model, CLASSES, public)


def pattern(config, length: int, global_tokens=(), layer: int = 0, head: int = 0) -> Tensor:
    """(T, T) booleans of one head of one layer; see `ctd_lib.attention.pattern`.

    Raises:
        CtdError: global tokens are asked for, or the block size is below 1.
    """
    _check_block_size(config)
    if global_tokens:
        raise CtdError("Big Bird takes no global tokens: its first and last block are global.")
    blocks = block_pattern(config, -(-length // config.block_size), layer)[head]
    block_of = torch.arange(length) // config.block_size
    return blocks[block_of[:, None], block_of]


def _check_block_size(config):
    if config.block_size < 1:
        raise CtdError(f"block_size must be 1 or more, not {config.block_size}.")


def block_pattern(config, count: int, layer: int) -> Tensor:
    """Which of `count` blocks sees which, for each head of a layer, (H, count, count) booleans."""
    blocks = torch.eye(count, dtype=torch.bool).repeat(config.num_attention_heads, 1, 1)
    blocks |= blocks.roll(1, 1) | blocks.roll(-1, 1)
    blocks[:, [0, -1]] = blocks[:, :, [0, -1]] = True
    if covers_all(config, count):
        return torch.ones_like(blocks)
    blocks[:, 1:-1].scatter_(2, random_blocks(config, count, layer), True)
    return blocks


def attention_flops(config, length: int) -> int:
    """FLOP of scores and weighted sums of the blocks that are seen, one sequence, all layers."""
    size, count = config.block_size, -(-length // config.block_size)
    pairs = 2 * size * length + (count - 2) * size * (5 + config.num_random_blocks) * size
    if covers_all(config, count):
        pairs = length**2
    return 4 * pairs * config.hidden_size * config.num_hidden_layers


def covers_all(config, count: int) -> bool:
    """Whether a sequence of `count` blocks has no more blocks than each may see."""
    return count <= 5 + config.num_random_blocks


def random_blocks(config, count: int, layer: int) -> Tensor:
    """The blocks that transformers draws in training, (H, count - 2, R).

    Rows are the blocks 1 to count - 2. A row with fewer blocks to draw from than R is filled up
    with block 0, which everyone sees anyway.
    """
    # The cache holds numpy arrays: a tensor first made in inference mode could not be trained with.
    drawn = _random_blocks(
        count, layer, config.num_attention_heads, config.num_random_blocks, config.block_size,
        config.max_position_embeddings // config.block_size,
    )  # fmt: skip
    return torch.from_numpy(drawn)


@functools.lru_cache(maxsize=256)
def _random_blocks(count, layer, num_heads, num_random, block_size, max_count):
    draw = np.random.RandomState(layer)
    drawn = np.zeros((num_heads, count, num_random), dtype=np.int64)
    # Blocks of 512 tokens and more are drawn from all of max_count, not from the first 1024 tokens.
    bounded = 2 * block_size < 1024 or count == max_count
    if bounded and count * block_size in PAPER_LENGTHS:
        for head in range(num_heads):
            for row in range(1, max_count - 1):
                picked = draw.permutation(_candidates(row, max_count, block_size))[:num_random]
                if row < count:
                    drawn[head, row, : len(picked)] = picked
    else:
        limit = min(count, 2 * num_random + 5)  # random blocks lie among the first ones only
        for row in range(1, count):
            barred = {row - 1, row, row + 1, 0, limit - 1}
            barred |= {1: {limit - 2}, limit - 2: {1}}.get(row, set())
            for head in range(num_heads):
                picked = [block for block in draw.permutation(limit) if block not in barred]
                picked = picked[:num_random]
                drawn[head, row, : len(picked)] = picked
    return drawn[:, 1:-1]


def _candidates(row, max_count, block_size):
    """The blocks that a row may draw at the paper's lengths: those of the first 1024 tokens."""
    middle = np.arange(1, max_count - 1)
    last = 1024 // block_size - 1 if 1024 > 2 * block_size else max_count - 1
    start, end = row - 2, row
    if row in (1, 2):
        return middle[row + 1 : last]
    if row >= max_count - 3:
        return middle[:last]
    if start > last or end + 1 == last:
        return middle[: min(start, last)]
    return np.concatenate((middle[:start], middle[end + 1 : last]))


class Plan:
    """What the layers share of one batch: its padding and masks."""

    def __init__(self, config, hidden: Tensor, valid: Tensor | None, public: bool):
        length, self.size = hidden.shape[1], config.block_size
        self.count = -(-length // self.size)
        self.padding = self.count * self.size - length
        self.config, self.length, self.public = config, length, public
        self._block_masks = {}
        self._scratch = {}
        self.dense = covers_all(config, self.count)
        if public:
            self.dense = length <= (5 + 2 * config.num_random_blocks) * self.size
        self.padded_rows = None if valid is None else ~valid.unsqueeze(-1)  # (B, T, 1)
        keys = hidden.new_ones(hidden.shape[:2], dtype=torch.bool) if valid is None else valid
        self.keys = F.pad(keys, (0, self.padding))  # (B, N * S)

    @functools.cached_property
    def everything(self) -> Tensor:
        """May a key be seen? (B, 1, 1, 1, N * S), booleans"""
        return self.keys[:, None, None, None]

    @functools.cached_property
    def ends(self) -> Tensor:
        """The same for the first and the last block, (B, 1, 1, 1, 2 S)."""
        ends = torch.cat((self.keys[:, : self.size], self.keys[:, -self.size :]), dim=1)
        return ends[:, None, None, None]

    @functools.cached_property
    def window(self) -> Tensor:
        """The same for a block and its neighbours but global ones, (B, N - 2, 1, 1, 3 S)."""
        inner = self.keys.clone()
        inner[:, : self.size] = inner[:, -self.size :] = False
        return inner.unfold(1, 3 * self.size, self.size)[:, :, None, None]

    def random(self, chosen: Tensor) -> Tensor:
        """The same for the random blocks (H, N - 2, R) of a layer, (B, N - 2, H, 1, R * S)."""
        allowed = self.keys.unflatten(1, (self.count, self.size))[:, chosen]  # (B, H, N - 2, R, S)
        if not self.public:
            allowed = allowed & ~self.seen_twice(chosen).unsqueeze(-1)
        return allowed.flatten(-2).transpose(1, 2).unsqueeze(3)

    def block_mask(self, layer: int):
        """The whole pattern of a layer for `flex.attend`."""
        if layer not in self._block_masks:
            size, keys = self.size, self.keys[:, : self.length]
            pattern = block_pattern(self.config, self.count, layer).to(keys.device)

            def seen(batch, head, query, key):
                return keys[batch, key] & pattern[head, query // size, key // size]

            block_of = torch.arange(self.length, device=keys.device) // size
            belongs = block_of == torch.arange(self.count, device=keys.device)[:, None]
            overlap = flex.any_of(belongs).T.float()  # the kernel's blocks and ours, (N, count)
            some = overlap @ pattern.float() @ overlap.T > 0
            every = overlap @ (~pattern).float() @ overlap.T == 0
            some = some & flex.any_of(keys)[:, None, None]
            every = every & flex.all_of(keys)[:, None, None]
            self._block_masks[layer] = flex.block_mask(seen, some, every, self.length)
        return self._block_masks[layer]

    def scratch(self, like: Tensor, which: int) -> Tensor | None:
        """Memory that all layers write their copies to; None where a backward needs each of them.

        So many bytes at once come from the system anew each time, which takes longer than a copy.
        """
        if torch.is_grad_enabled():
            return None
        return self._scratch.setdefault((like.dtype, which), like.new_empty(0)).resize_(0)

    def seen_twice(self, chosen: Tensor) -> Tensor:
        """Which random blocks are in the window or global as well, (H, N - 2, R)."""
        rows = torch.arange(1, self.count - 1, device=chosen.device)[:, None]
        return ((chosen - rows).abs() <= 1) | (chosen == 0) | (chosen == self.count - 1)


class BigBirdAttention(swap.Swapped, native.BigBirdAttention):
    """Window, global blocks and random blocks in one softmax."""

    def forward(self, hidden_states, attention_mask=None, **unused):
        """(B, T, C) and the batch's plan -> ((B, T, C), None)."""
        plan, length = attention_mask, hidden_states.shape[1]
        projections = (self.self.query, self.self.key, self.self.value)
        query, key, value = (
            heads(f, hidden_states, self.config.num_attention_heads) for f in projections
        )
        if flex.takes(query) and not plan.public:
            context = flex.attend(query, key, value, plan.block_mask(self.seed)).flatten(-2)
        else:
            context = self._blocked(query, key, value, plan)[:, :length].flatten(-2)
        if plan.padded_rows is not None:
            context = context.masked_fill(plan.padded_rows, 0.0)
        return self.output(context, hidden_states), None

    def _blocked(self, query, key, value, plan):
        """All sequences, one after the other, padded to whole blocks, (B, N * S, H, D)."""
        if plan.padding:
            query, key, value = (
                F.pad(x, (0, 0, 0, 0, 0, plan.padding)) for x in (query, key, value)
            )
        if plan.dense:
            return blocked.dense(query, key, value, plan.everything.squeeze(1))
        chosen = random_blocks(self.config, plan.count, self.seed).to(query.device)
        if plan.public and not self.training:
            chosen = torch.zeros_like(chosen)
        batch = enumerate(zip(query, key, value, strict=True))
        return torch.stack(
            [self._sequence(*sequence, plan, item, chosen) for item, sequence in batch]
        )

    def _sequence(self, query, key, value, plan, item, chosen):
        """One sequence as parts; the rows of the first and the last block apart, (N * S, H, D)."""
        size, dtype = plan.size, query.dtype

        def mask(allowed):
            return blocked.additive(allowed[item], dtype)

        everything = Part(*(x.transpose(0, 1)[None] for x in (key, value)), mask(plan.everything))
        rows = torch.cat((query[:size], query[-size:]))
        first, last = blocked.attend(rows, [everything]).split(size)
        inner = plan.count - 2
        ends = [torch.cat((x[:size], x[-size:])).transpose(0, 1)[None] for x in (key, value)]
        window = [blocked.windows(x, inner, 3 * size, size) for x in (key, value)]
        ends_mask, window_mask = mask(plan.ends), mask(plan.window)
        drawn_mask = mask(plan.random(chosen))
        middle = []
        # A backward takes all blocks at once, for it would add up as many gradients of all keys.
        step = inner if torch.is_grad_enabled() else BLOCKS
        for start in range(0, inner, step):
            runs = slice(start, min(start + step, inner))
            drawn = (
                _gather(x, chosen[:, runs], size, plan.scratch(x, number))
                for number, x in enumerate((key, value))
            )
            parts = [
                Part(*(x[runs] for x in window), window_mask[runs]),
                Part(*ends, ends_mask),
                Part(*drawn, drawn_mask[runs]),
            ]
            rows = query[(runs.start + 1) * size : (runs.stop + 1) * size]
            middle.append(blocked.attend(rows, parts))
        return torch.cat((first, *middle, last))


def _gather(x, chosen, size, scratch):
    """Copies the chosen blocks (H, N - 2, R) of (N * S, H, D): (N - 2, H, R * S, D)."""
    (heads, count, draws), width = chosen.shape, x.shape[-1]
    blocks = x.transpose(0, 1).reshape(-1, size * width)  # (H * N, S * D)
    first = torch.arange(heads, device=x.device)[:, None, None] * (x.shape[0] // size)
    drawn = torch.index_select(blocks, 0, (first + chosen).transpose(0, 1).flatten(), out=scratch)
    return drawn.view(count, heads, draws * size, width)


class BigBirdModel(Encoder, native.BigBirdModel):
    """Without the fall-back to full attention and the padding to whole blocks."""

    def plan(self, hidden, valid, **unused):
        """Padding and masks, once for all layers."""
        return Plan(self.config, hidden, valid, self.public)

    def outputs(self, hidden, hidden_states):
        """The native output object."""
        pooled = None if self.pooler is None else self.activation(self.pooler(hidden[:, 0]))
        return native.BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=hidden,
            pooler_output=pooled,
            hidden_states=hidden_states,
        )


CLASSES = {
    native.BigBirdModel: BigBirdModel,
    native.BigBirdAttention: BigBirdAttention,
}

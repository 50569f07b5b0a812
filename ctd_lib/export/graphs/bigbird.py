"""Big Bird as a graph; see `ctd_lib.attention.bigbird` for what it computes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.big_bird import modeling_big_bird as native

from ctd_lib.attention import bigbird as fast
from ctd_lib.attention import swap
from ctd_lib.export.graphs import plain

NONE = -1


def tables(config, layer: int) -> tuple[Tensor, Tensor]:
    """The blocks that each block sees besides its window and the ends, for every length.

    They depend on the number of blocks, but agree for most: lengths that agree share a table.

    Returns:
        (L, H, N, R + 1) blocks, NONE where there are fewer; and for each number of blocks from 0
        to N which table is its own, (N + 1,).
    """
    longest = -(-config.max_position_embeddings // config.block_size)
    width = config.num_random_blocks + 1
    made: list[Tensor] = []
    filled: list[int] = []  # rows of each table that some length has set
    chosen = torch.zeros(longest + 1, dtype=torch.int64)
    for count in range(3, longest + 1):
        rows = _extra(fast.block_pattern(config, count, layer), width)  # (H, count - 2, R + 1)
        fits = (
            torch.equal(table[:, 1 : 1 + n], rows[:, :n])
            for table, n in zip(made, filled, strict=True)
        )
        number = next((number for number, fit in enumerate(fits) if fit), len(made))
        if number == len(made):
            made.append(torch.full((config.num_attention_heads, longest, width), NONE))
            filled.append(0)
        made[number][:, 1 : count - 1] = rows
        filled[number], chosen[count] = count - 2, number
    if not made:
        made = [torch.full((config.num_attention_heads, longest, width), NONE)]
    return torch.stack(made), chosen


def _extra(pattern: Tensor, width: int) -> Tensor:
    """Of a pattern (H, N, N) the blocks of inner rows beyond window and ends, (H, N - 2, width)."""
    blocks = torch.arange(pattern.shape[-1])
    near = (blocks[:, None] - blocks).abs() <= 1
    near[:, [0, -1]] = True
    extra = (pattern & ~near)[:, 1:-1]
    order = extra.int().argsort(dim=-1, descending=True, stable=True)
    listed = order.where(extra.gather(-1, order), NONE)[..., :width]
    return F.pad(listed, (0, width - listed.shape[-1]), value=NONE)


class Plan(NamedTuple):
    """What the layers share of one batch."""

    valid: Tensor
    """(B, T)"""
    keys: Tensor
    """The same in whole blocks, (B, N, S)."""
    rows: Tensor
    """(N,) numbers of the blocks."""
    count: Tensor
    """(1,) how many there are."""
    slots: Tensor
    """Blocks of the window, then the ends, (N, 5)."""
    shown: Tensor
    """Which of them exist and are no repetition, (N, 5)."""


class BigBirdAttention(swap.Swapped, native.BigBirdAttention):
    """Every block by what an inner one sees, then the first and the last written over it."""

    def forward(self, hidden_states, attention_mask=None, **unused):
        """(B, T, C) and the batch's plan -> ((B, T, C), None)."""
        plan, number = attention_mask, self.config.num_attention_heads
        size = self.config.block_size
        query, key, value = (
            plain.blocks(plain.by_head(f(hidden_states), number), size)
            for f in (self.self.query, self.self.key, self.self.value)
        )  # (B, H, N, S, D)
        inner = self._inner(query, key, value, plan)
        ends = torch.cat((query[:, :, 0], query[:, :, -1]), 2)  # (B, H, 2 S, D)
        everything = plan.keys.flatten(1)[:, None, None]
        ends = plain.softmax(ends, key.flatten(2, 3), value.flatten(2, 3), everything)
        first, last = ends.unflatten(2, (2, size)).unsqueeze(2).unbind(3)
        rows = plan.rows[:, None, None]
        context = torch.where(rows == plan.count - 1, last, inner)
        context = torch.where(rows == 0, first, context).flatten(2, 3)
        context = context[:, :, : hidden_states.shape[1]].transpose(1, 2).flatten(2)
        context = context.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
        return self.output(context, hidden_states), None

    def _inner(self, query: Tensor, key: Tensor, value: Tensor, plan: Plan) -> Tensor:
        heads, count = query.shape[1:3]
        chosen = self.chosen.index_select(0, plan.count)
        extra = self.tables.index_select(0, chosen)[0, :, :count]  # (H, N, R + 1)
        slots = torch.cat((plan.slots.expand(heads, -1, -1), extra.clamp(min=0)), -1)
        shown = torch.cat((plan.shown.expand(heads, -1, -1), extra != NONE), -1)
        places = torch.arange(heads)[:, None, None] * count + slots  # (H, N, 6 + R)
        gathered = (
            x.flatten(1, 2).flatten(2).index_select(1, places.flatten()) for x in (key, value)
        )
        key, value = (
            x.unflatten(2, query.shape[3:]).unflatten(1, slots.shape).flatten(3, 4)
            for x in gathered
        )  # (B, H, N, (6 + R) S, D)
        allowed = plan.keys[:, slots] & shown.unsqueeze(-1)  # (B, H, N, 6 + R, S)
        return plain.softmax(query, key, value, allowed.flatten(3)[:, :, :, None])


class BigBirdModel(plain.Encoder, native.BigBirdModel):
    """For any length and padding."""

    outputs = fast.BigBirdModel.outputs

    def plan(self, valid, is_global):
        """Padding, and what every block of every head sees."""
        size = self.config.block_size
        keys = plain.blocks(valid[:, None, :, None].long(), size)[:, 0, :, :, 0].bool()
        count = keys.shape[1]
        rows, total = torch.arange(count), torch.full((1,), count, dtype=torch.int64)
        near = rows[:, None] + torch.arange(-1, 2)
        exists = (near >= 0) & (near < total)
        ends = torch.cat((torch.zeros_like(total), total - 1)).expand(count, -1)
        apart = (ends - rows[:, None]).abs() > 1
        slots, shown = torch.cat((near * exists, ends), 1), torch.cat((exists, apart), 1)
        return Plan(valid, keys, rows, total, slots, shown)


def install(model) -> None:
    """Give a model these classes, and each attention its tables."""
    swap.swap(model, CLASSES)
    for module in model.modules():
        if isinstance(module, BigBirdAttention):
            drawn, chosen = tables(module.config, module.seed)
            module.register_buffer("tables", drawn, persistent=False)
            module.register_buffer("chosen", chosen, persistent=False)


CLASSES = {
    native.BigBirdModel: BigBirdModel,
    native.BigBirdAttention: BigBirdAttention,
}

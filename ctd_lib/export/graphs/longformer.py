"""Longformer as a graph; see `ctd_lib.attention.longformer` for what it computes."""

import torch
from torch import Tensor
from transformers.models.longformer import modeling_longformer as native

from ctd_lib.attention import longformer as fast
from ctd_lib.attention import swap
from ctd_lib.export.graphs import plain

BLOCK = 64


class Plan:
    """What the layers share of one batch."""

    def __init__(self, valid: Tensor, is_global: Tensor):
        self.valid = valid
        is_global = is_global.bool() & valid
        # As many slots as the sequence with most global tokens has, one where none has any.
        slots = is_global.sum(1).max().clamp(min=1).item()
        torch._check(slots >= 1)
        torch._check(slots <= valid.shape[1])
        self.slots = is_global.int().argsort(1, descending=True)[:, :slots]  # (B, G)
        self.filled = is_global.gather(1, self.slots)  # (B, G)
        self.local = valid & ~is_global
        self._windows = {}

    def window(self, window: int) -> tuple[Tensor, Tensor]:
        """Index and mask for `plain.attend` of the global tokens, in front, and of the window."""
        if window not in self._windows:
            length, slots = self.valid.shape[1], self.slots.shape[1]
            count, size, before = (length + BLOCK - 1) // BLOCK, BLOCK + window, window // 2
            index, inside = plain.windows(count, size, BLOCK, before, length)
            band = (torch.arange(BLOCK)[:, None] - torch.arange(size) + before).abs() <= before
            seen = self.local[:, index] & inside  # (B, N, S)
            seen = seen[:, None, :, None] & band  # (B, 1, N, BLOCK, S)
            front = self.filled[:, None, None, None].expand(-1, 1, count, BLOCK, -1)
            index = torch.cat((torch.arange(slots).expand(count, -1), slots + index), 1)
            self._windows[window] = index, torch.cat((front, seen), -1)
        return self._windows[window]


class LongformerSelfAttention(swap.Swapped, native.LongformerSelfAttention):
    """Window and global keys in one softmax; the rows of the global tokens written over it."""

    def forward(self, hidden_states, attention_mask=None, **unused):
        """(B, T, C) and the batch's plan -> ((B, T, C),)."""
        plan, hidden = attention_mask, hidden_states
        query = plain.by_head(self.query(hidden), self.num_heads)
        key, value = (
            plain.by_head(torch.cat((plain.tokens_at(x, plan.slots), x), 1), self.num_heads)
            for x in (self.key(hidden), self.value(hidden))
        )  # (B, H, G + T, D)
        window = plan.window(2 * self.one_sided_attn_window_size)
        context = plain.attend(plain.blocks(query, BLOCK), key, value, *window)
        context = context[:, :, : hidden.shape[1]].transpose(1, 2).flatten(2)  # (B, T, C)
        context = context.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
        rows = torch.where(
            plan.filled.unsqueeze(-1),
            self._global_rows(hidden, plan),
            plain.tokens_at(context, plan.slots),
        )
        return (context.scatter(1, plan.slots.unsqueeze(-1).expand(rows.shape), rows),)

    def _global_rows(self, hidden: Tensor, plan: Plan) -> Tensor:
        """Outputs of the global tokens, (B, G, C), from the hidden states, as the fast form."""
        query = self.query_global(plain.tokens_at(hidden, plan.slots))
        query = plain.by_head(query, self.num_heads)  # (B, H, G, D)
        key_weight, value_weight = (
            f.weight.unflatten(0, (self.num_heads, -1))
            for f in (self.key_global, self.value_global)
        )  # (H, D, C)
        folded, hidden = query @ key_weight, hidden.unsqueeze(1)  # (B, H, G, C), (B, 1, T, C)
        seen, scale = plan.valid[:, None, None], self.head_dim**-0.5
        mean = plain.softmax(folded, hidden, hidden, seen, scale)
        rows = mean @ value_weight.transpose(1, 2)  # (B, H, G, D)
        return rows.transpose(1, 2).flatten(2) + self.value_global.bias


class LongformerModel(plain.Encoder, native.LongformerModel):
    """For any length, padding and number of global tokens."""

    outputs = fast.LongformerModel.outputs

    def plan(self, valid, is_global):
        """Padding, global tokens, masks."""
        return Plan(valid, is_global)


def install(model) -> None:
    """Give a model these classes."""
    swap.swap(model, CLASSES)


CLASSES = {
    native.LongformerModel: LongformerModel,
    native.LongformerSelfAttention: LongformerSelfAttention,
}

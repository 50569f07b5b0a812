"""LSG as a graph; see `ctd_lib.attention.lsg` for what it computes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ctd_lib import lsg
from ctd_lib.attention import swap
from ctd_lib.attention.lsg import LsgGeometry
from ctd_lib.export.graphs import plain


class Plan(NamedTuple):
    """What the layers share of one batch: G global tokens, T tokens, N blocks of b."""

    everything: Tensor
    """May a key be seen? (B, G + T)"""
    keep: Tensor
    """The same of tokens in whole blocks, (B, N * b)."""
    index: Tensor
    """What each block is shown of global tokens, tokens and sparse tokens, in this order (N, S)."""
    inside: Tensor
    """Which of that there is, (N, S)."""


def plan_of(keep: Tensor, geometry: LsgGeometry) -> Plan:
    """Masks and positions, from the tokens (B, T) that may be seen."""
    front, block, length = geometry.num_global_tokens, geometry.block_size, keep.shape[1]
    count = (length + block - 1) // block
    everything = F.pad(keep.long(), (front, 0), value=1).bool()
    shown = torch.arange(front).expand(count, -1)
    window, inside = plain.windows(count, 3 * block, block, block, count * block)
    index, there = [shown, front + window], [torch.ones_like(shown).bool(), inside]
    if geometry.is_sparse:
        size, step = geometry.sparse_block_size, block // geometry.sparsity_factor
        # So short an input gets full attention: its window is all of it.
        is_long = torch.full((1,), length, dtype=torch.int64) > 2 * block
        for before in (size + step, -2 * step):
            window, inside = plain.windows(count, size, step, before, count * step)
            index.append(front + count * block + window)
            there.append(inside & is_long)
    keep = F.pad(keep.long(), (0, count * block - length)).bool()
    return Plan(everything, keep, torch.cat(index, 1), torch.cat(there, 1))


class LsgSelfAttention(swap.Swapped, lsg.LsgSelfAttention):
    """Global tokens, window and sparse tokens in one softmax."""

    def forward(self, hidden_states, attention_mask, **unused):
        """(B, G + T, C) and the batch's plan -> ((B, G + T, C), None)."""
        plan, geometry, length = attention_mask, self.geometry, hidden_states.shape[1]
        query, key, value = (
            plain.by_head(f(hidden_states), self.num_heads)
            for f in (self.query, self.key, self.value)
        )  # (B, H, G + T, D)
        front = geometry.num_global_tokens
        everything = plan.everything[:, None, None]
        from_front = plain.softmax(query[:, :, :front], key, value, everything)
        query = plain.blocks(query[:, :, front:], geometry.block_size)
        short = plan.keep.shape[1] + front - length
        key, value = (F.pad(x, (0, 0, 0, short)) for x in (key, value))
        keep = F.pad(plan.keep.long(), (front, 0), value=1)[:, None].expand(-1, self.num_heads, -1)
        if geometry.is_sparse:
            sparse = _sparse_tokens(key[:, :, front:], value[:, :, front:], plan.keep, geometry)
            joined = zip((key, value, keep), sparse, strict=True)
            key, value, keep = (torch.cat(pair, 2) for pair in joined)
        seen = keep.index_select(2, plan.index.flatten()).unflatten(2, plan.index.shape).bool()
        allowed = (seen & plan.inside).unsqueeze(3)  # (B, H, N, 1, S)
        rest = plain.attend(query, key, value, plan.index, allowed)
        context = torch.cat((from_front, rest), 2)[:, :, :length]
        return context.transpose(1, 2).flatten(2), None


def _sparse_tokens(key: Tensor, value: Tensor, keep: Tensor, geometry: LsgGeometry):
    """Keys and values (B, H, T / f, D), and which of them may be seen (B, H, T / f), 0 or 1."""
    factor, number = geometry.sparsity_factor, key.shape[1]
    kept = keep[:, None].expand(-1, number, -1).long()  # (B, H, T)
    if factor == 1:
        return key, value, kept
    if geometry.sparsity_type == "pooling":
        weight = kept.unflatten(2, (-1, factor)).unsqueeze(-1)
        total = weight.sum(3)
        key, value = (
            (x.unflatten(2, (-1, factor)) * weight).sum(3) / total.clamp(min=1)
            for x in (key, value)
        )
        return key, value, (total[..., 0] > 0).long()
    norms = key.norm(dim=-1) * kept
    norms = norms.unflatten(2, (-1, geometry.run))  # (B, H, runs, run)
    chosen = norms.argsort(dim=-1)[..., -(geometry.run // factor) :]
    starts = torch.arange(norms.shape[2])[:, None] * geometry.run
    chosen = (chosen + starts).flatten(2)  # (B, H, T / f)
    rows = chosen.unsqueeze(-1).expand(-1, -1, -1, key.shape[-1])
    return key.gather(2, rows), value.gather(2, rows), kept.gather(2, chosen)


class _LsgModel(swap.Swapped):
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **unused):
        """As the native class, of tokens (B, T) and their mask (B, T)."""
        tokens = self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        front = self.geometry.num_global_tokens
        rows = self.embeddings.global_embeddings.weight[:front]
        rows = self.embeddings.LayerNorm(rows).expand(tokens.shape[0], -1, -1)
        hidden = torch.cat((rows, tokens), 1)
        keep = attention_mask.bool()
        if self.config.mask_first_token:
            keep = keep & (torch.arange(keep.shape[1]) > 0)
        plan = plan_of(keep, self.geometry)
        for layer in self.encoder.layer:
            hidden = layer(hidden, plan)
        if self.config.pool_with_global:
            hidden = torch.cat((hidden[:, :front], hidden[:, :1], hidden[:, front + 1 :]), 1)
        last = hidden[:, front:]
        pooled = self.pooler(last) if self.pooler is not None else None
        return lsg.BaseModelOutputWithPoolingAndCrossAttentions(last, pooled)


class LsgRobertaModel(_LsgModel, lsg.LsgRobertaModel):
    """On RoBERTa."""


class LsgBertModel(_LsgModel, lsg.LsgBertModel):
    """On BERT."""


def install(model) -> None:
    """Give a model these classes."""
    swap.swap(model, CLASSES)


CLASSES = {
    lsg.LsgRobertaModel: LsgRobertaModel,
    lsg.LsgBertModel: LsgBertModel,
    lsg.LsgSelfAttention: LsgSelfAttention,
}

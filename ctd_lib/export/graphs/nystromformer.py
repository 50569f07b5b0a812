"""Nystromformer as a graph; see `ctd_lib.attention.nystromformer` for what it computes."""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers.models.nystromformer import modeling_nystromformer as native

from ctd_lib.attention import nystromformer as fast
from ctd_lib.attention import swap
from ctd_lib.export.graphs import plain


class Plan(NamedTuple):
    """What the layers share of one batch of T tokens and L landmarks."""

    valid: Tensor
    """(B, T)"""
    means: Tensor
    """Takes tokens to landmarks, (B, 1, L, T)."""
    used: Tensor
    """Which landmarks there are, (B, 1, 1, L)."""
    short: Tensor
    """Sequences whose tokens are their landmarks, (B, 1, 1, 1)."""
    landmark: Tensor
    """Of a token of such a sequence, (B, 1, T, 1)."""


class NystromformerSelfAttention(swap.Swapped, native.NystromformerSelfAttention):
    """softmax(Q K~') [(softmax(Q~ K~'))^+ [softmax(Q~ K') V]] and the convolution."""

    def forward(self, hidden_states, attention_mask=None, output_attentions=False):
        """(B, T, C) and the batch's plan -> ((B, T, C),)."""
        plan = attention_mask
        query, key, value = (
            plain.by_head(f(hidden_states), self.num_attention_heads)
            for f in (self.query, self.key, self.value)
        )  # (B, H, T, D)
        value = value * plan.valid[:, None, :, None]
        from_queries, from_keys = plan.means @ query, plan.means @ key  # (B, H, L, D)
        gathered = plain.softmax(from_queries, key, value, plan.valid[:, None, None])
        mixed = _inverse(from_queries, from_keys, plan.used) @ gathered
        context = plain.softmax(query, from_keys, mixed, plan.used)
        exact = gathered.gather(2, plan.landmark.expand_as(context))
        context = torch.where(plan.short, exact, context)
        if self.conv_kernel_size is not None:
            context = context + self.conv(value)
        return (context.transpose(1, 2).flatten(2),)


def _inverse(query: Tensor, key: Tensor, used: Tensor) -> Tensor:
    """The inverse of the landmarks' softmax matrix by iteration, (B, H, L, L)."""
    identity = torch.eye(query.shape[2])
    # A landmark that is not used sees itself only, so that the inverse leaves it apart.
    paired = used & used.transpose(-1, -2) | identity.bool()
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    matrix = scores.masked_fill(~paired, -torch.inf).softmax(-1)
    largest = matrix.sum(-2).amax((1, 2))[:, None, None, None]
    inverse = matrix.transpose(-1, -2) / largest
    for _ in range(fast.INVERSE_STEPS):
        product = matrix @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = 0.25 * inverse @ (13 * identity - product @ inner)
    return inverse


class NystromformerModel(plain.Encoder, native.NystromformerModel):
    """For any length and padding."""

    outputs = fast.NystromformerModel.outputs

    def plan(self, valid, is_global):
        """Padding and landmarks."""
        landmarks = self.config.num_landmarks
        means = fast.segment_means(valid, landmarks)
        used = means.any(-1)[:, None, None]
        return Plan(valid, means.unsqueeze(1), used, *fast.own_landmarks(valid, landmarks))


def install(model) -> None:
    """Give a model these classes."""
    swap.swap(model, CLASSES)


CLASSES = {
    native.NystromformerModel: NystromformerModel,
    native.NystromformerSelfAttention: NystromformerSelfAttention,
}

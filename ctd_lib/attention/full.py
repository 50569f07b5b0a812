"""Full attention, the reference: transformers' own, through SDPA.

In training, short sequences may take another way to the same, see `blocked.dense`.
"""

import torch
from torch import Tensor
from transformers.models.bert import modeling_bert
from transformers.models.roberta import modeling_roberta

from ctd_lib.attention import blocked, swap
from ctd_lib.attention.encoder import heads


def install(model, public=False):
    """See `ctd_lib.attention.install`; `public` changes nothing."""
    swap.swap(model, CLASSES, public)


def pattern(config, length: int, global_tokens=()) -> Tensor:
    """Everyone attends to everyone: (T, T) ones."""
    return torch.ones(length, length, dtype=torch.bool)


def attention_flops(config, length: int) -> int:
    """FLOP of scores and weighted sums of one sequence, all layers."""
    return 4 * length**2 * config.hidden_size * config.num_hidden_layers


class _SelfAttention(swap.Swapped):
    """transformers' own where there are no gradients, or another kernel than SDPA is chosen."""

    def forward(self, hidden_states, attention_mask=None, past_key_values=None, **extra):
        """(B, T, C) and a mask (B, 1, T, T) -> ((B, T, C), None)."""
        sdpa = self.config._attn_implementation == "sdpa" and not extra.get("output_attentions")
        drops = self.training and self.dropout.p > 0
        if not (torch.is_grad_enabled() and sdpa) or drops or past_key_values is not None:
            return super().forward(hidden_states, attention_mask, past_key_values, **extra)
        query, key, value = (
            heads(f, hidden_states, self.num_attention_heads)
            for f in (self.query, self.key, self.value)
        )
        return blocked.dense(query, key, value, attention_mask).flatten(-2), None


class BertSelfAttention(_SelfAttention, modeling_bert.BertSelfAttention):
    """BERT's."""


class RobertaSelfAttention(_SelfAttention, modeling_roberta.RobertaSelfAttention):
    """RoBERTa's."""


CLASSES = {ours.__bases__[-1]: ours for ours in (BertSelfAttention, RobertaSelfAttention)}

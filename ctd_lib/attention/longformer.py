"""Longformer: a sliding window and a few global tokens (Beltagy et al. 2020, arXiv 2004.05150).

Note:
    `attention_window` is the TOTAL width: token i sees i - w/2 to i + w/2, both included, w + 1
    tokens. Global tokens are seen by everyone through the ordinary projections; they see everyone
    through the projections `query_global`, `key_global`, `value_global`. Each key counts once.
    Padding is seen by nobody, and a padded token's output is zero. Any length is taken as it is;
    transformers pads 520 tokens to 1024. Attention-probability dropout is not applied.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.longformer import modeling_longformer as native

from ctd_lib.attention import blocked, flex, products, swap
from ctd_lib.attention.encoder import Encoder, heads
from ctd_lib.errors import CtdError

INFERENCE_BLOCK = 32
"""Queries of a run: few, so that little of a run's window is masked."""
TRAINING_BLOCK = 128
"""More in training, where the gradients of overlapping windows are added up."""
PRODUCTS_BLOCK = 128
"""Where plain products stand for the fused kernel, whose tiles are small whatever the run."""


def install(model, public=False):
    """See `ctd_lib.attention.install`; `public` changes nothing: transformers is right here."""
    swap.swap(model, CLASSES, public)


def sees(query, key, half: int, key_is_global):
    """The pattern: may the local token at position `query` attend to that at `key`?"""
    return ((query - key).abs() <= half) | key_is_global


def pattern(config, length: int, global_tokens=()) -> Tensor:
    """(T, T) booleans of the first layer; see `ctd_lib.attention.pattern`.

    Raises:
        CtdError: a global token lies outside the sequence, or the window is not even.
    """
    window = config.attention_window
    window = window if isinstance(window, int) else window[0]
    if window < 2 or window % 2:
        raise CtdError(f"attention_window must be even and positive, not {window}.")
    is_global = torch.zeros(length, dtype=torch.bool)
    for token in global_tokens:
        if not 0 <= token < length:
            raise CtdError(f"Global token {token} is out of range for {length} tokens.")
        is_global[token] = True
    positions = torch.arange(length)
    return sees(positions[:, None], positions, window // 2, is_global) | is_global[:, None]


def attention_flops(config, length: int) -> int:
    """FLOP of scores and weighted sums within the window, one sequence, all layers."""
    windows = config.attention_window
    windows = [windows] * config.num_hidden_layers if isinstance(windows, int) else windows
    return sum(4 * length * min(window + 1, length) * config.hidden_size for window in windows)


class Plan:
    """What the layers share of one batch: its padding, its global tokens, its masks."""

    def __init__(self, valid: Tensor, is_global: Tensor):
        self.valid, self.padded = valid, not bool(valid.all())
        self.is_global = is_global
        self.globals = [row.nonzero().squeeze(-1) for row in is_global]
        self.local = valid & ~is_global  # keys that are seen through the window, (B, T)
        self.uniform = bool((self.local == self.local[0]).all())
        self.keys = valid[:, None, None]  # for full attention, (B, 1, 1, T)
        self._masks = {}

    def mask(self, item: int, window: int, block: int, dtype: torch.dtype) -> Tensor:
        """The additive mask of one sequence's windows, (N, 1, block, S)."""
        item = 0 if self.uniform else item
        key = (item, window, block, dtype)
        if key not in self._masks:
            count, size, before = tiling(self.local.shape[1], window, block)
            after = (count - 1) * block + size - before - self.local.shape[1]
            keys = F.pad(self.local[item], (before, after)).unfold(0, size, block)  # (N, S)
            queries = torch.arange(block, device=keys.device)[:, None]
            offsets = torch.arange(size, device=keys.device) - before
            band = (queries - offsets).abs() <= window // 2  # (block, S)
            self._masks[key] = blocked.additive(band & keys[:, None, None], dtype)
        return self._masks[key]

    def block_mask(self, window: int):
        """The window and the global keys for `flex.attend`, without the rows of global tokens."""
        if window not in self._masks:
            half, valid, is_global = window // 2, self.valid, self.is_global

            def seen(batch, head, query, key):
                return valid[batch, key] & sees(query, key, half, is_global[batch, key])

            blocks = torch.arange(-(-valid.shape[1] // flex.BLOCK), device=valid.device)
            # Tokens at the same place of two blocks are `apart`, others up to BLOCK - 1 off that.
            apart = (blocks[:, None] - blocks).abs() * flex.BLOCK
            some = (apart < half + flex.BLOCK) | flex.any_of(is_global)[:, None]
            every = (apart + flex.BLOCK <= half + 1) & flex.all_of(valid)[:, None]
            some = some & flex.any_of(valid)[:, None]
            self._masks[window] = flex.block_mask(
                seen, some[:, None], every[:, None], valid.shape[1]
            )
        return self._masks[window]


def tiling(length: int, window: int, block: int) -> tuple[int, int, int]:
    """Number of runs of `block` queries, keys of a run, keys before its first query."""
    if block == length:
        return 1, length, 0
    return -(-length // block), block + window, window // 2


def _blocked(query, key, value, plan, window):
    """Window and global keys as two parts of one softmax, (B, T, H, D)."""
    length = query.shape[1]
    if length <= window // 2 + 1:  # every window reaches every token
        return blocked.dense(query, key, value, plan.keys if plan.padded else None)
    block = TRAINING_BLOCK if query.requires_grad else INFERENCE_BLOCK
    block = PRODUCTS_BLOCK if products.faster(query) else block
    block = length if length <= window + block else block
    count, size, before = tiling(length, window, block)
    contexts = []
    batch = zip(query, key, value, plan.globals, strict=True)
    for item, (q, k, v, tokens) in enumerate(batch):
        mask = plan.mask(item, window, block, q.dtype)
        local = (blocked.windows(x, count, size, block, before) for x in (k, v))
        parts = [blocked.Part(*local, mask)]
        if len(tokens):
            parts.append(blocked.Part(*(x[tokens].transpose(0, 1)[None] for x in (k, v))))
        q = F.pad(q, (0, 0, 0, 0, 0, count * block - length))
        contexts.append(blocked.attend(q, parts)[:length])
    return torch.stack(contexts)


class LongformerSelfAttention(swap.Swapped, native.LongformerSelfAttention):
    """Window and global keys in one softmax; the rows of the global tokens apart."""

    def forward(self, hidden_states, attention_mask=None, **unused):
        """(B, T, C) and the batch's plan -> ((B, T, C),)."""
        plan = attention_mask
        window = 2 * self.one_sided_attn_window_size
        query, key, value = (
            heads(f, hidden_states, self.num_heads) for f in (self.query, self.key, self.value)
        )
        if flex.takes(query):
            context = flex.attend(query, key, value, plan.block_mask(window)).flatten(-2)
        else:
            context = _blocked(query, key, value, plan, window).flatten(-2)  # (B, T, C)
        if plan.padded:
            context = context.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
        if any(len(tokens) for tokens in plan.globals):
            rows = self._global_rows(hidden_states, plan)
            context = context.index_put(
                plan.is_global.nonzero(as_tuple=True), rows.to(context.dtype)
            )
        return (context,)

    def _global_rows(self, hidden: Tensor, plan: Plan) -> Tensor:
        """Outputs of the batch's G global tokens, (G, C): attention over the hidden states.

        The scores q (W_k x + b_k) are (q W_k) x and a constant, and the values W_v x + b_v may be
        taken of the weighted mean of x: two products with G rows stand for two projections of all T
        tokens.
        """
        query = heads(self.query_global, hidden[plan.is_global], self.num_heads)  # (G, H, D)
        dtype = query.dtype
        key_weight, value_weight = (
            f.weight.to(dtype).unflatten(0, (self.num_heads, -1))
            for f in (self.key_global, self.value_global)
        )  # (H, D, C)
        folded = torch.einsum("ghd,hdc->ghc", query, key_weight)
        mean = self._weighted_mean(folded, hidden.to(dtype), plan)
        rows = torch.einsum("ghc,hdc->ghd", mean, value_weight).flatten(1)
        # The key's bias moves all scores of a row alike: no effect, but a gradient, of zero.
        return rows + self.value_global.bias.to(dtype) + 0.0 * self.key_global.bias.sum().to(dtype)

    def _weighted_mean(self, folded: Tensor, hidden: Tensor, plan: Plan) -> Tensor:
        """Means of each global token's own sequence, weighted by its heads' scores, (G, H, C)."""
        counts = [len(tokens) for tokens in plan.globals]
        mask = blocked.additive(plan.keys, hidden.dtype)
        hidden = hidden[:, None]  # (B, 1, T, C)
        # In one call where every sequence has as many global tokens as the others.
        pieces = 1 if len(set(counts)) == 1 else len(counts)
        batch = zip(
            folded.split(counts if pieces > 1 else len(folded)),
            hidden.chunk(pieces),
            mask.chunk(pieces),
            strict=True,
        )
        means = [
            F.scaled_dot_product_attention(
                queries.reshape(len(x), 1, -1, x.shape[-1]), x, x, seen, scale=self.head_dim**-0.5
            ).reshape(queries.shape)
            for queries, x, seen in batch
            if len(queries)
        ]
        return torch.cat(means)


class LongformerModel(Encoder, native.LongformerModel):
    """Without the mask of T x T and the padding to a multiple of the window."""

    def positions(self):
        """Positions start after the padding index."""
        return self.config.max_position_embeddings - self.config.pad_token_id - 1

    def plan(self, hidden, valid, global_attention_mask=None, **unused):
        """Padding, global tokens and masks, once for all layers."""
        if valid is None:
            valid = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        if global_attention_mask is None:
            return Plan(valid, torch.zeros_like(valid))
        if global_attention_mask.shape != valid.shape:
            raise CtdError(
                f"global_attention_mask must have shape {tuple(valid.shape)},"
                f" not {tuple(global_attention_mask.shape)}."
            )
        return Plan(valid, global_attention_mask.bool() & valid)

    def outputs(self, hidden, hidden_states):
        """The native output object."""
        return native.LongformerBaseModelOutputWithPooling(
            last_hidden_state=hidden,
            pooler_output=self.pooler(hidden) if self.pooler is not None else None,
            hidden_states=hidden_states,
        )


CLASSES = {
    native.LongformerModel: LongformerModel,
    native.LongformerSelfAttention: LongformerSelfAttention,
}

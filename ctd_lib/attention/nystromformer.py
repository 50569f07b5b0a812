"""Nystromformer: softmax approximated through landmarks (Xiong et al. 2021, arXiv 2102.03902).

Note:
    The tokens of a sequence are cut into `num_landmarks` segments as equal as they can be; the
    means of a segment's queries and keys are its landmarks. The matrix is softmax(Q K~')
    (softmax(Q~ K~'))^+ softmax(Q~ K'), its middle factor inverted by six iterations that start from
    the sequence alone, not from its batch, and a depthwise convolution of the values is added.
    Padding is in no segment, no softmax and no convolution. Any length is taken. A sequence with no
    more tokens than landmarks has its tokens as landmarks, and the product above is softmax(Q K')
    itself; it gets just that, without the iterations' error. `segment_means_seq_len` is not used.
    There is no dropout of probabilities.

    `public=True` computes what transformers 5 does: full attention where `num_landmarks ==
    segment_means_seq_len`, as in the published checkpoints; elsewhere only that one length, without
    padding, and an inverse that depends on the whole batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.nystromformer import modeling_nystromformer as native

from ctd_lib.attention import blocked, swap
from ctd_lib.attention.encoder import Encoder, heads
from ctd_lib.errors import CtdError

INVERSE_STEPS = 6
BAND = 64
"""Tokens whose convolution is one product in bfloat16."""


def install(model, public=False):
    """See `ctd_lib.attention.install`."""
    swap.swap(model, CLASSES, public)


def pattern(config, length: int, global_tokens=()) -> Tensor:
    """(T, T) ones: through the landmarks everyone attends to everyone.

    Raises:
        CtdError: global tokens are asked for.
    """
    if global_tokens:
        raise CtdError(
            "Nystromformer takes no global tokens: everyone sees everyone through the landmarks."
        )
    return torch.ones(length, length, dtype=torch.bool)


def attention_flops(config, length: int) -> int:
    """FLOP of products with landmarks, inverse and convolution, one sequence, all layers."""
    landmarks, width = config.num_landmarks, config.hidden_size
    convolution = 2 * length * (config.conv_kernel_size or 0) * width
    if length <= landmarks:
        return (4 * length**2 * width + convolution) * config.num_hidden_layers
    products = 8 * length * landmarks * width
    inverse = INVERSE_STEPS * 8 * landmarks**3 * config.num_attention_heads
    inverse += 2 * landmarks**2 * width
    return (products + inverse + convolution) * config.num_hidden_layers


def segment_means(valid: Tensor, num_landmarks: int) -> Tensor:
    """The matrix that takes tokens to the means of their segments, (B, L, T); unused rows are 0.

    Args:
        valid: (B, T) booleans, False = padding.
    """
    rank = valid.cumsum(1) - 1
    total = valid.sum(1, keepdim=True)
    used = total.clamp(max=num_landmarks)
    segment = (rank * used // total.clamp(min=1)).masked_fill(~valid, -1)
    member = segment.unsqueeze(1) == torch.arange(num_landmarks, device=valid.device)[:, None]
    return member / member.sum(-1, keepdim=True).clamp(min=1)


def own_landmarks(valid: Tensor, num_landmarks: int) -> tuple[Tensor, Tensor]:
    """Sequences whose tokens are their landmarks, and which landmark is a token's.

    Returns:
        (B, 1, 1, 1) booleans, and (B, 1, T, 1) numbers that mean nothing in other sequences.
    """
    short = valid.sum(1) <= num_landmarks
    landmark = valid.cumsum(1).clamp(1, num_landmarks) - 1
    return short[:, None, None, None], landmark[:, None, :, None]


def convolved(value: Tensor, conv: torch.nn.Conv2d) -> Tensor:
    """The values convolved along the sequence, one kernel a head, (B, T, H, D).

    In bfloat16 on a CPU by products with a band matrix, which have more to multiply and take less
    time, of short sequences a third: oneDNN's convolution, its backward most of all, is slow with
    so long a kernel.
    """
    if value.dtype != torch.bfloat16 or value.device.type != "cpu":
        return conv(value.transpose(1, 2)).transpose(1, 2)
    length, taps = value.shape[1], conv.kernel_size[0]
    size = min(BAND, length)
    span, count = size + taps - 1, -(-length // size)
    before = conv.padding[0]
    after = count * size - length + taps - 1 - before
    windows = F.pad(value, (0, 0, 0, 0, before, after)).unfold(1, span, size)  # (B, N, H, D, S)
    # Row i of the band has the taps from column i on: one too many places a row shifts the next.
    rows = F.pad(conv.weight.to(value.dtype).view(-1, 1, taps), (0, size)).repeat(1, size, 1)
    band = rows.flatten(1)[:, : size * span].view(-1, size, span)
    return torch.einsum("bnhds,hts->bnthd", windows, band).flatten(1, 2)[:, :length]


class Plan:
    """What the layers share of one batch: padding, segments, landmarks in use."""

    def __init__(self, config, hidden: Tensor, valid: Tensor | None, public: bool):
        self.public = public
        self.full = public and config.num_landmarks == config.segment_means_seq_len
        self.padding = None if valid is None else ~valid[..., None, None]  # (B, T, 1, 1)
        self.keys = None
        if valid is not None:
            self.keys = blocked.additive(valid, hidden.dtype)[:, None, None]  # (B, 1, 1, T)
        if self.full:
            return
        if public and (valid is not None or hidden.shape[1] != config.segment_means_seq_len):
            raise CtdError(
                f"With public=True Nystromformer takes {config.segment_means_seq_len} tokens"
                " and no padding, as in transformers."
            )
        if valid is None:
            valid = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
        self.short, self.landmark = own_landmarks(valid, config.num_landmarks)
        self.full = bool(self.short.all())
        if self.full:
            return
        self.mixed_lengths = bool(self.short.any())
        self.means = segment_means(valid, config.num_landmarks).to(hidden.dtype)  # (B, L, T)
        used = self.means.any(-1)  # (B, L)
        self.landmarks = self.unpaired = None
        if not used.all():
            self.landmarks = blocked.additive(used, hidden.dtype)[:, None, None]  # (B, 1, 1, L)
            # An unused landmark sees itself only, so that the inverse leaves it apart.
            alone = torch.eye(used.shape[1], dtype=torch.bool, device=used.device)
            paired = used[:, None] & used[..., None] | alone
            self.unpaired = ~paired.unsqueeze(1)  # (B, 1, L, L)


class NystromformerSelfAttention(swap.Swapped, native.NystromformerSelfAttention):
    """The thin factors as fused calls: softmax(Q K~') [(softmax(Q~ K~'))^+ [softmax(Q~ K') V]]."""

    def forward(self, hidden_states, attention_mask=None, output_attentions=False):
        """(B, T, C) and the batch's plan -> ((B, T, C),)."""
        plan = attention_mask
        query, key, value = (
            heads(f, hidden_states, self.num_attention_heads)
            for f in (self.query, self.key, self.value)
        )
        if plan.padding is not None and not plan.public:
            value = value.masked_fill(plan.padding, 0.0)
        attend = self._full if plan.full else self._through_landmarks
        context = attend(query, key, value, plan)  # (B, T, H, D)
        if self.conv_kernel_size is not None:
            context = context + convolved(value, self.conv)
        return (context.flatten(-2),)

    def _full(self, query, key, value, plan):
        return blocked.dense(query, key, value, plan.keys)

    def _through_landmarks(self, query, key, value, plan):
        means = plan.means.to(query.dtype)
        query_landmarks, key_landmarks = (
            (means @ x.flatten(-2)).unflatten(-1, x.shape[-2:]).transpose(1, 2)
            for x in (query, key)
        )  # (B, H, L, D)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        gathered = F.scaled_dot_product_attention(query_landmarks, key, value, plan.keys)
        mixed = self._mixed(query_landmarks, key_landmarks, gathered, plan)
        context = F.scaled_dot_product_attention(
            query, key_landmarks, mixed.to(query.dtype), plan.landmarks
        )
        if plan.mixed_lengths:
            exact = gathered.gather(2, plan.landmark.expand_as(context))
            context = torch.where(plan.short, exact, context)
        return context.transpose(1, 2)

    def _mixed(self, query, key, gathered, plan):
        """(softmax(Q~ K~'))^+ [softmax(Q~ K') V], (B, H, L, D), in float32: the inverse has entries
        that cancel each other. It is found by iteration.
        """
        with torch.autocast(query.device.type, enabled=False):
            scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
            identity = torch.eye(scores.shape[-1], dtype=scores.dtype, device=scores.device)
            if plan.unpaired is not None:
                scores = scores.masked_fill(plan.unpaired, -torch.inf)
            matrix = scores.softmax(-1)
            columns = matrix.sum(-2)  # (B, H, L)
            largest = columns.max() if plan.public else columns.amax((1, 2))[:, None, None, None]
            inverse = matrix.transpose(-1, -2) / largest
            for _ in range(INVERSE_STEPS):
                product = matrix @ inverse
                inner = 15 * identity - product @ (7 * identity - product)
                inverse = 0.25 * inverse @ (13 * identity - product @ inner)
            return inverse @ gathered.float()


class NystromformerModel(Encoder, native.NystromformerModel):
    """For any length and any padding."""

    def plan(self, hidden, valid, **unused):
        """Padding and segments, once for all layers."""
        return Plan(self.config, hidden, valid, self.public)

    def outputs(self, hidden, hidden_states):
        """The native output object."""
        return native.BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden, hidden_states=hidden_states
        )


CLASSES = {
    native.NystromformerModel: NystromformerModel,
    native.NystromformerSelfAttention: NystromformerSelfAttention,
}

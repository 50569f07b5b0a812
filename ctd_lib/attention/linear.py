"""Linear layers and GELU at the machine's speed: oneDNN where it is faster, the GELU fused in.

The inner activations of the feed-forward layer are the largest of a forward. Outside of training it
takes some tokens at a time, for memory of that size comes from the system anew each time. In
training only the input of the GELU is kept for the backward pass, which makes the output again.

PyTorch multiplies float32 matrices with MKL, which holds back on CPUs that are not Intel's. oneDNN,
which PyTorch brings along too, is faster there. Results differ in the last bits, as between any two
orders of summation.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import activations
from transformers.models.bert import modeling_bert
from transformers.models.big_bird import modeling_big_bird
from transformers.models.longformer import modeling_longformer
from transformers.models.nystromformer import modeling_nystromformer
from transformers.models.roberta import modeling_roberta

from ctd_lib.attention import probe
from ctd_lib.attention.swap import Swapped
from ctd_lib.runtime import multiplies_bfloat16

GELUS = {
    activations.GELUActivation: "none",
    activations.NewGELUActivation: "tanh",
    activations.GELUTanh: "tanh",
}
"""Activation classes -> the function's name in torch; `gelu_new` writes out what torch fuses."""
TOKENS = 2048
"""Of the feed-forward layer at a time: enough for full speed, 24 MiB at width 768 in float32."""


@functools.cache
def faster_with_onednn() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than the default here; timed once."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.ones(512, 768), torch.ones(768, 768)
    return probe.faster(lambda: _onednn(x, weight, None), lambda: F.linear(x, weight))


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Tensor:
    """x W' + b, optionally followed by GELU ("none" or "tanh"), as one oneDNN call."""
    return torch.ops.mkldnn._linear_pointwise(
        x, weight, bias, "gelu" if gelu else "none", [], gelu or ""
    )


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN should multiply these: float32 on the CPU, not under autocast."""
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and not torch.is_autocast_enabled("cpu") and faster_with_onednn()


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN should take the GELU too: as above, or bfloat16, which is oneDNN's anyway."""
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.bfloat16:
        return multiplies_bfloat16(x.device)
    return _suits(x, weight)


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        flat = grad.flatten(0, -2)
        grad_x = _onednn(grad, weight.t(), None) if ctx.needs_input_grad[0] else None
        grad_weight = flat.t() @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        grad_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W' + b, (..., in) -> (..., out), by oneDNN where that is faster."""
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    return _OneDnnLinear.apply(x, weight, bias)


class Linear(Swapped, nn.Linear):
    """A linear layer, by oneDNN where that is faster."""

    def forward(self, input):
        """(..., in) -> (..., out)"""
        return linear(input, self.weight, self.bias)


class _Gelu(Swapped):
    def forward(self, input):
        """(...) -> (...)"""
        return F.gelu(input, approximate=GELUS[type(self).__bases__[-1]])


class GELUActivation(_Gelu, activations.GELUActivation):
    """The exact function."""


class NewGELUActivation(_Gelu, activations.NewGELUActivation):
    """The approximation by tanh, in one pass instead of eight."""


class GELUTanh(_Gelu, activations.GELUTanh):
    """The approximation by tanh."""


class _Intermediate(Swapped):
    """The first half of a feed-forward layer: outside of training, one call for all of it."""

    def forward(self, hidden_states):
        """(B, T, C) -> (B, T, F)"""
        gelu, x, dense = self.intermediate_act_fn, hidden_states, self.dense
        if torch.is_grad_enabled() or not isinstance(gelu, _Gelu) or not _fuses(x, dense.weight):
            return gelu(dense(x))
        return _onednn(x, dense.weight, dense.bias, GELUS[type(gelu).__bases__[-1]])


class BertIntermediate(_Intermediate, modeling_bert.BertIntermediate):
    """BERT's, with LSG attention."""


class BigBirdIntermediate(_Intermediate, modeling_big_bird.BigBirdIntermediate):
    """Big Bird's."""


class LongformerIntermediate(_Intermediate, modeling_longformer.LongformerIntermediate):
    """Longformer's."""


class NystromformerIntermediate(_Intermediate, modeling_nystromformer.NystromformerIntermediate):
    """Nystromformer's."""


class RobertaIntermediate(_Intermediate, modeling_roberta.RobertaIntermediate):
    """RoBERTa's, with LSG attention."""


class Dropout(Swapped, nn.Dropout):
    """Dropout whose mask is booleans on a CPU too, where torch keeps a number an element."""

    def forward(self, input):
        """(...) -> (...)"""
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        return torch.native_dropout(input, self.p, True)[0]


def _feed_forward(layer: nn.Module, native: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """The feed-forward half of a layer, (B, T, C) -> (B, T, C); `native` is what it stands for."""
    if not torch.is_grad_enabled():
        parts = hidden.flatten(0, -2).split(TOKENS)
        return torch.cat([native(part) for part in parts]).view_as(hidden)
    if layer.gradient_checkpointing:
        return native(hidden)
    activate = layer.intermediate.intermediate_act_fn
    inner = layer.intermediate.dense(hidden)
    activated = activate(inner)
    with _made_again(activated, activate, inner):
        return layer.output(activated, hidden)


def _made_again(output: Tensor, function: Callable[[Tensor], Tensor], input: Tensor):
    """Within, autograd does not keep `output`, and makes it by `function(input)` when it is due."""
    place, size, input = output.data_ptr(), output.numel(), input.detach()

    def pack(tensor: Tensor) -> Tensor | torch.Size:
        same = tensor.data_ptr() == place and tensor.numel() == size
        return tensor.shape if same else tensor

    def unpack(packed: Tensor | torch.Size) -> Tensor:
        return packed if isinstance(packed, Tensor) else function(input).view(packed)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class _Layer(Swapped):
    """An encoder layer whose feed-forward half needs less memory."""

    def feed_forward_chunk(self, attention_output):
        """(B, T, C) -> (B, T, C)"""
        return _feed_forward(self, super().feed_forward_chunk, attention_output)


class BertLayer(_Layer, modeling_bert.BertLayer):
    """BERT's, with full or LSG attention."""


class BigBirdLayer(_Layer, modeling_big_bird.BigBirdLayer):
    """Big Bird's."""


class LongformerLayer(Swapped, modeling_longformer.LongformerLayer):
    """Longformer's, which calls its half by another name."""

    def ff_chunk(self, attn_output):
        """(B, T, C) -> (B, T, C)"""
        return _feed_forward(self, super().ff_chunk, attn_output)


class NystromformerLayer(_Layer, modeling_nystromformer.NystromformerLayer):
    """Nystromformer's."""


class RobertaLayer(_Layer, modeling_roberta.RobertaLayer):
    """RoBERTa's, with full or LSG attention."""


CLASSES = {
    ours.__bases__[-1]: ours
    for ours in (
        Linear, Dropout, GELUActivation, NewGELUActivation, GELUTanh,
        BertIntermediate, BigBirdIntermediate, LongformerIntermediate, NystromformerIntermediate,
        RobertaIntermediate,
        BertLayer, BigBirdLayer, LongformerLayer, NystromformerLayer, RobertaLayer,
    )
}  # fmt: skip
"""For `swap.swap`, beside an arch's own."""

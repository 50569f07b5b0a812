"""Linear layers and GELU at the machine's speed: oneDNN where it beats the default, the activation fused into the product.

PyTorch multiplies float32 matrices with MKL, which holds back on CPUs that are not Intel's. oneDNN, which PyTorch brings
along too, is faster there. Results differ in the last bits, as between any two orders of summation.
"""

import functools
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import activations

from ctd_lib.attention.swap import Swapped

PROBE_MARGIN = 1.05
"""How many times faster oneDNN must be to be taken."""

GELUS = {
    activations.GELUActivation: "none",
    activations.NewGELUActivation: "tanh",
    activations.GELUTanh: "tanh",
}
"""Activation classes of transformers -> the same function's name in torch; `gelu_new` writes out what torch fuses."""


@functools.cache
def faster_with_onednn() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than the default here; timed once a process, 50 ms."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.rand(512, 768), torch.rand(768, 768)
    rivals = {"default": lambda: F.linear(x, weight), "onednn": lambda: _onednn(x, weight, None)}
    best = dict.fromkeys(rivals, float("inf"))
    with torch.inference_mode():
        for _ in range(8):
            for name, rival in rivals.items():
                start = time.perf_counter()
                rival()
                best[name] = min(best[name], time.perf_counter() - start)
    return best["onednn"] * PROBE_MARGIN < best["default"]


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Tensor:
    """x W' + b, optionally followed by GELU ("none" or "tanh"), as one oneDNN call."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], gelu or "")


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN should multiply these: on the CPU, in float32, not under autocast."""
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and not torch.is_autocast_enabled("cpu") and faster_with_onednn()


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


class Linear(Swapped, nn.Linear):
    """A linear layer, by oneDNN where that is faster."""

    def forward(self, input):
        """(..., in) -> (..., out)"""
        if not _suits(input, self.weight):
            return F.linear(input, self.weight, self.bias)
        return _OneDnnLinear.apply(input, self.weight, self.bias)


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


def intermediate(native: type) -> type:
    """A class for the first half of a feed-forward layer of a native class: product, bias and GELU in one call."""

    class Intermediate(Swapped, native):
        __doc__ = native.__doc__

        def forward(self, hidden_states):
            """(B, T, C) -> (B, T, F)"""
            gelu, x, dense = self.intermediate_act_fn, hidden_states, self.dense
            if torch.is_grad_enabled() or not isinstance(gelu, _Gelu) or not _suits(x, dense.weight):
                return gelu(dense(x))
            return _onednn(x, dense.weight, dense.bias, GELUS[type(gelu).__bases__[-1]])

    Intermediate.__name__ = Intermediate.__qualname__ = native.__name__
    return Intermediate


CLASSES = {
    nn.Linear: Linear,
    activations.GELUActivation: GELUActivation,
    activations.NewGELUActivation: NewGELUActivation,
    activations.GELUTanh: GELUTanh,
}
"""For `swap.swap`, beside an arch's own."""

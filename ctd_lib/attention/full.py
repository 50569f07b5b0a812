"""Full attention, the reference: transformers' own, through SDPA, as it is."""

import torch
from torch import Tensor


def install(model, public=False):
    """Nothing to do."""


def pattern(config, length: int, global_tokens=()) -> Tensor:
    """Everyone attends to everyone: (T, T) ones."""
    return torch.ones(length, length, dtype=torch.bool)


def attention_flops(config, length: int) -> int:
    """FLOP of scores and weighted sums of one sequence, all layers."""
    return 4 * length**2 * config.hidden_size * config.num_hidden_layers

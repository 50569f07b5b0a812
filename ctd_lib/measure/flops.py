"""FLOP of one forward of any encoder, without embeddings and pooler."""

import functools
import json

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ctd_lib import attention

COUNTED_THERE = ("roberta", "bert", "longformer", "big_bird", "nystromformer", "lsg-roberta",
                 "lsg-bert")  # fmt: skip


def flops(config: PreTrainedConfig, length: int) -> int:
    """Multiplications and additions that the architecture must do for one sequence.

    Of the project's archs as `attention.flops` has it; of other encoders, whose attention is full
    or a window, all their linear layers, and scores and weighted sums of the keys in sight.
    """
    if config.model_type in COUNTED_THERE:
        return sum(attention.flops(config, length).values())
    return 2 * length * _weights(config.to_json_string()) + _attention(config, length)


@functools.cache
def _weights(config: str) -> int:
    """Weights of the linear layers that one token passes, as often as it passes them."""
    parsed = AutoConfig.for_model(**json.loads(config))
    with torch.device("meta"):
        model = AutoModel.from_config(parsed)
    found = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not {"embeddings", "pooler"} & set(name.split("."))
    )
    if parsed.model_type != "albert":
        return found
    # ALBERT's layers share their weights, but for the one that widens the embeddings.
    once = parsed.embedding_size * parsed.hidden_size
    return once + (found - once) * parsed.num_hidden_layers // parsed.num_hidden_groups


def _attention(config: PreTrainedConfig, length: int) -> int:
    width = getattr(config, "true_hidden_size", config.hidden_size)  # MobileBERT's bottleneck
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    keys = {"full_attention": length}
    if "sliding_attention" in kinds:
        keys["sliding_attention"] = min(length, config.local_attention + 1)
    return sum(4 * length * keys[kind] * width for kind in kinds)

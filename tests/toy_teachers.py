"""Toy teachers of every arch, four layers deep, and text for them."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BigBirdConfig,
    BigBirdForMaskedLM,
    LongformerConfig,
    LongformerForMaskedLM,
    NystromformerConfig,
    NystromformerForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from ctd_lib import lsg

SIZES = dict(
    vocab_size=30, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=66, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)  # fmt: skip
KINDS = {
    "roberta": (RobertaForMaskedLM, RobertaConfig, {}),
    "bert": (BertForMaskedLM, BertConfig, {}),
    "lsg": (
        lsg.LsgBertForMaskedLM, lsg.LsgBertConfig,
        {"block_size": 8, "sparse_block_size": 8, "sparsity_factor": 2},
    ),
    "longformer": (
        LongformerForMaskedLM, LongformerConfig, {"attention_window": [4, 8, 16, 32]}
    ),
    "bigbird": (
        BigBirdForMaskedLM, BigBirdConfig, {"block_size": 4, "num_random_blocks": 1}
    ),
    "nystromformer": (
        NystromformerForMaskedLM, NystromformerConfig,
        {"num_landmarks": 4, "segment_means_seq_len": 64, "conv_kernel_size": 5},
    ),
}  # fmt: skip


def toy(kind: str = "bert", **config):
    torch.manual_seed(0)
    model_class, config_class, extra = KINDS[kind]
    return model_class(config_class(**(SIZES | extra | config))).eval()


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 30, (count, 2, 64), generator=generator)
    return [{"input_ids": i, "attention_mask": torch.ones_like(i)} for i in ids]

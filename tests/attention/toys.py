"""Toy models of each arch, and the comparison that the tests of this folder share."""

import copy

import torch
from transformers import (
    BigBirdConfig,
    BigBirdForMaskedLM,
    LongformerConfig,
    LongformerForMaskedLM,
    NystromformerConfig,
    NystromformerForMaskedLM,
)

SIZES = dict(
    vocab_size=60,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    pad_token_id=1,
    bos_token_id=2,
    eos_token_id=3,
)


def spread(model):
    """Weights large enough for attention to matter."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "LayerNorm" not in name and "layer_norm" not in name:
            parameter.data.normal_(0, 0.25, generator=generator)
    return model.eval()


def longformer(window=8, positions=600, **fields):
    config = LongformerConfig(
        **SIZES | fields, attention_window=window, max_position_embeddings=positions + 2
    )
    return spread(LongformerForMaskedLM(config))


def bigbird(block_size=8, num_random_blocks=2, positions=4096, **fields):
    config = BigBirdConfig(
        **SIZES | fields,
        sep_token_id=4,
        block_size=block_size,
        num_random_blocks=num_random_blocks,
        max_position_embeddings=positions,
    )
    return spread(BigBirdForMaskedLM(config))


def nystromformer(num_landmarks=8, segment_means_seq_len=80, positions=600, **fields):
    config = NystromformerConfig(
        **SIZES | fields,
        num_landmarks=num_landmarks,
        segment_means_seq_len=segment_means_seq_len,
        conv_kernel_size=5,
        max_position_embeddings=positions,
    )
    return spread(NystromformerForMaskedLM(config))


MODELS = {"longformer": longformer, "bigbird": bigbird, "nystromformer": nystromformer}


def batch(length, lengths=None, num_global=0, seed=0):
    """Random tokens and padding; global tokens anywhere but in the first sequence."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [length] if lengths is None else lengths
    ids = torch.randint(5, 60, (len(lengths), length), generator=generator)
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    inputs = {"input_ids": ids.masked_fill(~mask, 1), "attention_mask": mask.long()}
    if num_global:
        chosen = torch.randperm(length, generator=generator)[:num_global]
        inputs["global_attention_mask"] = torch.zeros_like(ids)
        inputs["global_attention_mask"][1:, chosen] = 1
    return inputs


def relative(ours, theirs):
    """Largest difference over largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9)).item()


def logits_and_gradients(model, inputs):
    """Logits of tokens that are no padding, and the gradients of a weighted sum of them."""
    model = copy.deepcopy(model)
    logits = model(**inputs).logits * inputs["attention_mask"].unsqueeze(-1)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    (logits * weights).sum().backward()
    return logits.detach(), {
        name: p.grad for name, p in model.named_parameters() if p.grad is not None
    }


def assert_same(ours, theirs, inputs, tolerance=1e-5, gradient_tolerance=1e-4):
    """Outputs and gradients agree; biases of keys apart, whose true gradient is zero."""
    our_logits, our_gradients = logits_and_gradients(ours, inputs)
    their_logits, their_gradients = logits_and_gradients(theirs, inputs)
    assert relative(our_logits, their_logits) < tolerance
    largest = max(gradient.abs().max() for gradient in their_gradients.values())
    for name, gradient in their_gradients.items():
        if not name.endswith(("key.bias", "key_global.bias")):
            difference = (our_gradients[name] - gradient).abs().max()
            assert difference < gradient_tolerance * max(gradient.abs().max(), 1e-3 * largest), name

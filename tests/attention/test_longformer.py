import copy

import brute_force
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LongformerConfig

from ctd_lib import attention
from ctd_lib.attention import longformer
from ctd_lib.errors import CtdError


@pytest.mark.parametrize("length", [1, 7, 33, 64, 300])
@pytest.mark.parametrize("num_global", [0, 1, 4])
def test_equals_transformers(length, num_global):
    native = toys.longformer(window=[8, 32])
    inputs = toys.batch(length, [length, -(-length // 2), min(length, 3)], min(num_global, length))
    toys.assert_same(attention.install(copy.deepcopy(native)), native, inputs)


def test_other_head_counts_and_a_window_for_each_layer_equal_transformers():
    native = toys.longformer(window=[4, 48], num_attention_heads=4, hidden_size=64)
    toys.assert_same(
        attention.install(copy.deepcopy(native)), native, toys.batch(100, [100, 99], 3)
    )


@pytest.mark.parametrize("num_global", [1, 3])
def test_as_many_global_tokens_in_every_sequence_equal_transformers(num_global):
    native = toys.longformer(window=[8, 32])
    inputs = toys.batch(50, [50, 50, 21, 5])
    inputs["global_attention_mask"] = torch.zeros_like(inputs["input_ids"])
    inputs["global_attention_mask"][:, :num_global] = 1
    toys.assert_same(attention.install(copy.deepcopy(native)), native, inputs)


def test_inference_equals_training_blocks():
    model = attention.install(toys.longformer(window=64))
    inputs = toys.batch(290, [290, 200], 2)
    training = model(**inputs).logits.detach()
    with torch.inference_mode():
        assert toys.relative(model(**inputs).logits[0], training[0]) < 1e-5


def test_bfloat16_is_within_its_rounding():
    native = toys.longformer(window=16)
    inputs = toys.batch(150, [150, 90], 2)
    exact = native(**inputs).logits[0]
    theirs = toys.relative(copy.deepcopy(native).bfloat16()(**inputs).logits[0].float(), exact)
    ours = toys.relative(attention.install(native).bfloat16()(**inputs).logits[0].float(), exact)
    assert ours < 1.5 * theirs + 0.01


@given(
    length=st.integers(1, 40),
    half=st.integers(1, 9),
    tokens=st.lists(st.integers(0, 39), max_size=3),
    padding=st.integers(0, 20),
    block=st.integers(1, 9),
)
@settings(max_examples=30, deadline=None)
def test_layer_equals_oracle(length, half, tokens, padding, block):
    """Any window, length, padding and block of queries: the rows of local tokens."""
    layer = (
        attention.install(toys.longformer(window=2 * half))
        .longformer.encoder.layer[0]
        .attention.self
    )
    hidden = torch.randn(1, length + padding, 24, generator=torch.Generator().manual_seed(length))
    valid = torch.arange(length + padding)[None] < length
    tokens = sorted({token for token in tokens if token < length})
    is_global = torch.zeros_like(valid)
    is_global[0, tokens] = True

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(longformer, "INFERENCE_BLOCK", block)
        (context,) = layer(hidden, longformer.Plan(valid, is_global))
    allowed = brute_force.longformer(length, 2 * half, tokens)
    q, k, v = (
        f(hidden[0, :length]).view(length, 3, 8) for f in (layer.query, layer.key, layer.value)
    )
    expected = torch.stack(
        [brute_force.attention(q[:, h], k[:, h], v[:, h], allowed) for h in range(3)], 1
    ).flatten(1)
    local = [token for token in range(length) if token not in tokens]
    assert torch.allclose(context[0, local], expected[local], atol=1e-5)
    assert (context[0, length:] == 0).all()


@given(
    length=st.integers(1, 30),
    half=st.integers(1, 10),
    tokens=st.sets(st.integers(0, 29), max_size=3),
)
@settings(max_examples=20, deadline=None)
def test_pattern_equals_oracle(length, half, tokens):
    tokens = tuple(token for token in tokens if token < length)
    config = toys.longformer(window=2 * half).config
    assert attention.pattern(config, length, tokens).equal(
        brute_force.longformer(length, 2 * half, tokens)
    )


def test_global_token_out_of_range():
    with pytest.raises(CtdError, match="Global token 9 is out of range for 9 tokens"):
        attention.pattern(toys.longformer().config, 9, (9,))


def test_odd_window():
    config = LongformerConfig(attention_window=7)
    with pytest.raises(CtdError, match="must be even and positive, not 7"):
        attention.pattern(config, 9)


def test_global_attention_mask_of_a_wrong_shape():
    inputs = toys.batch(10) | {"global_attention_mask": torch.ones(1, 9)}
    with pytest.raises(CtdError, match="global_attention_mask must have shape"):
        attention.install(toys.longformer())(**inputs)

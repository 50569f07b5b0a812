import copy

import brute_force
import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BigBirdConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

from ctd_lib import attention
from ctd_lib.attention import bigbird
from ctd_lib.errors import CtdError


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("length", [5, 72, 80, 300, 1024])
def test_public_equals_transformers(length, training):
    native = toys.bigbird().train(training)
    inputs = toys.batch(length, [length, length // 2 + 1, 3])
    toys.assert_same(attention.install(copy.deepcopy(native), public=True), native, inputs)


def test_default_in_evaluation_equals_transformers_in_training():
    """At a length where transformers draws no block that is in the window as well."""
    native = toys.bigbird().train()
    toys.assert_same(
        attention.install(copy.deepcopy(native)).eval(), native, toys.batch(300, [300, 200])
    )


def test_does_not_fall_back_to_full_attention_for_good():
    model = attention.install(toys.bigbird())
    long = toys.batch(300)
    before = model(**long).logits
    model(**toys.batch(20))
    assert model(**long).logits.equal(before)


@pytest.mark.parametrize("length", [4096, 8192])
def test_large_blocks_are_drawn_among_those_that_are_there(length):
    config = BigBirdConfig(block_size=512, num_random_blocks=1, max_position_embeddings=8192)
    drawn = bigbird.random_blocks(config, length // 512, layer=0)
    assert drawn.max() < length // 512


@pytest.mark.parametrize("block_size, positions", [(64, 4096), (16, 1024), (32, 3072)])
@pytest.mark.parametrize("length", [768, 1024, 2048, 3072, 4096])
def test_random_blocks_are_those_of_transformers(block_size, positions, length):
    config = BigBirdConfig(
        num_attention_heads=2,
        hidden_size=8,
        block_size=block_size,
        max_position_embeddings=positions,
    )
    count, draws = length // block_size, config.num_random_blocks
    if length > positions or count <= 5 + 2 * draws:
        pytest.skip("transformers takes full attention here")
    layer = BigBirdBlockSparseAttention(config, seed=3).train()
    np.random.seed(3)
    if length in (1024, 3072, 4096):
        shape = (positions, positions, block_size, block_size, draws)
        drawn = [
            layer._bigbird_block_rand_mask(*shape, last_idx=1024)[: count - 2] for _ in range(2)
        ]
    else:
        plan = layer._get_rand_attn_plan(length, block_size, draws)
        drawn = layer._bigbird_block_rand_mask_with_head(
            length, length, block_size, block_size, 2, *plan
        )
    assert np.array_equal(bigbird.random_blocks(config, count, layer=3), np.stack(drawn))


def test_bfloat16_is_within_its_rounding():
    native = toys.bigbird().train()
    inputs = toys.batch(300)
    exact = native(**inputs).logits
    theirs = toys.relative(copy.deepcopy(native).bfloat16()(**inputs).logits.float(), exact)
    ours = toys.relative(attention.install(native).bfloat16()(**inputs).logits.float(), exact)
    assert ours < 1.5 * theirs + 0.01


@given(
    length=st.integers(1, 90),
    block_size=st.integers(2, 9),
    num_random=st.integers(0, 3),
    padding=st.integers(0, 20),
    layer=st.integers(0, 1),
)
@settings(max_examples=30, deadline=None)
def test_layer_equals_oracle(length, block_size, num_random, padding, layer):
    model = attention.install(toys.bigbird(block_size, num_random))
    module = model.bert.encoder.layer[layer].attention
    hidden = torch.randn(1, length + padding, 24, generator=torch.Generator().manual_seed(length))
    valid = torch.arange(length + padding)[None] < length
    with torch.no_grad():
        expected = oracle(model.config, module, hidden[0], length, layer)
        context, _ = module(hidden, bigbird.Plan(model.config, hidden, valid, False))
        expected = module.output(
            torch.nn.functional.pad(expected, (0, 0, 0, padding))[None], hidden
        )
    assert torch.allclose(context, expected, atol=1e-5)


def oracle(config, module, hidden, length, layer):
    """The pattern lies over the padded sequence; padding is taken out of it."""
    count = -(-len(hidden) // config.block_size)
    q, k, v = (
        f(hidden).view(-1, 3, 8) for f in (module.self.query, module.self.key, module.self.value)
    )
    contexts = []
    for head in range(3):
        drawn = None
        if count > 5 + config.num_random_blocks:
            drawn = bigbird.random_blocks(config, count, layer)[head].tolist()
        allowed = brute_force.bigbird(len(hidden), config.block_size, drawn)[:length, :length]
        assert allowed.equal(
            bigbird.pattern(config, len(hidden), (), layer, head)[:length, :length]
        )
        contexts.append(
            brute_force.attention(q[:length, head], k[:length, head], v[:length, head], allowed)
        )
    return torch.stack(contexts, 1).flatten(1)


def test_decoders_and_full_attention_are_refused():
    with pytest.raises(CtdError, match="only encoders"):
        attention.install(toys.bigbird(is_decoder=True))
    with pytest.raises(CtdError, match="must be 'block_sparse'"):
        attention.install(toys.bigbird(attention_type="original_full"))


def test_block_size_below_one():
    with pytest.raises(CtdError, match="block_size must be 1 or more, not 0"):
        attention.pattern(BigBirdConfig(block_size=0), 9)


def test_no_global_tokens():
    with pytest.raises(CtdError, match="takes no global tokens"):
        attention.pattern(toys.bigbird().config, 20, (0,))

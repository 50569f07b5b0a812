import copy
from types import SimpleNamespace

import brute_force
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd_lib import attention
from ctd_lib.attention import nystromformer
from ctd_lib.errors import CtdError


@pytest.mark.parametrize("num_landmarks", [7, 9, 21])
def test_equals_transformers_at_its_one_length(num_landmarks):
    native = toys.nystromformer(num_landmarks, 63)
    toys.assert_same(attention.install(copy.deepcopy(native)), native, toys.batch(63))


def test_public_equals_transformers_where_the_batch_sets_the_inverse():
    native = toys.nystromformer(8, 64)
    toys.assert_same(
        attention.install(copy.deepcopy(native), public=True), native, toys.batch(64, [64, 64, 64])
    )


@pytest.mark.parametrize("length", [5, 50, 64])
def test_public_has_full_attention_where_transformers_has(length):
    native = toys.nystromformer(64, 64)
    inputs = toys.batch(length, [length, length // 2, 1])
    toys.assert_same(attention.install(copy.deepcopy(native), public=True), native, inputs)


def test_default_uses_its_landmarks_where_transformers_does_not():
    native = toys.nystromformer(16, 16)
    inputs = toys.batch(64)
    assert (
        toys.relative(
            attention.install(copy.deepcopy(native))(**inputs).logits, native(**inputs).logits
        )
        > 0.01
    )


@given(length=st.integers(1, 60), num_landmarks=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_layer_equals_oracle(length, num_landmarks):
    model = attention.install(toys.nystromformer(num_landmarks))
    layer = model.nystromformer.encoder.layer[0].attention.self
    hidden = torch.randn(1, length, 24, generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        (context,) = layer(hidden, nystromformer.Plan(model.config, hidden, None, False))
        q, k, v = (
            f(hidden[0]).view(length, 3, 8).transpose(0, 1)
            for f in (layer.query, layer.key, layer.value)
        )
        expected = brute_force.nystromformer(q, k, v, num_landmarks) + layer.conv(v[None])[0]
    assert torch.allclose(context[0], expected.transpose(0, 1).flatten(1), atol=2e-4)


@pytest.mark.parametrize("own", [1, 3, 8, 20, 77])
def test_padding_changes_nothing(own):
    """A sequence alone, and in a batch with a longer one and one that is all padding."""
    model = attention.install(toys.nystromformer())
    inputs = toys.batch(100, [own, 100, 0])
    logits = model(**inputs).logits
    alone = model(input_ids=inputs["input_ids"][:1, :own]).logits
    assert toys.relative(logits[0, :own], alone[0]) < 2e-5
    assert logits.isfinite().all()


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3), num_landmarks=st.integers(1, 12)
)
def test_segments_are_as_equal_as_they_can_be(lengths, num_landmarks):
    valid = torch.arange(40) < torch.tensor(lengths)[:, None]
    member = nystromformer.segment_means(valid, num_landmarks) > 0  # (B, L, T)
    assert member.sum(1).equal(valid.long())
    for rows, length in zip(member, lengths, strict=True):
        sizes = rows.sum(-1)[: min(length, num_landmarks)]
        assert sizes.sum() == length
        assert length == 0 or sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("own", [1, 13, 16])
def test_a_sequence_of_no_more_tokens_than_landmarks_has_full_attention(own):
    """As transformers computes it where it has a landmark a token; beside longer ones too."""
    inputs = toys.batch(100, [own, 100])
    expected = toys.nystromformer(own, own)(input_ids=inputs["input_ids"][:1, :own]).logits
    model = attention.install(toys.nystromformer(16))
    assert toys.relative(model(**inputs).logits[0, :own], expected[0]) < 2e-5
    alone = model(input_ids=inputs["input_ids"][:1, :own]).logits
    assert toys.relative(alone, expected) < 2e-5


def test_public_refuses_what_transformers_cannot_do():
    model = attention.install(toys.nystromformer(8, 64), public=True)
    with pytest.raises(CtdError, match="takes 64 tokens and no padding"):
        model(**toys.batch(63))


def test_runs_in_bfloat16():
    model = attention.install(toys.nystromformer())
    inputs = toys.batch(90, [90, 40])
    exact = model(**inputs).logits[0]
    assert toys.relative(model.bfloat16()(**inputs).logits[0].float(), exact) < 0.1


def test_the_product_with_the_inverse_is_exact_under_autocast():
    given = torch.randn(3, 1, 2, 8, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    plan = SimpleNamespace(unpaired=None, public=False)
    layer = object.__new__(nystromformer.NystromformerSelfAttention)
    expected = layer._mixed(*given.float(), plan)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer._mixed(*given, plan), expected)


@pytest.mark.parametrize("taps", [1, 5, 65])
@pytest.mark.parametrize("length", [1, 7, 64, 65, 200])
def test_convolution_by_products_is_the_convolution(length, taps, monkeypatch):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 3, (taps, 1), padding=(taps // 2, 0), bias=False, groups=3).double()
    value = torch.randn(2, length, 3, 4, dtype=torch.double, requires_grad=True)
    weights = torch.randn(2, length, 3, 4, dtype=torch.double)

    def both():
        out = nystromformer.convolved(value, conv)
        return out, *torch.autograd.grad(out, (value, conv.weight), weights)

    theirs = both()
    monkeypatch.setattr(torch, "bfloat16", torch.double)  # exact enough to tell any tap apart
    for ours, wanted in zip(both(), theirs, strict=True):
        torch.testing.assert_close(ours, wanted)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad

from ctd_lib.attention import blocked, products


@given(
    count=st.integers(1, 5),
    step=st.integers(1, 6),
    size=st.integers(1, 15),
    before=st.integers(-4, 9),
    extra=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    by_products=st.sampled_from([(False, False), (False, True), (True, True)]),
    group=st.integers(1, 2000),
)
@settings(max_examples=100, deadline=None)
def test_parts_together_are_one_softmax(
    count, step, size, before, extra, dtype, by_products, group
):
    """Windows and shared keys joined, against one dense softmax over all of them."""
    generator = torch.Generator().manual_seed(count * step + size)
    length = count * step
    q, k, v, weights = (
        torch.randn(length, 2, 4, generator=generator, dtype=dtype) for _ in range(4)
    )
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    extra = min(extra, length)

    first = (
        torch.arange(count)[:, None] * step - before
    )  # positions of a window's keys, some outside of the sequence
    keys = first + torch.arange(size)
    inside = (keys >= 0) & (keys < length)
    parts = [
        blocked.Part(
            *(blocked.windows(x, count, size, step, before) for x in (k, v)),
            blocked.additive(inside[:, None, None], dtype),
        ),
        blocked.Part(*(x[:extra].transpose(0, 1)[None] for x in (k, v))),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "faster", lambda query: by_products[0])
        patch.setattr(products, "faster_backward", lambda query, parts: by_products[1])
        patch.setitem(products.SCORES, "cpu", group)
        ours = blocked.attend(q, parts)
        our_grads = grad(ours, (q, k, v), weights)

    scores = torch.einsum("qhd,khd->hqk", q, k) / 2
    windowed = torch.zeros(length, length, dtype=torch.bool)
    for query in range(length):
        run = query // step
        windowed[query, keys[run][inside[run]]] = True
    both = torch.cat((scores.masked_fill(~windowed, -torch.inf), scores[..., :extra]), -1).softmax(
        -1
    )
    dense = torch.einsum("hqk,khd->qhd", both, torch.cat((v, v[:extra])))

    assert torch.allclose(ours, dense, atol=1e-5)
    for mine, theirs in zip(our_grads, grad(dense, (q, k, v), weights), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("by_products", [False, True])
def test_a_query_that_sees_nothing_is_finite_and_has_no_gradient_to_hurt(by_products, monkeypatch):
    monkeypatch.setattr(products, "faster", lambda query: by_products)
    q, k, v = (torch.randn(4, 1, 8, requires_grad=True) for _ in range(3))
    nothing = torch.full((1, 1, 1, 4), blocked.MASKED)
    out = blocked.attend(q, [blocked.Part(*(x.transpose(0, 1)[None] for x in (k, v)), nothing)] * 2)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("by_products", [False, True])
@pytest.mark.parametrize("mask", ["none", "booleans", "additive"])
@given(
    batch=st.integers(1, 3),
    queries=st.integers(1, 9),
    keys=st.integers(1, 9),
    seed=st.integers(0, 999),
)
@settings(max_examples=20, deadline=None)
def test_dense_attention_is_torchs_own(by_products, mask, batch, queries, keys, seed):
    generator = torch.Generator().manual_seed(seed)
    q, weights = torch.randn(2, batch, queries, 2, 4, generator=generator)
    k, v = torch.randn(2, batch, keys, 2, 4, generator=generator)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    seen = torch.rand(batch, 1, queries, keys, generator=generator) < 0.7
    seen[..., 0] = True
    given_mask = {"none": None, "booleans": seen, "additive": blocked.additive(seen, q.dtype)}[mask]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "faster_than_sdpa", lambda query, parts: by_products)
        patch.setattr(products, "faster_backward", lambda query, parts: by_products)
        ours = blocked.dense(q, k, v, given_mask)
        our_grads = grad(ours, (q, k, v), weights)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), None if mask == "none" else seen
    ).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-6)
    for mine, other in zip(our_grads, grad(theirs, (q, k, v), weights), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_products_never_take_long_dense_sequences():
    q = torch.empty(1, 4096, 12, 32, dtype=torch.bfloat16)
    part = blocked.Part(*(q.transpose(1, 2),) * 2)
    assert not products.faster_backward(q.flatten(0, 1), [part])
    assert not products.faster_than_sdpa(q.flatten(0, 1), [part])

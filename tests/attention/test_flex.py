import copy
import functools

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import flex_attention as flex_module
from torch.nn.attention.flex_attention import flex_attention

from ctd_lib import attention
from ctd_lib.attention import bigbird, flex, longformer


@pytest.fixture
def on_flex(monkeypatch):
    """FlexAttention on the CPU, not compiled, as if it were a GPU."""
    monkeypatch.setattr(flex, "takes", lambda query: True)
    monkeypatch.setattr(flex, "_compiled", lambda: flex_attention)


@pytest.mark.parametrize("arch", ["longformer", "bigbird"])
@pytest.mark.parametrize("length", [1, 100, 300])
def test_forward_equals_the_blocked_path(arch, length, request):
    model = attention.install(
        toys.MODELS[arch](hidden_size=48)
    )  # the kernel wants heads of 16 or more
    num_global = min(length, 2) if arch == "longformer" else 0
    inputs = toys.batch(length, [length, -(-length // 2)], num_global)
    with torch.inference_mode():
        expected = model(**inputs).logits * inputs["attention_mask"].unsqueeze(-1)
        request.getfixturevalue("on_flex")
        ours = model(**inputs).logits * inputs["attention_mask"].unsqueeze(-1)
    assert toys.relative(ours, expected) < 1e-5


@given(
    length=st.integers(1, 60),
    half=st.integers(1, 20),
    valid=st.integers(1, 60),
    tokens=st.sets(st.integers(0, 59), max_size=2),
)
@settings(max_examples=30, deadline=None)
def test_longformer_blocks_hold_the_pattern(length, half, valid, tokens):
    keys = torch.arange(length)[None] < valid
    is_global = torch.zeros_like(keys)
    is_global[0, [token for token in tokens if token < min(length, valid)]] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "BLOCK", 8)
        assert_holds(longformer.Plan(keys, is_global).block_mask(2 * half), length)


@given(
    length=st.integers(1, 90),
    block_size=st.integers(2, 12),
    valid=st.integers(1, 90),
    layer=st.integers(0, 2),
)
@settings(max_examples=30, deadline=None)
def test_bigbird_blocks_hold_the_pattern(length, block_size, valid, layer):
    config = toys.bigbird(block_size).config
    keys = torch.arange(length)[None] < valid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "BLOCK", 8)
        plan = bigbird.Plan(config, torch.zeros(1, length, 24), keys, False)
        assert_holds(plan.block_mask(layer), length)


def assert_holds(mask, length):
    """Blocks that are skipped hold no visible pair, blocks that are full no hidden one."""
    batch, heads = mask.kv_num_blocks.shape[:2]
    index = [torch.arange(n) for n in (batch, heads, length, length)]
    seen = mask.mask_mod(*torch.meshgrid(*index, indexing="ij"))
    for b in range(batch):
        for h in range(heads):
            for row in range(mask.kv_num_blocks.shape[2]):
                partial = mask.kv_indices[b, h, row][: mask.kv_num_blocks[b, h, row]].tolist()
                full = mask.full_kv_indices[b, h, row][
                    : mask.full_kv_num_blocks[b, h, row]
                ].tolist()
                assert not set(partial) & set(full)
                for column in range(mask.kv_indices.shape[-1]):
                    pairs = seen[b, h, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
                    assert column in partial + full or not pairs.any()
                    assert column not in full or pairs.all()


@pytest.mark.slow
def test_compiled_forward_equals_the_blocked_path(monkeypatch):
    model = attention.install(toys.longformer(window=32, hidden_size=96))
    inputs = toys.batch(400, [400, 300], 1)
    with torch.inference_mode():
        expected = model(**inputs).logits
        monkeypatch.setattr(flex, "takes", lambda query: True)
        assert toys.relative(model(**inputs).logits[0], expected[0]) < 1e-5


def test_every_kind_of_batch_has_a_compiled_kernel(monkeypatch):
    """Torch goes on without one, in memory of T x T, where it has compiled as many as it may."""
    graphs, uncompiled = [], []

    def compiled_by_nothing(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def attend(*given, **options):
        if not torch.compiler.is_compiling():
            uncompiled.append(given)
        return flex_attention(*given, **options)

    monkeypatch.setattr(flex, "takes", lambda query: True)
    monkeypatch.setattr(flex, "flex_attention", attend)
    monkeypatch.setattr(flex_module, "_validate_device", lambda *given: None)  # no gradients there
    compiler = functools.partial(torch.compile, backend=compiled_by_nothing)
    monkeypatch.setattr(torch, "compile", compiler)
    torch.compiler.reset()
    compiled = flex._compiled.__wrapped__()
    monkeypatch.setattr(flex, "_compiled", lambda: compiled)
    model = attention.install(toys.MODELS["bigbird"](hidden_size=48))
    for gradients in (True, False):
        for length in (100, 200, 300, 400):
            for own in ([length, length // 2], [length, length], [length]):
                with torch.set_grad_enabled(gradients):
                    model(**toys.batch(length, own))
    assert len(graphs) > 8 and not uncompiled  # eight are torch's own limit


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("arch", list(toys.MODELS))
def test_cuda_equals_the_cpu(arch):
    model = attention.install(toys.MODELS[arch](hidden_size=96))
    inputs = toys.batch(300, [300, 200], 2 if arch == "longformer" else 0)
    expected, gradients = toys.logits_and_gradients(model, inputs)
    twin = copy.deepcopy(model).cuda()
    logits = twin(**{name: x.cuda() for name, x in inputs.items()}).logits.cpu()
    logits = logits * inputs["attention_mask"].unsqueeze(-1)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    (logits * weights).sum().backward()
    assert toys.relative(logits, expected) < 1e-3
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in twin.named_parameters():
        if name in gradients:
            assert (parameter.grad.cpu() - gradients[name]).abs().max() < 1e-2 * largest, name

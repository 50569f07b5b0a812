"""LSG: equal to the public implementation and to brute force; it saves, loads and trains."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from toy_models import assert_same_where_kept, backbone, batch, tokenizer
from transformers import AutoModel, RobertaConfig, RobertaModel

from ctd_lib import models
from ctd_lib.attention import flops, pattern
from ctd_lib.attention.lsg import LsgGeometry, layout, lsg_attention
from ctd_lib.convert import convert
from ctd_lib.errors import CtdError
from ctd_lib.lsg import (
    LsgBertConfig,
    LsgBertModel,
    LsgRobertaConfig,
    LsgRobertaForMaskedLM,
    LsgRobertaModel,
)

GOLDEN = load_file(Path(__file__).parent / "fixtures" / "lsg_converter_outputs.safetensors")
"""Every sixth token's first four values of the last hidden state of lsg-converter 0.1.9 (under
transformers 4.40.2) for CASES, with the weights and inputs made below."""

CASES = {
    "norm": {},
    "norm-short-sparse-block": {"sparse_block_size": 4},
    "norm-long-sparse-block": {
        "sparse_block_size": 16,
        "sparsity_factor": 4,
        "num_global_tokens": 2,
    },
    "norm-all-kept": {"sparsity_factor": 1},
    "pooling": {"sparsity_type": "pooling"},
    "pooling-first-token-masked": {
        "sparsity_type": "pooling",
        "sparsity_factor": 4,
        "mask_first_token": True,
    },
    "none": {"sparsity_type": "none"},
    "full": {"length": 15},
    "whole-blocks": {"length": 48},
    "bert": {"pool_with_global": False},
}
TOY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 72,
    "layer_norm_eps": 1e-5,
    "block_size": 8,
    "sparse_block_size": 8,
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_public_implementation(case):
    fields = dict(CASES[case])
    length = fields.pop("length", 50)
    pad = 0 if case == "bert" else 1
    config_class, model_class = (
        (LsgBertConfig, LsgBertModel) if case == "bert" else (LsgRobertaConfig, LsgRobertaModel)
    )
    config = config_class(**{**TOY, **fields}, pad_token_id=pad)
    model = model_class(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(parameter.shape)
        mean = 1 if name.endswith("LayerNorm.weight") else 0
        parameter.data = torch.from_numpy(mean + 0.3 * values).float()
    input_ids = torch.from_numpy(np.random.RandomState(7).randint(4, 40, (2, length)))
    attention_mask = torch.ones_like(input_ids)
    input_ids[1, length * 3 // 4 :] = pad
    attention_mask[1, length * 3 // 4 :] = 0
    with torch.no_grad():
        hidden = model(input_ids, attention_mask=attention_mask).last_hidden_state
    torch.testing.assert_close(hidden[:, ::6, :4], GOLDEN[case], rtol=1e-4, atol=1e-5)


def brute_force(query, key, value, keep, geometry):
    """Each query's keys gathered one by one, by the module's Note; one sequence (G + T, H, D)."""
    front, block, factor = (
        geometry.num_global_tokens,
        geometry.block_size,
        geometry.sparsity_factor,
    )
    length, heads = len(query) - front, query.shape[1]
    everything = [*range(front), *(front + t for t in range(length) if keep[t])]
    out = torch.empty_like(query)
    for head in range(heads):
        far_key, far_value = sparse_tokens(key[front:, head], value[front:, head], keep, geometry)
        for row in range(front + length):
            if row < front or length <= 2 * block:
                seen, extra = everything, []
            else:
                mine = (row - front) // block
                near = range((mine - 1) * block, (mine + 2) * block)
                seen = [i for i in everything if i < front or i - front in near]
                step, size = block // factor, geometry.sparse_block_size
                left, right = (mine - 1) * step, (mine + 2) * step
                slots = [*range(left - size, left), *range(right, right + size)]
                extra = [slot for slot in slots if slot in far_key]
            keys = torch.stack([key[i, head] for i in seen] + [far_key[s] for s in extra])
            values = torch.stack([value[i, head] for i in seen] + [far_value[s] for s in extra])
            weights = torch.softmax(keys @ query[row, head] * query.shape[-1] ** -0.5, dim=0)
            out[row, head] = weights @ values
    return out


def sparse_tokens(key, value, keep, geometry):
    """{slot: key}, {slot: value} of one head (T, D); slots of padding are absent."""
    keys, values = {}, {}
    factor, run = geometry.sparsity_factor, geometry.run
    if geometry.sparsity_type == "pooling":
        for slot in range(-(-len(key) // factor)):
            members = [t for t in range(slot * factor, (slot + 1) * factor) if t < len(key)]
            members = [t for t in members if keep[t]]
            if members:
                keys[slot], values[slot] = key[members].mean(0), value[members].mean(0)
    elif geometry.sparsity_type == "norm":
        for start in range(0, len(key), run):
            members = [t for t in range(start, min(start + run, len(key))) if keep[t]]
            members.sort(key=lambda t: key[t].norm().item(), reverse=True)
            for rank, token in enumerate(members[: run // factor]):
                slot = start // factor + rank
                keys[slot], values[slot] = key[token], value[token]
    return keys, values


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 40),
    padding=st.integers(0, 39),
    sparse=st.sampled_from([(4, 2), (8, 2), (8, 4), (2, 2), (4, 1), (8, 1)]),
    sparsity_type=st.sampled_from(["norm", "pooling", "none"]),
    num_global_tokens=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_equals_brute_force(length, padding, sparse, sparsity_type, num_global_tokens, seed):
    """Outputs and gradients, with a padded and a full sequence in one batch."""
    geometry = LsgGeometry(4, *sparse, sparsity_type, num_global_tokens)
    generator = torch.Generator().manual_seed(seed)
    shape = (2, num_global_tokens + length, 2, 8)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]
    keep = torch.ones(2, length, dtype=torch.bool)
    keep[1, length - min(padding, length - 1) :] = False
    upstream = torch.randn(shape, generator=generator)

    ours = lsg_attention(*tensors, layout(keep, geometry), geometry)
    theirs = torch.stack(
        [brute_force(*(x[i] for x in tensors), keep[i], geometry) for i in range(2)]
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for x, y in zip(
        torch.autograd.grad(ours, tensors, upstream),
        torch.autograd.grad(theirs, tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=2e-5)


def test_padding_changes_nothing():
    model = LsgRobertaModel(LsgRobertaConfig(**TOY)).eval()
    short = batch(model.config, 37)
    padded = batch(model.config, 60, (37, 60))
    padded["input_ids"][0, :37] = short["input_ids"]
    with torch.no_grad():
        alone, together = model(**short).last_hidden_state, model(**padded).last_hidden_state
    torch.testing.assert_close(together[:1, :37], alone, rtol=1e-5, atol=1e-5)


def test_is_linear_in_the_length():
    """Nothing of size T x T is made: at 16,384 tokens that alone would take 1 GiB a head."""
    geometry = LsgGeometry(16, 16, 2, "norm", 1)
    length = 2**14
    keep = torch.ones(1, length, dtype=torch.bool)
    query = torch.randn(1, length + 1, 1, 8)
    with torch.profiler.profile(profile_memory=True) as profile:
        lsg_attention(query, query, query, layout(keep, geometry), geometry)
    allocated = [event.cpu_memory_usage for event in profile.events()]
    assert max(allocated) < 2**14 * 1024


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_close_to_float32(autocast):
    model = LsgRobertaModel(LsgRobertaConfig(**TOY, sparsity_type="pooling")).eval()
    inputs = batch(model.config, 50, (50, 30))
    with torch.no_grad():
        exact = model(**inputs).last_hidden_state
        model = model if autocast else model.bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            close = model(**inputs).last_hidden_state
    torch.testing.assert_close(close.float(), exact, rtol=0.05, atol=0.1)


def test_hidden_states_are_those_of_the_input_alone():
    model = LsgRobertaForMaskedLM(LsgRobertaConfig(**TOY)).eval()
    outputs = model(**batch(model.config, 50), output_hidden_states=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(1, 50, 16)] * 3
    last = model.roberta(**batch(model.config, 50)).last_hidden_state
    torch.testing.assert_close(outputs.hidden_states[-1], last)


def test_gradient_checkpointing_changes_nothing():
    model = LsgRobertaModel(LsgRobertaConfig(**TOY, hidden_dropout_prob=0.0)).train()
    inputs = batch(model.config, 50)
    gradients = []
    for enable in (model.activation_checkpointing_disable, model.activation_checkpointing_enable):
        enable()
        model.zero_grad()
        model(**inputs).last_hidden_state.square().sum().backward()
        gradients.append(model.encoder.layer[0].attention.self.key.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_a_published_checkpoint_opens(tmp_path):
    """Such a folder calls itself roberta, and brings code of its own that is not run."""
    ours = LsgRobertaForMaskedLM(LsgRobertaConfig(**TOY, sparsity_type="pooling")).eval()
    models.save(ours, tokenizer("roberta"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "roberta",
        "base_model_prefix": "lsg",
        "architectures": ["LSGRobertaForMaskedLM"],
        "auto_map": {"AutoModelForMaskedLM": "modeling_lsg_roberta.LSGRobertaForMaskedLM"},
        "adaptive": True,
        "lsh_num_pre_rounds": 1,
        "position_embedding_type": "absolute",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    opened = models.load(tmp_path)
    assert isinstance(opened, LsgRobertaForMaskedLM)
    assert opened.config.sparsity_type == "pooling"
    inputs = batch(ours.config, 50)
    with torch.no_grad():
        assert_same_where_kept(opened(**inputs).logits, ours(**inputs).logits, inputs)


def test_a_published_checkpoint_of_another_family_is_named(tmp_path):
    fields = {"model_type": "camembert", "base_model_prefix": "lsg"}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CtdError, match=r"family 'camembert' .*; take one of roberta, bert"):
        models.read_config(tmp_path)


@pytest.mark.parametrize(
    ("config", "model", "longest"),
    [(LsgRobertaConfig, LsgRobertaModel, 70), (LsgBertConfig, LsgBertModel, 72)],
)
def test_inputs_that_do_not_fit(config, model, longest):
    opened = model(config(**TOY))
    tokens = torch.full((1, longest + 1), 5)
    assert opened(tokens[:, 1:]).last_hidden_state.shape[1] == longest
    assert models.max_length(opened.config) == longest
    with pytest.raises(CtdError, match=f"{longest + 1} tokens is longer than the {longest}"):
        opened(tokens)
    with pytest.raises(CtdError, match=r"attention_mask must have shape \(1, 8\), not \(1, 7\)"):
        opened(tokens[:, :8], attention_mask=torch.ones(1, 7))
    with pytest.raises(CtdError, match="either input_ids or inputs_embeds"):
        opened()


def test_auto_classes_know_it():
    assert isinstance(AutoModel.from_config(LsgBertConfig(**TOY)), LsgBertModel)
    plain = RobertaModel(RobertaConfig(vocab_size=40, hidden_size=16, num_attention_heads=2))
    assert not isinstance(plain, LsgRobertaModel)


def test_pattern_is_where_attention_may_go():
    """The gradient of each output reaches no token outside the pattern."""
    config = LsgRobertaConfig(**TOY, mask_first_token=True)
    geometry = LsgGeometry.of(config)
    length, reached = 64, torch.zeros(64, 64, dtype=torch.bool)
    keep = torch.ones(1, length, dtype=torch.bool)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        query, key, value = torch.randn(3, 1, length + 1, 2, 8, generator=generator)
        value.requires_grad_()
        out = lsg_attention(query, key, value, layout(keep, geometry), geometry)
        for row in range(length):
            (gradient,) = torch.autograd.grad(out[0, row + 1].sum(), value, retain_graph=True)
            reached[row] |= gradient[0, 1:].abs().sum((1, 2)) > 0
    expected = pattern(config, length)
    assert torch.equal(reached[1:, 1:], expected[1:, 1:])
    assert expected[0].all() and expected[:, 0].all()
    assert pattern(config, 16).all()


def test_flops_are_linear_beyond_two_blocks():
    config = LsgRobertaConfig()
    assert flops(config, 256)["attention"] == 4 * 768 * 257**2 * 12
    at_4096 = flops(config, 4096)["attention"]
    assert at_4096 == pytest.approx(97e9, rel=0.01)
    assert flops(config, 8192)["attention"] == pytest.approx(2 * at_4096, rel=0.01)


@pytest.mark.parametrize("kind", ["lsh", "bos_pooling", "stride"])
def test_sparsity_types_that_are_not_supported(kind):
    with pytest.raises(CtdError, match=f"'{kind}' is unknown; take one of norm, pooling, none"):
        LsgRobertaConfig(**TOY, sparsity_type=kind)


def test_no_sparsity_type_means_none():
    assert LsgRobertaConfig(**TOY, sparsity_type=None).sparsity_type == "none"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_global_tokens": 0}, "num_global_tokens is 0"),
        ({"sparsity_factor": 3}, "sparsity_factor 3 must divide"),
        ({"sparse_block_size": 6}, "sparse_block_size 6"),
    ],
)
def test_settings_that_do_not_fit(fields, message):
    with pytest.raises(CtdError, match=message):
        LsgBertConfig(**{**TOY, **fields})


def test_a_converted_backbone_keeps_its_global_token_in_step_with_the_first():
    """With the first token masked as a key, the global one is its twin in every layer."""
    model = convert(backbone("roberta"), "lsg", 64, pool_with_global=False).model
    pooled = convert(backbone("roberta"), "lsg", 64).model
    inputs = batch(model.config, 30)
    with torch.no_grad():
        assert_same_where_kept(model(**inputs).logits, pooled(**inputs).logits, inputs)

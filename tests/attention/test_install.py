import copy
import pickle

import pytest
import torch
import toys
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
)

from ctd_lib import attention
from ctd_lib.attention import bigbird, linear, products
from ctd_lib.errors import CtdError

ARCHS = list(toys.MODELS)


@pytest.mark.parametrize("arch", ARCHS)
def test_uninstall_gives_back_every_class_and_the_same_outputs(arch):
    model = toys.MODELS[arch]()
    classes = [type(module) for module in model.modules()]
    inputs = toys.batch(80)
    before = model(**inputs).logits
    attention.install(model)
    assert attention.installed(model)
    attention.uninstall(model)
    assert not attention.installed(model)
    assert classes == [type(module) for module in model.modules()]
    assert model(**inputs).logits.equal(before)


@pytest.mark.parametrize("arch", ARCHS)
def test_saved_with_the_fast_attention_it_opens_in_plain_transformers(arch, tmp_path):
    model = attention.install(toys.MODELS[arch]())
    model.save_pretrained(tmp_path)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(plain).__name__ == type(model).__name__
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert all(plain.state_dict()[name].equal(value) for name, value in model.state_dict().items())
    AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("arch", ARCHS)
def test_copies_and_pickles_keep_the_fast_attention(arch):
    model = attention.install(toys.MODELS[arch]())
    inputs = toys.batch(70)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert attention.installed(twin)
        assert twin(**inputs).logits.equal(model(**inputs).logits)


@pytest.mark.parametrize("arch", ARCHS)
def test_gradient_checkpointing_and_autocast(arch):
    model = attention.install(toys.MODELS[arch]())
    inputs = toys.batch(150, [150, 80])
    exact, gradients = toys.logits_and_gradients(model, inputs)
    model.gradient_checkpointing_enable()
    _, recomputed = toys.logits_and_gradients(model.train(), inputs)
    assert all(
        toys.relative(recomputed[name], gradients[name]) < 1e-5
        for name in gradients
        if "key" not in name
    )
    with torch.autocast("cpu", torch.bfloat16):
        rounded, rounded_gradients = toys.logits_and_gradients(model, inputs)
    assert toys.relative(rounded, exact) < 0.1
    assert all(gradient.isfinite().all() for gradient in rounded_gradients.values())
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        found = model.eval()(**inputs).logits
    tokens = inputs["attention_mask"].bool()
    assert toys.relative(found[tokens], exact[tokens]) < 0.1


@pytest.mark.parametrize("arch", ARCHS)
def test_some_tokens_and_blocks_at_a_time_give_the_same(arch, monkeypatch):
    model = attention.install(toys.MODELS[arch]()).eval()
    inputs = toys.batch(150, [150, 80])
    sizes = []
    for module in model.modules():
        if isinstance(module, linear._Intermediate):
            module.register_forward_hook(lambda module, given, out: sizes.append(len(given[0])))
    with torch.inference_mode():
        whole = model(**inputs).logits
        assert set(sizes) == {300}
        monkeypatch.setattr(linear, "TOKENS", 128)
        monkeypatch.setattr(bigbird, "BLOCKS", 2)
        sizes.clear()
        parts = model(**inputs).logits
    assert set(sizes) == {128, 300 - 2 * 128}
    assert toys.relative(parts, whole) < 1e-5


@pytest.mark.parametrize("arch", ARCHS)
def test_training_keeps_one_of_two_inner_activations(arch):
    model = attention.install(toys.MODELS[arch]()).train()
    inputs, kept = toys.batch(80), []
    exact, gradients = toys.logits_and_gradients(model, inputs)
    for module in model.modules():
        if isinstance(module, linear._Intermediate):
            module.intermediate_act_fn.register_forward_hook(
                lambda module, given, out: kept.append(StorageWeakRef(out.untyped_storage()))
            )
    logits = model(**inputs).logits
    assert kept and all(reference.expired() for reference in kept)
    assert logits.requires_grad
    attention.uninstall(model)
    native, expected = toys.logits_and_gradients(model, inputs)
    assert toys.relative(exact, native) < 1e-5
    assert all(toys.relative(gradients[name], expected[name]) < 1e-4
               for name in gradients if "key" not in name)  # fmt: skip


def test_dropout_draws_as_torch_does():
    ours, native = torch.nn.Dropout(0.3), torch.nn.Dropout(0.3)
    ours.__class__ = linear.Dropout
    x = torch.randn(4, 50)
    found = []
    for module in (ours, native):
        torch.manual_seed(0)
        found.append(module(x))
    torch.testing.assert_close(*found)
    assert ours.eval()(x) is x


@pytest.mark.parametrize("arch", ARCHS)
def test_nothing_grows_with_the_square_of_the_length(arch):
    model = attention.install(toys.MODELS[arch](positions=4096, vocab_size=60).base_model)

    def largest(length):
        with _LargestOutput() as seen:
            model(toys.batch(length)["input_ids"]).last_hidden_state.sum().backward()
        return seen.largest

    assert largest(4000) < 2.5 * largest(2000)


class _LargestOutput(TorchDispatchMode):
    """Notes the most elements that any operation returns, backward included."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.largest = max(self.largest, storage)
        return result


@pytest.mark.parametrize("arch", ARCHS)
def test_hidden_states_tuples_and_embeddings_as_in_transformers(arch):
    native = toys.MODELS[arch](positions=200).base_model
    ours = attention.install(copy.deepcopy(native))
    ids = toys.batch(80)["input_ids"]
    embeddings = native.get_input_embeddings()(ids)
    theirs = native.train(arch == "bigbird")(ids, output_hidden_states=True)
    output = ours(inputs_embeds=embeddings, output_hidden_states=True)
    assert type(output) is type(theirs)
    assert len(output.hidden_states) == len(theirs.hidden_states)
    for mine, other in zip(output.hidden_states, theirs.hidden_states, strict=True):
        assert toys.relative(mine, other) < 1e-5
    assert ours(ids, return_dict=False)[0].equal(ours(ids)[0])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_full_attention_is_transformers_own(dropout, monkeypatch):
    """With gradients by products, or by SDPA where probabilities are dropped."""
    for name in ("faster_than_sdpa", "faster_backward"):
        monkeypatch.setattr(products, name, lambda query, parts: True)
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    plain = toys.spread(BertModel(config)).train()
    model = copy.deepcopy(plain)
    assert attention.install(model) is model
    inputs = {
        "input_ids": torch.arange(10).view(2, 5),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }
    for each in (plain, model):
        torch.manual_seed(0)  # of dropout
        each(**inputs).last_hidden_state.pow(2).sum().backward()
    theirs = dict(plain.named_parameters())
    for name, ours in model.named_parameters():
        if "pooler" not in name:
            torch.testing.assert_close(ours.grad, theirs[name].grad, rtol=1e-4, atol=1e-4)
    assert attention.pattern(config, 3).all()


def test_full_attention_gives_its_probabilities():
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        attn_implementation="eager",
    )  # fmt: skip
    model = attention.install(BertModel(config).eval())
    found = model(torch.arange(5)[None], output_attentions=True)
    torch.testing.assert_close(found.attentions[0].sum(-1), torch.ones(1, 2, 5))


def test_flops_of_the_published_shapes():
    """The figures of the papers' own shapes: roberta-base, 12 layers, 4096 tokens, in GFLOP."""
    base = dict(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
    )
    counts = {
        arch: attention.flops(type(toys.MODELS[arch]().config)(**base | more), 4096)
        for arch, more in {
            "longformer": {"attention_window": 512},
            "bigbird": {"block_size": 64, "num_random_blocks": 3},
            "nystromformer": {"num_landmarks": 64, "conv_kernel_size": 65},
        }.items()
    }
    assert {round(count["linear"] / 1e9) for count in counts.values()} == {696}
    assert {arch: round(count["attention"] / 1e9) for arch, count in counts.items()} == {
        "longformer": 77,
        "bigbird": 94,
        "nystromformer": 26,
    }
    assert (
        attention.flops(BertConfig(**base), 4096, batch_size=2)["attention"]
        == 2 * 12 * 4 * 4096**2 * 768
    )


def test_onednn_linear_equals_the_default(monkeypatch):
    monkeypatch.setattr(linear, "faster_with_onednn", lambda: True)
    layer, x = torch.nn.Linear(12, 20), torch.randn(3, 5, 12, requires_grad=True)
    expected = layer(x)
    wanted = torch.autograd.grad(expected.square().sum(), (x, *layer.parameters()))
    layer.__class__ = linear.Linear
    ours = layer(x)
    assert toys.relative(ours, expected) < 1e-5
    for mine, other in zip(
        torch.autograd.grad(ours.square().sum(), (x, *layer.parameters())), wanted, strict=True
    ):
        assert toys.relative(mine, other) < 1e-5


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize("onednn", [False, True])
def test_feed_forward_equals_transformers(activation, onednn, monkeypatch):
    monkeypatch.setattr(linear, "faster_with_onednn", lambda: onednn)
    native = toys.longformer(hidden_act=activation)
    ours = attention.install(copy.deepcopy(native))
    with torch.inference_mode():
        assert toys.relative(ours(**toys.batch(20)).logits, native(**toys.batch(20)).logits) < 1e-5


def test_bad_models_options_and_inputs():
    with pytest.raises(CtdError, match="is not a transformers model"):
        attention.install(torch.nn.Linear(2, 2))
    with pytest.raises(CtdError, match="no attention for models of type 'gpt2'"):
        attention.install(GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1)))
    model = attention.install(toys.longformer())
    with pytest.raises(CtdError, match="installed in this LongformerForMaskedLM already"):
        attention.install(model)
    with pytest.raises(CtdError, match="Unknown attention option 'fast'"):
        attention.install(toys.longformer(), fast=True)
    with pytest.raises(CtdError, match="601 tokens is longer than the 600"):
        model(input_ids=torch.ones(1, 601, dtype=torch.long))
    with pytest.raises(CtdError, match="never forms attention probabilities"):
        model(**toys.batch(5), output_attentions=True)
    with pytest.raises(CtdError, match="attention_mask must have shape"):
        model(input_ids=torch.ones(1, 5, dtype=torch.long), attention_mask=torch.ones(1, 4))

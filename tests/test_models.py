"""Opening and saving: what was saved comes back, and every mistake is one clear sentence."""

import json

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from toy_models import assert_same_where_kept, backbone, batch, tokenizer
from transformers import (
    AutoTokenizer,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedConfig,
)

from ctd_lib import ARCHS, attention, models, runtime
from ctd_lib.convert import convert
from ctd_lib.errors import CtdError

FAMILIES = ("roberta", "bert")
both_families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(runtime, "hub_answers", lambda: False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A saved model of every arch and family."""
    saved = {}
    for family in FAMILIES:
        for arch in ARCHS:
            folder = tmp_path_factory.mktemp(f"{family}-{arch}")
            converted = convert(backbone(family), arch, 64).model
            models.save(converted, tokenizer(family), folder)
            saved[family, arch] = folder
    return saved


@both_families
def test_load_backbone(family, tmp_path):
    models.save(backbone(family), tokenizer(family), tmp_path)
    opened = models.load_backbone(tmp_path)
    assert (opened.family, opened.has_lm_head) == (family, True)
    assert not opened.model.training
    inputs = batch(backbone(family).config, 20)
    with torch.no_grad():
        ours, theirs = opened.model(**inputs).logits, backbone(family)(**inputs).logits
    assert_same_where_kept(ours, theirs, inputs)
    assert opened.tokenizer("a cat")["input_ids"] == tokenizer(family)("a cat")["input_ids"]
    assert opened.model.config.bos_token_id == opened.tokenizer.cls_token_id
    assert opened.model.config.sep_token_id == opened.tokenizer.sep_token_id


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(tmp_path, monkeypatch):
    longer = tokenizer("bert")
    longer.add_tokens([f"word{n}" for n in range(200)])
    models.save(backbone("bert"), longer, tmp_path)
    with pytest.raises(CtdError, match=f"has {len(longer)} tokens and the model"):
        models.load_backbone(tmp_path)
    monkeypatch.setattr(type(longer), "is_fast", False)
    with pytest.raises(CtdError, match="a fast one"):
        models.load_backbone(tmp_path)


@both_families
def test_padding_that_the_configuration_does_not_name_is_the_tokenizers(family, tmp_path):
    models.save(backbone(family), tokenizer(family), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": None}))
    opened = models.load_backbone(tmp_path)
    assert opened.model.config.pad_token_id == opened.tokenizer.pad_token_id is not None
    converted = convert(opened.model, "longformer", 64).model
    assert converted.config.pad_token_id == opened.tokenizer.pad_token_id


def test_a_tokenizer_without_padding_is_refused(tmp_path):
    models.save(backbone("roberta"), tokenizer("roberta"), tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": None}))
    with pytest.raises(CtdError, match="has no pad_token; name one"):
        models.load_backbone(tmp_path)


def test_a_backbone_without_a_head_says_so(tmp_path):
    teacher = BertModel(backbone("bert").config)
    teacher.save_pretrained(tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    opened = models.load_backbone(tmp_path)
    assert not opened.has_lm_head
    words = teacher.embeddings.word_embeddings.weight
    assert torch.equal(opened.model.cls.predictions.decoder.weight, words)
    with pytest.raises(CtdError, match="has no masked-LM head"):
        models.load(tmp_path)


def test_a_tokenizer_truncates_at_the_end_whatever_its_checkpoint_says(tmp_path):
    tokenizer("bert").save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
    assert AutoTokenizer.from_pretrained(tmp_path).truncation_side == "left"
    found = models.load_tokenizer(tmp_path)
    whole = found("a b c d e f")["input_ids"]
    assert found("a b c d e f", truncation=True, max_length=5)["input_ids"][:4] == whole[:4]


@both_families
@pytest.mark.parametrize("arch", ARCHS)
def test_load_returns_what_save_wrote(family, arch, folders, tmp_path):
    opened = models.load(folders[family, arch])
    assert models.arch_of(opened) == models.arch_of(opened.config) == arch
    assert models.max_length(opened.config) == 64
    assert models.load_tokenizer(folders[family, arch]).model_max_length == 64
    inputs = batch(backbone(family).config, 64, (64, 50))
    with torch.no_grad():
        first = opened(**inputs).logits
        models.save(opened, tokenizer(family), tmp_path)
        second = models.load(tmp_path)(**inputs).logits
        assert_same_where_kept(opened(**inputs).logits, first, inputs)
    assert_same_where_kept(second, first, inputs)


@pytest.mark.parametrize("arch", ["longformer", "bigbird", "nystromformer"])
def test_the_fast_attention_is_installed_but_not_saved(arch, folders, tmp_path):
    opened = models.load(folders["bert", arch])
    assert attention.installed(opened)
    models.save(opened, tokenizer("bert"), tmp_path)
    assert attention.installed(opened)
    saved, original = (
        load_file(f / "model.safetensors") for f in (tmp_path, folders["bert", arch])
    )
    assert saved.keys() == original.keys()
    configs = [
        json.loads((f / "config.json").read_text()) for f in (tmp_path, folders["bert", arch])
    ]
    assert configs[0] == configs[1]


def test_full_attention_runs_on_sdpa(folders):
    assert models.load(folders["bert", "full"]).config._attn_implementation == "sdpa"


@both_families
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    "head", ["base", "sequence-classification", "token-classification", "question-answering"]
)
def test_heads_run_and_train(family, arch, head, folders):
    labels = {} if head in ("base", "question-answering") else {"num_labels": 5}
    model = models.load(folders[family, arch], head, **labels).train()
    inputs = batch(backbone(family).config, 64, (64, 50))
    inputs["input_ids"][:, 5] = model.config.sep_token_id
    if arch == "longformer":
        inputs["global_attention_mask"] = torch.zeros_like(inputs["input_ids"])
        inputs["global_attention_mask"][:, 0] = 1
    outputs = model(**inputs)
    shapes = {
        "base": (2, 64, 32),
        "sequence-classification": (2, 5),
        "token-classification": (2, 64, 5),
        "question-answering": (2, 64),
    }
    assert outputs[0].shape == shapes[head]
    outputs[0].square().mean().backward()
    gradient = models.layers(model)[0].attention.self.query.weight.grad
    assert torch.isfinite(gradient).all() and gradient.any()


@both_families
@pytest.mark.parametrize("arch", ARCHS)
def test_encoder_layers_and_head_are_the_models_own(family, arch, folders):
    model = models.load(folders[family, arch])
    inputs = batch(backbone(family).config, 64)
    with torch.no_grad():
        hidden = models.encoder(model)(**inputs).last_hidden_state
        assert_same_where_kept(models.lm_head(model)(hidden), model(**inputs).logits, inputs)
    assert len(models.layers(model)) == 3
    assert models.position_offset(model.config) + 64 == len(
        models.encoder(model).embeddings.position_embeddings.weight
    )


def test_unknown_head(folders):
    with pytest.raises(CtdError, match="'regression' is unknown; take one of base, masked-lm"):
        models.load(folders["bert", "full"], "regression")


def test_unknown_configuration_field(folders):
    with pytest.raises(CtdError, match="'nums_label' is no field"):
        models.load(folders["bert", "full"], "token-classification", nums_label=3)


def test_a_checkpoint_in_half_precision_opens_in_float32(tmp_path):
    models.save(backbone("bert").half(), tokenizer("bert"), tmp_path)
    assert models.load(tmp_path).dtype == torch.float32


@pytest.mark.parametrize("opener", [models.load, models.load_backbone])
def test_an_unsupported_family_is_named(opener, tmp_path):
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    DistilBertModel(config).save_pretrained(tmp_path)
    with pytest.raises(CtdError, match=r"'distilbert'.*roberta, bert"):
        opener(tmp_path)


def test_a_folder_without_weights(tmp_path):
    backbone("bert").config.save_pretrained(tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    with pytest.raises(CtdError, match="holds no weights"):
        models.load_backbone(tmp_path)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(CtdError, match=r"holds no configuration: there is no config\.json"):
        models.load_backbone(tmp_path)


def test_a_folder_without_a_tokenizer(tmp_path):
    backbone("bert").save_pretrained(tmp_path)
    with pytest.raises(CtdError, match="holds no tokenizer"):
        models.load_backbone(tmp_path)


def test_a_broken_weights_file(tmp_path):
    models.save(backbone("bert"), tokenizer("bert"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CtdError, match="holds no weights that can be read"):
        models.load_backbone(tmp_path)


def test_weights_that_lack_part_of_the_encoder(tmp_path):
    models.save(backbone("bert"), tokenizer("bert"), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CtdError, match=r"lacks 1 weights.*layer\.1\.output\.dense\.weight"):
        models.load(tmp_path)


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_weights_that_the_encoder_would_lose(prefix, tmp_path):
    """Such as those of relative positions, which transformers reads no more."""
    teacher = backbone("bert") if prefix else backbone("bert").bert
    models.save(teacher, tokenizer("bert"), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights[f"{prefix}embeddings.position_ids"] = torch.arange(40)[None]  # in older checkpoints
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    models.load_backbone(tmp_path)
    lost = f"{prefix}encoder.layer.1.attention.self.distance_embedding.weight"
    save_file(
        weights | {lost: torch.ones(79, 8)},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(CtdError, match=rf"has {lost} in its encoder, which no bert encoder"):
        models.load_backbone(tmp_path)


@pytest.mark.parametrize("path", ["/no/such/folder", "./model", "a/b/c"])
def test_no_such_folder(path):
    with pytest.raises(CtdError, match="there is no folder"):
        models.load_backbone(path)


def test_a_head_with_other_labels(tmp_path):
    models.save(backbone("bert"), tokenizer("bert"), tmp_path)
    tagger = models.load(tmp_path, "token-classification", num_labels=3)
    models.save(tagger, tokenizer("bert"), tmp_path / "tagger")
    with pytest.raises(CtdError, match=r"has classifier\.bias of shape \(3,\), where \(7,\) is"):
        models.load(tmp_path / "tagger", "token-classification", num_labels=7)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (RepositoryNotFoundError, "is no folder, and the hub does not have it"),
        (GatedRepoError, "configuration of 'some/model' cannot be had from the hub: what it says$"),
        (HfHubHTTPError, "cannot be had from the hub: what it says$"),
        (None, "cannot be had from the hub: what it says$"),
    ],
)
def test_what_a_hub_answers(cause, message, monkeypatch):
    def refuse(*given, **options):
        error = cause and cause.__new__(cause)  # which takes a response to be made
        raise OSError("what it says\nand more of it") from error

    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", refuse)
    with pytest.raises(CtdError, match=message):
        models.load("some/model")


def test_a_hub_id_where_no_hub_answers(offline):
    with pytest.raises(CtdError, match="'nobody/nothing' is no folder, no hub answers"):
        models.load_backbone("nobody/nothing")

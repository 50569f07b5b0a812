"""Conversion: every tensor accounted for, and at first the teacher's own function."""

import subprocess
import sys
from collections import Counter

import pytest
import torch
from toy_models import POSITIONS, SIZES, assert_same_where_kept, backbone, batch, tokenizer
from transformers import BertConfig, BertForPreTraining

from ctd_lib import ARCHS, attention, models
from ctd_lib.convert import convert, geometry
from ctd_lib.errors import CtdError

FAMILIES = ("roberta", "bert")
both_families = pytest.mark.parametrize("family", FAMILIES)
every_arch = pytest.mark.parametrize("arch", ARCHS)
MAX_LENGTH = 64

EXACT = {
    "full": ({}, MAX_LENGTH),
    "longformer": ({"attention_window": 64}, 32),
    "bigbird": ({"block_size": 16}, POSITIONS),
    "lsg": ({"block_size": 16}, 32),
}
"""Settings, and the longest toy input at which the pattern still covers everything."""


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@both_families
@pytest.mark.parametrize("arch", EXACT)
@pytest.mark.parametrize("kept", [(), (32, 20, 1)])
def test_begins_as_the_teachers_function(family, arch, kept):
    teacher = backbone(family)
    settings, reach = EXACT[arch]
    length = 32 if kept else min(reach, POSITIONS)
    inputs = batch(teacher.config, length, kept)
    converted = convert(teacher, arch, MAX_LENGTH, **settings).model
    assert models.arch_of(converted) == arch
    assert_same_where_kept(logits(converted, inputs), logits(teacher, inputs), inputs)


@both_families
def test_nystromformer_is_the_teacher_in_its_exact_mode(family):
    teacher = backbone(family)
    inputs = batch(teacher.config, 32)
    converted = convert(teacher, "nystromformer", 32, num_landmarks=32).model
    assert_same_where_kept(logits(converted, inputs), logits(teacher, inputs), inputs)


@both_families
def test_nystromformer_is_the_teacher_with_padding_too_under_our_attention(family):
    teacher = backbone(family)
    inputs = batch(teacher.config, 32, (32, 20))
    converted = convert(teacher, "nystromformer", 32, num_landmarks=32).model
    attention.install(converted, public=True)
    assert_same_where_kept(logits(converted, inputs), logits(teacher, inputs), inputs)


@both_families
def test_longformer_global_tokens_begin_as_local_ones(family):
    teacher = backbone(family)
    inputs = batch(teacher.config, 32)
    converted = convert(teacher, "longformer", MAX_LENGTH, attention_window=64).model
    global_attention_mask = torch.zeros_like(inputs["input_ids"])
    global_attention_mask[:, :3] = 1
    with_global = logits(converted, inputs | {"global_attention_mask": global_attention_mask})
    assert_same_where_kept(with_global, logits(teacher, inputs), inputs)


@both_families
@every_arch
def test_repeats_positions_so_that_a_repeated_text_looks_the_same(family, arch):
    teacher = backbone(family)
    settings = {"num_landmarks": 16} if arch == "nystromformer" else {}
    converted = convert(teacher, arch, 3 * 48, **settings).model
    rows = converted.base_model.embeddings.position_embeddings.weight
    offset = models.position_offset(converted.config)
    assert models.max_length(converted.config) == len(rows) - offset == 3 * 48
    body = teacher.base_model.embeddings.position_embeddings.weight
    body = body[models.position_offset(teacher.config) :]
    for start in range(0, 3 * 48, POSITIONS):
        expected = body[: len(rows) - offset - start]
        assert torch.equal(rows[offset + start : offset + start + POSITIONS], expected)
    inputs = batch(teacher.config, 3 * 48)
    assert torch.isfinite(logits(converted, inputs)).all()


def test_keeps_the_reserved_rows():
    teacher = backbone("roberta")
    reserved = teacher.base_model.embeddings.position_embeddings.weight[:2]
    for arch in ("full", "longformer", "lsg", "nystromformer"):
        rows = convert(teacher, arch, MAX_LENGTH).model.base_model.embeddings.position_embeddings
        assert torch.equal(rows.weight[:2], reserved)


@pytest.mark.parametrize("arch", EXACT)
def test_roberta_counts_positions_from_its_padding_id(arch):
    """2 in the published checkpoints, but 1 where the padding id is 0."""
    teacher = backbone("roberta")
    embeddings = teacher.roberta.embeddings
    teacher.config.pad_token_id = embeddings.padding_idx = 0
    teacher.config.bos_token_id = 3
    inputs = batch(teacher.config, 32, (32, 20))
    converted = convert(teacher, arch, MAX_LENGTH, **EXACT[arch][0]).model
    assert_same_where_kept(logits(converted, inputs), logits(teacher, inputs), inputs)


@both_families
@every_arch
def test_reports_every_tensor_of_both_models_once(family, arch):
    teacher = backbone(family)
    converted, report = (conversion := convert(teacher, arch, MAX_LENGTH)).model, conversion.report
    targets = [row.target for row in report if row.target is not None]
    assert sorted(targets) == sorted(converted.state_dict())
    assert {row.source for row in report} - {None} == set(teacher.state_dict())
    actions = Counter(row.action for row in report)
    assert actions.keys() <= {"copied", "tiled", "new", "dropped"}
    expected_new = {"full": 0, "longformer": 18, "bigbird": 2, "lsg": 1, "nystromformer": 3}
    assert actions["new"] == expected_new[arch]
    for row in report:
        if row.action == "copied":
            theirs = teacher.get_parameter(row.source)
            assert torch.equal(converted.get_parameter(row.target), theirs), row
        assert row.why


def test_carries_the_pooler_where_there_is_room_and_drops_the_rest():
    masked_lm = backbone("bert")
    teacher = BertForPreTraining(masked_lm.config).eval()
    big_bird = convert(teacher, "bigbird", MAX_LENGTH)
    assert torch.equal(big_bird.model.bert.pooler.weight, teacher.bert.pooler.dense.weight)
    longformer = convert(teacher, "longformer", MAX_LENGTH)
    dropped = {row.source for row in longformer.report if row.action == "dropped"}
    assert dropped == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    }


@both_families
@every_arch
def test_leaves_the_teacher_alone(family, arch):
    teacher = backbone(family)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    converted = convert(teacher, arch, MAX_LENGTH).model
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.zero_()
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name])


@every_arch
def test_drops_no_attention_probabilities(arch):
    assert (
        convert(backbone("bert"), arch, MAX_LENGTH).model.config.attention_probs_dropout_prob == 0
    )


def test_keeps_dtype_and_mode():
    teacher = backbone("roberta").to(torch.bfloat16).train()
    converted = convert(teacher, "longformer", MAX_LENGTH).model
    assert converted.dtype == torch.bfloat16
    assert converted.training


OPEN_ALL = """
import sys
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
for folder in sys.argv[1:]:
    if folder.endswith("-lsg"):
        import ctd_lib.lsg
    else:
        assert not any(name.startswith("ctd_lib") for name in sys.modules)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.save(model(**tokenizer("a cat", return_tensors="pt")).logits, folder + "/logits.pt")
"""


def test_saved_models_open_in_plain_transformers(tmp_path):
    """LSG, which transformers lacks, is opened last: its module alone must be imported for it."""
    expected = {}
    for arch in ("full", "longformer", "bigbird", "nystromformer", "lsg"):
        for family in FAMILIES:
            teacher, text = backbone(family), tokenizer(family)
            inputs = text("a cat", return_tensors="pt")
            length, settings = MAX_LENGTH, {}
            if arch == "nystromformer":
                length = inputs["input_ids"].shape[1]
                settings = {"num_landmarks": length}
            converted = convert(teacher, arch, length, **settings).model
            folder = tmp_path / f"{family}-{arch}"
            models.save(converted, text, folder)
            expected[folder] = logits(teacher, inputs)
    command = [sys.executable, "-c", OPEN_ALL, *map(str, expected)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    for folder, theirs in expected.items():
        opened = torch.load(folder / "logits.pt")
        torch.testing.assert_close(opened, theirs, rtol=1e-5, atol=2e-5)


def test_an_unknown_tensor_is_an_error():
    teacher = backbone("roberta")
    teacher.roberta.extra = torch.nn.Linear(2, 2)
    with pytest.raises(CtdError, match=r"roberta\.extra\.weight"):
        convert(teacher, "longformer", MAX_LENGTH)


def test_other_families_are_an_error():
    longformer = convert(backbone("roberta"), "longformer", MAX_LENGTH).model
    with pytest.raises(CtdError, match="'longformer' cannot be converted"):
        convert(longformer, "bigbird", MAX_LENGTH)


def test_lsg_needs_to_know_the_first_token():
    teacher = backbone("bert")
    teacher.config.bos_token_id = None
    with pytest.raises(CtdError, match="bos_token_id"):
        convert(teacher, "lsg", MAX_LENGTH)


def test_big_bird_needs_to_know_the_separator():
    teacher = BertForPreTraining(BertConfig(**SIZES))  # not opened by load_backbone
    with pytest.raises(CtdError, match="set sep_token_id to the id"):
        convert(teacher, "bigbird", MAX_LENGTH)
    assert convert(teacher, "longformer", MAX_LENGTH).model.config.sep_token_id is None
    teacher.config.eos_token_id = 3
    assert convert(teacher, "bigbird", MAX_LENGTH).model.config.sep_token_id == 3


@pytest.mark.parametrize(("family", "arch"), [("bert", "longformer"), ("roberta", "bigbird")])
def test_an_activation_that_the_head_would_change_is_an_error(family, arch):
    teacher = backbone(family)
    teacher.config.hidden_act = "relu"
    with pytest.raises(CtdError, match="relu"):
        convert(teacher, arch, MAX_LENGTH)


def test_the_published_geometry_is_the_default_at_base_size():
    assert geometry("full", 768, 4096) == {}
    assert geometry("longformer", 768, 4096) == {"attention_window": 512}
    assert geometry("bigbird", 768, 4096) == {"block_size": 64, "num_random_blocks": 3}
    assert geometry("nystromformer", 768, 4096) == {"num_landmarks": 64, "conv_kernel_size": 65}
    lsg = geometry("lsg", 768, 4096)
    assert (lsg["block_size"], lsg["sparse_block_size"], lsg["sparsity_factor"]) == (128, 128, 2)
    assert (lsg["sparsity_type"], lsg["num_global_tokens"]) == ("norm", 1)
    assert geometry("longformer", 1024, 16384) == {"attention_window": 512}


@pytest.mark.parametrize(
    ("hidden_size", "max_length", "window", "landmarks"),
    [(384, 4096, 256, 32), (768, 1024, 128, 16), (384, 512, 64, 16), (32, 64, 16, 16)],
)
def test_geometry_shrinks_with_the_backbone_and_the_length(
    hidden_size, max_length, window, landmarks
):
    assert geometry("longformer", hidden_size, max_length) == {"attention_window": window}
    nystromformer = geometry("nystromformer", hidden_size, max_length)
    assert nystromformer == {"num_landmarks": landmarks, "conv_kernel_size": landmarks + 1}


def test_a_setting_of_none_is_the_default():
    assert geometry("longformer", 768, 4096, attention_window=None) == {"attention_window": 512}


@pytest.mark.parametrize(
    ("arch", "max_length", "settings", "message"),
    [
        ("reformer", 512, {}, "'reformer' is unknown; take one of full, longformer"),
        ("longformer", 512, {"block_size": 64}, "its settings are: attention_window"),
        ("full", 512, {"block_size": 64}, "its settings are: none"),
        ("longformer", 512, {"attention_window": 33}, "33.*must be even"),
        ("longformer", 512, {"attention_window": 0}, "0.*must be positive"),
        ("longformer", 1000, {"attention_window": 64}, "fits no attention_window.*such as 1024"),
        ("bigbird", 100, {"block_size": 64}, "fits no block_size of 64"),
        ("bigbird", 512, {"num_random_blocks": -1}, "num_random_blocks"),
        ("nystromformer", 100, {"num_landmarks": 64}, "fits no num_landmarks of 64"),
        ("nystromformer", 512, {"conv_kernel_size": 64}, "64; it must be odd"),
        ("lsg", 512, {"sparsity_type": "lsh"}, "'lsh' is unknown; take one of norm"),
        ("lsg", 512, {"sparsity_factor": 3}, "sparsity_factor 3"),
        ("lsg", 512, {"num_global_tokens": 513}, "513.*512"),
        ("longformer", 8, {}, "max_length 8 fits no"),
        ("full", 0, {}, "max_length is 0; it must be positive"),
    ],
)
def test_geometry_refuses_what_does_not_fit(arch, max_length, settings, message):
    with pytest.raises(CtdError, match=message):
        geometry(arch, 384, max_length, **settings)

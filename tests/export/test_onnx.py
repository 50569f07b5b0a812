"""ONNX of every arch and head against torch, as transformers and the fast attention compute it."""

import copy
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_models
from transformers import AutoConfig

from ctd_lib import attention, convert, models
from ctd_lib.attention import bigbird as fast_bigbird
from ctd_lib.errors import CtdError
from ctd_lib.export import graphs, int8, onnx
from ctd_lib.export.graphs import bigbird

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

MAX_LENGTH = 152
GEOMETRY = {
    "full": {},
    "longformer": {"attention_window": 8},
    "bigbird": {"block_size": 4, "num_random_blocks": 2},
    "lsg": {"block_size": 8, "sparse_block_size": 8, "sparsity_factor": 2},
    "nystromformer": {"num_landmarks": 8},
}


def toy(arch: str, family: str = "roberta", **geometry):
    length = toy_models.POSITIONS if arch == "full" else MAX_LENGTH
    chosen = GEOMETRY[arch] | geometry
    model = convert.convert(toy_models.backbone(family), arch, length, **chosen).model.eval()
    return model if attention.installed(model) else attention.install(model)


def shallow(model):
    """One layer, which is exported sooner."""
    del models.layers(model)[1:]
    model.config.num_hidden_layers = 1
    if model.config.model_type == "longformer":
        model.config.attention_window = model.config.attention_window[:1]
    return model


def differences(model, run, lengths=(1, 2, 7, 8, 16, 17, 40, 61, 100, 152)):
    """Largest difference of logits from the model's at tokens that are no padding."""
    for length in lengths:
        if length > models.max_length(model.config):
            continue
        for rows in (1, 3):
            given = onnx.inputs(model, length, rows)
            if length == 40 and "global_attention_mask" in given:
                given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
            with torch.inference_mode():
                expected = model(**given).logits
            kept = given["attention_mask"].bool()
            yield (run(given)[kept] - expected[kept]).abs().max() / expected[kept].std()


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("arch", GEOMETRY)
def test_graphs_equal_the_fast_attention(arch, family):
    model = toy(arch, family)
    graph = graphs.Graph(model)
    with torch.inference_mode():
        assert max(differences(model, lambda given: graph(**given)[0])) < 1e-4


@pytest.mark.parametrize(
    ("arch", "geometry"),
    [
        ("lsg", {"sparsity_type": "pooling"}),
        ("lsg", {"sparsity_type": "none"}),
        ("lsg", {"sparsity_factor": 1}),
        ("lsg", {"sparse_block_size": 4}),
        ("bigbird", {"num_random_blocks": 1}),
        ("bigbird", {"num_random_blocks": 4}),
        ("longformer", {"attention_window": 38}),
    ],
)
def test_graphs_in_other_geometries(arch, geometry):
    model = toy(arch, **geometry)
    graph = graphs.Graph(model)
    with torch.inference_mode():
        assert max(differences(model, lambda given: graph(**given)[0])) < 1e-4


@pytest.fixture(scope="module", params=GEOMETRY)
def exported(request, tmp_path_factory):
    """A model, its file, and how far it is from torch."""
    model, path = shallow(toy(request.param, "bert")), tmp_path_factory.mktemp("onnx") / "a.onnx"
    return model, path, onnx.export(model, path)


@pytest.mark.slow
def test_onnxruntime_equals_torch_at_any_length_batch_and_padding(exported):
    model, path, difference = exported
    assert difference < 1e-4
    session = onnx.Session(path)
    assert "token_type_ids" in session.inputs and session.outputs == ["logits"]
    run = lambda given: torch.from_numpy(session(given)["logits"])  # noqa: E731
    assert max(differences(model, run)) < 1e-4


@pytest.mark.slow
def test_check_sees_another_models_file(exported):
    model, path, _ = exported
    other = copy.deepcopy(model)
    torch.nn.init.normal_(models.layers(other)[0].attention.self.value.weight)
    assert onnx.check(other, path) > onnx.TOLERANCE


def headed(arch: str, head: str, folder: Path):
    """A model with a head of random weights."""
    models.save(shallow(toy(arch)), toy_models.tokenizer("roberta"), folder)
    torch.manual_seed(0)
    return models.load(folder, head)


@pytest.mark.parametrize("head", models.HEADS)
@pytest.mark.parametrize("arch", GEOMETRY)
def test_graphs_of_every_head_equal_torch(arch, head, tmp_path):
    model = headed(arch, head, tmp_path)
    graph, ours = graphs.Graph(model), onnx.as_compared(model)
    for length in (3, 30, 61):
        given = onnx.inputs(model, min(length, models.max_length(model.config)), rows=2)
        kept = given["attention_mask"].bool()
        with torch.inference_mode():
            expected, found = ours(**given), graph(**given)
        for name, output in zip(graphs.output_names(model), found, strict=True):
            right, output = onnx.comparable(expected[name], output, kept)
            torch.testing.assert_close(output, right, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["base", "question-answering", "sequence-classification"])
def test_heads_in_onnxruntime(head, tmp_path):
    """The archs' own layers are in files of the tests above."""
    assert onnx.export(headed("full", head, tmp_path), tmp_path / "model.onnx") < 1e-4


@pytest.mark.parametrize(("positions", "random"), [(1024, 3), (3072, 1), (640, 3)])
def test_big_birds_tables_are_its_patterns(positions, random):
    """Lengths of the paper's own rule among them, and those where everyone sees everyone."""
    config = AutoConfig.for_model(
        "big_bird", max_position_embeddings=positions, block_size=64, num_random_blocks=random,
        num_attention_heads=2,
    )  # fmt: skip
    drawn, chosen = bigbird.tables(config, layer=1)
    for count in range(3, positions // 64 + 1):
        seen = torch.eye(count, dtype=torch.bool).repeat(2, 1, 1)
        seen |= seen.roll(1, 1) | seen.roll(-1, 1)
        seen[:, [0, -1]] = seen[:, :, [0, -1]] = True
        table = drawn[chosen[count]][:, :count]
        for head, row in torch.cartesian_prod(torch.arange(2), torch.arange(1, count - 1)):
            extra = table[head, row]
            extra = extra[extra != bigbird.NONE]
            assert not seen[head, row, extra].any()
            seen[head, row, extra] = True
        assert torch.equal(seen, fast_bigbird.block_pattern(config, count, 1))


def test_what_differs_from_torch_is_refused_and_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *_, f, **options: Path(f).touch())
    monkeypatch.setattr(onnx, "check", lambda model, path: 0.5)
    with pytest.raises(CtdError, match="differs from torch by 5"):
        onnx.export(shallow(toy("full")), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [float("nan"), 100.0])
def test_outputs_that_are_no_numbers_or_far_off_are_seen(monkeypatch, wrong):
    """A single number, as of a regression at batch 1, has no standard deviation to go by."""
    model = shallow(toy("full"))

    class Broken:
        def __init__(self, path):
            pass

        def __call__(self, given):
            with torch.inference_mode():
                right = model(**given)
            right = {"logits": right.logits} if "logits" in right else dict(right)
            return {name: (x + wrong).numpy() for name, x in right.items()}

    monkeypatch.setattr(onnx, "Session", Broken)
    assert not onnx.check(model, None) <= onnx.TOLERANCE
    if wrong != wrong:
        assert not int8._agreement(model, None) >= int8.LEAST_AGREEMENT


def test_differences_show_beside_scores_that_rule_tokens_out(monkeypatch, tmp_path):
    """Big Bird's head for questions puts the question's tokens at -1e6."""
    model, _, _ = question_answering("roberta", tmp_path)

    class Broken:
        def __init__(self, path):
            pass

        def __call__(self, given):
            with torch.inference_mode():
                right = onnx.as_compared(model)(**given)
            scores = {name: right[name] for name in ("start_logits", "end_logits")}
            return {
                name: torch.where(x <= onnx.RULED_OUT, x, torch.randn_like(x)).numpy()
                for name, x in scores.items()
            }

    monkeypatch.setattr(onnx, "Session", Broken)
    assert onnx.check(model, None) > 0.1
    assert int8._agreement(model, None) < int8.LEAST_AGREEMENT


def test_a_model_in_training_is_compared_in_evaluation_and_left_as_it_is(monkeypatch):
    """With dropout and half the precision it would not be what the file computes."""
    model = attention.uninstall(shallow(toy("longformer"))).bfloat16()
    exact = copy.deepcopy(model).float().eval()
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5

    class Right:
        def __init__(self, path):
            pass

        def __call__(self, given):
            with torch.inference_mode():
                return {"logits": exact(**given).logits.numpy()}

    monkeypatch.setattr(onnx, "Session", Right)
    monkeypatch.setattr(onnx, "LENGTHS", (3, 40))
    assert onnx.check(model, None) < 1e-4
    assert int8._agreement(model, None) > 0.999
    assert model.training and model.dtype == torch.bfloat16 and not attention.installed(model)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_could_not_be_checked_is_deleted(tmp_path, monkeypatch, error):
    def fail(*given):
        raise error

    path, small = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    monkeypatch.setattr(torch.onnx, "export", lambda *_, f, **options: Path(f).touch())
    monkeypatch.setattr(onnx, "check", fail)
    with pytest.raises(error):
        onnx.export(shallow(toy("full")), path)
    assert not path.exists()
    quantization = pytest.importorskip("onnxruntime.quantization")
    monkeypatch.setattr(quantization, "quantize_dynamic", lambda _, target, **o: target.touch())
    monkeypatch.setattr(int8, "_stacked", lambda path: [])
    monkeypatch.setattr(int8, "_agreement", fail)
    with pytest.raises(error):
        int8.quantise(None, path, small)
    assert not small.exists()


def question_answering(family, folder):
    """Big Bird with token types that differ, as after finetuning; and what is asked of it."""
    text = toy_models.tokenizer(family)
    models.save(shallow(toy("bigbird", family)), text, folder)
    torch.manual_seed(0)
    model = models.load(folder, "question-answering")
    torch.nn.init.normal_(models.encoder(model).embeddings.token_type_embeddings.weight)
    given = text(["abc", "ab"], ["d e f g h i", "k l"], padding=True, return_tensors="pt")
    # RoBERTa's tokenizer gives no token types, BERT's those that the head makes by itself.
    assert ("token_type_ids" in given) == (family == "bert")
    with torch.inference_mode():
        return model, given, model(**given)


def assert_same_spans(found, expected, given):
    kept = given["attention_mask"].bool()
    for ours, name in zip(found, ("start_logits", "end_logits"), strict=True):
        torch.testing.assert_close(ours[kept], expected[name][kept], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_big_birds_questions_are_told_from_contexts_as_in_torch(family, tmp_path):
    model, given, expected = question_answering(family, tmp_path)
    names = graphs.input_names(model)
    assert names == ["input_ids", "attention_mask"]
    with torch.inference_mode():
        found = graphs.Graph(model)(**{name: given[name] for name in names})
    assert_same_spans(found, expected, given)


def test_a_check_of_question_answering_asks_a_question(tmp_path):
    model, _, _ = question_answering("roberta", tmp_path)
    for length in (1, 3, 152):
        ids = onnx.inputs(model, length, rows=2)["input_ids"]
        assert (ids[:, length // 3] == model.config.sep_token_id).all()


@pytest.mark.slow
def test_onnxruntime_tells_questions_from_contexts_as_torch(tmp_path):
    model, given, expected = question_answering("roberta", tmp_path)
    assert onnx.export(model, tmp_path / "model.onnx") < 1e-4
    found = onnx.Session(tmp_path / "model.onnx")(given)
    assert_same_spans(map(torch.from_numpy, found.values()), expected, given)


def test_no_thread_works_on_after_a_forward(tmp_path):
    """Whatever is timed next would share the cores with threads that wait for more work."""
    from onnx import TensorProto, helper, numpy_helper

    numbers = np.ones((512, 512), dtype=np.float32)
    product = helper.make_node("MatMul", ["input_ids", "numbers"], ["logits"])
    ends = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (512, 512))
        for name in ("input_ids", "logits")
    )
    weights = [numpy_helper.from_array(numbers, "numbers")]
    graph = helper.make_graph([product], "product", *([end] for end in ends), weights)
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, ir_version=10, opset_imports=[opset])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    session = onnx.Session(tmp_path / "model.onnx", threads=2)
    session({"input_ids": torch.ones(512, 512)})
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.02


def test_a_mask_of_global_attention_is_asked_for():
    session = object.__new__(onnx.Session)
    session.inputs = ["input_ids", "attention_mask", "global_attention_mask"]
    with pytest.raises(CtdError, match="takes global_attention_mask, which is not given"):
        session({"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2)})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(CtdError, match=r"needs the package onnxscript; .*\[export\]"):
        onnx.require()

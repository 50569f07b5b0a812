"""Finetuning of toy models on one small task of each family."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from torch import nn
from toy_models import tokenizer as toy_tokenizer
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BigBirdConfig,
    BigBirdForTokenClassification,
    LongformerConfig,
    LongformerForQuestionAnswering,
    NystromformerConfig,
    NystromformerForTokenClassification,
)

from ctd_lib import attention, finetune, tasks
from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.tasks.classification import Text
from ctd_lib.tasks.tagging import TaggedText

TOKENIZER = toy_tokenizer("bert")  # every letter is a token
SIZES = dict(
    vocab_size=len(TOKENIZER), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=48, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0, bos_token_id=2, sep_token_id=3,
)  # fmt: skip


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("abcdefgh", k=rng.randint(1, 4))) for _ in range(count)]


def texts(rng):
    label = rng.randint(0, 1)
    return Text(" ".join([*words(rng, rng.randint(1, 6)), *("x" * 6 * label)]), None, label)


def scored_texts(rng):
    score = rng.randint(0, 6)
    return Text(" ".join([*words(rng, 3), *("x" * score)]), None, score / 2)


def tagged_texts(rng):
    found = [rng.choice([word, "zz"]) for word in words(rng, rng.randint(1, 8))]
    return TaggedText("", tuple(found), tuple("B-PER" if w == "zz" else "O" for w in found))


def questions(rng):
    before, after = (" ".join(words(rng, rng.randint(1, 4))) for _ in range(2))
    answer = rng.choice("xyz")
    return Question("", "", f"{before} {answer} {after}", "w", ((answer, len(before) + 1),))


def data(family: str, make, labels: tuple[str, ...], main_metric: str, train: int = 96):
    rng = random.Random(0)
    return tasks.TaskData(
        name="toy", family=family, labels=labels, train=[make(rng) for _ in range(train)],
        test=[make(rng) for _ in range(30)], source="synthetic:toy", synthetic=True,
        main_metric=main_metric, max_length=48, licence="",
    )  # fmt: skip


TASKS = {
    "classification": (
        BertForSequenceClassification,
        data("classification", texts, ("no", "yes"), "accuracy"),
    ),
    "regression": (
        BertForSequenceClassification,
        data("classification", scored_texts, (), "spearman"),
    ),
    "tagging": (
        BertForTokenClassification,
        data("tagging", tagged_texts, ("O", "B-PER", "I-PER"), "entity_f1"),
    ),
    "span-qa": (BertForQuestionAnswering, data("span-qa", questions, (), "f1")),
}


def toy(name: str):
    torch.manual_seed(0)
    model_class, task = TASKS[name]
    outputs = {"num_labels": len(task.labels) or 1} if name != "span-qa" else {}
    return model_class(BertConfig(**SIZES, **outputs)).eval(), task


@pytest.mark.parametrize("name", TASKS)
def test_every_family_learns(name, tmp_path):
    model, task = toy(name)
    result = finetune.finetune(
        model, task, TOKENIZER, epochs=8, lr=3e-3, batch_size=8, max_length=48,
        log_path=tmp_path / "steps.csv",
    )  # fmt: skip
    assert result.scores[task.main_metric] > 0.9
    assert len(result.predictions) == 30
    assert result.scores == tasks.family(task).score(result.predictions, task.test)
    assert len(result.log) == 8 * 12
    assert result.counts["train_examples"] == 96 and result.counts["test_examples"] == 30
    assert result.counts["truncated_examples"] == result.counts["lost_labels"] == 0


@pytest.mark.parametrize("name", ["classification", "tagging", "span-qa"])
def test_predictions_equal_one_example_at_a_time(name):
    model, task = toy(name)
    result = finetune.finetune(
        model, task, TOKENIZER, epochs=1, lr=1e-3, batch_size=7, max_length=48
    )
    family = tasks.family(task)
    features = family.encode(task.test, TOKENIZER, 48, task.labels)
    with torch.no_grad():
        outputs = [
            model(**family.collate([feature], TOKENIZER.pad_token_id)) for feature in features
        ]
    assert result.predictions == family.decode(features, outputs, task.test, task.labels)


def test_long_examples_are_cut_to_the_model_and_counted():
    model, task = toy("tagging")
    long = TaggedText("", ("ab",) * 40, ("O",) * 39 + ("B-PER",))
    task = tasks.TaskData(**(vars(task) | {"train": [*task.train[:8], long], "test": [long]}))
    result = finetune.finetune(
        model, task, TOKENIZER, epochs=1, lr=1e-3, batch_size=4, max_length=4096
    )
    # 48 positions hold the first token, 23 words of two letters, and the last token.
    assert result.counts == {
        "train_examples": 9, "test_examples": 1, "max_length": 48,
        "truncated_examples": 1, "lost_labels": 17,
        "train_truncated_examples": 1, "train_lost_labels": 17,
        "entities": 1, "read_entities": 0,
    }  # fmt: skip
    assert result.upper_bounds == {"entity_recall": 0.0, "entity_f1": 0.0}
    assert len(result.predictions[0]) == 40


def test_global_attention_reaches_the_archs_that_have_it(monkeypatch):
    seen = {}
    _, task = toy("span-qa")
    config = LongformerConfig(**SIZES, attention_window=8, pad_token_id=0)
    for model in (LongformerForQuestionAnswering(config), toy("span-qa")[0]):

        def spy(*arguments, _model=model, _forward=model.forward, **inputs):
            seen.setdefault(type(_model).__name__, []).append(set(inputs))
            return _forward(*arguments, **inputs)

        monkeypatch.setattr(model, "forward", spy)
        # 46 positions: Longformer keeps two for padding.
        finetune.finetune(model, task, TOKENIZER, epochs=1, lr=1e-3, batch_size=32, max_length=46)
    longformer, bert = (
        seen[name] for name in ("LongformerForQuestionAnswering", "BertForQuestionAnswering")
    )
    assert all("global_attention_mask" in inputs for inputs in longformer)
    assert not any("global_attention_mask" in inputs for inputs in bert)
    # Three batches train with the answers, the one of the test is made without.
    assert ["start_positions" in inputs for inputs in bert] == [True, True, True, False]


def test_buckets_hold_every_feature_once_and_pad_little():
    rng = random.Random(0)
    features = [{"input_ids": [0] * rng.randint(1, 500), "number": n} for n in range(1000)]
    epochs = [list(finetune.bucketed(features, 8, random.Random(seed))) for seed in (1, 1, 2)]
    assert epochs[0] == epochs[1] != epochs[2]
    batches = epochs[0]
    assert sorted(f["number"] for batch in batches for f in batch) == list(range(1000))
    assert all(len(batch) <= 8 for batch in batches) and len(batches) == 125
    lengths = [[len(f["input_ids"]) for f in batch] for batch in batches]
    assert sum(len(batch) * max(batch) for batch in lengths) < 1.1 * sum(map(sum, lengths))
    # The longest do not come together.
    means = [sum(batch) / len(batch) for batch in lengths]
    assert means != sorted(means)


def test_the_seed_decides_the_order():
    losses = []
    for seed in (1, 1, 2):
        model, task = toy("classification")
        result = finetune.finetune(
            model, task, TOKENIZER, epochs=1, lr=1e-3, batch_size=8, max_length=48, seed=seed
        )
        losses.append([row["loss"] for row in result.log])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 8), (3, 3), (4, 2)])
def test_accumulation_trains_on_every_batch_of_every_epoch(accumulation, steps):
    model, task = toy("classification")
    task = replace(task, train=task.train[:29], test=task.test[:4])  # 4 batches an epoch
    settings = {"epochs": 2, "lr": 1e-3, "batch_size": 8, "max_length": 48}
    log = finetune.finetune(model, task, TOKENIZER, accumulation=accumulation, **settings).log
    tokens = sum(len(f["input_ids"]) for f in finetune.encode(task, TOKENIZER, 48).train)
    assert (len(log), log.tokens) == (steps, 2 * tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tokens_per_update": 64}, "give accumulation instead"),
     ({"accumulation": 0}, "accumulation is 0")],
)  # fmt: skip
def test_updates_that_finetuning_cannot_count(options, message):
    model, task = toy("classification")
    settings = {"epochs": 1, "lr": 1e-3, "batch_size": 8, "max_length": 48}
    with pytest.raises(CtdError, match=message):
        finetune.finetune(model, task, TOKENIZER, **settings, **options)


def test_scoring_knows_its_precisions():
    model, task = toy("classification")
    with pytest.raises(CtdError, match="precision 'bf16' is unknown; use one of float32, bfloat16"):
        finetune.score(model, task, TOKENIZER, batch_size=8, max_length=48, precision="bf16")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_have_no_score(name, bad):
    model, task = toy(name)
    nn.init.constant_(list(model.parameters())[-1], bad)  # the bias of its head
    with pytest.raises(CtdError, match="answers on the test part are not finite numbers"):
        finetune.score(model, task, TOKENIZER, batch_size=8, max_length=48)


def longformer():
    config = LongformerConfig(**SIZES, attention_window=8, pad_token_id=0)
    torch.manual_seed(0)
    return LongformerForQuestionAnswering(config).eval()


@pytest.mark.parametrize(
    ("chosen", "counts"), [(None, {2}), ("question", {2}), ("first", {1}), ("none", {0})]
)
def test_the_policy_decides_who_has_global_attention(chosen, counts, monkeypatch):
    model, (_, task) = longformer(), TASKS["span-qa"]
    seen, forward = set(), model.forward

    def spy(*arguments, **inputs):
        seen.update(inputs["global_attention_mask"].sum(1).tolist())
        return forward(*arguments, **inputs)

    monkeypatch.setattr(model, "forward", spy)
    task = tasks.TaskData(**(vars(task) | {"train": task.train[:8], "test": task.test[:4]}))
    result = finetune.finetune(
        model, task, TOKENIZER, epochs=1, lr=1e-3, batch_size=8, max_length=46,
        global_attention=chosen,
    )  # fmt: skip
    # The first token and the question of one letter.
    assert seen == counts
    assert result.global_attention == (chosen or "question")


def test_archs_with_global_attention_built_in_have_no_choice():
    model, task = toy("classification")
    settings = {"epochs": 1, "lr": 1e-3, "batch_size": 64, "max_length": 48}
    with pytest.raises(CtdError, match="cannot be chosen for arch full"):
        finetune.finetune(model, task, TOKENIZER, global_attention="first", **settings)
    result = finetune.finetune(model, task, TOKENIZER, **settings)
    assert result.global_attention == "every token attends to every token"


def test_what_has_nothing_to_learn_from_is_not_trained_on():
    model, (_, task) = toy("span-qa")[0], TASKS["span-qa"]
    lost = [replace(q, answers=(), accepted=("x",)) for q in task.train[:10]]
    task = tasks.TaskData(**(vars(task) | {"train": [*lost, *task.train[:6]]}))
    settings = {"epochs": 2, "lr": 1e-3, "batch_size": 6, "max_length": 48}
    result = finetune.finetune(model, task, TOKENIZER, **settings)
    assert len(result.log) == 2
    assert result.counts["train_examples"] == 16 and result.counts["train_lost_labels"] == 10
    task = tasks.TaskData(**(vars(task) | {"train": lost}))
    with pytest.raises(CtdError, match="no training example has its label in the first 48 tokens"):
        finetune.finetune(model, task, TOKENIZER, **settings)


@pytest.mark.parametrize("name", TASKS)
def test_a_student_comes_closer_to_its_teacher_with_its_answers(name):
    settings = {"lr": 3e-3, "batch_size": 8, "max_length": 48}
    teacher, task = toy(name)
    few = tasks.TaskData(**(vars(task) | {"train": task.train[:32]}))
    finetune.finetune(teacher, task, TOKENIZER, epochs=4, **settings)
    gaps = []
    for with_teacher in (True, False):
        torch.manual_seed(1)
        student = type(teacher)(teacher.config)
        log = finetune.finetune(
            student, few, TOKENIZER, epochs=4, teacher=teacher if with_teacher else None,
            task_distill_weight=10.0, **settings,
        ).log  # fmt: skip
        if with_teacher:
            assert log[0]["loss"] == pytest.approx(
                log[0]["task"] + 10 * log[0]["task_distill"], rel=1e-4
            )
        family = tasks.family(task)
        features = family.encode(task.test, TOKENIZER, 48, task.labels)
        batch = family.collate(features, TOKENIZER.pad_token_id)
        with torch.no_grad():
            ours, theirs = (model.eval()(**batch) for model in (student, teacher))
        gaps.append(finetune.task_distill_loss(ours, theirs, batch, task.family))
    assert gaps[0] < gaps[1]


def public_toys():
    """Models whose public implementation computes something else, with what it computes as oracle.

    Nystromformer's is full attention by as many landmarks as segment means.
    """
    sizes = SIZES | {"max_position_embeddings": 128, "initializer_range": 0.5}
    bigbird = BigBirdForTokenClassification(BigBirdConfig(**sizes, block_size=4))
    landmarks = {"num_landmarks": 4, "segment_means_seq_len": 96, "conv_kernel_size": 5}
    nystromformer = NystromformerForTokenClassification(NystromformerConfig(**sizes | landmarks))
    full = copy.deepcopy(nystromformer)
    for module in full.modules():
        if hasattr(module, "num_landmarks"):
            module.num_landmarks = module.seq_len
    return {"bigbird": (bigbird, copy.deepcopy(bigbird)), "nystromformer": (nystromformer, full)}


@pytest.mark.parametrize("arch", ["bigbird", "nystromformer"])
@torch.no_grad()
def test_as_public_is_what_transformers_computes_and_ends(arch):
    torch.manual_seed(0)
    model, public = (m.eval() for m in public_toys()[arch])
    ids = torch.randint(5, len(TOKENIZER), (2, 96))
    attention.install(model)
    ours = model(ids).logits
    with finetune.as_public(model):
        torch.testing.assert_close(model(ids).logits, public(ids).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, public(ids).logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(ids).logits, ours)

"""Resampled scores equal the metrics on the resampled examples; intervals behave as they should."""

import dataclasses
import time

import numpy as np
import pytest

from ctd_lib import tasks
from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.scores import bootstrap, official
from ctd_lib.scores.predictions import Predictions
from ctd_lib.tasks.classification import Text
from ctd_lib.tasks.tagging import TaggedText

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ANSWERS = ["the cat", "a dog", "cat dog", "yes", "no", "red cat", ""]


def classes(rng, count, accuracy=0.7):
    gold = rng.integers(3, size=count)
    predicted = np.where(rng.random(count) < accuracy, gold, rng.integers(3, size=count))
    return examples_of("classification", gold.tolist(), predicted.tolist(), kinds=rng)


def binary(rng, count, accuracy=0.7):
    gold = rng.integers(2, size=count)
    predicted = np.where(rng.random(count) < accuracy, gold, 1 - gold)
    return examples_of("classification", gold.tolist(), predicted.tolist(), kinds=rng)


def numbers(rng, count, accuracy=0.7):
    gold = rng.integers(6, size=count).astype(float)
    predicted = np.round(gold + rng.normal(size=count) / accuracy, 1)
    return examples_of("classification", gold.tolist(), predicted.tolist(), "spearman")


def answers(rng, count, accuracy=0.7):
    gold = [[ANSWERS[i], ANSWERS[j]] for i, j in rng.integers(len(ANSWERS), size=(count, 2))]
    guessed = [ANSWERS[i] for i in rng.integers(len(ANSWERS), size=count)]
    right = rng.random(count) < accuracy
    predicted = [g[0] if r else p for g, p, r in zip(gold, guessed, right, strict=True)]
    return examples_of("span-qa", gold, predicted, "f1", "hotpotqa", kinds=rng)


def documents(rng, count, accuracy=0.7):
    gold = [[TAGS[i] for i in rng.integers(5, size=12)] for _ in range(count)]
    predicted = [
        [tag if rng.random() < accuracy else TAGS[rng.integers(5)] for tag in tags] for tags in gold
    ]
    sides = ([[[*e, 0] for e in official.entities(tags)] for tags in s] for s in (gold, predicted))
    made, *_ = examples_of("tagging", *sides, "entity_f1")
    return made, gold, predicted


def examples_of(family, gold, predicted, main_metric="accuracy", rules="", kinds=None):
    rows = [{"gold": g, "predicted": p, "tokens": 5} for g, p in zip(gold, predicted, strict=True)]
    for row in rows:
        row["kind"] = str(kinds.integers(2)) if kinds is not None else ""
    return Predictions("toy", family, main_metric, rules, rows), gold, predicted


def scores(made: Predictions, gold, predicted, rows) -> dict:
    """By the task's own family, on the examples of some rows."""
    kinds = [made.examples[row]["kind"] for row in rows] if made.family != "tagging" else []
    if made.family == "tagging":
        examples = [TaggedText("", ("w",) * 12, tuple(gold[row])) for row in rows]
    elif made.family == "span-qa":
        examples = [
            Question("", "", "", "", (), accepted=tuple(gold[row]), kind=kind, rules=made.rules)
            for row, kind in zip(rows, kinds, strict=True)
        ]
    else:
        examples = [Text("", None, gold[row], kind) for row, kind in zip(rows, kinds, strict=True)]
    return tasks.family(made.family).score([predicted[row] for row in rows], examples)


@pytest.mark.parametrize("make", [classes, binary, numbers, answers, documents])
def test_every_score_of_a_resample_is_that_of_its_examples(make):
    rng = np.random.default_rng(0)
    made, gold, predicted = make(rng, 40)
    for _ in range(4):
        rows = rng.integers(40, size=40)
        weights = np.bincount(rows, minlength=40)[None].astype(float)
        wanted = scores(made, gold, predicted, rows)
        assert len(wanted) >= 2
        for name, value in wanted.items():
            assert bootstrap.scorer(made, name)(weights) == pytest.approx([value]), name


def test_constant_sides_score_zero_as_the_metrics_do():
    for made, names in (
        (examples_of("classification", [1, 1], [0, 0])[0], ("matthews_correlation", "f1")),
        (examples_of("classification", [1.5, 1.5], [0.1, 0.3])[0], ("pearson", "spearman")),
        (examples_of("tagging", [[]], [[]])[0], ("entity_f1", "entity_recall")),
    ):
        for name in names:
            assert bootstrap.scorer(made, name)(np.ones((1, len(made.examples)))) == [0.0]


def test_intervals_against_the_binomial_one():
    rng = np.random.default_rng(1)
    (teacher, gold, right), count = binary(rng, 2000, 0.9), 2000
    student = examples_of("classification", gold, [1 - g for g in gold])[0]
    found = bootstrap.compare([teacher], [student])
    accuracy = np.mean(np.equal(gold, right))
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / count)
    assert found.teacher.value == pytest.approx(accuracy)
    assert found.teacher.low == pytest.approx(accuracy - half, abs=0.15 * half)
    assert found.teacher.high == pytest.approx(accuracy + half, abs=0.15 * half)
    assert found.student == (0, 0, 0) and found.retention == (0, 0, 0)
    assert found.difference.value == pytest.approx(-accuracy) and found.difference.high < 0


def test_pairing_makes_a_like_student_certain_and_an_equal_one_inconclusive():
    rng = np.random.default_rng(2)
    teacher, gold, predicted = binary(rng, 500, 0.8)
    wrong = [n for n in range(500) if gold[n] == predicted[n]][:15]
    worse = [1 - p if n in wrong else p for n, p in enumerate(predicted)]
    student = examples_of("classification", gold, worse)[0]
    paired = bootstrap.compare([teacher], [student])
    assert paired.difference.value == pytest.approx(-0.03)
    # Unpaired, the standard deviation of the difference would be about 0.026.
    assert paired.difference.high - paired.difference.low < 0.04 and paired.difference.high < 0
    same = bootstrap.compare([teacher], [teacher])
    assert same.difference == (0, 0, 0) and same.retention == (100, 100, 100)
    again = bootstrap.compare([teacher], [student], seed=0)
    assert again.difference == paired.difference


def test_seeds_widen_the_interval_where_they_disagree():
    rng = np.random.default_rng(3)
    teacher, gold, predicted = binary(rng, 400, 0.8)
    bad = examples_of("classification", gold, [1 - g for g in gold])[0]
    agree = bootstrap.compare([teacher] * 2, [teacher] * 2)
    disagree = bootstrap.compare([teacher] * 2, [teacher, bad])
    assert agree.difference == (0, 0, 0) and agree.seeds == 2
    assert disagree.student.value == pytest.approx(np.mean(np.equal(gold, predicted)) / 2)
    assert disagree.difference.low < -0.7 and disagree.difference.high == 0


def test_seeds_are_drawn_together_and_as_many_as_there_are():
    rng = np.random.default_rng(6)
    gold = [0, 1] * 500
    shares = (0.5, 0.7, 0.9)
    made = [
        examples_of("classification", gold, [g if rng.random() < s else 1 - g for g in gold])[0]
        for s in shares
    ]
    found = bootstrap.compare(made, made)
    assert found.difference == (0, 0, 0)  # the same seeds of both
    # The mean of three drawn seeds: standard deviation of the three, over the root of three.
    assert found.first.drawn.std() == pytest.approx(np.std(shares) / np.sqrt(3), rel=0.1)


def test_a_teacher_that_may_score_nothing_has_no_interval_of_retention():
    teacher = examples_of("classification", [1, 1, 0], [1, 0, 1])[0]
    found = bootstrap.compare([teacher], [teacher])
    assert found.retention.value == 100 and np.isnan(found.retention.low)


@pytest.mark.parametrize("make", [binary, numbers, answers, documents])
def test_a_thousand_resamples_of_squad_size_take_little_time(make):
    made = make(np.random.default_rng(0), 2000)[0]
    started = time.process_time()
    bootstrap.compare([made], [made])
    assert time.process_time() - started < 1


def test_what_cannot_be_compared():
    rng = np.random.default_rng(4)
    one, other = binary(rng, 10)[0], binary(rng, 10)[0]
    with pytest.raises(CtdError, match="different test examples"):
        bootstrap.compare([one], [other])
    with pytest.raises(CtdError, match="one of each a seed"):
        bootstrap.compare([one], [one, one])
    for name in ("entity_f1", "accuracy_nowhere", "recall"):
        with pytest.raises(CtdError, match=f"no score '{name}'"):
            bootstrap.compare([one], [one], name)


def on_documents(made, sizes):
    """The predictions with so many examples on each document."""
    numbers = np.repeat(np.arange(len(sizes)), sizes).tolist()
    rows = [e | {"document": n} for e, n in zip(made.examples, numbers, strict=True)]
    return dataclasses.replace(made, examples=rows)


def test_a_document_is_drawn_with_all_of_its_questions():
    rng, sizes = np.random.default_rng(7), [1, 4, 2, 5]
    document = bootstrap.document_of(on_documents(answers(rng, 12)[0], sizes))
    (weights,) = bootstrap.draws(document, 50, 0)
    assert weights.shape == (50, 12)
    (drawn,) = bootstrap.draws(np.arange(4), 50, 0)
    np.testing.assert_array_equal(weights, np.repeat(drawn, sizes, axis=1))
    assert (drawn.sum(1) == 4).all()


def test_questions_that_rise_and_fall_together_are_as_one():
    """Ten questions a document, all right or all wrong: as sure as one question a document."""
    rng = np.random.default_rng(8)
    right = rng.integers(2, size=40)
    one = examples_of("classification", [1] * 40, right.tolist())[0]
    ten = examples_of("classification", [1] * 400, np.repeat(right, 10).tolist())[0]
    apart, together = (
        bootstrap.compare([made], [made]) for made in (one, on_documents(ten, [10] * 40))
    )
    assert together.teacher == pytest.approx(apart.teacher)
    assert (together.examples, together.documents, apart.documents) == (400, 40, 40)
    independent = bootstrap.compare([ten], [ten])
    width, narrow = (x.teacher.high - x.teacher.low for x in (together, independent))
    assert width == pytest.approx(narrow * np.sqrt(10), rel=0.15)


def test_cells_of_more_and_of_fewer_seeds_draw_the_same_examples():
    rng = np.random.default_rng(9)
    teacher, student = (classes(rng, 60)[0] for _ in range(2))
    student = dataclasses.replace(student, examples=[
        e | {"gold": t["gold"]} for e, t in zip(student.examples, teacher.examples, strict=True)
    ])  # fmt: skip
    one = bootstrap.compare([teacher], [student], resamples=250)
    three = bootstrap.compare([teacher] * 3, [student] * 3, resamples=250)
    np.testing.assert_allclose(three.kept.drawn, one.kept.drawn)

"""Every metric against an outside implementation, or against the official rules told again."""

import re
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import seqeval.scheme
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd_lib.scores import metrics, official

CLASSES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
TAGGED = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=12), min_size=1, max_size=5)


def _score(metric, pairs):
    predictions, references = zip(*pairs, strict=True)
    return metric.compute(predictions=list(predictions), references=list(references))


@given(CLASSES)
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore:A single label")
def test_class_scores_equal_scikit_learn(pairs):
    predictions, references = zip(*pairs, strict=True)
    assert _score(metrics.Accuracy(), pairs)["accuracy"] == pytest.approx(
        sklearn.metrics.accuracy_score(references, predictions)
    )
    assert _score(metrics.F1(), pairs)["f1"] == pytest.approx(
        sklearn.metrics.f1_score(references, predictions, zero_division=0)
    )
    assert _score(metrics.MatthewsCorrelation(), pairs)["matthews_correlation"] == pytest.approx(
        sklearn.metrics.matthews_corrcoef(references, predictions)
    )


def test_matthews_correlation_of_three_classes_equals_scikit_learn():
    predictions, references = [0, 1, 2, 2, 1, 0, 2], [0, 2, 2, 2, 1, 1, 0]
    found = metrics.MatthewsCorrelation().compute(predictions=predictions, references=references)
    wanted = sklearn.metrics.matthews_corrcoef(references, predictions)
    assert found["matthews_correlation"] == pytest.approx(wanted)


def test_matthews_correlation_of_more_examples_than_integers_hold():
    references = np.tile([0, 1], 70_000)
    predictions = np.where(np.arange(len(references)) % 10 == 0, 1 - references, references)
    found = metrics.MatthewsCorrelation().compute(predictions=predictions, references=references)
    wanted = sklearn.metrics.matthews_corrcoef(references, predictions)
    assert found["matthews_correlation"] == pytest.approx(wanted)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=30))
@settings(max_examples=25, deadline=None)
def test_correlations_equal_scipy_with_ties(pairs):
    left, right = ([float(x) for x in side] for side in zip(*pairs, strict=True))
    found = _score(metrics.PearsonSpearman(), pairs)
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert found == {"pearson": 0.0, "spearman": 0.0}
    else:
        assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(left, right).statistic)
        assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(left, right).statistic)


@given(TAGGED)
@settings(max_examples=80, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_entity_f1_equals_strict_seqeval_on_any_tags(documents):
    predictions = [[predicted for predicted, _ in document] for document in documents]
    references = [[true for _, true in document] for document in documents]
    found = metrics.EntityF1().compute(predictions=predictions, references=references)
    report = seqeval.metrics.classification_report(
        references, predictions, mode="strict", scheme=seqeval.scheme.IOB2, output_dict=True,
        zero_division=0,
    )  # fmt: skip
    micro = report["micro avg"]
    assert found["entity_precision"] == pytest.approx(micro["precision"])
    assert found["entity_recall"] == pytest.approx(micro["recall"])
    assert found["entity_f1"] == pytest.approx(micro["f1-score"])
    for kind in {"PER", "LOC"} & set(report):
        assert found[f"entity_f1_{kind}"] == pytest.approx(report[kind]["f1-score"])


def test_entities_do_not_reach_over_documents():
    found = metrics.EntityF1().compute(
        predictions=[["B-PER"], ["I-PER"]], references=[["B-PER"], ["B-PER"]]
    )
    assert found["entity_f1"] == pytest.approx(2 / 3)


# Prediction, accepted answers, exact match, F1: each by the rules of SQuAD 1.1, worked out by hand.
SQUAD_CASES = [
    ("The Norman Conquest", ["norman conquest"], 1, 1),
    ("a cat, an ant", ["cat ant"], 1, 1),
    ("theatre", ["the atre"], 0, 0),
    ("24\u201310", ["24-10"], 0, 0),  # an en dash is no ASCII punctuation
    ("U.S.", ["US"], 1, 1),
    ("café", ["Café"], 1, 1),
    ("cafe", ["café"], 0, 0),
    ("", ["something"], 0, 0),
    ("the", ["a"], 1, 0),  # nothing is left of both: they match, but share no word
    ("new york city", ["york", "New York"], 0, 0.8),
    ("in the year 1066", ["1066"], 0, 0.5),
    ("red red blue", ["red blue blue"], 0, 2 / 3),
]


@pytest.mark.parametrize(("prediction", "golds", "exact", "f1"), SQUAD_CASES)
def test_squad_rules(prediction, golds, exact, f1):
    found = metrics.AnswerScore().compute(predictions=[prediction], references=[golds])
    assert found == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_squad_scores_are_means_over_questions():
    predictions = [prediction for prediction, *_ in SQUAD_CASES]
    golds = [golds for _, golds, *_ in SQUAD_CASES]
    found = metrics.AnswerScore().compute(predictions=predictions, references=golds)
    assert found["exact_match"] == pytest.approx(sum(c[2] for c in SQUAD_CASES) / len(SQUAD_CASES))
    assert found["f1"] == pytest.approx(sum(c[3] for c in SQUAD_CASES) / len(SQUAD_CASES))


# Prediction, accepted answers, exact match, F1 where HotpotQA differs from SQuAD.
HOTPOT_CASES = [
    ("yes", ["yes"], 1, 1),
    ("Yes.", ["yes"], 1, 1),
    ("yes it is", ["yes"], 0, 0),
    ("yes", ["yes it is"], 0, 0),
    ("no", ["no man's land"], 0, 0),
    ("the no", ["no"], 1, 1),
    ("noanswer", ["the noanswer"], 1, 1),
    ("", ["yes"], 0, 0),
    ("Ed Wood", ["Edward Wood"], 0, 0.5),
]
# And where TriviaQA does: punctuation parts words, typographic quotes are punctuation.
TRIVIA_CASES = [
    ("U.S.", ["US"], 0, 0),
    ("U.S.", ["u s"], 1, 1),
    ("Twenty-one", ["twenty one"], 1, 1),
    ("Harry_Truman", ["harry truman"], 1, 1),
    ("the \u2018Scorpio\u2019", ["scorpio"], 1, 1),
    ("O\u00b4Neill", ["o neill"], 1, 1),
    ("", ["x"], 0, 0),
    ("A", ["the"], 1, 0),
    ("York city", ["leeds", "city of york", "york"], 0, 0.8),
    ("\u00c9cole", ["\u00e9cole"], 1, 1),
]


@pytest.mark.parametrize(
    ("rules", "case"),
    [("hotpotqa", case) for case in HOTPOT_CASES] + [("triviaqa", case) for case in TRIVIA_CASES],
)
def test_hotpotqa_and_triviaqa_rules(rules, case):
    prediction, golds, exact, f1 = case
    found = metrics.AnswerScore(rules).compute(predictions=[prediction], references=[golds])
    assert found == {"exact_match": exact, "f1": pytest.approx(f1)}


def told_again(prediction: str, gold: str, rules: str) -> tuple[float, float]:
    """Exact match and F1 step by step, as the papers and scripts of the three data sets say."""

    def words(text):
        kept = []
        for character in text.lower():
            punctuation = character in string.punctuation
            if rules == "triviaqa":
                kept.append(" " if punctuation or character in "\u2018\u2019\u00b4`" else character)
            elif not punctuation:
                kept.append(character)
        for article in ("a", "an", "the"):
            kept = list(re.sub(rf"\b{article}\b", " ", "".join(kept)))
        return "".join(kept).split()

    left, right = words(prediction), words(gold)
    exact = float(left == right)
    closed = {"yes", "no", "noanswer"}
    if rules == "hotpotqa" and not exact and ({" ".join(left)} | {" ".join(right)}) & closed:
        return exact, 0.0
    rest, same = list(right), 0
    for word in left:
        if word in rest:
            rest.remove(word)
            same += 1
    if not same:
        return exact, 0.0
    precision, recall = same / len(left), same / len(right)
    return exact, 2 * precision * recall / (precision + recall)


ANSWER = st.lists(
    st.sampled_from(
        ["the", "a", "An", "yes", "No", "U.S.", "cat's", "x-ray", "snow_ball", "\u2018q\u2019",
         "caf\u00e9", "\u4e1c", ".", "1,000", "noanswer", "--", "\u00a0"]
    ),
    max_size=5,
).map(" ".join)  # fmt: skip


@given(
    ANSWER, st.lists(ANSWER, min_size=1, max_size=3), st.sampled_from(list(official.ANSWER_RULES))
)
@settings(max_examples=200, deadline=None)
def test_answers_score_as_the_rules_told_again(prediction, golds, rules):
    wanted = [told_again(prediction, gold, rules) for gold in golds]
    ((exact, f1),) = official.answer_scores([prediction], [golds], rules)
    assert exact == max(exact for exact, _ in wanted)
    assert f1 == pytest.approx(max(f1 for _, f1 in wanted))


def test_batches_add_up_and_nothing_lands_in_the_home_folder():
    metric = metrics.Accuracy()
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.add_batch(predictions=[1], references=[1])
    assert metric.compute() == {"accuracy": pytest.approx(2 / 3)}
    assert Path(metric.data_dir).is_relative_to(tempfile.gettempdir())
    assert not list(Path(metric.data_dir).iterdir())

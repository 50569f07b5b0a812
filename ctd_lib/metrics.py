"""The official scores of each kind of task, as `evaluate.Metric`s that need no hub.

Each takes batches through `add_batch(predictions=..., references=...)` and gives its scores at
`compute()`, from 0 to 1 (correlations from -1).
"""

import collections
import math
import re
import string
import tempfile
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pandas as pd

INTEGER, NUMBER, TEXT = (datasets.Value(name) for name in ("int64", "float64", "string"))


class _OfflineMetric(evaluate.Metric):
    """Keeps what it is given in memory and its folder among the temporary files."""

    DESCRIPTION = ""
    CITATION = ""
    PREDICTION: object = INTEGER
    REFERENCE: object = INTEGER

    def __init__(self):
        super().__init__(
            keep_in_memory=True, cache_dir=str(Path(tempfile.gettempdir(), "ctd-metrics"))
        )

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.DESCRIPTION,
            citation=self.CITATION,
            inputs_description="",
            features=datasets.Features(predictions=self.PREDICTION, references=self.REFERENCE),
        )


class Accuracy(_OfflineMetric):
    """Share of examples whose predicted class is right: `accuracy`."""

    DESCRIPTION = "Share of right predictions."

    def _compute(self, predictions, references):
        return {"accuracy": float(np.mean(np.equal(predictions, references)))}


class MatthewsCorrelation(_OfflineMetric):
    """Matthews correlation of classes: `matthews_correlation`, 0 where one side is constant."""

    DESCRIPTION = "Matthews correlation coefficient, the score of CoLA."

    def _compute(self, predictions, references):
        size = max(*predictions, *references) + 1
        predicted = np.bincount(predictions, minlength=size)
        true = np.bincount(references, minlength=size)
        total, right = len(references), np.sum(np.equal(predictions, references))
        spread = (total**2 - predicted @ predicted) * (total**2 - true @ true)
        covariance = right * total - predicted @ true
        return {"matthews_correlation": float(covariance / math.sqrt(spread)) if spread else 0.0}


class F1(_OfflineMetric):
    """F1 of class 1 among two classes: `f1`, 0 where class 1 is neither there nor predicted."""

    DESCRIPTION = "F1 of the positive class, a score of MRPC and QQP."

    def _compute(self, predictions, references):
        predicted, true = np.equal(predictions, 1), np.equal(references, 1)
        return {"f1": _ratio(2 * int(np.sum(predicted & true)), int(predicted.sum() + true.sum()))}


class PearsonSpearman(_OfflineMetric):
    """Pearson and Spearman correlation: `pearson`, `spearman`, 0 where one side is constant."""

    DESCRIPTION = "Pearson and Spearman correlation, the scores of STS-B."
    PREDICTION = NUMBER
    REFERENCE = NUMBER

    def _compute(self, predictions, references):
        ranked = pd.Series(predictions).rank(), pd.Series(references).rank()
        return {
            "pearson": _correlation(predictions, references),
            "spearman": _correlation(*ranked),
        }


def _correlation(left, right) -> float:
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


class EntityF1(_OfflineMetric):
    """Entity F1 in strict IOB2: an entity is right if its first word, last word and type are.

    Takes the tags of one document as one item. Gives `entity_precision`, `entity_recall` and
    `entity_f1` over all entities, and `entity_f1_TYPE` for each type that occurs. An I- tag that
    continues no entity of its type is no entity, as in seqeval's mode "strict", scheme IOB2.
    """

    DESCRIPTION = "Entity F1 under strict IOB2, micro-averaged and for each type."
    CITATION = "Nakayama, H.: seqeval, a Python framework for sequence labeling evaluation, 2018."
    PREDICTION = datasets.Sequence(TEXT)
    REFERENCE = datasets.Sequence(TEXT)

    def _compute(self, predictions, references):
        found, true, right = collections.Counter(), collections.Counter(), collections.Counter()
        for predicted_tags, true_tags in zip(predictions, references, strict=True):
            predicted, expected = entities(predicted_tags), entities(true_tags)
            found.update(kind for kind, _, _ in predicted)
            true.update(kind for kind, _, _ in expected)
            right.update(kind for kind, _, _ in predicted & expected)
        scores = {
            "entity_precision": _ratio(right.total(), found.total()),
            "entity_recall": _ratio(right.total(), true.total()),
            "entity_f1": _ratio(2 * right.total(), found.total() + true.total()),
        }
        for kind in sorted(found | true):
            scores[f"entity_f1_{kind}"] = _ratio(2 * right[kind], found[kind] + true[kind])
        return scores


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """The entities that strict IOB2 tags mark, as (type, first word, last word + 1)."""
    found = set()
    kind, start = None, 0
    for position, tag in enumerate([*tags, "O"]):
        if kind is not None and tag != f"I-{kind}":
            found.add((kind, start, position))
            kind = None
        if tag.startswith("B-"):
            kind, start = tag[2:], position
    return found


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


class SquadScore(_OfflineMetric):
    """Exact match and F1 of answers by the rules of SQuAD 1.1: `exact_match`, `f1`.

    A prediction is a text, a reference the list of accepted texts, of which the best counts.
    """

    DESCRIPTION = (
        "Exact match and word F1 after SQuAD's normalisation, best of the accepted answers."
    )
    CITATION = (
        "Rajpurkar et al.: SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016."
    )
    PREDICTION = TEXT
    REFERENCE = datasets.Sequence(TEXT)

    def _compute(self, predictions, references):
        pairs = list(zip(predictions, references, strict=True))
        exact = [max(normalize_answer(text) == normalize_answer(gold) for gold in golds)
                 for text, golds in pairs]  # fmt: skip
        overlap = [max(answer_f1(text, gold) for gold in golds) for text, golds in pairs]
        return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(overlap))}


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, the words a, an, the, and extra blanks (SQuAD 1.1)."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def answer_f1(prediction: str, gold: str) -> float:
    """F1 of the words that two answers share, after normalisation (SQuAD 1.1)."""
    predicted, expected = normalize_answer(prediction).split(), normalize_answer(gold).split()
    shared = (collections.Counter(predicted) & collections.Counter(expected)).total()
    # Two answers without a word score 0 here, though they match exactly: so the official script.
    return _ratio(2 * shared, len(predicted) + len(expected))

"""The official scores of each kind of task, as `evaluate.Metric`s that need no hub.

`evaluate` takes a second to import: callers import this module where they take a score.

Each takes batches through `add_batch(predictions=..., references=...)` and gives its scores at
`compute()`, from 0 to 1 (correlations from -1).
"""

import collections
import math
import os
import tempfile
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pandas as pd

from ctd_lib.scores import official

_USER = getattr(os, "getuid", int)()
"""The base class makes its folder, where another user of the machine could not write."""
INTEGER, NUMBER, TEXT = (datasets.Value(name) for name in ("int64", "float64", "string"))


class _OfflineMetric(evaluate.Metric):
    """Keeps what it is given in memory and its folder among the temporary files."""

    DESCRIPTION = ""
    CITATION = ""
    PREDICTION: object = INTEGER
    REFERENCE: object = INTEGER

    def __init__(self):
        super().__init__(
            keep_in_memory=True, cache_dir=str(Path(tempfile.gettempdir(), f"ctd-metrics-{_USER}"))
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
        # Floats: the product of four counts leaves int64 behind at some 70,000 examples.
        predicted = np.bincount(predictions, minlength=size).astype(float)
        true = np.bincount(references, minlength=size).astype(float)
        total, right = len(references), np.sum(np.equal(predictions, references))
        spread = (total**2 - predicted @ predicted) * (total**2 - true @ true)
        covariance = right * total - predicted @ true
        return {"matthews_correlation": float(covariance / math.sqrt(spread)) if spread else 0.0}


class F1(_OfflineMetric):
    """F1 of class 1 among two classes: `f1`, 0 where class 1 is neither there nor predicted."""

    DESCRIPTION = "F1 of the positive class, a score of MRPC and QQP."

    def _compute(self, predictions, references):
        predicted, true = np.equal(predictions, 1), np.equal(references, 1)
        shared, total = int(np.sum(predicted & true)), int(predicted.sum() + true.sum())
        return {"f1": official.ratio(2 * shared, total)}


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
            predicted, expected = map(official.entities, (predicted_tags, true_tags))
            found.update(kind for kind, _, _ in predicted)
            true.update(kind for kind, _, _ in expected)
            right.update(kind for kind, _, _ in predicted & expected)
        scores = {
            "entity_precision": official.ratio(right.total(), found.total()),
            "entity_recall": official.ratio(right.total(), true.total()),
            "entity_f1": official.ratio(2 * right.total(), found.total() + true.total()),
        }
        for kind in sorted(found | true):
            scores[f"entity_f1_{kind}"] = official.ratio(2 * right[kind], found[kind] + true[kind])
        return scores


class AnswerScore(_OfflineMetric):
    """Exact match and F1 of answers by the rules of a data set: `exact_match`, `f1`.

    A prediction is a text, a reference the list of accepted texts, of which the best counts.
    """

    DESCRIPTION = "Exact match and word F1 after normalisation, best of the accepted answers."
    PREDICTION = TEXT
    REFERENCE = datasets.Sequence(TEXT)

    def __init__(self, rules: str = "squad"):
        super().__init__()
        self.rules = rules

    def _compute(self, predictions, references):
        exact, f1 = official.answer_scores(predictions, references, self.rules).T
        return {"exact_match": float(exact.mean()), "f1": float(f1.mean())}

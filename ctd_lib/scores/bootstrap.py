"""How sure a comparison of student and teacher is: paired bootstrap over the test examples.

Every resample draws as many test examples as there are, with replacement, the same ones for teacher
and student, and where there are several seeds as many seeds, the same ones for both (Efron and
Tibshirani 1993, chapter 13: percentile intervals). Questions on one document rise and fall
together: there the documents are drawn, each with all of its questions. A resample is a row of
weights, how often each example was drawn, so that most scores are a product of weights and
per-example counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ctd_lib.errors import CtdError
from ctd_lib.scores import official
from ctd_lib.scores.predictions import Predictions
from ctd_lib.scores.sampled import Interval, Sampled, percent

CHUNK = 100  # resamples at a time
Scorer = Callable[[np.ndarray], np.ndarray]
"""From weights (R, N) to scores (R,)."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Student against teacher on one task."""

    metric: str
    first: Sampled
    """Mean score of the teacher over the seeds."""
    second: Sampled
    """Of the student."""
    examples: int
    documents: int
    """What is drawn: fewer than the examples where several are of one."""
    seeds: int

    @property
    def teacher(self) -> Interval:
        """Mean score over the seeds."""
        return self.first.interval

    @property
    def student(self) -> Interval:
        """Mean score over the seeds."""
        return self.second.interval

    @property
    def kept(self) -> Sampled:
        """Student score / teacher score, in percent; not a number where a teacher's can be 0."""
        return percent(self.second, self.first)

    @property
    def retention(self) -> Interval:
        """`kept` with its interval."""
        return self.kept.interval

    @property
    def difference(self) -> Interval:
        """Student score - teacher score."""
        return (self.second - self.first).interval


def compare(
    teachers: Sequence[Predictions],
    students: Sequence[Predictions],
    metric: str | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Retention and difference of a student with their intervals.

    Args:
        teachers: predictions of the teacher, one a seed.
        students: of the student, in the order of the same seeds, on the same test examples.
        metric: name of a score; None: the task's main one.

    Raises:
        CtdError: another number of seeds, other test examples, or no such score.
    """
    demand_alike(teachers, students)
    every = [*teachers, *students]
    metric = metric or every[0].main_metric
    scorers = [scorer(found, metric) for found in every]
    document, seeds = document_of(teachers[0]), len(teachers)
    count, documents = len(document), int(document.max()) + 1
    # Of its own, so that cells of more and of fewer seeds draw the same examples.
    rng_of_seeds = np.random.default_rng([seed, 1])
    rows = []
    for weights in draws(document, resamples, seed):
        scores = np.stack([of(weights) for of in scorers]).reshape(2, seeds, -1)
        chosen = rng_of_seeds.integers(seeds, size=scores.shape[1:])
        rows.append(np.take_along_axis(scores, chosen[None], axis=1).mean(1))
    drawn = np.concatenate(rows, axis=1)  # (2, R)
    whole = np.array([of(np.ones((1, count)))[0] for of in scorers]).reshape(2, seeds).mean(1)

    first, second = (Sampled(float(value), of) for value, of in zip(whole, drawn, strict=True))
    return Comparison(metric, first, second, count, documents, seeds)


def document_of(predictions: Predictions) -> np.ndarray:
    """The number of each example's document (N,), from 0; its own where none is known."""
    known = [example.get("document", n) for n, example in enumerate(predictions.examples)]
    return np.unique(known, return_inverse=True)[1]


def draws(document: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Resamples of examples, whose documents are drawn (N,), some at a time: weights (R, N)."""
    count, rng = int(document.max()) + 1, np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        drawn = rng.integers(count, size=(min(CHUNK, resamples - start), count))
        often = np.stack([np.bincount(row, minlength=count) for row in drawn])
        yield often[:, document].astype(float)


def same_examples(predictions: Sequence[Predictions]) -> bool:
    """Whether all of them are of the same test examples, as their gold answers tell."""
    golds = [[example["gold"] for example in found.examples] for found in predictions]
    return all(gold == golds[0] for gold in golds[1:])


def demand_alike(teachers: Sequence[Predictions], students: Sequence[Predictions]) -> None:
    """Refuse what cannot be compared.

    Raises:
        CtdError: another number of seeds, or other test examples.
    """
    if not teachers or len(teachers) != len(students):
        raise CtdError(
            f"{len(teachers)} predictions of the teacher and {len(students)} of the student; "
            "one of each a seed is wanted."
        )
    if not same_examples([*teachers, *students]):
        raise CtdError(f"task {teachers[0].task}: the predictions are of different test examples.")


def scorer(predictions: Predictions, metric: str) -> Scorer:
    """The score of any resample of the examples.

    Raises:
        CtdError: the task's family has no such score.
    """
    of_family = {"classification": _classification, "tagging": _tagging, "span-qa": _span_qa}
    found = of_family[predictions.family](predictions, metric)
    if found is None:
        raise CtdError(f"task {predictions.task} has no score {metric!r} to resample.")
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> Scorer:
    """Sums of per-example counts (N,) as a fraction, 0 where there is nothing."""

    def of(weights: np.ndarray) -> np.ndarray:
        below = weights @ whole.astype(float)
        return np.divide(
            weights @ part.astype(float), below, out=np.zeros_like(below), where=below > 0
        )

    return of


def _mean_by_kind(values: np.ndarray, predictions: Predictions, name: str, metric: str):
    """The mean of values (N,), over all for `name`, over one kind for `name_KIND`."""
    if metric == name:
        return _ratio(values, np.ones(len(values)))
    kind = metric.removeprefix(f"{name}_")
    of_kind = np.array([example["kind"] == kind for example in predictions.examples])
    return _ratio(values * of_kind, of_kind) if kind != metric and of_kind.any() else None


def _classification(predictions: Predictions, metric: str) -> Scorer | None:
    gold, predicted = (
        np.array([example[side] for example in predictions.examples])
        for side in ("gold", "predicted")
    )
    if metric == "pearson":
        return _pearson(gold, predicted)
    if metric == "spearman":
        return _spearman(gold, predicted)
    if metric == "matthews_correlation":
        return _matthews(gold, predicted)
    if metric == "f1":
        found, true = predicted == 1, gold == 1
        return _ratio(2 * (found & true), found.astype(int) + true)
    return _mean_by_kind(gold == predicted, predictions, "accuracy", metric)


def _span_qa(predictions: Predictions, metric: str) -> Scorer | None:
    texts, golds = (
        [example[side] for example in predictions.examples] for side in ("predicted", "gold")
    )
    name, column = ("f1", 1) if metric.startswith("f1") else ("exact_match", 0)
    values = official.answer_scores(texts, golds, predictions.rules)[:, column]
    return _mean_by_kind(values, predictions, name, metric)


def _tagging(predictions: Predictions, metric: str) -> Scorer | None:
    name, _, kind = metric.removeprefix("entity_").partition("_")
    counts = []
    for example in predictions.examples:
        found, true = (
            {tuple(entity[:3]) for entity in example[side] if not kind or entity[0] == kind}
            for side in ("predicted", "gold")
        )
        counts.append((len(found & true), len(found), len(true)))
    right, found, true = np.array(counts).T
    known = {
        "f1": (2 * right, found + true),
        "precision": (right, found),
        "recall": (right, true),
    }
    return _ratio(*known[name]) if name in known and metric.startswith("entity_") else None


def _weighted_pearson(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlation of resamples, 0 where one side is constant; values (N,) or (R, N)."""
    total = weights.sum(1, keepdims=True)
    left, right = (x - (weights * x).sum(1, keepdims=True) / total for x in (left, right))
    covariance = (weights * left * right).sum(1)
    spread = (weights * left**2).sum(1) * (weights * right**2).sum(1)
    # Below this, what is left of a constant side is rounding.
    varies = spread > 1e-18
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(spread), where=varies)


def _pearson(gold: np.ndarray, predicted: np.ndarray) -> Scorer:
    return lambda weights: _weighted_pearson(weights, gold, predicted)


def _spearman(gold: np.ndarray, predicted: np.ndarray) -> Scorer:
    groups = [np.unique(values, return_inverse=True)[1] for values in (gold, predicted)]

    def of(weights: np.ndarray) -> np.ndarray:
        return _weighted_pearson(weights, *(_ranks(weights, group) for group in groups))

    return of


def _ranks(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Ranks (R, N) within each resample, ties at their mean; `group` (N,) orders the values."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)  # (R, values)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def _matthews(gold: np.ndarray, predicted: np.ndarray) -> Scorer:
    size = int(max(gold.max(), predicted.max())) + 1
    cells = np.zeros((len(gold), size * size))
    cells[np.arange(len(gold)), gold * size + predicted] = 1

    def of(weights: np.ndarray) -> np.ndarray:
        table = (weights @ cells).reshape(-1, size, size)  # (R, gold, predicted)
        true, found = table.sum(2), table.sum(1)
        total, right = true.sum(1), table.trace(axis1=1, axis2=2)
        spread = (total**2 - (true**2).sum(1)) * (total**2 - (found**2).sum(1))
        covariance = right * total - (true * found).sum(1)
        return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(spread), where=spread > 0)

    return of

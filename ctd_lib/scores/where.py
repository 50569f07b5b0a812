"""Where a model loses: scores by position, document length, tag and type of question.

`items` gives one row for each thing that can be right or wrong: a question, a text, an entity (each
that is gold or predicted). `table` scores the rows in bins, `compare` sets teacher and student side
by side. Positions and lengths count tokens of the whole input, before any cut.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ctd_lib.errors import CtdError
from ctd_lib.scores import metrics
from ctd_lib.scores.predictions import Predictions

EDGES = (0, 512, 1024, 2048, 4096)
"""First tokens of the bins; the last bin is open."""
NUMBERS = ("position", "tokens")


def items(predictions: Predictions) -> pd.DataFrame:
    """One row for each question, text or entity, with `example`, `tokens` and what its family has.

    - classification: `kind`, `label`; `score` 1 if right, of regression minus the absolute error;
    - span-qa: `kind`, `position` of the answer (missing where it is not in the text);
      `exact_match`, `score` (F1);
    - tagging: `tag`, `position`; `gold`, `predicted`, `right` (0 or 1).
    """
    return _FAMILIES[predictions.family](predictions)


def _texts(predictions: Predictions) -> pd.DataFrame:
    found = pd.DataFrame(predictions.examples).rename(columns={"gold": "label"})
    predicted = found.pop("predicted")
    if predictions.main_metric in ("spearman", "pearson"):
        found["score"] = -(found.label - predicted).abs()
    else:
        found["score"] = (found.label == predicted).astype(float)
    return found.rename_axis("example").reset_index()


def _questions(predictions: Predictions) -> pd.DataFrame:
    found = pd.DataFrame(predictions.examples)
    each = metrics.answer_scores(found.pop("predicted"), found.pop("gold"), predictions.rules)
    found[["exact_match", "score"]] = each
    found["position"] = found.position.where(found.position >= 0)
    return found.rename_axis("example").reset_index()


def _entities(predictions: Predictions) -> pd.DataFrame:
    rows = []
    for number, example in enumerate(predictions.examples):
        gold, predicted = (
            {tuple(entity) for entity in example[side]} for side in ("gold", "predicted")
        )
        for entity in sorted(gold | predicted):
            rows.append(
                {
                    "example": number,
                    "tokens": example["tokens"],
                    "tag": entity[0],
                    "position": entity[3] if entity[3] >= 0 else np.nan,
                    "gold": int(entity in gold),
                    "predicted": int(entity in predicted),
                    "right": int(entity in gold and entity in predicted),
                }
            )
    columns = ["example", "tokens", "tag", "position", "gold", "predicted", "right"]
    return pd.DataFrame(rows, columns=columns)


_FAMILIES = {"classification": _texts, "span-qa": _questions, "tagging": _entities}


def table(items: pd.DataFrame, by: str, edges: Sequence[int] = EDGES) -> pd.DataFrame:
    """The score in each bin of a column.

    Args:
        items: rows of `items`, of one or several seeds together.
        by: the column: `position` or `tokens`, in bins from `edges`; `tag`, `kind` or `label`.
        edges: ascending first tokens of the bins.

    Returns:
        A row a bin, in order: `bin`; `items`, the gold ones in it; `score`: the mean, of entities
        their F1. Rows without a position are left out.

    Raises:
        CtdError: the rows have no such column.
    """
    if by not in items:
        raise CtdError(f"nothing to tell apart by {by!r}; there are {', '.join(items.columns)}.")
    bins = items[by]
    if by in NUMBERS:
        ends = [*edges[1:], np.inf]
        names = [f"{a} to {b - 1}" for a, b in itertools.pairwise(edges)]
        names.append(f"{edges[-1]} and more")
        bins = pd.cut(bins, [edges[0], *ends], right=False, labels=names)
    groups = items.groupby(bins, observed=True)
    if "right" in items:
        sums = groups[["gold", "predicted", "right"]].sum()
        scores = 2 * sums.right / (sums.gold + sums.predicted)
        found = pd.DataFrame({"items": sums.gold, "score": scores})
    else:
        found = groups.score.agg(items="count", score="mean")
    return found.rename_axis("bin").reset_index().astype({"bin": str})


def compare(
    teachers: Sequence[Predictions],
    students: Sequence[Predictions],
    by: str,
    edges: Sequence[int] = EDGES,
) -> pd.DataFrame:
    """`table` for teacher and student, several seeds together.

    Returns:
        A row a bin: `bin`, `items` (a seed), `teacher`, `student`, `difference`.
    """
    first, second = (
        table(pd.concat([items(found) for found in role]), by, edges).set_index("bin")
        for role in (teachers, students)
    )
    found = pd.DataFrame({"items": first["items"] // len(teachers), "teacher": first.score})
    found = found.join(second.score.rename("student"), how="left")
    return found.assign(difference=found.student - found.teacher).reset_index()

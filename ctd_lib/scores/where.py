"""Where a model loses: scores by position, document length, tag and type of question.

`items` gives one row for each thing that can be right or wrong: a question, a text, an entity (each
that is gold or predicted). `table` scores the rows in bins, `compare` sets teacher and student side
by side and says how sure their difference is. Positions and lengths count tokens of the whole
input, before any cut.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ctd_lib.errors import CtdError
from ctd_lib.scores import bootstrap, official
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
    each = official.answer_scores(found.pop("predicted"), found.pop("gold"), predictions.rules)
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
    groups = items.groupby(_bins(items, by, edges), observed=True)
    if "right" in items:
        sums = groups[["gold", "predicted", "right"]].sum()
        scores = 2 * sums.right / (sums.gold + sums.predicted)
        found = pd.DataFrame({"items": sums.gold, "score": scores})
    else:
        found = groups.score.agg(items="count", score="mean")
    return found.rename_axis("bin").reset_index().astype({"bin": str})


def _bins(items: pd.DataFrame, by: str, edges: Sequence[int]) -> pd.Categorical:
    if by not in items:
        raise CtdError(f"nothing to tell apart by {by!r}; there are {', '.join(items.columns)}.")
    if by not in NUMBERS:
        return pd.Categorical(items[by])
    names = [f"{a} to {b - 1}" for a, b in itertools.pairwise(edges)]
    names.append(f"{edges[-1]} and more")
    cut = pd.cut(items[by].astype(float), [*edges, np.inf], right=False, labels=names)
    return cut.array.remove_unused_categories()


def compare(
    teachers: Sequence[Predictions],
    students: Sequence[Predictions],
    by: str,
    edges: Sequence[int] = EDGES,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Teacher and student in each bin, the items of all seeds together.

    The interval of the difference is by paired bootstrap over documents and seeds, as in
    `bootstrap.compare`; resamples that leave a bin without a score do not count for it.

    Returns:
        A row a bin: `bin`, `items` (a seed), `examples` and `documents` with such items,
        `teacher`, `student`, `difference`, its bounds `low` and `high`.

    Raises:
        CtdError: as `bootstrap.compare`, or there is no such column.
    """
    bootstrap.demand_alike(teachers, students)
    document, seeds = bootstrap.document_of(teachers[0]), len(teachers)
    count = len(document)
    frames = [items(found) for found in (*teachers, *students)]
    rows = pd.concat(frames, keys=range(2 * seeds), names=["run"]).reset_index("run")
    bins = _bins(rows, by, edges)
    names = list(map(str, bins.categories))
    known = bins.codes >= 0
    place = rows.run[known], rows.example[known], bins.codes[known]
    sums = np.zeros((3, 2 * seeds, count, len(names)))  # score, what it is of, gold items
    for target, values in zip(sums, _parts(rows), strict=True):
        np.add.at(target, place, np.asarray(values, dtype=float)[known])
    gold = sums[2, :seeds].sum((0, 1)) // seeds
    with_gold = sums[2, 0] > 0  # (example, bin)
    sums = sums[:2].reshape(2, 2, seeds, count, -1)  # (part or whole, role, seed, example, bin)
    teacher, student = _ratio(sums.sum((2, 3)))
    rng_of_seeds = np.random.default_rng([seed, 1])
    drawn = []
    for weights in bootstrap.draws(document, resamples, seed):
        # How often each seed was drawn, (R, seeds).
        chosen = rng_of_seeds.multinomial(seeds, [1 / seeds] * seeds, size=len(weights))
        drawn.append(_ratio(np.einsum("prsxb,xs->prxb", weights @ sums, chosen)))
    teachers_drawn, students_drawn = np.concatenate(drawn, axis=1)
    bounds = [_bounds(column, level) for column in (students_drawn - teachers_drawn).T]
    found = pd.DataFrame({"bin": names, "items": gold.astype(int), "examples": with_gold.sum(0)})
    found["documents"] = [len(np.unique(document[of_bin])) for of_bin in with_gold.T]
    found = found.assign(teacher=teacher, student=student, difference=student - teacher)
    return found.join(pd.DataFrame(bounds, columns=["low", "high"], index=found.index))


def _parts(rows: pd.DataFrame) -> tuple[pd.Series, ...]:
    """Whose sums are numerator and denominator of the score, and what counts as gold item."""
    if "right" in rows:
        return 2 * rows.right, rows.gold + rows.predicted, rows.gold
    one = pd.Series(1, index=rows.index)
    return rows.score, one, one


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Part by whole (2, ...), not a number where there is nothing."""
    part, whole = sums
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _bounds(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

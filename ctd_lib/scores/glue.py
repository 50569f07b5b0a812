"""The GLUE score: the mean over its tasks, without WNLI, of the mean of each task's own scores."""

import numpy as np
import pandas as pd

SCORES = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "qqp": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "mnli": ("accuracy_matched", "accuracy_mismatched"),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
}
"""Wang et al. 2018. WNLI is left out: its dev part relabels sentences of its train part."""

DEV = {
    "cola": 1043, "sst2": 872, "mrpc": 408, "qqp": 40430, "stsb": 1500, "mnli": 19647, "qnli": 5463,
    "rte": 277,
}  # fmt: skip
"""Examples of the official dev part; of MNLI matched and mismatched together."""


def task_score(task: str, scores: dict[str, float]) -> float:
    """The mean of a task's scores, 0 to 1; not a number where one of them is missing."""
    return float(np.mean([scores.get(name, np.nan) for name in SCORES[task]]))


def macro(records: pd.DataFrame) -> pd.DataFrame:
    """GLUE scores from records.

    Args:
        records: of finetunings, one a row, as `tidy.select` gives them.

    Returns:
        One row per arch, role and seed: the score of each task on its official dev part, and
        `glue`, their mean, not a number unless all eight are there. Scores on a sample, or on pairs
        that are not the official dev, do not count.
    """
    rows: dict[tuple, dict] = {}
    for row in records.itertuples():
        if row.task in SCORES and _official(row):
            cell = rows.setdefault((row.arch, row.role, row.seed), {})
            cell[row.task] = task_score(row.task, row.values["scores"])
    index = pd.MultiIndex.from_tuples(list(rows), names=["arch", "role", "seed"])
    found = pd.DataFrame(list(rows.values()), index=index, columns=list(SCORES), dtype=float)
    found["glue"] = found.mean(axis=1, skipna=False)
    return found.reset_index()


def _official(row) -> bool:
    """Whether the test was the whole official dev part."""
    return row.values["test_examples"] == DEV[row.task] and "(" not in row.source["name"]

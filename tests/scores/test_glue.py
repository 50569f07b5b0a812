"""The GLUE score over records, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from ctd_lib import params, records
from ctd_lib.scores import glue
from ctd_lib.tasks.loaders import texts

SCORES = {
    "cola": {"matthews_correlation": 0.5, "accuracy": 0.9},
    "sst2": {"accuracy": 0.9},
    "mrpc": {"f1": 0.9, "accuracy": 0.8},
    "qqp": {"f1": 0.8, "accuracy": 0.9},
    "stsb": {"pearson": 0.9, "spearman": 0.8},
    "mnli": {"accuracy_matched": 0.8, "accuracy_mismatched": 0.7, "accuracy": 0.1},
    "qnli": {"accuracy": 0.9},
    "rte": {"accuracy": 0.6},
    "wnli": {"accuracy": 0.1},
}


def frame(source="local:glue", without=(), short_by=0):
    rows = []
    for task, scores in SCORES.items():
        if task not in without:
            chosen = params.make(params.FinetuneParams, arch="full", role="teacher", task=task)
            rows.append({
                "kind": "finetune", "profile": "quick", "arch": "full", "role": "teacher",
                "task": task, "seed": 0, "key": "k", "params": params.as_dict(chosen),
                "values": {"scores": scores, "test_examples": glue.DEV.get(task, 71) - short_by},
                "source": {"name": source},
                "provenance": {"date": "2026-01-01"}, "path": None,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(records.COLUMNS))


def test_macro_mean_without_wnli():
    (row,) = glue.macro(frame()).itertuples()
    assert (row.arch, row.role, row.seed) == ("full", "teacher", 0)
    assert (row.mrpc, row.stsb, row.mnli) == pytest.approx((0.85, 0.85, 0.75))
    assert row.glue == pytest.approx((0.5 + 0.9 + 0.85 + 0.85 + 0.85 + 0.75 + 0.9 + 0.6) / 8)


def test_a_missing_task_or_a_stand_in_leaves_no_macro_mean():
    (row,) = glue.macro(frame(without=("rte",))).itertuples()
    assert np.isnan(row.rte) and np.isnan(row.glue) and row.sst2 == 0.9
    assert glue.macro(frame(source="local:glue (train sample)")).empty
    assert glue.macro(frame(short_by=1)).empty  # a sample of the dev part


def test_every_task_of_glue_is_known():
    assert set(glue.SCORES) | {"wnli"} == set(texts.GLUE)

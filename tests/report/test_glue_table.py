"""The table of GLUE from toy records."""

import pytest
import toy_records

from ctd_lib import params
from ctd_lib.report import tables
from ctd_lib.report.tables import cells
from ctd_lib.scores import glue


def test_glue_has_no_mean_before_all_its_tasks_were_run(load):
    table = tables.glue(load(glue_records(), kept=False)).set_index(["arch", "model"])
    row = table.loc["lsg", "student"]
    assert (row["rte (score)"], row["GLUE (score)"]) == (0.5, pytest.approx((0.5 * 7 + 0.9) / 8))
    assert table.loc["full", "teacher"]["rte (score)"] == tables.NOT_RUN
    apart = glue_records()
    apart[0]["params"]["seed"] = 1  # now no seed has all eight
    row = tables.glue(load(apart, kept=False)).set_index(["arch", "model"]).loc["lsg", "student"]
    assert (row["rte (score)"], row["GLUE (score)"]) == (0.5, cells.NOT_ALL_RUN)


def glue_records():
    made = []
    for task, names in glue.SCORES.items():
        values = {"scores": dict.fromkeys(names, 0.9 if task == "sst2" else 0.5)}
        values |= {
            "main_metric": names[0], "score": values["scores"][names[0]],
            "test_examples": glue.DEV[task],
            "family": "classification", "max_length": 128, "truncated_examples": 0,
            "lost_labels": 0,
        }  # fmt: skip
        source = {"name": "local:glue", "licence": "toy licence", "synthetic": False}
        made.append(
            toy_records.record("finetune", params.FinetuneParams, "lsg", values, source,
                               role="student", task=task)
        )  # fmt: skip
    return made

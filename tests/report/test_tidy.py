"""What is kept over seeds and tasks, from tidy rows."""

import math

import pandas as pd
import pytest

from ctd_lib.report import tidy


def test_a_seed_whose_teacher_scores_0_counts_for_the_mean_over_the_seeds():
    made = pd.DataFrame(
        [("lsg", "cola", seed, teacher, student) for seed, teacher, student in
         ((0, 0.4, 0.2), (1, 0.0, 0.1))]
        + [("lsg", "rte", 0, 0.0, 0.3), ("lsg", "sst2", 0, 0.5, None)],
        columns=["arch", "task", "seed", "teacher", "student"],
    )  # fmt: skip
    found = tidy.kept_by(made, "task")
    assert found["cola"] == pytest.approx(75) and math.isnan(found["rte"])
    assert "sst2" not in found
    assert list(tidy.shared(made).seed) == [0, 1] and set(tidy.shared(made).task) == {"cola"}

"""What a notebook shows of an artifact."""

from types import SimpleNamespace

import pytest

from ctd_lib import pipeline
from ctd_lib.report import views


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"loss": 3.0, "mlm": 3.0}, ["loss"]),
        (
            {"loss": 9.0, "mlm": 3.0, "soft_target": 1.0, "cosine": 0.0, "relation": 0.5},
            ["loss", "mlm", "soft target", "relation"],
        ),
        ({"loss": 2.0, "task": 1.0, "task_distill": 1.0}, ["loss", "task", "task distill"]),
    ],
)
def test_a_loss_curve_has_the_terms_with_a_weight_over_whole_steps(tmp_path, columns, shown):
    rows = [",".join(["step", *columns])]
    rows += [",".join(map(str, [step, *columns.values()])) for step in (1, 2, 3)]
    (tmp_path / pipeline.STEP_LOG).write_text("\n".join(rows))
    axes = views.loss_curve(SimpleNamespace(path=tmp_path)).axes
    assert [one.get_title() for one in axes] == shown
    assert all(tick == int(tick) for one in axes for tick in one.get_xticks())

"""Bins of few test examples have their numbers and no verdict."""

import pytest
import toy_records

from ctd_lib.report import kept, tables
from ctd_lib.report.tables.where import FEW


@pytest.mark.parametrize(("fewest", "verdicts"), [(25, (tables.NOISE, "lower")), (26, (FEW, FEW))])
def test_a_bin_of_few_examples_has_no_verdict(load, monkeypatch, fewest, verdicts):
    """Of 50 examples, half are in each bin."""
    monkeypatch.setattr(kept, "FEWEST_EXAMPLES", fewest)
    table = tables.halves(load(toy_records.make()))
    rows = table[(table.task == "press-qa †") & (table.arch == "lsg")]
    assert list(rows.examples) == [25, 25]
    assert tuple(rows["student is"]) == verdicts
    assert rows["change (score)"].iloc[1] == pytest.approx(-0.8)

"""Bins of few test documents have their numbers and no verdict."""

import pytest
import toy_records

from ctd_lib.report import kept, tables
from ctd_lib.report.tables.where import FEW


def halves(load):
    table = tables.halves(load(toy_records.make()))
    return table[(table.task == "press-qa †") & (table.arch == "lsg")]


@pytest.mark.parametrize(("fewest", "verdicts"), [(25, (tables.NOISE, "lower")), (26, (FEW, FEW))])
def test_a_bin_of_few_examples_has_no_verdict(load, monkeypatch, fewest, verdicts):
    """Of 50 examples, half are in each bin."""
    monkeypatch.setattr(kept, "FEWEST_EXAMPLES", fewest)
    rows = halves(load)
    assert list(rows.examples) == list(rows.documents) == [25, 25]
    assert tuple(rows["student is"]) == verdicts
    assert rows["change (score)"].iloc[1] == pytest.approx(-0.8)


def test_a_bin_of_many_questions_on_few_documents_has_no_verdict(load, monkeypatch):
    """Every second question is in the second bin, and four of them are on one document."""
    predicted = toy_records.predicted

    def on_documents(task, role):
        made = predicted(task, role)
        for number, example in enumerate(made.examples):
            example["document"] = number % 2 * (1 + number // 8)
        return made

    monkeypatch.setattr(toy_records, "predicted", on_documents)
    rows = halves(load)
    assert list(rows.examples) == [25, 25] and list(rows.documents) == [1, 7]
    assert tuple(rows["student is"]) == (FEW, FEW)

"""What of the study is done: counted by the parameters of its plan."""

import pytest
import toy_study

from ctd_lib import params, paths, records, study
from ctd_lib.report import coverage


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    monkeypatch.setattr(paths, "notebooks", lambda: paths.CHECKOUT / "notebooks")

    def write_and_load(made):
        toy_study.write(made, paths.results("study"))
        return records.load("study")

    return write_and_load


def test_the_plan_is_that_of_the_study(load):
    planned = [given for _, _, given in coverage.planned("study")]
    runs = [run.parameters for group, _ in study.matrix("study") for run in group]
    assert [{"profile": "study"} | given for given in planned] == runs[:-1]  # the report's own


def test_done_and_missing_are_counted_block_by_block(load):
    made = toy_study.main(["lsg"], ["sst2", "litbank"])
    made.append(toy_study.finetuned("longformer", "student", "sst2", 0.8, "short-text"))
    made.append(toy_study.finetuned("lsg", "student", "sst2", seed=1))
    table = coverage.coverage(load(made))
    short, long = (table[table.of.str.contains(task)].iloc[0] for task in ("rte", "hotpotqa"))
    assert (short.planned, short.done, short.missing) == (60, 2, 58)
    assert (long.done, long["run time (h)"]) == (2, "0.01")
    whole = table.iloc[-1]
    assert (whole.done, whole.planned - whole.missing) == (6, 6)


def test_the_grid_says_seeds_done_of_planned(load):
    made = [toy_study.finetuned("lsg", "student", "sst2", seed=seed) for seed in (0, 2)]
    grid = coverage.coverage_grid(load(made)).set_index(["recipe", "arch", "model"])
    assert grid.loc[("the profile's", "lsg", "student"), "sst2"] == "2 of 3"
    assert grid.loc[("the profile's", "lsg", "teacher"), "sst2"] == "0 of 3"
    assert grid.loc[("narrow", "longformer", "student"), "squad"] == "-"


def test_a_record_older_than_a_parameter_is_still_done(load):
    [made] = [toy_study.finetuned("lsg", "student", "sst2")]
    del made["params"]["save_model"]
    assert coverage.runs(load([made]), "study").done.sum() == 1


def test_measurements_of_the_papers_systems_count(load):
    made = toy_study.record("systems", "lsg", {"rows": []}, variant="paper-systems")
    found = coverage.runs(load([made]), "study")
    assert list(found[found.done].variant) == ["paper-systems"]


def test_other_parameters_are_not_what_was_planned(load):
    made = toy_study.finetuned("lsg", "student", "sst2")
    made["params"]["epochs"] += 1
    assert coverage.runs(load([made]), "study").done.sum() == 0


def test_budgets_show_one_row_where_archs_agree(load):
    table = coverage.budgets(load(toy_study.main(tasks=["sst2", "press-ner"])))
    assert list(table.task) == ["press-ner †", "sst2"]
    sizes = params.profiles()["study"]
    row = table.set_index("task").loc["sst2"]
    assert (row["epochs"], row["peak learning rate"]) == (
        sizes["epochs"], sizes["finetune_learning_rate"],
    )  # fmt: skip


def test_nothing_run_is_a_plan_without_anything_done(load):
    found = load([])
    assert coverage.coverage(found).done.sum() == 0
    assert not coverage.budgets(found).isna().any(axis=None)

"""Findings from toy records of the study: verdicts by rule, what is missing, what is marked."""

import copy
import dataclasses
import math

import pytest
import toy_records
import toy_study
from toy_study import answer, of

from ctd_lib import ARCHS, paths, records
from ctd_lib.report import findings, kept, pairs, paper, systems, tables, tidy
from ctd_lib.report.findings import common, costs
from ctd_lib.scores.sampled import Interval

SHORT = ("sst2", "mrpc", "wikigold")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(96, 99, common.HOLDS), (90, 94, common.FAILS), (94, 96, common.OPEN),
     (math.nan, math.nan, common.OPEN)],
)  # fmt: skip
def test_a_verdict_looks_at_the_whole_interval(low, high, verdict):
    assert common.at_least(Interval(95, low, high), 95) == verdict
    assert common.at_most(Interval(-95, -high, -low), -95) == verdict


def test_a_margin_has_two_sides():
    assert common.within(Interval(0, -4, 4), 5) == common.HOLDS
    assert common.within(Interval(0, -6, 4), 5) == common.OPEN
    assert common.within(Interval(-8, -9, -6), 5) == common.FAILS


def test_the_best_is_above_all_and_one_above_it_is_enough_against_it():
    worse, better, noise = Interval(-2, -3, -1), Interval(2, 1, 3), Interval(0, -1, 1)
    assert common.all_below([worse, worse]) == common.HOLDS
    assert common.all_below([worse, noise]) == common.OPEN
    assert common.all_below([worse, noise, better]) == common.FAILS
    assert common.all_below([]) == common.OPEN


def test_short_tasks_keep_what_their_predictions_keep(load_study):
    found = findings.short_tasks(load_study(toy_study.main(tasks=SHORT)))
    rows = of(found, "finding_short_tasks").set_index(["task", "arch"])
    assert rows.loc[("sst2", "longformer"), "score kept (%)"] == pytest.approx(100 * 0.88 / 0.90)
    mean = (3 * 0.88 + 0.60) / 4 / 0.90 * 100
    value = rows.loc[("mean", "converted archs"), "score kept (%)"]
    assert value == pytest.approx(mean, abs=0.5)  # F1 of entities is a little higher
    assert answer(found, "short").verdict == common.FAILS
    assert f"{value:.1f} %" in answer(found, "short").because


def test_one_arch_missing_is_no_verdict(load_study):
    archs = ("full", "longformer", "bigbird", "nystromformer")
    found = findings.short_tasks(load_study(toy_study.main(archs, SHORT)))
    assert answer(found, "short").verdict == common.PART
    assert answer(found, "short").because.startswith("so far longformer 97.8 %")
    rows = of(found, "finding_short_tasks").set_index(["task", "arch"])
    assert rows.loc[("mean", "lsg"), "score kept (%)"] == common.NOT_YET


def test_a_task_that_one_arch_ran_moves_no_mean_over_archs(load_study):
    def mean_of(made, arch):
        frame = of(findings.short_tasks(load_study(made)), "finding_short_tasks")
        return frame.set_index(["task", "arch"]).loc[("mean", arch)]

    made = toy_study.main(tasks=("sst2", "wikigold"))
    before = mean_of(made, "converted archs")
    alone = made + toy_study.main(("bigbird",), ("mrpc",))
    assert mean_of(alone, "converted archs").equals(before)
    assert mean_of(alone, "bigbird")["counts"] == "3 tasks"


def test_where_all_ran_and_one_teacher_learned_nothing_no_task_counts_for_all(load_study):
    made = toy_study.main(tasks=(*SHORT, "hotpotqa", "squad-long"))
    for one in made:
        if one["params"]["arch"] == "nystromformer" and one["params"]["task"] not in SHORT:
            one["kept"] = toy_study.predicted(one["params"]["task"], 0.0)
    found = load_study(made)
    outcome = findings.long_documents(found)
    keeps = answer(outcome, "long-qa")
    assert keeps.verdict == common.OPEN
    assert keeps.because.startswith("no task counts for all archs; longformer 9")
    assert set(keeps.by_arch) == {"longformer", "bigbird", "lsg"}
    assert answer(outcome, "long-qa-more").verdict == common.OPEN
    rows = of(outcome, "finding_groups").set_index(["group", "arch"])["score kept (%)"]
    assert rows["long QA", "nystromformer"] == rows["long QA", "converted archs"] == "none counts"
    front = findings.front({"study": found, "quick": found}, "quick")
    row = front.frame.set_index("quantity (%)").loc["score kept, long QA"]
    assert row["ours, mean (%)"] == "none counts" and row["interval"] == "-"
    # Means of different tasks: the best of them would say nothing.
    assert row["ours, best (%)"] == "none counts" and row["records"] == "study"


def test_long_and_short_tasks_of_other_archs_are_not_compared(load_study):
    long = toy_study.main(("longformer",), ("hotpotqa", "squad-long"))
    found = findings.long_documents(load_study(toy_study.main(tasks=SHORT) + long))
    assert answer(found, "long-qa-more").verdict == common.NOT_YET
    rows = of(found, "finding_groups").set_index(["group", "arch"])["score kept (%)"]
    assert rows["long QA", "converted archs"] == common.NOT_YET
    assert rows["long QA", "longformer"] != common.NOT_YET


def test_what_the_teacher_has_not_learned_does_not_count(load_study):
    made = toy_study.main(tasks=SHORT)
    for one in made:
        if one["params"]["task"] == "mrpc":
            one["kept"] = toy_study.predicted("mrpc", 0.55)
    frame = of(findings.short_tasks(load_study(made)), "finding_short_tasks").set_index(
        ["task", "arch"]
    )
    assert frame.loc[("mrpc", "bigbird"), "counts"] == "no, not learned"
    assert frame.loc[("mean", "bigbird"), "counts"] == "2 tasks"


def test_a_handful_of_documents_counts_for_nothing(load_study):
    made = toy_study.main()
    for one in made:
        if one["params"].get("task") == "sec-filings":
            one["kept"] = dataclasses.replace(one["kept"], examples=one["kept"].examples[:3])
    found = findings.long_documents(load_study(made))
    frame = of(found, "finding_long_documents").set_index(["task", "arch"])
    assert frame.loc[("sec-filings", "lsg"), "counts"] == "no, few examples"
    assert answer(found, "long-ner").because.endswith("tasks that count: litbank (2 are needed)")
    assert "sec-filings" not in set(kept.shared_scores(load_study(made)).task)
    assert answer(found, "long-ner").verdict == common.OPEN


def test_yes_to_all_questions_is_no_learning(load_study):
    """Half of the answers are yes: a teacher that says so always reaches no more than chance."""
    made = toy_study.finetuned("lsg", "teacher", "hotpotqa", 0.5)
    for number, example in enumerate(made["kept"].examples):
        example |= {"gold": ["yes" if number % 2 else "no"], "predicted": "yes"}
    student = toy_study.finetuned("lsg", "student", "hotpotqa", 0.5) | {"kept": made["kept"]}
    [cell] = pairs.teacher_and_student(load_study([made, student]))
    assert cell.chance == pytest.approx(0.5) and cell.why_not == "not learned"


def test_a_word_that_many_answers_have_is_no_learning(load_study):
    made = toy_study.finetuned("lsg", "teacher", "squad-long", 0.5)
    for number, example in enumerate(made["kept"].examples):
        example |= {"gold": [f"state of {number}"], "predicted": "state"}
    student = toy_study.finetuned("lsg", "student", "squad-long", 0.5) | {"kept": made["kept"]}
    [cell] = pairs.teacher_and_student(load_study([made, student]))
    # One word of three, and no other one: precision 1, recall 1 / 3.
    assert cell.chance == cell.first.value == pytest.approx(0.5)
    assert cell.why_not == "not learned"


def test_the_headline_is_of_tasks_that_teachers_have_learned(load_study):
    made = toy_study.main()
    for one in made:
        if one["params"].get("task") == "mrpc" and one["params"]["role"] == "teacher":
            one["values"]["score"] = 0.5  # as either class to all pairs
            one["kept"] = toy_study.predicted("mrpc", 0.5)
    found = load_study(made)
    assert "mrpc" in set(tidy.shared(tidy.scores(found)).task)
    assert "mrpc" not in set(kept.shared_scores(found).task)
    headline = tables.headline(found).set_index("arch")["short text (%)"]
    assert headline["bigbird"] == pytest.approx(100 * toy_study.STUDENT / toy_study.TEACHER)


def test_the_quieter_of_two_machines_is_chosen(load_study):
    made = [one | {"profile": "study"} for one in toy_records.make() if one["kind"] == "systems"]
    quiet = copy.deepcopy(made)
    for one in quiet:
        one["artifact"] += "-quiet"
        one["provenance"]["host"]["cpu"] = "a quiet processor"
        one["values"]["machine"]["calibration"]["disturbed"] = 0
    assert systems.chosen_machine(load_study([*made, *quiet[1:]])) == "toy processor, 2 threads"
    assert systems.chosen_machine(load_study([*made, *quiet])) == "a quiet processor, 2 threads"


def test_synthetic_documents_are_shown_and_count_for_nothing(load_study):
    found = findings.long_documents(load_study(toy_study.main()))
    frame = of(found, "finding_long_documents").set_index(["task", "arch"])
    assert frame.loc[("press-ner †", "lsg"), "counts"] == "no, synthetic"
    assert "press-ner" not in answer(found, "long-ner").because
    assert answer(found, "long-ner").verdict == common.FAILS
    # Long and short tasks lose alike here.
    assert answer(found, "long-qa-more").verdict == common.OPEN


def test_synthetic_documents_are_in_a_mean_only_where_nothing_real_is(load_study):
    def tasks_of(*tasks):
        return set(kept.shared_scores(load_study(toy_study.main(tasks=tasks))).task)

    assert tasks_of("sst2", "press-ner") == {"sst2", "press-ner"}
    assert tasks_of("sst2", "press-ner", "litbank") == {"sst2", "litbank"}


def test_one_task_is_not_enough_for_a_verdict(load_study):
    found = findings.short_tasks(load_study(toy_study.main(tasks=("sst2",))))
    assert answer(found, "short").verdict == common.OPEN


def test_lsg_is_told_from_the_others(load_study):
    found = findings.lsg(load_study(toy_study.main(tasks=SHORT)))
    assert answer(found, "lsg").verdict == common.HOLDS
    rows = of(found, "finding_lsg").set_index("LSG minus")
    assert set(rows["LSG is"]) == {"lower"}
    assert (of(found, "finding_lsg_recipes")["change (score)"] == common.NOT_YET).all()


def test_effects_that_add_up_do_so_for_every_arch(load_study):
    made = toy_study.main(tasks=("sst2", "mrpc"))
    found = findings.two_steps(load_study(made))
    frame = of(found, "finding_two_steps").set_index(["tasks", "arch"])
    row = frame.loc[("all", "longformer")]
    assert row["conversion, change (points)"] == pytest.approx(100 * (0.90 / 0.92 - 1))
    assert row["distillation, change (points)"] == pytest.approx(100 * (0.90 / 0.92 - 1))
    assert row["both, change (points)"] == pytest.approx(100 * (0.88 / 0.92 - 1))
    assert frame.loc[("all", "lsg"), "interaction, change (points)"] < -25
    assert answer(found, "additive").verdict == common.FAILS
    assert answer(found, "together").verdict == common.NOT_YET


def test_a_task_that_counts_for_some_archs_moves_no_mean_of_effects(load_study):
    made = toy_study.main(tasks=("sst2", "mrpc"))
    whole = of(findings.two_steps(load_study(made)), "finding_two_steps")
    more = made + toy_study.main(("full", "bigbird"), ("wikigold",))
    after = of(findings.two_steps(load_study(more)), "finding_two_steps")
    before, after = (frame.set_index(["tasks", "arch"]) for frame in (whole, after))
    assert after.loc[("all", "converted archs")].equals(before.loc[("all", "converted archs")])
    assert after.loc[("all", "bigbird"), "how many"] == 3


def test_effects_of_a_group_in_which_nothing_counts(load_study):
    made = toy_study.main(tasks=("sst2", "mrpc", "hotpotqa", "litbank"))
    for one in made:
        if one["params"]["task"] == "hotpotqa" and one["params"]["arch"] == "nystromformer":
            one["kept"] = toy_study.predicted("hotpotqa", 0.0)
    found = findings.two_steps(load_study(made))
    frame = of(found, "finding_two_steps").set_index(["tasks", "arch"])
    both = frame["both, change (points)"]
    assert both["long QA", "nystromformer"] == both["long QA", "converted archs"] == "none counts"
    assert both["long QA - long NER, both", "converted archs"] == "none counts"
    assert both["long QA", "lsg"] < 0
    assert both["long text, other", "lsg"] == common.NOT_YET
    assert answer(found, "together").verdict == common.OPEN


@pytest.mark.parametrize("arch", ARCHS[1:])
def test_an_interval_that_one_arch_lacks_is_unknown_for_all(arch):
    known = Interval(-50.0, -52.0, -48.0)
    changes = dict.fromkeys(ARCHS[1:], known) | {arch: Interval(-50.0, math.nan, math.nan)}
    mean = costs.Measured("toy", None, None, None, 4096, changes).mean()
    assert mean.value == -50 and math.isnan(mean.low) and math.isnan(mean.high)


def test_time_and_memory(load_study):
    found = findings.time_and_memory(load_study(toy_study.measured()))
    assert answer(found, "time").ours == pytest.approx(
        (-50, -100 * (1 - 0.9 / 2.2), -100 * (1 - 1.1 / 1.8))
    )
    assert answer(found, "time").verdict == common.HOLDS
    assert answer(found, "memory").verdict == common.HOLDS


def test_time_and_memory_of_the_papers_size_count_before_those_of_the_study(load_study):
    made = [one for one in toy_records.make() if one["kind"] == "systems"]
    study = [one | {"profile": "study"} for one in made]
    found = findings.time_and_memory(load_study(toy_study.measured() + study[:-1]))
    assert answer(found, "time").because.endswith("models of the study's size")
    found = findings.time_and_memory(load_study(study))
    assert answer(found, "time").because.endswith(
        "models of the paper's size, toy processor, 2 threads"
    )
    frame = of(found, "finding_time_and_memory").set_index(["what", "models", "arch"])
    assert frame.loc["time", "study's size", "lsg"]["change (%)"] == pytest.approx(-50)


def test_archs_of_several_machines_are_not_mixed(load_study):
    made = [one | {"profile": "study"} for one in toy_records.make() if one["kind"] == "systems"]
    elsewhere = copy.deepcopy(made[1]) | {"artifact": "elsewhere"}
    elsewhere["provenance"]["host"] = made[1]["provenance"]["host"] | {"cpu": "another"}
    for ratio in elsewhere["values"]["ratios"]:
        ratio |= {"ratio": 0.9, "low": 0.9, "high": 0.9}
    found = findings.time_and_memory(load_study([*made, elsewhere]))
    assert answer(found, "time").ours.value == pytest.approx(-50)


def test_cells_of_a_task_share_their_resamples(load_study):
    first, second, *_ = pairs.teacher_and_student(
        load_study(toy_study.main(("bigbird", "lsg"), ("sst2",)))
    )
    assert (first.arch, second.arch) == ("bigbird", "lsg")
    assert (first.first.drawn == second.first.drawn).all()  # the same teacher's answers


def test_without_any_record_every_page_says_so(load_study):
    found = load_study([])
    for finding in findings.FINDINGS:
        outcome = finding.build(found)
        assert {one.verdict for one in outcome.answers} <= {common.NOT_YET}, finding.name
        for piece in outcome.pieces:
            assert not piece.frame.isna().any(axis=None), piece.name
    assert len(findings.overview({f: f.build(found) for f in findings.FINDINGS})) == len(
        paper.STATEMENTS
    )


def test_the_first_page_takes_each_row_from_the_study_once_it_is_there(load_study):
    toy_records.write(toy_records.make(), paths.results("quick"))
    found = {"study": load_study(toy_study.main(tasks=SHORT)), "quick": records.load("quick")}
    frame = findings.front(found, "quick").frame.set_index("quantity (%)")
    assert list(frame.records) == ["study", "-", "-", "quick", "quick"]
    assert frame.loc["score kept, short tasks", "paper, best"] == "98.6 (V)"
    assert frame.loc["score kept, long QA", "verdict"] == common.NOT_YET
    assert frame.loc["change of time", "ours, mean (%)"] == pytest.approx(-50)


def test_scores_of_quick_are_too_small_for_a_verdict(load_study):
    toy_records.write(toy_records.make(), paths.results("quick"))
    found = {"study": load_study([]), "quick": records.load("quick")}
    frame = findings.front(found, "quick").frame.set_index("quantity (%)")
    assert frame.loc["score kept, short tasks", "records"] == "quick"
    assert frame.loc["score kept, short tasks", "verdict"] == common.OPEN

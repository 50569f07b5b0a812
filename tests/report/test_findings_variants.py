"""Findings on variants of the recipe and on traps, from toy records: each against the recipe."""

import pytest
import toy_records
import toy_study
from toy_study import answer, of

from ctd_lib import paths, records, study
from ctd_lib.report import findings, tidy
from ctd_lib.report.findings import common, recipes


def test_a_variant_is_compared_on_all_probes_or_not_at_all(load_study):
    made = toy_study.main(["longformer"], recipes.PROBES)
    rivals = {"long-text": 0.60, "short-text": 0.70}
    made += [
        toy_study.finetuned("longformer", "student", task, right, variant)
        for variant, right in rivals.items()
        for task in recipes.PROBES
    ]
    found = findings.text(load_study(made))
    assert answer(found, "text").verdict == common.HOLDS
    frame = of(found, "finding_text").set_index(["variant", "task"])
    assert frame.loc[("long-text", "sst2"), "change (score)"] == pytest.approx(0.60 - 0.88)
    assert frame.loc[("long-text", "mean"), "variant is"] == "lower"
    [last] = paths.results("study").glob("finetune-*-short-text-*-wikigold.json")
    last.unlink()
    assert answer(findings.text(records.load("study")), "text").verdict == common.PART


def test_the_probes_are_those_of_the_matrix():
    tasks = {}
    for group, _ in study.matrix("study"):
        for run in group:
            if run.notebook == "04_finetune" and (name := run.parameters.get("variant")):
                tasks.setdefault(name, set()).add(run.parameters["task"])
    variants = {*recipes.LAYERS, *recipes.SIZES, *recipes.TEXTS, *recipes.ORDERS, *recipes.CONTROL,
                *recipes.TERMS, *recipes.OTHER_TERMS, *recipes.FOR_LSG}  # fmt: skip
    assert all(tasks[name] == set(recipes.PROBES) for name in variants)


def test_a_better_rival_is_enough_against_the_recipe(load_study):
    made = toy_study.main(["longformer"], recipes.PROBES)
    made += [
        toy_study.finetuned("longformer", "student", task, 0.98, "distill-then-convert")
        for task in recipes.PROBES
    ]
    assert answer(findings.order(load_study(made)), "order").verdict == common.FAILS


def test_global_attention_in_tagging(load_study):
    made = toy_study.main(["longformer"], ("wikigold", "litbank"))
    made += [
        toy_study.finetuned("longformer", role, task, 0.97, policy)
        for policy in ("global-first", "global-every-64")
        for role in ("teacher", "student")
        for task in ("wikigold", "litbank")
    ]
    found = findings.traps(load_study(made))
    assert answer(found, "globals").verdict == common.FAILS
    assert answer(found, "bigbird").verdict == common.NOT_YET


def test_a_policy_is_compared_with_none_of_its_own_making(load_study):
    made = toy_study.main(["longformer"], ("wikigold", "litbank"))
    made += [
        toy_study.finetuned("longformer", "teacher", "litbank", right, policy)
        for policy, right in (("global-none", 0.5), ("global-first", 0.7))
    ]
    made.append(toy_study.finetuned("longformer", "teacher", "wikigold", 0.7, "global-first"))
    frame = of(findings.traps(load_study(made)), "finding_traps")
    none = frame.set_index(["policy", "model", "task"])["none (score)"]
    assert none["global-first", "teacher", "litbank"] == pytest.approx(0.5)
    assert none["global-first", "teacher", "wikigold"] == pytest.approx(toy_study.TEACHER)


def test_public_attention_that_scores_worse_is_not_alike(load_study):
    tasks = ("wikigold", "litbank", "hotpotqa")
    made = toy_study.main(["bigbird"], tasks)
    made += [
        toy_study.finetuned("bigbird", role, task, 0.6, "public-attention")
        for role in ("teacher", "student")
        for task in tasks
    ]
    found = findings.traps(load_study(made))
    assert answer(found, "bigbird").verdict == common.FAILS
    assert answer(found, "nystromformer").verdict == common.NOT_YET
    frame = of(found, "finding_public_attention").set_index(["arch", "model", "task"])
    assert frame.loc[("bigbird", "student", "hotpotqa"), "change (score)"] == pytest.approx(-0.28)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [({"wikigold": 0.0, "litbank": 0.0, "hotpotqa": 0.0}, common.HOLDS),
     ({"wikigold": 0.08, "litbank": -0.3}, common.FAILS),  # though the mean hides both
     ({"wikigold": 0.0, "litbank": 0.0}, common.PART)],
)  # fmt: skip
def test_implementations_score_alike_on_every_task_or_not_at_all(load_study, changes, verdict):
    made = toy_study.main(["bigbird"], ("wikigold", "litbank", "hotpotqa"))
    for task, change in changes.items():
        for role, right in (("teacher", toy_study.TEACHER), ("student", toy_study.STUDENT)):
            right = right + change
            made.append(toy_study.finetuned("bigbird", role, task, right, "public-attention"))
    assert answer(findings.traps(load_study(made)), "bigbird").verdict == verdict


@pytest.mark.parametrize(
    ("right", "verdict"), [(0.97, common.HOLDS), (0.3, common.OPEN), (None, common.PART)]
)
def test_one_recipe_that_helps_lsg_is_enough(load_study, right, verdict):
    made = toy_study.main(["lsg"], recipes.PROBES)
    others = {name: 0.3 for name in recipes.FOR_LSG} | {"relations": 0.60}  # as the recipe
    if right is None:
        del others["no-cosine"]
    else:
        others["no-cosine"] = right
    made += [
        toy_study.finetuned("lsg", "student", task, share, variant)
        for variant, share in others.items()
        for task in recipes.PROBES
    ]
    assert answer(findings.lsg(load_study(made)), "lsg-recipe").verdict == verdict


def test_a_teacher_is_the_recipes_whatever_student_it_was_asked_for_beside(load):
    made = toy_records.make()
    for one in made:
        if one["params"].get("role") == "teacher":
            one["params"] |= {"layer_map": "first", "distill_steps": 7}
    found = load(made)
    of_teachers = found[(found.kind == "finetune") & (found.role == "teacher")]
    assert {tidy.variant_of(row) for row in of_teachers.itertuples()} == {""}

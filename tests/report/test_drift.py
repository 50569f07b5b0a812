"""What counts as moved against the reference, and what does not."""

import json

import pytest
import toy_records

from ctd_lib import paths
from ctd_lib.errors import CtdError
from ctd_lib.report import drift

SCORE = "finetune lsg student conll2003 seed 0"
TIMES = "measure lsg seed 0"


@pytest.fixture
def made(load):
    """Toy records on disk, accepted as the reference."""
    made = toy_records.make()
    load(made, kept=False)
    drift.accept("quick")
    return made


def find(made, kind, **named):
    named = {"arch": "lsg"} | named
    return next(
        one["values"]
        for one in made
        if one["kind"] == kind and named.items() <= one["params"].items()
    )


def moved(load, made):
    load(made, kept=False)
    table = drift.compare("quick").table
    return list(zip(table.record, table.number, table.what, strict=True))


NOTHING = [("nothing moved", "-", "-")]


def test_the_same_records_have_not_moved(load, made):
    made[1]["values"]["precision"] = "float32"
    assert moved(load, made) == NOTHING
    account = drift.compare("quick").account
    # 5 archs: 4 tasks and 2 roles, 3 losses, 5 numbers of costs
    assert f"of {5 * (8 + 3 + 5)} numbers 0 moved, 0 records are new, 0 missing" in account
    assert "2000-01-01 (commit 01234567, toy processor)" in account
    assert account.endswith("The records are of toy processor, trained in bfloat16, float32.")


@pytest.mark.parametrize(("change", "expected"), [(0.039, NOTHING), (-0.041, None)])
def test_a_score_may_differ_by_two_test_examples(load, made, change, expected):
    find(made, "finetune", role="student", task="conll2003")["score"] += change
    assert moved(load, made) == (expected or [(SCORE, "score", "moved")])


def test_a_score_on_many_examples_may_differ_less(load, made):
    values = find(made, "finetune", role="student", task="conll2003")
    values["test_examples"] = 10_000
    values["score"] += 0.021
    assert moved(load, made) == [(SCORE, "score", "moved")]


def test_a_slower_machine_has_not_moved(load, made):
    for row in find(made, "measure")["rows"]:
        row["seconds_median"] *= 3
    assert moved(load, made) == NOTHING


def test_times_of_student_and_teacher_that_part_have_moved(load, made):
    for row in find(made, "measure")["rows"]:
        row["seconds_median"] *= 1.3 if row["role"] == "student" else 1
    assert moved(load, made) == [(TIMES, "time, student / teacher", "moved")]


def test_one_parameter_more_has_moved(load, made):
    for row in find(made, "measure")["rows"]:
        row["parameters"] += row["role"] == "teacher"
    assert moved(load, made) == [(TIMES, "teacher's parameters", "moved")]


@pytest.mark.parametrize(("kind", "allowed"), [("pretrain", 0.049), ("distill", 0.049)])
def test_losses(load, made, kind, allowed):
    values = find(made, kind)
    values["mlm_loss_after"] += allowed
    assert moved(load, made) == NOTHING
    values["mlm_loss_after"] += 0.002
    assert moved(load, made) == [(f"{kind} lsg seed 0", "masked-LM loss", "moved")]


def test_records_without_a_counterpart_are_named(load, made):
    reference = drift.reference_path("quick")
    content = json.loads(reference.read_text())
    content["records"]["distill other seed 7"] = content["records"].pop("distill lsg seed 0")
    reference.write_text(json.dumps(content))
    assert moved(load, made) == [
        ("distill lsg seed 0", "-", "new"),
        ("distill other seed 7", "-", "missing"),
    ]


def test_without_a_reference_it_says_so(load):
    load(toy_records.make(), kept=False)
    found = drift.compare("quick")
    assert found.account == "No reference of the profile quick is there yet."
    assert list(found.table.record) == ["not compared"]


def test_what_is_no_reference_is_refused(load, made):
    drift.reference_path("quick").write_text("[]")
    with pytest.raises(CtdError, match=r"quick\.json is no reference"):
        drift.compare("quick")


def test_the_command_writes_the_table_and_prints_it(load, made, capsys):
    find(made, "finetune", role="student", task="conll2003")["score"] = 0.1
    load(made, kept=False)
    assert drift.main([]) == 0
    assert SCORE in capsys.readouterr().out
    written = (paths.book_generated() / "tables" / "drift.md").read_text()
    assert SCORE in written and "numbers 1 moved" in written
    assert drift.main(["--accept"]) == 0
    assert SCORE not in (paths.book_generated() / "tables" / "drift.md").read_text()


def test_no_records_no_reference(load, capsys):
    load([])
    assert drift.main(["--accept"]) == 1
    assert "no records" in capsys.readouterr().err

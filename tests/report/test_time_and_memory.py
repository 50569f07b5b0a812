"""The finding on time and memory: what its rows and its box say of machines and implementations."""

import copy

import pytest
import toy_records
import toy_study
from toy_records import cell
from toy_study import answer, of

from ctd_lib.report import findings

MACHINE = "toy processor, 2 threads"


@pytest.fixture
def made():
    return [one | {"profile": "study"} for one in toy_records.make() if one["kind"] == "systems"]


def test_rows_name_the_machine_and_those_of_another_follow(load_study, made):
    other = copy.deepcopy(made)
    for one in other:
        one["artifact"] += "-other"
        one["provenance"]["host"]["cpu"] = "another"
        one["values"]["machine"]["calibration"]["disturbed"] += 1
        for ratio in one["values"]["ratios"]:
            ratio |= {"ratio": 0.9, "low": 0.9, "high": 0.9}
    found = findings.time_and_memory(load_study([*toy_study.measured(), *made, *other]))
    frame = of(found, "finding_time_and_memory")
    paper_size = frame[frame.models == "paper's size"]
    assert list(paper_size.machine.unique()) == [MACHINE, "another, 2 threads"]
    row = {"what": "time", "models": "paper's size", "arch": "lsg"}
    assert cell(frame, "change (%)", machine=MACHINE, **row) == pytest.approx(-50)
    assert cell(frame, "change (%)", machine="another, 2 threads", **row) == pytest.approx(-10)
    assert answer(found, "time").ours.value == pytest.approx(-50)
    [machine] = frame[frame.models == "study's size"].machine.unique()
    assert machine == MACHINE


def test_the_box_on_memory_says_how_it_was_measured_and_what_public_code_gives(load_study, made):
    found = findings.time_and_memory(load_study(made))
    because = answer(found, "memory").because
    assert (
        "our implementation in float32 at batch size 1 on a CPU, models of the paper's" in because
    )
    public = {"what": "memory", "models": "paper's size, public", "arch": "converted archs"}
    mean = cell(of(found, "finding_time_and_memory"), "change (%)", **public)
    said = f"{mean:.1f}".replace("-", "\N{MINUS SIGN}")
    assert f"; the public implementations: {said} % (" in because
    assert because.endswith(f" on {MACHINE}")
    assert "public" not in answer(found, "time").because


def test_without_public_implementations_the_box_is_silent_on_them(load_study, made):
    for one in made:
        values = one["values"]
        values["rows"] = [r for r in values["rows"] if r["implementation"] == "ours"]
        values["ratios"] = [r for r in values["ratios"] if r["to"]["implementation"] == "ours"]
    found = findings.time_and_memory(load_study(made))
    assert answer(found, "memory").because.endswith(MACHINE)
    assert "public" not in answer(found, "memory").because

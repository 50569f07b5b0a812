"""Which model to deploy: forms of an export, candidates, and those that none beats."""

import copy
import math

import pandas as pd
import pytest
import toy_records
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_records import cell

from ctd_lib.report import candidates, tables


def test_the_forms_of_an_export_and_of_its_encoder(load):
    [record] = [r for r in toy_records.make() if r["kind"] == "export"]
    encoder = copy.deepcopy(record)
    encoder["params"]["finetuned"], encoder["artifact"] = False, "encoder"
    for row in encoder["values"]["rows"]:
        row["score"] = None
    table = tables.forms(load([record, encoder]))
    assert set(table["length (tokens)"]) == {4096}
    int8 = {"form": "ONNX int8", "task": "conll2003"}
    assert cell(table, "score kept (%)", **int8) == pytest.approx(95)
    assert cell(table, "time, change (%)", **int8) == pytest.approx(-50)
    assert cell(table, "memory of the forward (MiB)", **int8) == pytest.approx(512)
    assert cell(table, "score kept (%)", form="ONNX int8", task="none: the encoder") == "-"


def test_a_form_without_memory_keeps_the_others(load):
    [record] = [r for r in toy_records.make() if r["kind"] == "export"]
    nothing = dict.fromkeys(("seconds_median", "seconds_iqr", "peak_bytes", "baseline_bytes"))
    for row in record["values"]["rows"]:
        row["score"] = 0.0
        if row["form"] == "ONNX int8":
            row |= nothing | {"error": "out of memory"}
    table = tables.forms(load([record]))
    assert cell(table, "time (ms)", form="ONNX int8") == tables.NOT_RUN
    assert cell(table, "time (ms)", form="torch float32") > 0
    assert cell(table, "score kept (%)", form="ONNX float32") == "-"


def test_the_choice_for_a_length_and_a_budget(load):
    made = toy_records.make()
    for record in made:
        named = record["params"]
        if record["kind"] == "finetune" and (named["arch"], named["role"]) == ("lsg", "teacher"):
            record["values"]["score"] = 0.9
    table = tables.choice(load(made))
    long = table[table["length (tokens)"] == 4096]
    # The teacher of lsg is best, those of full attention are cheaper; others cost more for less.
    assert [*zip(long["take"], long["model"], strict=True)] == [
        ("lsg", "teacher"), ("full", "teacher"), ("full", "student"),
    ]  # fmt: skip
    assert set(long.over) == {f"2 long tasks {tables.SYNTHETIC_MARK}"}
    assert set(table[table["length (tokens)"] == 512].over) == {"2 short tasks"}
    assert list(long["time (ms)"]) == pytest.approx([7168, 4096, 2048])
    assert list(long["documents (an hour)"]) == [502, 879, 1758]


costs = st.floats(1, 4).map(round) | st.just(math.nan)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 4), costs), min_size=1, max_size=8))
def test_the_front_beats_all_others_and_nobody_beats_it(models):
    rows = pd.DataFrame(models, columns=["score", "ms", "mib"])
    best = candidates.front(rows)
    assert list(best.score) == sorted(best.score, reverse=True)

    def beats(a, b):
        known = [(-a.score, -b.score), (a.ms, b.ms)]
        known += [] if math.isnan(a.mib + b.mib) else [(a.mib, b.mib)]
        return all(x <= y for x, y in known) and any(x < y for x, y in known)

    every = list(rows.itertuples())
    for one in every:
        assert (one.Index in best.index) != any(beats(other, one) for other in every)

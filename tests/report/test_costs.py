"""What systems cost: exact cells from toy records, what counts, what is missing, what failed."""

import copy
import math

import pandas as pd
import pytest
import toy_records
from hypothesis import given
from hypothesis import strategies as st
from toy_records import cell

from ctd_lib import ARCHS, params, paths
from ctd_lib.report import fragments, paper, scaling, systems, tables

SYSTEM_TABLES = [table for table in tables.TABLES if table.kind == systems.KIND]


@pytest.fixture(scope="module")
def made():
    return [r for r in toy_records.make() if r["kind"] in ("systems", "export", "measure")]


def system_of(made, arch):
    """A copy of the records, and the one of an arch among them."""
    made = copy.deepcopy(made)
    [chosen] = [r for r in made if r["kind"] == "systems" and r["params"]["arch"] == arch]
    return made, chosen


def rows_of(record, **values):
    return [r for r in record["values"]["rows"] if values.items() <= r.items()]


def test_student_and_teacher_beside_the_paper(load, made):
    made, lsg = system_of(made, "lsg")
    for ratio in lsg["values"]["ratios"]:
        ratio |= {"ratio": 0.4, "low": 0.38, "high": None}
    table = tables.against_teacher(load(made))
    ours = {"implementation": "ours", "dtype": "float32"}
    assert cell(table, "teacher (ms)", arch="longformer", **ours) == pytest.approx(2560)
    assert cell(table, "95 % interval", arch="longformer", **ours) == "−51.0 to −49.0"  # noqa: RUF001
    memory = 100 * (1040 / 1160 - 1)
    assert cell(table, "memory, change (%)", arch="longformer", **ours) == pytest.approx(memory)
    assert cell(table, "time, change (%)", arch="lsg", **ours) == pytest.approx(-60)
    assert cell(table, "95 % interval", arch="lsg", **ours) == tables.NOT_RUN
    mean = {"arch": "mean of 4 efficient ones", **ours}
    assert cell(table, "time, change (%)", **mean) == pytest.approx(-52.5)
    said = table.set_index("arch")[["time, change (%)", "memory, change (%)"]]
    assert list(said.loc["paper, mean"]) == [-45.2, -2.6]
    assert list(said.loc["paper, best"]) == [-57.8, paper.NOT_AVAILABLE]


def test_what_lies_outside_of_the_layers_limits_the_cut(load, made):
    """700 ms that both share, and 100 ms a layer: 1,900 and 1,300 ms, a cut of 31.6 %."""
    made, record = system_of(made, "bigbird")
    times = {"teacher": 1.9, "student": 1.3}
    for row in rows_of(record, implementation="ours", dtype="float32", length=4096):
        row["seconds_median"] = times[row["role"]]
    for ratio in record["values"]["ratios"]:
        ratio["ratio"] = 1.3 / 1.9
    table = tables.ceiling(load(made))
    ours = {"implementation": "ours", "dtype": "float32"}
    assert cell(table, "outside the layers (ms)", arch="bigbird", **ours) == pytest.approx(700)
    assert cell(table, "outside the layers (ms)", arch="lsg", **ours) == pytest.approx(0)
    assert cell(table, "FLOP, change (%)", arch="bigbird", **ours) == pytest.approx(-50)
    assert cell(table, "weights saved (MiB)", arch="lsg", **ours) == pytest.approx(4 * 42e6 / 2**20)
    half = cell(table, "weights saved (MiB)", arch="lsg", implementation="ours", dtype="bfloat16")
    assert half == pytest.approx(2 * 42e6 / 2**20)
    words = tables.explained(table, "quick", "toy processor, 2 threads")
    assert "**−46.3 %**" in words  # noqa: RUF001
    assert "**7.8 points** beyond" in words and "toy processor" in words
    assert tables.explained(table, "quick", "another machine") == "Not run yet.\n"


@pytest.mark.parametrize(
    ("reaching", "words"),
    [
        ((), "no row measured reaches it."),
        (("lsg",), "the only row that reaches it is lsg, ours, float32, toy processor, 2 threads"),
        (("longformer", "lsg"), "the rows that reach it are longformer, ours, float32, toy"),
    ],
)
def test_rows_that_save_as_much_as_the_papers_best_are_named(load, made, reaching, words):
    made = copy.deepcopy(made)
    for record in made:
        if record["kind"] == "systems" and record["params"]["arch"] in reaching:
            for ratio in record["values"]["ratios"]:
                sides = [ratio[side] for side in ("of", "to")]
                if all((s["implementation"], s["dtype"]) == ("ours", "float32") for s in sides):
                    ratio["ratio"] = 0.4
    table = tables.ceiling(load(made))
    assert words in tables.explained(table, "quick", "toy processor, 2 threads")


def test_tables_of_several_runs_name_the_machine_and_its_commit(load, made):
    made, record = system_of(made, "lsg")
    record["provenance"] = record["provenance"] | {"dirty": True}
    found = load(made)
    for build in (tables.batches, tables.workloads, tables.repeated, tables.against_teacher):
        table = build(found)
        assert "machine" in table or (table == tables.NOT_RUN).all(axis=None), build.__name__
    assert "commit 01234567, 01234567 + changes." in systems.note(found)


def test_conversion_and_distillation_multiply(load, made):
    found = load(made)
    table = tables.apart(found)
    assert set(table.arch) == set(ARCHS[1:])
    for quantity in ("time", "memory"):
        steps = (1 + table[f"{quantity}, {step} (%)"] / 100 for step in
                 ("conversion", "distillation", "change by both"))  # fmt: skip
        conversion, distillation, both = steps
        assert (conversion * distillation).tolist() == pytest.approx(both.tolist())
    public = {"arch": "lsg", "implementation": "public"}
    assert cell(table, "time, conversion (%)", **public) == pytest.approx(100 * (1.75 / 4 - 1))
    table = tables.apart(found[found.arch != "full"])
    assert set(table["time, conversion (%)"]) == {tables.NOT_RUN}


def test_ours_against_public(load, made):
    table = tables.against_public(load(made))
    assert len(table) == 2 * len(ARCHS)
    best = {"arch": "lsg", "ours": "student, bfloat16"}
    assert cell(table, "public (ms)", **best) == pytest.approx(7168)
    assert cell(table, "ours (ms)", **best) == pytest.approx(896)
    assert cell(table, "time, change (%)", **best) == pytest.approx(-87.5)


def test_slopes_and_crossings_are_those_of_the_toy_systems(load, made):
    table = tables.over_length(load(made))
    row = {"implementation": "ours", "dtype": "float32", "role": "student"}
    assert cell(table, "time grows as length to the", arch="full", **row) == "2.00"
    assert cell(table, "time grows as length to the", arch="bigbird", **row) == "1.00"
    assert cell(table, "less time than full from (tokens)", arch="bigbird", **row) == "1,536"
    assert cell(table, "less memory than full from (tokens)", arch="bigbird", **row) == "1,536"


def test_a_variant_of_a_public_system_stays_apart(load, made):
    made, record = system_of(made, "nystromformer")
    public = rows_of(record, implementation="transformers")
    variants = copy.deepcopy(public)
    for row in variants:
        row |= {"system": "Nystromformer, landmarks on",
                "seconds_median": row["seconds_median"] / 8}  # fmt: skip
    record["values"]["rows"] += variants
    record["values"]["ratios"] += toy_records.ratios(variants)
    found = load(made)
    table = tables.against_teacher(found)
    nystromformer = table[(table.arch == "nystromformer") & (table.dtype == "float32")]
    assert list(nystromformer.implementation) == ["ours", "public", "public, landmarks on"]
    assert list(nystromformer["teacher (ms)"]) == pytest.approx([4096, 8192, 1024])
    variant = {"implementation": "public, landmarks on", "arch": "nystromformer"}
    change = cell(tables.apart(found), "time, conversion (%)", **variant)
    assert change == pytest.approx(100 * (1024 / 16384 - 1))


def test_own_parameters_go_before_later_trials_and_machines_stay_apart(load, made):
    made, record = system_of(made, "longformer")
    trial, later, elsewhere = (
        copy.deepcopy(record) | {"artifact": name} for name in ("trial", "later", "elsewhere")
    )
    for other, factor in ((trial, 3), (later, 2), (elsewhere, 0.1)):
        for row in other["values"]["rows"]:
            row["seconds_median"] *= factor
        other["provenance"] = other["provenance"] | {"date": "2001-01-01T00:00:00+00:00"}
    trial["params"]["repeats"] += 1
    elsewhere["provenance"]["host"] = record["provenance"]["host"] | {"gpu": "a GPU"}
    elsewhere["values"]["device"] = "cuda"
    found = load([*made, trial, later, elsewhere])
    row = {"arch": "longformer", "implementation": "ours", "dtype": "float32"}
    table = tables.against_teacher(found[found.key != "later"])
    assert cell(table, "teacher (ms)", machine="a GPU", **row) == pytest.approx(256)
    cpu = cell(table, "teacher (ms)", machine="toy processor, 2 threads", **row)
    assert cpu == pytest.approx(2560)
    table = tables.against_teacher(found[found.key != "elsewhere"])
    assert cell(table, "teacher (ms)", **row) == pytest.approx(2 * 2560)


def test_what_failed_costs_its_own_cells(load, made):
    made, record = system_of(made, "full")
    for row in rows_of(record, role="teacher", implementation="transformers", length=4096):
        row |= dict.fromkeys(
            ("seconds_median", "seconds_iqr", "seconds_p5", "seconds_p95", "tokens_per_second",
             "documents_per_second", "peak_bytes", "baseline_bytes", "peak_share")
        ) | {"error": "out of memory"}  # fmt: skip
    found = load(made)
    failed = tables.failures(found).set_index("system")
    assert failed.loc["BERT", "lengths (tokens)"] == "1,024, 2,048, 4,096"
    assert tuple(failed.loc["RoBERTa", ["error", "lengths (tokens)"]]) == ("out of memory", "4,096")
    apart = tables.apart(found)
    changes = apart.set_index(["implementation", "arch"])["time, conversion (%)"]
    assert set(changes.loc["public"]) == {tables.NOT_RUN}
    assert tables.NOT_RUN not in set(changes.loc["ours"])
    names = tables.references(found).set_index(["system", "length (tokens)"]).index
    assert ("BERT", 512) in names and ("RoBERTa", 4096) not in names


def test_references_say_where_positions_were_added(load, made):
    table = tables.references(load(made)).set_index(["system", "length (tokens)"]).positions
    assert table["RoBERTa", 512] == "as published"
    assert table["RoBERTa", 4096] == "more than published"


def test_workloads_and_machines(load, made):
    found = load(made)
    table = tables.workloads(found)
    assert set(table["documents a batch"]) == {8} and len(table) == len(ARCHS)
    assert cell(table, "change (%)", system="LSG") == pytest.approx(-20)
    machines = tables.machines(found)
    assert list(machines.arch) == list(ARCHS)
    assert set(machines.energy) == {"not measured"}
    assert set(machines["matrix product, bfloat16 (GFLOP/s)"]) == {200.0}


@pytest.mark.parametrize(
    ("cpu", "shown"),
    [("Intel(R) Xeon(R) Processor", "Intel Xeon"), ("Core(TM) i7 CPU @ 2 GHz", "Core i7 @ 2 GHz")],
)
def test_a_processor_is_named_shortly(load, made, cpu, shown):
    made, record = system_of(made, "lsg")
    record["provenance"]["host"] = record["provenance"]["host"] | {"cpu": cpu}
    assert f"{shown}, 2 threads" in set(systems.rows(load(made)).machine)


def test_batches_against_the_smallest(load, made):
    table = tables.batches(load(made))
    ours = {"system": "LSG", "role": "student", "implementation": "ours", "dtype": "float32"}
    change = "change against the smallest batch (%)"
    assert cell(table, change, **ours, **{"documents a batch": 1}) == "-"
    assert cell(table, change, **ours, **{"documents a batch": 8}) == pytest.approx(0)
    assert set(table["length (tokens)"]) == {512}


def test_measured_again_it_lies_so_far_apart(load, made):
    made, first = system_of(made, "longformer")
    assert set(tables.repeated(load(made))["apart (%)"]) == {tables.NOT_RUN}
    again = copy.deepcopy(first) | {"artifact": "again"}
    again["params"]["seed"] = 1
    for ratio in again["values"]["ratios"]:
        ratio["ratio"] *= 1.02
    table = tables.repeated(load([*made, again]))
    assert set(table.arch) == {"longformer"} and set(table.measurements) == {2}
    assert table["apart (%)"].astype(float).to_numpy() == pytest.approx(2.0)
    other = copy.deepcopy(first) | {"artifact": "other"}
    other["provenance"]["host"] = first["provenance"]["host"] | {"cpu": "another"}
    both = tables.repeated(load([*made, again, other]))
    assert set(both[both.machine == "another, 2 threads"]["apart (%)"]) == {"-"}
    assert len(both) == 2 * len(table)


@pytest.mark.parametrize("kind", ["systems", "export", "measure"])
def test_every_table_stands_on_one_kind_of_record(load, made, kind):
    found = load([r for r in made if r["kind"] == kind])
    for table in tables.TABLES:
        assert not table.build(found).isna().any(axis=None), table.name
    if kind != "systems":
        for table in SYSTEM_TABLES:
            assert tables.NOT_RUN in table.build(found).to_csv(), table.name


def as_the_study(record):
    """With the parameters of the variant that the study measures systems by."""
    arch = record["params"]["arch"]
    chosen = params.make(
        params.STAGES["systems"], profile="study", arch=arch, variant="paper-systems"
    )
    return record | {"profile": "study", "params": params.as_dict(chosen)}


def test_a_profile_without_systems_shows_the_studys_and_says_so(load, made):
    load([r for r in made if r["kind"] == "measure"])
    tables.write_all("quick")
    folder = paths.book_generated() / "tables"
    assert "`results/quick`" in (folder / "against_teacher.md").read_text()
    assert (folder / "explained.md").read_text() == "Not run yet.\n"
    study = [as_the_study(r) for r in made if r["kind"] == "systems"]
    toy_records.write(study, paths.results("study"))
    tables.write_all("quick")
    text = (folder / "against_teacher.md").read_text()
    assert "`results/study`" in text and "Measured on: toy processor, 2 threads; commit" in text
    assert "`results/quick`" in (folder / "latency.md").read_text()
    assert "Profile `study`" in (folder / "explained.md").read_text()
    every = pd.read_csv(folder / "every_system.csv")
    assert len(every) == sum(len(r["values"]["rows"]) for r in made if r["kind"] == "systems")


def test_documents_pages_and_their_cost(load, made):
    made, record = system_of(made, "lsg")
    record["params"]["price_per_hour"] = None
    for row in rows_of(record, role="teacher", implementation="ours", dtype="float32", length=4096):
        batch = row | {"batch_size": 4, "documents_per_second": 1.0, "tokens_per_second": 4096.0}
    record["values"]["rows"].append(batch)
    table = tables.price(load(made))
    row = {"role": "teacher", "implementation": "ours", "dtype": "float32"}
    assert cell(table, "documents a batch", system="LSG", **row) == 4
    assert cell(table, "documents (an hour)", system="LSG", **row) == 3600
    assert cell(table, "pages (an hour)", system="LSG", **row) == round(3600 * 4096 / 500)
    assert cell(table, "cost of a million pages", system="LSG", **row) == "no price given"
    # 1,600 tokens a second are 11,520 pages an hour, for 1.80.
    assert cell(table, "cost of a million pages", system="Longformer", **row) == "156.25"
    assert fragments.cell(3600, "documents (an hour)") == "3,600"


@given(st.floats(0.1, 3), st.floats(0.01, 100))
def test_the_slope_of_a_power_is_its_exponent(exponent, factor):
    lengths = [128, 512, 1024, 4096]
    line = pd.Series([factor * length**exponent for length in lengths], index=lengths)
    line[128] *= 50  # short lengths do not count
    assert scaling.slope(line) == pytest.approx(exponent)


@pytest.mark.parametrize(
    ("ratios", "length", "words"),
    [
        ({512: 2.0, 2048: 0.5}, 1024, "1,024"),
        ({512: 0.9, 2048: 0.5}, 0, "below 512"),
        ({512: 0.9, 2048: 1.0}, math.inf, "above 2,048"),
        ({512: 0.5, 1024: 2.0, 4096: 0.5}, 2048, "2,048"),
    ],
)
def test_where_a_ratio_falls_below_one_for_good(ratios, length, words):
    line = pd.Series(ratios)
    assert scaling.crossing(line) == pytest.approx(length)
    assert scaling.crossing_words(line, "nothing") == words


def test_no_ratio_no_crossing():
    assert math.isnan(scaling.crossing(pd.Series(dtype=float)))
    assert scaling.crossing_words(pd.Series(dtype=float), "nothing") == "nothing"

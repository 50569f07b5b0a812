import json

import pandas as pd
import pytest

from ctd_lib import paths
from ctd_lib.errors import CtdError
from ctd_lib.report import benchmarks, tables

SECONDS = {"ours": {512: 2.0, 2048: 4.0, 8192: 16.0}, "full": {512: 1.0, 2048: 8.0, 8192: 128.0}}


def row(arch, kind, length, seconds, **more):
    return {
        "group": "longformer", "arch": arch, "kind": kind, "layers": 12, "dtype": "float32",
        "length": length, "batch_size": 1, "train": False, "seconds_median": seconds,
        "flop_per_second": 3e11, "times_bound": 1.25, "extra_bytes": 2**20 * length,
        "ratio": {"median": 2 / seconds, "lowest": 0.1, "highest": 0.9},
    } | more  # fmt: skip


def measured():
    return [
        row(arch, kind, length, seconds)
        for length in (512, 2048, 8192)
        for arch, kind, seconds in (
            ("longformer", "ours", SECONDS["ours"][length]),
            ("longformer", "transformers", 10 * SECONDS["full"][length]),
            ("full", "transformers", SECONDS["full"][length]),
            ("full", "ours", SECONDS["full"][length] / 4),
        )
    ]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    folder = paths.results(benchmarks.FOLDER)
    folder.mkdir(parents=True)
    return folder


def write(path, rows, machine="a processor", dirty=False):
    host = {"gpu": None, "cpu": machine}
    provenance = {"host": host, "commit": "0123456789", "dirty": dirty}
    path.write_text(json.dumps({"provenance": provenance, "rows": rows}))


def test_every_cell_of_the_table_comes_from_a_row(folder):
    write(folder / "attention-base.json", measured())
    table = benchmarks.attention(benchmarks.rows()).set_index("length (tokens)")
    assert list(table.index) == [512, 2048, 8192]
    first = table.loc[512]
    assert first["ours (s)"] == 2
    assert first["ours / public"] == "0.20 (0.10 to 0.90)"
    assert first["ours / full"] == "2.00 (0.10 to 0.90)"
    assert first["extra memory (MiB)"] == 512
    assert first["extra memory, ours / public"] == "1.00"
    assert first["speed (GFLOP/s)"] == 300
    assert first["times its bound"] == "1.25"


def test_the_crossover_lies_where_the_ratio_of_times_is_one(folder):
    """On log scales the ratio falls from 2 at 512 to 1/2 at 2048: 1 at their geometric mean."""
    write(folder / "attention-base.json", measured())
    [row] = benchmarks.crossover(benchmarks.rows()).to_dict("records")
    assert row["ours (tokens)"] == "1,024"
    assert row["ours, full with our linear layers (tokens)"] == "4,096"
    assert row["public (tokens)"] == "above 8,192"


def test_a_length_measured_at_two_depths_is_compared_at_the_same_one(folder):
    shallow = [r | {"layers": 2, "seconds_median": 1e-3} for r in measured() if r["kind"] == "ours"]
    write(folder / "attention-base.json", [*measured(), *shallow])
    [row] = benchmarks.crossover(benchmarks.rows()).to_dict("records")
    assert row["ours (tokens)"] == "1,024"


def test_a_student_is_set_against_the_teacher_that_it_replaces(folder):
    rows = [
        row("longformer", "ours", 4096, 1.0, group="student", layers=6, dtype="bfloat16"),
        row("longformer", "transformers", 4096, 10.0, group="student"),
    ]
    write(folder / "attention-student.json", rows)
    found = benchmarks.rows()
    [line] = benchmarks.replacement(found).to_dict("records")
    assert line["student"] == "longformer, 6 layers, bfloat16"
    assert (line["student (s)"], line["teacher (s)"]) == (1, 10)
    assert benchmarks.attention(found).equals(pd.DataFrame([{"arch": tables.NOT_RUN}]))


def test_without_measurements_the_page_says_so(folder):
    built = benchmarks.write_all()
    assert all((frame == tables.NOT_RUN).all(axis=None) for frame in built.values())
    text = (paths.book_generated() / "figures" / "speed.md").read_text()
    assert "Not run." in text


def test_the_page_names_the_machine(folder):
    write(folder / "attention-base.json", measured())
    benchmarks.write_all()
    text = (paths.book_generated() / "tables" / "attention.md").read_text()
    assert "Measured on: a processor, commit 01234567." in text
    alt = (paths.book_generated() / "figures" / "speed.alt.txt").read_text()
    assert "longformer, ours, 16.0 s" in alt


def test_a_commit_with_changes_is_marked(folder):
    write(folder / "attention-base.json", measured(), dirty=True)
    benchmarks.write_all()
    assert "Measured on: a processor, commit 01234567 + changes." in page("attention")


def test_captions_say_which_public_nystromformer_it_is(folder):
    benchmarks.write_all()
    figure = (paths.book_generated() / "figures" / "speed.md").read_text()
    assert all("landmarks on" in text for text in (page("attention"), page("crossover"), figure))


def test_each_table_names_the_machines_of_its_own_rows(folder):
    write(folder / "attention-base.json", measured())
    student = {"group": "student", "layers": 6}
    pair = [row("longformer", kind, 4096, 1.0, **student) for kind in ("ours", "transformers")]
    write(folder / "attention-student.json", pair, "another")
    for machine in ("a processor", "a third"):
        steps = training_step("float32", "float32")
        write(folder / f"training-{machine}.json", steps, machine)
        batch = {"what": "batch", "length": 4096, "mean": 0.1, "highest": 0.2, "times": 9}
        resume = batch | {"parameters": 10, "bytes": 80}
        write(folder / f"overheads-{machine}.json", [batch, resume], machine)
    benchmarks.write_all()
    notes = {
        name: [n for n in ("a processor", "another", "a third") if f"{n}, commit" in page(name)]
        for name in ("attention", "crossover", "replacement", "training_step", "beside_steps")
    }
    assert notes["attention"] == notes["crossover"] == ["a processor"]
    assert notes["replacement"] == ["another"]
    assert notes["training_step"] == notes["beside_steps"] == ["a processor", "a third"]
    for name in ("training_step", "beside_steps"):
        assert "| machine |" in page(name) and "| a third |" in page(name)


def page(table):
    return (paths.book_generated() / "tables" / f"{table}.md").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}'])
def test_a_file_of_something_else_is_named(folder, text):
    (folder / "attention-other.json").write_text(text)
    message = r"attention-other\.json is no output of benchmarks/attention\.py"
    with pytest.raises(CtdError, match=message):
        benchmarks.rows()


def test_rows_that_failed_are_left_out(folder):
    write(folder / "attention-base.json", [row("full", "ours", 512, 1.0), {"error": "no memory"}])
    assert isinstance(benchmarks.rows(), pd.DataFrame)
    assert len(benchmarks.rows()) == 1


def test_where_ours_failed_the_rest_is_shown(folder):
    rows = [r for r in measured() if not (r["kind"] == "ours" and r["length"] == 512)]
    write(folder / "attention-base.json", rows)
    assert set(benchmarks.attention(benchmarks.rows())["length (tokens)"]) == {2048, 8192}


def test_machines_are_told_apart(folder):
    """Measured again on another machine: rows that were kept in the file say where they are of."""
    host = {"gpu": "a card", "cpu": "a processor"}
    other = {"provenance": {"host": host, "commit": "9876543210"}, "device": "cuda"}
    again = [row | {"seconds_median": row["seconds_median"] / 8} for row in measured()]
    write(folder / "attention-base.json", measured() + [other | r for r in again])
    found = benchmarks.rows()
    assert set(found.measured) == {"a processor, commit 01234567", "a card, commit 98765432"}
    table = benchmarks.attention(found).set_index(["machine", "length (tokens)"])["ours (s)"]
    assert table["a processor", 2048] == 4 and table["a card", 2048] == 0.5
    assert len(benchmarks.crossover(found)) == 2


STEP = {"arch": "longformer", "layers": 6, "hidden_size": 384, "length": 4096}


def training_step(dtype, dtype_of_plain):
    kinds = (("ours", dtype, 10, 40.0), ("plain", dtype_of_plain, 40, 10.0))
    ours, plain = (
        STEP | {
            "kind": kind, "dtype": dtype, "peak_bytes": peak * 2**20,
            "tokens_per_second": {"median": speed, "lowest": 1.0, "highest": 2.0},
        }
        for kind, dtype, peak, speed in kinds
    )  # fmt: skip
    ours["speed_ratio"] = {"median": 4.0, "lowest": 3.5, "highest": 4.5}
    ours["memory_ratio"] = {"peak_bytes": 0.25, "extra_bytes": None}
    return [ours, plain]


def test_a_training_step_is_set_beside_the_plain_loop(folder):
    ours, plain = training_step("bfloat16", "float32")
    write(folder / "training-step.json", [ours, plain])
    assert benchmarks.rows().empty
    [line] = benchmarks.training_step(benchmarks.rows("training")).to_dict("records")
    assert line["teacher"] == "6 layers of 384"
    assert line["dtype, ours / plain"] == "bfloat16 / float32"
    assert line["times as fast"] == "4.00 (3.50 to 4.50)"
    assert (line["peak, ours (MiB)"], line["peak, plain (MiB)"]) == (10, 40)
    assert line["peak, ours / plain"] == "0.25"
    write(folder / "training-failed.json", [STEP | {"kind": "ours", "error": "no memory"}, plain])
    assert len(benchmarks.training_step(benchmarks.rows("training"))) == 1


def test_what_training_costs_beside_its_steps(folder):
    times = {"mean": 0.002, "highest": 0.01, "times": 40}
    batch = {"what": "batch, kept", "length": 4096} | times
    resume = {"what": "resume", "parameters": 10**7, "bytes": 2**27} | times
    write(folder / "overheads-toy.json", [batch, resume])
    table = benchmarks.beside_steps(benchmarks.rows("overheads")).set_index("what")
    assert table.loc["batch, kept", "mean (ms)"] == pytest.approx(2)
    assert table.loc["resume", "checkpoint (MiB)"] == 128
    assert table.loc["resume", "parameters (millions)"] == 10


def test_the_machine_of_a_run_on_the_processor_is_the_processor_though_there_is_a_gpu(folder):
    path = folder / "attention-base.json"
    write(path, measured())
    content = json.loads(path.read_text())
    content["provenance"]["host"]["gpu"] = "a card"
    path.write_text(json.dumps(content))
    assert set(benchmarks.rows().machine) == {"a processor"}
    path.write_text(json.dumps(content | {"device": "cuda"}))
    assert set(benchmarks.rows().machine) == {"a card"}


def test_memory_that_the_system_does_not_tell_is_not_shown_as_a_number(folder):
    unknown = {"extra_bytes": None}
    write(folder / "attention-base.json", [one | unknown for one in measured()])
    pair = [row("longformer", kind, 4096, 1.0, group="student") | unknown
            for kind in ("ours", "transformers")]  # fmt: skip
    write(folder / "attention-student.json", pair)
    steps = [one | {"peak_bytes": None} for one in training_step("float32", "float32")]
    write(folder / "training-base.json", steps)
    built = benchmarks.write_all()
    first = built["attention"].iloc[0]
    assert first["extra memory (MiB)"] == first["extra memory, ours / public"] == "-"
    assert built["replacement"]["extra memory, student (MiB)"].iloc[0] == "-"
    assert built["training_step"]["peak, ours / plain"].iloc[0] == "-"

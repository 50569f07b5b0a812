"""Figures of systems and of the choice of a model: what is drawn and what is said of it."""

import pytest
import toy_records

from ctd_lib import ARCHS, paths
from ctd_lib.report import figures, tables


def test_growth_shows_ours_and_public_with_slopes_and_crossings(load):
    drawing = figures.time_over_length(load(toy_records.make()))
    ours, public = drawing.figure.axes
    assert (ours.get_title(), public.get_title()) == ("ours", "public")
    stars = [line for line in ours.lines if line.get_marker() == "*"]
    assert [float(star.get_xdata()[0]) for star in stars] == pytest.approx([1280, 1536, 1792, 2048])
    # There, half of a second for 1,024 tokens and as much as full attention takes.
    assert float(stars[0].get_ydata()[0]) == pytest.approx(0.5 * 1280 * 1.25)
    assert len(ours.lines) - len(stars) == 2 * len(ARCHS)
    words = [text.get_text() for text in ours.get_legend().get_texts()]
    assert words == ["full 2.00, 2.00", *(f"{arch} 1.00, 1.00" for arch in ARCHS[1:])]
    assert "public: full 2.00 and 2.00; longformer 1.00 and 1.00, below full from 1,280 tokens" in (
        drawing.alt
    )


def test_memory_is_that_of_the_forward_alone(load):
    drawing = figures.memory_over_length(load(toy_records.make()))
    line = drawing.figure.axes[1].lines[0]
    assert list(line.get_ydata()) == pytest.approx([32, 128, 512, 2048])


def test_a_panel_for_each_machine(load):
    made = toy_records.make()
    for record in [r for r in made if r["kind"] == "systems"]:
        host = record["provenance"]["host"] | {"gpu": "a GPU"}
        provenance = record["provenance"] | {"host": host}
        values = record["values"] | {"device": "cuda"}
        made.append(record | {"provenance": provenance, "values": values, "artifact": "gpu"})
    titles = [axes.get_title() for axes in figures.time_over_length(load(made)).figure.axes]
    assert titles == [
        "ours, a GPU", "public, a GPU", "ours, toy processor, 2 threads",
        "public, toy processor, 2 threads",
    ]  # fmt: skip


def test_pareto_shows_every_model_and_draws_the_best(load):
    drawing = figures.pareto(load(toy_records.make()))
    short, long = drawing.figure.axes
    assert short.get_title() == "short tasks, 512 tokens"
    assert long.get_title() == f"long tasks {tables.SYNTHETIC_MARK}, 4,096 tokens"
    assert len(long.collections) == 2 * len(ARCHS)
    [line] = long.lines
    assert list(line.get_xdata()) == pytest.approx([2048, 4096])
    assert list(line.get_ydata()) == pytest.approx([0.72, 0.8])
    teacher, student = long.collections[:2]
    assert teacher.get_sizes()[0] / student.get_sizes()[0] == pytest.approx(612 / 100)
    assert "full student 0.720 in 2,048 ms with 100 MiB" in drawing.alt


def test_figures_fall_back_on_the_study_and_say_so(load, monkeypatch):
    chosen = [p for p in figures.PLOTS if p.name in ("time_over_length", "pareto")]
    monkeypatch.setattr(figures, "PLOTS", chosen)
    made = toy_records.make()
    load([r for r in made if r["kind"] == "measure"])
    study = [r | {"profile": "study"} for r in made if r["kind"] == "systems"]
    toy_records.write(study, paths.results("study"))
    drawn = figures.write_all("quick")
    text = (paths.book_generated() / "figures" / "time_over_length.md").read_text()
    assert "`results/study`" in text
    assert "below full" in drawn["time_over_length"].alt
    assert "not run" in drawn["pareto"].alt

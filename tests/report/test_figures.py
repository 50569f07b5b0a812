"""Figures from toy records: what is drawn, in words and on axes; the same bytes each time."""

import pytest
import toy_records

from ctd_lib import ARCHS, paths
from ctd_lib.errors import CtdError
from ctd_lib.report import figures


def points(drawing):
    """Label of each labelled line with its x and y values."""
    [axes] = drawing.figure.axes
    lines = [line for line in axes.lines if line.get_label() in ARCHS]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def test_headline_shows_score_against_time(load):
    drawn = points(figures.headline(load(toy_records.make())))
    assert set(drawn) == set(ARCHS)
    assert drawn["lsg"] == ([pytest.approx(50)], [pytest.approx(87)])


def test_latency_shows_teacher_and_student(load):
    drawing = figures.latency(load(toy_records.make()))
    [axes] = drawing.figure.axes
    assert len(axes.lines) == 2 * len(ARCHS)
    assert points(drawing)["full"] == ([512, 4096], [pytest.approx(512), pytest.approx(4096)])
    assert "full teacher 4,096 ms" in drawing.alt


def test_retention_names_lowest_and_highest(load):
    made = toy_records.make()
    for record in made:
        named = record["params"]
        if named.get("task") == "conll2003" and named["role"] == "student":
            record["values"]["score"] = 0.4
    drawing = figures.retention(load(made))
    assert "full from 50.0 % on conll2003 to 90.0 % on" in drawing.alt


def test_missing_archs_are_said_not_drawn(load):
    made = [r for r in toy_records.make() if r["params"]["arch"] != "bigbird"]
    drawing = figures.headline(load(made))
    assert "bigbird" not in points(drawing)
    assert "bigbird not run" in drawing.alt


@pytest.mark.parametrize("plot", figures.PLOTS, ids=lambda plot: plot.name)
def test_figures_stand_without_their_records(load, plot):
    made = [r for r in toy_records.make() if r["kind"] == "convert"]
    assert "not run" in plot.draw(load(made)).alt


def test_files_repeat_byte_for_byte_and_carry_their_words(load):
    load(toy_records.make())
    drawn = figures.write_all("quick")
    folder = paths.book_generated() / "figures"
    first = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    figures.write_all("quick")
    assert first == {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    for name, drawing in drawn.items():
        assert (folder / f"{name}.alt.txt").read_text().strip() == drawing.alt
        assert f":alt: {drawing.alt}" in (folder / f"{name}.md").read_text()
        assert (folder / f"{name}.png").is_file()


def test_writing_without_records_is_refused(load):
    load([])
    with pytest.raises(CtdError, match="no records"):
        figures.write_all("quick")

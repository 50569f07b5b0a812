"""Figures from toy records: what is drawn, in words and on axes; the same bytes each time."""

import io

import pytest
import toy_records
import toy_study

from ctd_lib import ARCHS, paths
from ctd_lib.errors import CtdError
from ctd_lib.report import figures, kept


def points(drawing):
    """Label of each labelled line with its x and y values."""
    [axes] = drawing.figure.axes
    lines = [line for line in axes.lines if line.get_label() in ARCHS]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def tasks(axes):
    """What the rows are of."""
    return [label.get_text() for label in axes.get_yticklabels()]


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


def test_retention_shows_the_interval(load):
    drawing = figures.retention(load(toy_records.make()))
    [axes] = drawing.figure.axes
    lines = {}
    for line in axes.lines:
        if len(line.get_xdata()) == 2 and tuple(line.get_xdata()) != (100, 100):
            task = tasks(axes)[round(line.get_ydata()[0])]
            lines.setdefault(task, []).append(line.get_xdata())
    for task, score in (
        ("press-ner †", 100 * (50 / 75) / (90 / 95)),
        ("press-qa †", 100 * 25 / 45),
    ):
        assert len(lines[task]) == len(ARCHS), task
        assert all(low < score < high for low, high in lines[task]), task
        assert f"{task} full {score:.3g}" in drawing.alt


def test_retention_leaves_out_what_the_teacher_has_not_learned(load_study):
    made = toy_study.main(tasks=("sst2", "mrpc"))
    for one in made:
        if one["params"]["task"] == "mrpc" and one["params"]["arch"] != "full":
            one["kept"] = toy_study.predicted("mrpc", 0.55)
    drawing = figures.retention(load_study(made))
    assert tasks(drawing.figure.axes[0]) == ["mrpc", "sst2"]
    assert "mrpc full" in drawing.alt and "mrpc bigbird" not in drawing.alt


def test_bins_on_few_documents_have_no_point(load):
    found = load(toy_records.make())
    table = kept.where_lost(found, "position")
    few = table.assign(documents=table.documents.where(table.task != "press-qa", 9))
    drawn = figures.where._enough(few)
    assert set(drawn.task) == {"press-ner"} and len(drawn) == sum(table.task == "press-ner")
    assert len(figures.where._enough(few.assign(documents=9))) == len(table)


def test_where_it_is_lost_a_panel_a_task(load):
    found = load(toy_records.make())
    drawing = figures.positions(found)
    assert [axes.get_title() for axes in drawing.figure.axes] == ["press-ner †", "press-qa †"]
    axes = drawing.figure.axes[1]
    teacher, student = axes.lines[:2]
    assert list(teacher.get_ydata()) == [pytest.approx(0.8), pytest.approx(1)]
    assert list(student.get_ydata()) == [pytest.approx(0.8), pytest.approx(0.2)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "512"]
    [legend] = drawing.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(ARCHS)
    assert "press-qa, lsg 0.80 to 0.80 at 0 to 511 and 1.00 to 0.20 at 512 to 1023" in drawing.alt
    tags = figures.tags(found)
    assert [axes.get_title() for axes in tags.figure.axes] == ["conll2003", "press-ner †"]
    assert "at LOC" in tags.alt and "at PER" in tags.alt


def test_missing_archs_are_said_not_drawn(load):
    made = [r for r in toy_records.make() if r["params"]["arch"] != "bigbird"]
    drawing = figures.headline(load(made))
    assert "bigbird" not in points(drawing)
    assert "bigbird not run" in drawing.alt


@pytest.mark.parametrize("plot", figures.PLOTS, ids=lambda plot: plot.name)
def test_figures_stand_without_their_records(load, plot):
    made = [r for r in toy_records.make() if r["kind"] == "convert"]
    drawing = plot.draw(load(made))
    assert "not run" in drawing.alt
    drawing.figure.savefig(io.BytesIO(), format="svg")


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

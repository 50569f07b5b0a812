"""The figures of the report: one function each, from records to a drawing."""

import matplotlib as mpl

from ctd_lib import records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments, kept, systems, tables
from ctd_lib.report.figures.costs import latency, memory
from ctd_lib.report.figures.deploy import pareto
from ctd_lib.report.figures.growth import memory_over_length, time_over_length
from ctd_lib.report.figures.overview import headline, retention
from ctd_lib.report.figures.overview import score_kept as score_kept
from ctd_lib.report.figures.style import COLOURS as COLOURS
from ctd_lib.report.figures.style import MARKERS as MARKERS
from ctd_lib.report.figures.style import STYLE, Drawing, Plot
from ctd_lib.report.figures.where import lengths, positions, questions, tags

ROLES = "teacher filled, student hollow"
ENOUGH = f"bins of {kept.FEWEST_EXAMPLES} test documents or more, where there are such"
LINES = "teacher solid, student dashed; from a star on, a teacher needs less than full attention's"

PLOTS = (
    Plot(headline, "What the student keeps of its teacher's score, at which share of its teacher's "
         "time. Up and to the left is better. A line through a point is the 95 % interval of "
         "the score kept."),
    Plot(retention, "Score kept by the student, task by task, of teachers that learned the task "
         "(of all if none did); on the dotted line nothing is lost. A line through a point is its "
         "95 % interval. "
         f"{tables.SYNTHETIC_NOTE}"),
    Plot(latency, "Median time of one forward over input length: teacher solid, student dashed."),
    Plot(memory, "Peak memory of one forward over input length: teacher solid, student dashed."),
    Plot(positions, f"Score over the position of the answer or entity: {ROLES}; {ENOUGH}."),
    Plot(lengths, f"Score over the length of the document: {ROLES}; {ENOUGH}."),
    Plot(tags, f"Entity F1 by type of entity: {ROLES}; {ENOUGH}."),
    Plot(time_over_length, f"Median time of one forward in float32: {LINES}.", systems.KIND),
    Plot(memory_over_length, "Memory that one forward in float32 needs beyond the loaded model: "
         f"{LINES}.", systems.KIND),
    Plot(pareto, "Mean score against the time of one document, both of this profile's models; the "
         f"larger a point, the more memory. {ROLES.capitalize()}. Up and to the left is better; "
         "on the line lie the models that no other beats in score and time."),
    Plot(questions, f"Score by type of question, or by part of a classification task: {ROLES}; "
         f"{ENOUGH}."),
)  # fmt: skip


def write_all(profile: str) -> dict[str, Drawing]:
    """Write every figure of a profile as SVG, PNG, text alternative and page fragment.

    Raises:
        CtdError: the profile has no records.
    """
    found = records.load(profile)
    if found.empty:
        raise CtdError(f"profile {profile!r} has no records yet; run its notebooks first.")
    shown = {kind: systems.shown(profile, kind) for kind in {plot.kind for plot in PLOTS}}
    drawn = {}
    with mpl.rc_context(STYLE):
        for plot in PLOTS:
            drawing = drawn[plot.name] = plot.draw(shown[plot.kind])
            fragments.write_figure(
                plot.name, plot.caption, drawing.figure, drawing.alt,
                shown[plot.kind].profile.iloc[0],
            )  # fmt: skip
    return drawn

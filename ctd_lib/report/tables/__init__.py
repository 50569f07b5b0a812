"""The tables of the report: functions from records (`records.load`) to tidy DataFrames.

A heading ends in its unit, so that the CSV file and the page say the same thing. A cell that no
record fills is `NOT_RUN`; what is not known is `paper.NOT_AVAILABLE`. A synthetic data set and what
is made of it bear `SYNTHETIC_MARK`.
"""

import pandas as pd

from ctd_lib import ARCHS, paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments
from ctd_lib.report.tables.by_task import glue, scores, sources, truncation
from ctd_lib.report.tables.cells import NOISE, SYNTHETIC_MARK, SYNTHETIC_NOTE, Table
from ctd_lib.report.tables.cells import NOT_RUN as NOT_RUN
from ctd_lib.report.tables.costs import latency, memory, parameters
from ctd_lib.report.tables.making import conversion, runs, training
from ctd_lib.report.tables.overview import claims, effects, headline
from ctd_lib.report.tables.scale import paper_scale
from ctd_lib.report.tables.walk import RECORDS as WALK
from ctd_lib.report.tables.walk import walk_through
from ctd_lib.report.tables.where import halves, lengths, positions, questions, tags

WHERE = "All seeds together; low and high are the 95 % interval of the change."

TABLES = (
    Table(headline, "Every student against its own teacher. Scores: mean over the tasks that all "
          "archs ran, with its 95 % interval. Time and memory: one forward at the length named. M: "
          "million parameters."),
    Table(claims, "The numbers of the paper that are known, and ours."),
    Table(scores, "Scores of teacher and student on the test split, task by task; the score kept "
          "with its 95 % interval by paired bootstrap over test examples and seeds. "
          f"'{NOISE}': the interval of the difference holds 0."),
    Table(glue, "GLUE: mean of a task's scores on its whole official dev part, and the mean over "
          "all eight tasks, without WNLI, where all were run."),
    Table(truncation, "What was cut off the test examples, and the score that a model without "
          "fault would reach on what is left. What a cut text would have told of its class is not "
          "known."),
    Table(halves, "Before and after what a short encoder reads: entity F1 or answer F1 of what "
          f"begins there. {WHERE}"),
    Table(positions, f"Scores by the position of the answer or entity. {WHERE}"),
    Table(lengths, f"Scores by the length of the document. {WHERE}"),
    Table(tags, f"Entity F1 by the type of entity. {WHERE}"),
    Table(questions, "Scores by the type of question, or by the part of a classification task. "
          f"{WHERE}"),
    Table(latency, "Median time of one forward, with quartiles."),
    Table(memory, "Peak memory of a process that runs one forward."),
    Table(parameters, "Parameters in millions; the paper's are counted from the published "
          "configurations of teachers and students."),
    Table(effects, "Change by conversion (full teacher to converted teacher) and by distillation "
          "(converted teacher to student), apart: the counterpart of the paper's Table 5."),
    Table(conversion, "Conversion: what happened to the tensors, the masked-LM loss on held-out "
          "text, and how far a converted model is from its backbone on a short input."),
    Table(training, "Masked-LM loss on held-out text through pretraining and distillation."),
    Table(sources, "Labelled data behind the scores."),
    Table(paper_scale, "Pretraining and distillation of the paper's profile, without evaluations: "
          "the work, and the time at the FLOP/s of this report's own trainings. Estimates, not "
          "measurements."),
    Table(walk_through, "The steps of the walk-through, on one core of a machine with other work "
          "at the same time, without the masked-LM head that this backbone needs first.", WALK),
    Table(runs, "Every run behind this report."),
)  # fmt: skip


def write_all(profile: str) -> dict[str, pd.DataFrame]:
    """Write every table of a profile as CSV and as a page fragment; return them by name.

    Raises:
        CtdError: the profile has no records.
    """
    found = records.load(profile)
    if found.empty:
        raise CtdError(f"profile {profile!r} has no records yet; run its notebooks first.")
    built = {
        table.name: table.build(records.load(table.records) if table.records else found)
        for table in TABLES
    }
    for table in TABLES:
        frame = built[table.name]
        notes = SYNTHETIC_NOTE if SYNTHETIC_MARK in frame.to_csv() else ""
        of = table.records or profile
        fragments.write_table(table.name, table.caption, frame, of, notes)
    summary = fragments.summary(built["headline"], ARCHS[1:], profile)
    path = paths.book_generated() / "tables" / "summary.md"
    path.write_text(summary, encoding="utf-8")
    return built

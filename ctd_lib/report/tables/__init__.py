"""The tables of the report: functions from records (`records.load`) to tidy DataFrames.

A heading ends in its unit, so that the CSV file and the page say the same thing. A cell that no
record fills is `NOT_RUN`; what is not known is `paper.NOT_AVAILABLE`. A synthetic data set and what
is made of it bear `SYNTHETIC_MARK`.
"""

import pandas as pd

from ctd_lib import ARCHS, paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments, scaling, systems, tidy
from ctd_lib.report.tables.by_task import glue, scores, sources, training_noise, truncation
from ctd_lib.report.tables.cells import NOISE, SYNTHETIC_MARK, SYNTHETIC_NOTE, Table
from ctd_lib.report.tables.cells import NOT_RUN as NOT_RUN
from ctd_lib.report.tables.costs import latency, memory, parameters
from ctd_lib.report.tables.deploy import TOKENS_PER_PAGE, choice, forms, price
from ctd_lib.report.tables.making import conversion, runs, training
from ctd_lib.report.tables.measured import (
    batches,
    failures,
    machines,
    references,
    repeated,
    workloads,
)
from ctd_lib.report.tables.overview import claims, effects, headline
from ctd_lib.report.tables.overview import kept_intervals as kept_intervals
from ctd_lib.report.tables.savings import (
    against_public,
    against_teacher,
    apart,
    ceiling,
    explained,
    over_length,
)
from ctd_lib.report.tables.scale import paper_scale
from ctd_lib.report.tables.walk import RECORDS as WALK
from ctd_lib.report.tables.walk import walk_through
from ctd_lib.report.tables.where import halves, lengths, positions, questions, tags

WHERE = "All seeds together; low and high are the 95 % interval of the change."

TABLES = (
    Table(headline, "Every student against its own teacher, and against the full teacher, as a "
          "weak teacher's score is easy to keep. Scores: mean over the tasks of ten test "
          "examples or more that all archs ran and all teachers learned (all that ran, if "
          "there are none; synthetic ones only where a group of tasks has no real one), with its "
          "95 % interval over tasks, test examples and seeds. "
          "Time and memory: one forward at the length named. M: million parameters."),
    Table(claims, "The numbers of the paper that are known, and those of this profile's own "
          "models, which are smaller than the paper's: in time and memory too. The verdicts on "
          "time and memory belong to models of the paper's size, on the first page."),
    Table(scores, "Scores of teacher and student on the test split, task by task; the score kept "
          "with its 95 % interval by paired bootstrap over test examples and seeds. "
          f"'{NOISE}': the interval of the difference holds 0."),
    Table(training_noise, "Scores of one model and task by several seeds of finetuning, and how "
          "far they lie apart. Where a model was made again between its seeds, that is in it too."),
    Table(glue, "GLUE: mean of a task's scores on its whole official dev part, and the mean over "
          "all eight tasks, without WNLI, where all were run."),
    Table(truncation, "What was cut off the test examples, and the score that a model without "
          "fault would reach on what is left: for an answer cut off, the best span of what is "
          "read. What a cut text would have told of its class is not "
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
          "(converted teacher to student, in percent of the converted teacher's), apart; in "
          "percent of the full teacher's score, with the full student's, it is on the page of "
          "that finding. Full attention and the arch were timed in different runs."),
    Table(conversion, "Conversion: what happened to the tensors, and on inputs of the length "
          "named the masked-LM loss on held-out text and how far a converted model is from its "
          "backbone. Longer inputs have other losses, in the table of training."),
    Table(training, "Masked-LM loss on held-out text of the profile's full length, through "
          "pretraining and distillation."),
    Table(against_teacher, "Time of one forward and peak memory, teacher and student of the "
          "paper's shapes, with the 95 % interval of the change in time, too narrow where rounds "
          "are few (see Method); the paper's mean and best, as far as they are known.",
          systems.KIND),
    Table(ceiling, "What half of the layers can save: FLOP of the layers, and the time measured. "
          "'Outside the layers': the part of the teacher's time that halving does not touch, if "
          "the rest goes with the FLOP; below zero the student saved more than half.",
          systems.KIND),
    Table(apart, "Change by conversion (full teacher to converted teacher) and by distillation "
          "(converted teacher to its student), by both, and by distillation without conversion "
          "(full teacher to full student): the counterpart of the paper's Table 5 in time and "
          "memory. Full attention and the arch are of different runs.", systems.KIND),
    Table(against_public, "Ours against the public implementation (transformers', for LSG "
          "lsg-converter's): the teacher in the same dtype, and the student in bfloat16 that can "
          "take the place of the public teacher in float32.", systems.KIND),
    Table(over_length, f"Growth of time, and of the forward's own memory, with the length, fitted "
          f"from {scaling.SLOPE_FROM:,} tokens on, and the length from which on an arch needs less "
          "than full attention, of a run of its own, of the same role, implementation and dtype.",
          systems.KIND),
    Table(references, "Reference systems beside full attention's teacher and student: one "
          "document in float32, as transformers runs them.", systems.KIND),
    Table(workloads, "Batches padded to the longest of their documents, against batches in which "
          "all are as long; padding does not count as tokens.", systems.KIND),
    Table(batches, "Batches of several sizes, all documents as long: tokens a second of the whole "
          "batch, and what the larger batch changes.", systems.KIND),
    Table(repeated, "Measurements made more than once on one machine: how far their ratios of "
          "medians lie apart, and the same ratio on another machine.", systems.KIND),
    Table(failures, "What could not be run, and why.", systems.KIND),
    Table(machines, "The machine of each run. A round is disturbed, and repeated, where a matrix "
          "product beside it was slow.", systems.KIND),
    Table(choice, "The models of this profile that no other beats in score, time and memory of "
          "one document. Of a length's rows, take the first whose time and memory fit your "
          f"budget. Scores: mean over short tasks up to {tidy.LONG_CONTEXT} tokens, else over "
          "long ones."),
    Table(forms, "The forms of an exported model, timed with its task's head in a run of their "
          "own: other tables have other runs. 'Memory of the forward': peak less what is held "
          "when the model has been loaded. The score kept is against float32 in torch.", "export"),
    Table(price, f"What a machine reads in an hour, at the batch size that reads most. A page has "
          f"{TOKENS_PER_PAGE} tokens; the cost is in the currency of the price given for an hour "
          "of the machine.", systems.KIND),
    Table(sources, "Labelled data behind the scores."),
    Table(paper_scale, "Pretraining and distillation of the paper's profile, without evaluations: "
          "the work, and the time at the FLOP/s of this report's own trainings. Estimates, not "
          "measurements."),
    Table(walk_through, "The steps of the walk-through, on one core of a machine with other work "
          "at the same time, without the masked-LM head that this backbone needs first.",
          records=WALK),
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
    kinds = {table.kind for table in TABLES if not table.records}
    shown = {kind: systems.shown(profile, kind) for kind in kinds}
    note = systems.note(shown[systems.KIND])
    built = {}
    for table in TABLES:
        of = records.load(table.records) if table.records else shown[table.kind]
        frame = built[table.name] = table.build(of)
        notes = SYNTHETIC_NOTE if SYNTHETIC_MARK in frame.to_csv() else ""
        notes = note if table.kind == systems.KIND else notes
        fragments.write_table(
            table.name, table.caption, frame, table.records or of.profile.iloc[0], notes
        )
    folder = paths.book_generated() / "tables"
    of = shown[systems.KIND]
    words = explained(built["ceiling"], of.profile.iloc[0], systems.chosen_machine(of))
    (folder / "explained.md").write_text(words, encoding="utf-8")
    systems.rows(shown[systems.KIND]).to_csv(folder / "every_system.csv", index=False)
    summary = fragments.summary(built["headline"], ARCHS[1:], profile)
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    return built

"""Tables from toy records: exact cells, what is missing, what is chosen, what is marked."""

import copy
import hashlib
import json

import pandas as pd
import pytest
import toy_records

from ctd_lib import ARCHS, params, paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments, kept, paper, tables, tidy
from ctd_lib.scores import predictions


def of(made, kind, **named):
    """The toy records of a kind with these parameters."""
    return [r for r in made if r["kind"] == kind and named.items() <= r["params"].items()]


def test_headline(load):
    table = tables.headline(load(toy_records.make()))
    assert list(table.arch) == [*ARCHS, "paper, mean", "paper, best"]
    bigbird = table.set_index("arch").loc["bigbird"]
    assert bigbird["score kept † (%)"] == pytest.approx(88)
    low, high = map(float, bigbird["95 % interval"].split(" to "))
    # Two tasks with all kept, 25 of 45 answers, and F1 2/3 of 18/19.
    mean = (100 + 100 + 100 * 25 / 45 + 100 * (2 / 3) / (18 / 19)) / 4
    assert 25 / 45 * 100 < low < mean < high == 100  # tasks are drawn too
    assert bigbird["short text (%)"] == pytest.approx(88)
    scores = tidy.scores(load(toy_records.make())).set_index(["arch", "task"])
    of_full = 100 * scores.loc["bigbird"].student / scores.loc["full"].teacher
    assert bigbird["score, of full's teacher (%)"] == pytest.approx(of_full.mean())
    assert bigbird["long NER † (%)"] == pytest.approx(88)
    assert bigbird["teacher at 4096 (ms)"] == pytest.approx(4096 * 1.5)
    assert bigbird["time, change (%)"] == pytest.approx(-50)
    assert bigbird["memory, change (%)"] == pytest.approx(100 * (100 / 612 - 1))
    assert bigbird["teacher (M)"] == 20
    assert bigbird["student (M)"] == 15


def test_headline_falls_back_to_the_longest_length(load):
    made = toy_records.make()
    for record in of(made, "measure"):
        record["values"]["rows"] = [r for r in record["values"]["rows"] if r["length"] == 512]
    assert "teacher at 512 (ms)" in tables.headline(load(made))


def test_missing_runs_are_named_and_never_guessed(load):
    made = [
        r
        for r in toy_records.make()
        if not (r["params"]["arch"] == "lsg" and r["kind"] in ("finetune", "measure"))
    ]
    found = load(made)
    headline = tables.headline(found).set_index("arch")
    assert set(headline.loc["lsg"]) == {tables.NOT_RUN}
    assert headline.loc["full", "score kept † (%)"] == pytest.approx(90)
    scores = tables.scores(found)
    assert set(scores[scores.arch == "lsg"]["score kept (%)"]) == {tables.NOT_RUN}
    for table in tables.TABLES:
        assert not table.build(found).isna().any(axis=None), table.name


def test_a_length_without_memory_left_costs_its_own_cells_only(load):
    made = toy_records.make()
    nothing = dict.fromkeys(
        ("seconds_median", "seconds_iqr", "tokens_per_second", "peak_bytes", "baseline_bytes")
    )
    for record in of(made, "measure", arch="full"):
        longest = [r for r in record["values"]["rows"] if r["length"] == 4096]
        longest[0] |= nothing | {"error": "out of memory"}
    latency = tables.latency(load(made)).set_index(["arch", "length (tokens)"])
    assert latency.loc[("full", 4096), "teacher (ms)"] == tables.NOT_RUN
    assert latency.loc[("full", 4096), "student (ms)"] > 0
    assert latency.loc[("full", 512), "teacher (ms)"] > 0


@pytest.mark.parametrize("kind", ["convert", "pretrain", "distill", "finetune", "measure"])
def test_every_table_stands_on_one_kind_of_record(load, kind):
    found = load(of(toy_records.make(), kind))
    for table in tables.TABLES:
        frame = table.build(found)
        assert not frame.isna().any(axis=None), table.name
        # A table without headings has no number, and a page that refers to it is not built.
        assert len(frame), table.name
        assert len(frame.columns), table.name


def test_mean_takes_only_tasks_that_all_archs_ran(load):
    made = toy_records.make()
    made.remove(of(made, "finetune", arch="lsg", role="student", task="conll2003")[0])
    for record in of(made, "finetune", role="student", task="conll2003"):
        record["values"]["score"] = 0.0
    headline = tables.headline(load(made)).set_index("arch")
    assert headline.loc["full", "score kept † (%)"] == pytest.approx(90)
    assert headline.loc["lsg", "score kept † (%)"] == pytest.approx(87)


def test_of_a_teacher_that_scores_0_nothing_is_kept_and_it_was_run(load):
    made = toy_records.make()
    of(made, "finetune", arch="full", role="teacher", task="conll2003")[0]["values"]["score"] = 0.0
    scores = tables.scores(load(made)).set_index(["task", "arch"])
    assert scores.loc[("conll2003", "full"), "score kept (%)"] == "-"


def test_seeds_are_averaged_and_counted(load):
    made = toy_records.make()
    for role, score in (("teacher", 0.5), ("student", 0.4)):
        second = copy.deepcopy(of(made, "finetune", arch="full", role=role, task="conll2003")[0])
        second["params"]["seed"] = 1
        second["artifact"] += "-seed1"
        second["values"]["score"] = score
        made.append(second)
    scores = tables.scores(load(made)).set_index(["task", "arch"])
    row = scores.loc[("conll2003", "full")]
    assert row["seeds"] == 2
    assert row["teacher (score)"] == pytest.approx((0.8 + 0.5) / 2)
    assert row["score kept (%)"] == pytest.approx(100 * (0.8 * 0.9 + 0.4) / (0.8 + 0.5))


def test_the_score_kept_has_an_interval_and_noise_is_called_so(load):
    made = toy_records.make()
    scores = tables.scores(load(made)).set_index(["task", "arch"])
    # Of the toy predictions, the teacher's have 45 of 50 right; the student's as many on short
    # text, on long text 20 of the first half and 5 of the second.
    long = scores.loc["press-qa †", "lsg"]
    assert long["score kept, low (%)"] < 100 * 25 / 45 < long["score kept, high (%)"] < 100
    assert long["student is"] == "lower"
    short = scores.loc["movie-sentences", "lsg"]
    assert short["student is"] == tables.NOISE
    assert (short["score kept, low (%)"], short["score kept, high (%)"]) == (100, 100)


def test_no_interval_without_predictions_or_on_other_examples(load):
    made = toy_records.make()
    found = load(made, kept=False)
    headline = tables.headline(found).set_index("arch")["95 % interval"]
    assert set(headline[list(ARCHS)]) == {tables.NOT_RUN}
    scores = tables.scores(found)
    for name in ("score kept, low (%)", "score kept, high (%)", "student is"):
        assert set(scores[name]) == {tables.NOT_RUN}
    found = load(made)
    [row] = found.query("task == 'conll2003' and arch == 'lsg' and role == 'student'").itertuples()
    other = toy_records.predicted("press-ner", "student")
    predictions.write(other, records.predictions_of(row.path))
    with pytest.raises(CtdError, match="does not hold the predictions"):
        tables.scores(found)
    digest = hashlib.sha256(records.predictions_of(row.path).read_bytes()).hexdigest()
    row.path.write_text(json.dumps(json.loads(row.path.read_text()) | {"predictions": digest}))
    scores = tables.scores(records.load("quick")).set_index(["task", "arch"])
    assert scores.loc[("conll2003", "lsg"), "student is"] == tables.NOT_RUN
    assert scores.loc[("conll2003", "full"), "student is"] == tables.NOISE


def test_only_seeds_of_both_roles_are_compared(load):
    made = of(toy_records.make(), "finetune", arch="full", task="press-qa")
    second = copy.deepcopy(made[0])
    second["params"]["seed"] = 1
    second["artifact"] += "-seed1"
    second["values"]["score"] = 0.1
    found = load([*made, second])
    [pair] = kept.pairs(found)
    assert (pair.task, pair.arch, len(pair.teachers), len(pair.students)) == (
        "press-qa", "full", 1, 1,
    )  # fmt: skip
    row = tables.scores(found).set_index("arch").loc["full"]
    for one in made:
        assert row[f"{one['params']['role']} (score)"] == one["values"]["score"]
    assert row["seeds"] == 1


def test_where_it_is_lost(load):
    found = load(toy_records.make())
    halves = tables.halves(found)
    assert list(halves.arch) == 2 * [arch for arch in ARCHS for _ in range(2)]
    assert set(halves.task) == {"press-ner †", "press-qa †"}
    before, after = halves[halves.task == "press-qa †"].iloc[:2].to_dict("records")
    assert (before["position (tokens)"], before["items"], before["student is"]) == (
        "0 to 511", 25, tables.NOISE,
    )  # fmt: skip
    assert (after["position (tokens)"], after["student is"]) == ("512 and more", "lower")
    assert (after["teacher (score)"], after["student (score)"]) == (1.0, 0.2)
    assert after["change, low (score)"] < -0.8 < after["change, high (score)"] < 0
    assert set(tables.lengths(found)["document (tokens)"]) == {"0 to 511", "512 to 1023"}
    # Short tasks have one bin: nothing to tell apart.
    assert set(tables.positions(found).task) == set(halves.task)
    assert set(tables.tags(found).tag) == {"LOC", "PER"}
    assert set(tables.questions(found).kind) == {"who", "what"}


@pytest.mark.parametrize("name", ["halves", "positions", "lengths", "tags", "questions"])
def test_where_without_predictions_says_so(load, name):
    table = getattr(tables, name)(load(toy_records.make(), kept=False))
    assert len(table) == 1 and (table == tables.NOT_RUN).all(axis=None)


def test_truncation_and_the_bound_it_leaves(load):
    made = toy_records.make()
    cut = {"truncated_examples": 7, "lost_labels": 30, "entities": 50, "read_entities": 40,
           "upper_bound": 80 / 90}  # fmt: skip
    for record in of(made, "finetune", task="press-ner"):
        record["values"] |= cut
    for record in of(made, "finetune", task="movie-sentences", arch="lsg"):
        record["values"]["truncated_examples"] = 3
    table = tables.truncation(load(made))
    assert list(table.task) == [
        "conll2003", "movie-sentences", "movie-sentences", "press-ner †", "press-qa †"
    ]  # fmt: skip
    ner = table[table.task == "press-ner †"].iloc[0]
    assert (ner["cut"], ner["in the text"], ner["whole in what is read"]) == (7, 50, 40)
    assert ner["upper bound (score)"] == pytest.approx(80 / 90)
    assert ner["arch"] == "all"
    reviews = table[table.task == "movie-sentences"].set_index("arch")
    assert reviews.loc["lsg", "upper bound (score)"] == paper.NOT_AVAILABLE
    assert reviews.loc["full, longformer, bigbird, nystromformer", "upper bound (score)"] == 1


def test_the_profiles_own_parameters_go_before_a_later_trial(load):
    made = toy_records.make()
    trial = copy.deepcopy(of(made, "distill", arch="full")[0])
    trial["params"]["distill_steps"] = 1
    trial["artifact"] += "-trial"
    trial["provenance"] = trial["provenance"] | {"date": "2001-01-01T00:00:00+00:00"}
    trial["values"]["steps"] = 1
    found = load([*made, trial])
    assert tables.training(found).set_index("arch").loc["full", "distillation (steps)"] == 8
    assert trial["artifact"] in "".join(tables.runs(found).record)


def test_what_a_model_was_trained_in_is_what_its_record_says(load):
    made = toy_records.make()
    of(made, "distill", arch="lsg")[0]["values"]["precision"] = "float32"
    table = tables.runs(load(made)).set_index(["stage", "arch"])["trained in"]
    assert table["distill", "lsg"] == "float32"
    assert table["distill", "full"] == "bfloat16"  # older than the value: what was asked for
    assert table["convert", "full"] == table["measure", "full"] == "-"


def test_the_later_of_two_trials_counts(load):
    [first] = of(toy_records.make(), "distill", arch="full")
    first["params"]["distill_steps"] = 1
    second = copy.deepcopy(first)
    second["artifact"] = "a-later-trial"
    second["provenance"] = first["provenance"] | {"date": "2001-01-01T00:00:00+00:00"}
    second["values"]["steps"] = 3
    table = tables.training(load([first, second])).set_index("arch")
    assert table.loc["full", "distillation (steps)"] == 3


def test_effects_multiply_to_the_whole_change(load):
    found = load(toy_records.make())
    effects = tables.effects(found).set_index("arch")
    headline = tables.headline(found).set_index("arch")
    for arch in ARCHS[1:]:
        by_conversion, by_distillation = (
            1 + effects.loc[arch, f"time, {what} (%)"] / 100
            for what in ("conversion", "distillation")
        )
        whole = (
            headline.loc[arch, "student at 4096 (ms)"]
            / headline.loc["full", "teacher at 4096 (ms)"]
        )
        assert by_conversion * by_distillation == pytest.approx(whole)


def test_claims_name_the_best_arch(load):
    claims = tables.claims(load(toy_records.make())).set_index("quantity")
    best = claims.loc["score kept, short text, up to"]
    assert (best["ours (%)"], best["arch"]) == (pytest.approx(89), "longformer")
    assert claims.loc["score kept, long QA, up to", "data"] == tables.SYNTHETIC_MARK
    mean = claims.loc["inference time at 4096 tokens, mean"]
    assert (mean["ours (%)"], mean["arch"]) == (pytest.approx(-50), "mean of 4")


def test_synthetic_data_is_marked_wherever_it_shows(load):
    found = load(toy_records.make())
    tables.write_all("quick")
    folder = paths.book_generated() / "tables"
    for name in ("headline", "claims", "scores", "sources", "truncation", "halves"):
        text = (folder / f"{name}.md").read_text()
        assert tables.SYNTHETIC_NOTE in text, name
    assert tables.SYNTHETIC_NOTE not in (folder / "latency.md").read_text()
    assert "**87.5 %** of its teacher's score †;" in (folder / "summary.md").read_text()
    kinds = tables.sources(found).set_index("task").kind
    assert kinds["press-ner †"] == "synthetic"
    assert kinds["conll2003"] == "real"


def test_files_say_what_the_frames_say(load):
    load(toy_records.make())
    written = tables.write_all("quick")
    for name, frame in written.items():
        folder = paths.book_generated() / "tables"
        read = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
        assert list(read) == list(frame)
        assert len(read) == len(frame)
        page = (folder / f"{name}.md").read_text()
        assert f"</book/generated/tables/{name}.csv>" in page
        (table,) = (table for table in tables.TABLES if table.name == name)
        assert f"`results/{table.records or 'quick'}`" in page


def test_writing_without_records_is_refused(load):
    load([])
    with pytest.raises(CtdError, match="no records"):
        tables.write_all("quick")


@pytest.mark.parametrize(
    ("value", "heading", "shown"),
    [
        (97.44, "score kept (%)", "97.4"),
        (-45.2, "time, change (%)", "\N{MINUS SIGN}45.2"),
        (3.0, "time, change (%)", "+3.0"),
        (1234.5, "teacher (ms)", "1,234"),
        (4.321, "teacher (ms)", "4.32"),
        (0.8125, "teacher (score)", "0.812"),
        (2, "seeds", "2"),
        (4096, "length (tokens)", "4,096"),
        (1.234e-6, "largest difference", "1.2e-06"),
        (paper.NOT_AVAILABLE, "time, change (%)", "not available"),
        ("a|b", "record", r"a\|b"),
    ],
)
def test_cells_are_rounded_by_their_unit(value, heading, shown):
    assert fragments.cell(value, heading) == shown


def test_groups_follow_the_papers():
    group = tidy._group
    assert group("gonerd", {"family": "tagging", "max_length": 512}) == tidy.SHORT
    assert group("gonerd", {"family": "tagging", "max_length": 4096}) == tidy.LONG_NER
    assert group("gonerd", {"family": "span-qa", "max_length": 4096}) == tidy.LONG_QA
    assert group("gonerd", {"family": "classification", "max_length": 4096}) not in tidy.GROUPS
    assert group("wikigold", {"family": "tagging", "max_length": 4096}) == tidy.SHORT


def test_toy_records_have_the_profiles_own_parameters():
    made = of(toy_records.make(), "finetune", arch="lsg", role="student", task="press-qa")[0]
    expected = params.make(
        params.FinetuneParams, profile="quick", arch="lsg", role="student", task="press-qa"
    )
    assert made["params"] == params.as_dict(expected)

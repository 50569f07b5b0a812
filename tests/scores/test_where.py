"""Rows and bins against counts by hand; kept predictions come back."""

import numpy as np
import pytest

from ctd_lib.errors import CtdError
from ctd_lib.scores import predictions, where
from ctd_lib.scores.predictions import Predictions

TAGGING = Predictions(
    "toy", "tagging", "entity_f1", "",
    [
        {"gold": [["PER", 0, 1, 1], ["LOC", 9, 10, 600]], "tokens": 700,
         "predicted": [["PER", 0, 1, 1], ["ORG", 9, 10, 600]]},
        {"gold": [["LOC", 3, 4, 511], ["LOC", 5, 6, -1]], "tokens": 512,
         "predicted": [["LOC", 3, 4, 511]]},
    ],
)  # fmt: skip
QUESTIONS = Predictions(
    "toy", "span-qa", "f1", "squad",
    [
        {"id": "1", "gold": ["the cat"], "predicted": "cat", "kind": "who", "position": 3,
         "tokens": 9},
        {"id": "2", "gold": ["red dog"], "predicted": "dog", "kind": "who", "position": 512,
         "tokens": 4096},
        {"id": "3", "gold": ["x"], "predicted": "y", "kind": "when", "position": -1,
         "tokens": 5000},
    ],
)  # fmt: skip
TEXTS = Predictions(
    "toy", "classification", "accuracy", "",
    [{"gold": g, "predicted": p, "kind": "", "tokens": t}
     for g, p, t in ((0, 0, 10), (0, 1, 20), (1, 1, 513))],
)  # fmt: skip


def rows_of(table):
    return [tuple(row) for row in table.itertuples(index=False)]


def test_entities_by_position_tag_and_length():
    rows = where.items(TAGGING)
    assert len(rows) == 5 and rows.position.isna().sum() == 1
    # Before token 512 both are found; after it one is missed, and one of another type invented.
    assert rows_of(where.table(rows, "position")) == [("0 to 511", 2, 1.0), ("512 to 1023", 1, 0.0)]
    assert rows_of(where.table(rows, "tag")) == [("LOC", 3, 0.5), ("ORG", 0, 0.0), ("PER", 1, 1.0)]
    assert rows_of(where.table(rows, "tokens", (0, 600))) == [
        ("0 to 599", 2, pytest.approx(2 / 3)), ("600 and more", 2, 0.5)
    ]  # fmt: skip


def test_questions_by_position_kind_and_length():
    rows = where.items(QUESTIONS)
    assert rows.exact_match.tolist() == [1, 0, 0]
    found = rows_of(where.table(rows, "position", (0, 512)))
    assert found == [("0 to 511", 1, 1.0), ("512 and more", 1, pytest.approx(2 / 3))]
    assert rows_of(where.table(rows, "kind")) == [
        ("when", 1, 0.0), ("who", 2, pytest.approx(5 / 6))
    ]  # fmt: skip
    assert rows_of(where.table(rows, "tokens"))[-1] == ("4096 and more", 2, pytest.approx(1 / 3))


def test_texts_by_length_and_label():
    rows = where.items(TEXTS)
    assert rows_of(where.table(rows, "tokens")) == [("0 to 511", 2, 0.5), ("512 to 1023", 1, 1.0)]
    assert rows_of(where.table(rows, "label")) == [("0", 2, 0.5), ("1", 1, 1.0)]
    with pytest.raises(CtdError, match="'tag'; there are example"):
        where.table(rows, "tag")
    scores = Predictions("toy", "classification", "spearman", "", TEXTS.examples)
    assert where.items(scores).score.tolist() == [0, -1, 0]


def test_teacher_and_student_side_by_side_over_seeds():
    worse = Predictions(
        "toy", "classification", "accuracy", "",
        [example | {"predicted": 1 - example["gold"]} for example in TEXTS.examples],
    )  # fmt: skip
    found = where.compare([TEXTS, TEXTS], [TEXTS, worse], "tokens")
    shown = found.drop(columns=["low", "high"])
    assert rows_of(shown) == [
        ("0 to 511", 2, 2, 2, 0.5, 0.25, -0.25), ("512 to 1023", 1, 1, 1, 1.0, 0.5, -0.5)
    ]  # fmt: skip
    missing = Predictions("toy", "tagging", "entity_f1", "", [
        example | {"predicted": []} for example in TAGGING.examples
    ])  # fmt: skip
    found = where.compare([TAGGING], [missing], "tag").set_index("bin")
    assert found.student["PER"] == 0 and np.isnan(found.student["ORG"])
    assert found.high["PER"] < 0 and np.isnan(found.low["ORG"])
    # Three places in two texts; what is only predicted is in none.
    assert found["items"].to_dict() == {"LOC": 3, "ORG": 0, "PER": 1}
    assert found.examples.to_dict() == {"LOC": 2, "ORG": 0, "PER": 1}


@pytest.mark.parametrize("kept", [TAGGING, QUESTIONS, TEXTS])
def test_predictions_come_back_and_weigh_the_same_every_time(kept, tmp_path):
    paths = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    for path in paths:
        predictions.write(kept, path)
    assert predictions.read(paths[0]) == kept
    assert paths[0].read_bytes() == paths[1].read_bytes()
    paths[0].write_bytes(b"[]")
    with pytest.raises(CtdError, match=r"a\.json\.gz holds no predictions"):
        predictions.read(paths[0])


def many(rng, right_after, seeds=1):
    """400 questions in turn before and after token 512; after it right at the rate given."""
    made = []
    for _ in range(seeds):
        examples = [
            {"id": str(n), "gold": ["x"], "kind": "who", "position": 10 if n % 2 else 600,
             "tokens": 700, "predicted": "x" if n % 2 or rng.random() < right_after else "y"}
            for n in range(400)
        ]  # fmt: skip
        made.append(Predictions("toy", "span-qa", "f1", "squad", examples))
    return made


def test_the_interval_of_a_bin_is_the_binomial_one_and_leaves_other_bins_alone():
    rng = np.random.default_rng(0)
    teachers, students = many(rng, 1.0, 3), many(rng, 0.7, 3)
    before, after = where.compare(teachers, students, "position", (0, 512)).itertuples()
    assert (before.difference, before.low, before.high) == (0, 0, 0)
    lost = -after.difference
    half = 1.96 * np.sqrt(lost * (1 - lost) / 600)
    assert after.low < after.difference < after.high < 0
    # Seeds are drawn too, which widens the interval a little.
    assert half < after.difference - after.low < 2.2 * half
    one = where.compare(teachers[:1], students[:1], "position", (0, 512)).iloc[1]
    narrow = 1.96 * np.sqrt(-one.difference * (1 + one.difference) / 200)
    assert one.high - one.low == pytest.approx(2 * narrow, rel=0.15)


def test_documents_with_items_in_a_bin_are_counted_beside_their_questions():
    [made] = many(np.random.default_rng(0), 1.0)
    for number, example in enumerate(made.examples):
        example["document"] = "long" if number % 2 == 0 else f"short {number % 6}"
    found = where.compare([made], [made], "position", (0, 512))
    assert list(found.examples) == [200, 200] and list(found.documents) == [3, 1]


def test_other_examples_are_not_compared():
    with pytest.raises(CtdError, match="different test examples"):
        where.compare([TEXTS], [QUESTIONS], "tokens")


def test_a_bin_without_items_in_most_resamples_still_has_its_bounds():
    found = where.compare([TAGGING], [TAGGING], "tag").set_index("bin")
    assert found.low["PER"] == found.high["PER"] == 0

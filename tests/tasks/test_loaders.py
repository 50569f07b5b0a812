"""What loaders make of each layout, and how they complain about bad files."""

import json
from types import SimpleNamespace

import pytest

from ctd_lib import runtime, tasks
from ctd_lib.data import sources
from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.tasks import registry
from ctd_lib.tasks.loaders import ner, qa

HOTPOT = {
    "_id": "h1", "question": "Who ruled the older city?", "answer": "King Tom", "type": "bridge",
    "supporting_facts": [["Rome", 1]], "level": "easy",
    "context": [
        ["King Tom", ["King Tom is a film."]], ["Rome", ["Rome is old.", " King Tom ruled."]]
    ],
}  # fmt: skip


def test_hotpotqa_trains_on_the_supporting_sentence():
    question = qa.hotpotqa(HOTPOT)
    assert question.context == (
        "yes no\nKing Tom\nKing Tom is a film.\nRome\nRome is old. King Tom ruled.\n"
    )
    assert question.answers == (("King Tom", question.context.rindex("King Tom")),)
    assert (question.golds, question.kind, question.rules) == (("King Tom",), "bridge", "hotpotqa")
    elsewhere = qa.hotpotqa(HOTPOT | {"supporting_facts": [["Rome", 0]]})
    assert len(elsewhere.answers) == 3


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_hotpotqa_yes_and_no_are_the_first_words(answer):
    question = qa.hotpotqa(HOTPOT | {"answer": answer})
    ((text, start),) = question.answers
    assert question.context[start : start + len(text)] == answer and start < len("yes no")


def test_hotpotqa_official_files_and_samples(tmp_path):
    (tmp_path / "hotpot_train_v1.1.json").write_text(json.dumps([HOTPOT]))
    (tmp_path / "dev_distractor_sample.jsonl").write_text(json.dumps(HOTPOT))
    assert tasks.load("hotpotqa", source=str(tmp_path)).source == f"local:{tmp_path} (sample)"
    (tmp_path / "hotpot_dev_distractor_v1.json").write_text(json.dumps([HOTPOT, HOTPOT]))
    data = tasks.load("hotpotqa", source=str(tmp_path))
    assert (data.source, len(data.test)) == (f"local:{tmp_path}", 2)
    (tmp_path / "hotpot_train_v1.1.json").write_text(json.dumps([HOTPOT, {"question": "?"}]))
    with pytest.raises(CtdError, match=r"v1\.1\.json line 1 is not in HotpotQA's layout"):
        tasks.load("hotpotqa", source=str(tmp_path))


@pytest.mark.parametrize(
    ("texts", "context", "found"),
    [
        (["York"], "New York, YORK, Yorkish", [("York", 4), ("YORK", 10)]),
        (["New York", "York"], "new york", [("new york", 0)]),
        (["U.S."], "the U.S. and USA", [("U.S.", 4)]),
        (["", " "], "nothing", []),
    ],
)
def test_occurrences_are_whole_words_in_any_case(texts, context, found):
    assert qa.occurrences(texts, context) == found


def _trivia(folder, domain, **changes):
    """Files in the official layout of TriviaQA, with pages of Wikipedia and of the web."""
    for kind, name, text in (
        ("wikipedia", "Rome.txt", "Rome is the Eternal City."),
        ("web", "7/7_1.txt", "Old: the eternal city"),
    ):
        path = folder / "evidence" / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    entry = {
        "QuestionId": "t1", "Question": "Which?", "QuestionSource": "http://toy",
        "Answer": {"Aliases": ["The Eternal City"], "NormalizedAliases": ["eternal city"]},
        "EntityPages": [{"DocSource": "TagMe", "Title": "Rome", "Filename": "Rome.txt"}],
        "SearchResults": [{"Rank": 1, "Title": "A blog", "Url": "x", "Filename": "7/7_1.txt"}],
    } | changes  # fmt: skip
    (folder / "qa").mkdir(exist_ok=True)
    for part in ("train", "dev"):
        content = {"Domain": domain, "Data": [entry], "VerifiedEval": False, "Version": 1.0}
        (folder / "qa" / f"{domain}-{part}.json").write_text(json.dumps(content))


def test_triviaqa_official_layout(tmp_path):
    _trivia(tmp_path, "wikipedia")
    (question,) = tasks.load("triviaqa", source=str(tmp_path)).test
    assert question.context == "Rome\nRome is the Eternal City."
    assert question.answers == (("the Eternal City", 13),)
    assert (question.golds, question.windows) == (("eternal city",), False)


def test_triviaqa_web_reads_pages_of_wikipedia_and_of_the_web(tmp_path):
    _trivia(tmp_path, "web")
    (question,) = tasks.load("triviaqa-web", source=str(tmp_path)).test
    assert question.context == ("Rome\nRome is the Eternal City.\n\nA blog\nOld: the eternal city")
    assert question.answers == (("the Eternal City", 13), ("the eternal city", 44))
    assert (question.golds, question.rules) == (("eternal city",), "triviaqa")
    with pytest.raises(CtdError, match=r"has no qa/wikipedia-train\.json"):
        tasks.load("triviaqa", source=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Answer": {"Aliases": ["x"]}}, r"web-train\.json Data record 1.*NormalizedAliases"),
        ({"SearchResults": [{"Title": "t", "Filename": "none.txt"}]}, r"none\.txt cannot be read"),
        ({"EntityPages": None}, r"web-train\.json Data record 1"),
    ],
)
def test_triviaqa_that_is_not_whole_is_named(tmp_path, changes, says):
    _trivia(tmp_path, "web", **changes)
    with pytest.raises(CtdError, match=says):
        tasks.load("triviaqa-web", source=str(tmp_path))


def test_squad_long_joins_the_paragraphs_of_an_article():
    def question(context, answer, title="t"):
        answers = ((answer, context.index(answer)),)
        return Question(f"{title}-{answer}", title, context, "what?", answers)

    parts = [question("a cat", "cat"), question("a cat", "a"), question("the dog", "dog"),
             question("x", "x", "other")]  # fmt: skip
    whole = [q for article in qa._articles(parts) for q in qa._whole_article(article)]
    assert [q.context for q in whole] == ["a cat\nthe dog"] * 3 + ["x"]
    for before, after in zip(parts, whole, strict=True):
        ((text, start),) = after.answers
        assert after.context[start : start + len(text)] == text == before.answers[0][0]
        assert not after.windows


@pytest.mark.parametrize(
    ("records", "features"),
    [
        ([{"tokens": ["Ada", "left"], "ner": ["B-PER", "O"]}], None),
        ([{"words": ["Ada", "left"], "pos": ["N", "V"], "tags": ["I-PER", "O"]}], None),
        ([{"words": ["Ada", "left"], "pos_tags": [1, 0], "ner_tags": [1, 0]}], ["O", "B-PER"]),
        ([{"text": ["Ada", "left"], "labels": ["S-PER", "O"]}], None),
    ],
)
def test_rows_are_read_by_what_their_columns_hold(records, features):
    named = {"ner_tags": SimpleNamespace(feature=SimpleNamespace(names=features))}
    (example,) = ner.rows(records, "here", named if features else None)
    assert (example.words, example.tags) == (("Ada", "left"), ("B-PER", "O"))


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (
            [{"text": "Ada left", "spans": [[0, 3]]}],
            r"here has text \(str\), spans \(list\); a list",
        ),
        ([{"tokens": ["Ada"], "ner_tags": [1]}], "tags are wanted"),
        ([{"tokens": ["Ada"], "tags": ["PER"]}], "tags are wanted"),
        (
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a"], "tags": ["O", "O"]}],
            "record 2 has 1",
        ),
        ([{"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}], "here record 1: tag 'I-Y'"),
    ],
)
def test_rows_that_cannot_be_read_are_named(records, says):
    with pytest.raises(CtdError, match=says):
        ner.rows(records, "here")


def test_a_users_tagging_file_may_be_jsonl(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"tokens": ["Ada", "left"], "tags": ["B-PER", "O"]}\n')
    data = tasks.load("tagging", train_file=str(path), test_file=str(path))
    assert data.test[0].tags == ("B-PER", "O") and data.labels == ("O", "B-PER", "I-PER")


@pytest.mark.parametrize("one", ["train.conll", "test.conll"])
def test_both_of_a_users_files_are_read_by_documents_where_one_has_several(tmp_path, one):
    for name in ("train.conll", "test.conll"):
        text = "-DOCSTART- O\n\nAda B-PER\n\nleft O\n\n"
        (tmp_path / name).write_text(text if name == one else 2 * text)
    files = {f"{part}_file": str(tmp_path / f"{part}.conll") for part in ("train", "test")}
    data = tasks.load("tagging", **files)
    assert {len(example.words) for example in (*data.train, *data.test)} == {2}


def test_glue_from_tables_with_names_as_labels(tmp_path):
    for part in ("train", "dev_matched", "dev_mismatched"):
        path = tmp_path / f"mnli.{part}.tsv"
        path.write_text(f'premise\thypothesis\tlabel\na "q\t{part}\tcontradiction\nb\tc\t0\n')
    data = tasks.load("mnli", source=str(tmp_path))
    assert [example.label for example in data.test] == [2, 0, 2, 0]
    assert [example.kind for example in data.test] == ["matched"] * 2 + ["mismatched"] * 2
    assert data.train[0].text == 'a "q'


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (["train", "dev"], ""),
        (["train-sample", "dev"], " (train sample)"),
        (["pool", "train-sample"], " (pool of train pairs, not the official dev)"),
        (["train-sample"], " (fixture, not the official dev)"),
    ],
)
def test_glue_parts_are_named_for_what_they_are(tmp_path, parts, says):
    records = [{"question1": "a", "question2": str(n), "label": n % 2} for n in range(40)]
    for part in parts:
        (tmp_path / f"qqp.{part}.jsonl").write_text("\n".join(map(json.dumps, records)))
    data = tasks.load("qqp", source=str(tmp_path))
    assert data.source == f"local:{tmp_path}{says}"
    assert data.train and data.test
    if "dev" not in parts:
        assert not set(data.train) & set(data.test) and len(data.train + data.test) == 40


def test_a_local_copy_of_a_known_task_has_its_publishers_licence():
    assert registry.licence("litbank", sources.OWN) == "CC BY 4.0"
    assert registry.licence("movie-reviews", sources.OWN) == "CC BY 4.0"
    assert registry.licence("litbank", "see its page on the hub") == "see its page on the hub"
    assert registry.licence("tagging", sources.OWN) == sources.OWN


def test_questions_of_the_hub_without_answers_are_refused(monkeypatch):
    row = {"id": "q", "title": "t", "context": "c", "question": "?"}
    rows = [row | {"answers": {"text": [], "answer_start": []}}]
    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", lambda *given: {"train": rows, "validation": rows})
    with pytest.raises(CtdError, match=r"record 1 .*no answer; SQuAD 1.1 gives one or more"):
        tasks.load("squad", source="hub:rajpurkar/squad_v2")

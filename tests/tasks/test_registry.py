"""Every task loads from where it says, repeats by seed, and complains clearly."""

import itertools
import json
import os
from types import MappingProxyType, SimpleNamespace

import pytest

from ctd_lib import paths, runtime, tasks
from ctd_lib.data import packaged, sources
from ctd_lib.errors import CtdError
from ctd_lib.tasks import loaders
from ctd_lib.tasks.loaders import common, texts

DATA = os.environ.get("CTD_DATA", "")
CONLL = "-DOCSTART- one\n\nAda B-PER\nleft O\n\n-DOCSTART- two\n\nParis B-LOC\nBob B-PER\n"


def _squad(context: str, answer: str, title: str = "t") -> dict:
    answers = [{"text": answer, "answer_start": context.index(answer)}]
    entry = {"id": f"{title}-{answer}", "question": "what?", "answers": answers}
    return {"title": title, "paragraphs": [{"context": context, "qas": [entry]}]}


def test_synthetic_tasks_need_nothing_and_are_labelled():
    for name in ("press-ner", "press-qa"):
        data = tasks.load(name, train_examples=3, test_examples=2)
        assert (len(data.train), len(data.test), data.synthetic) == (3, 2, True)
        assert data.source == f"synthetic:{name}"
        assert tasks.load(name, train_examples=3, test_examples=2).digest == data.digest
        other = tasks.load(name, train_examples=3, test_examples=2, seed=1)
        assert other.train != data.train and other.test == data.test
        assert not {e.name if name == "press-ner" else e.id for e in data.train} & {
            e.name if name == "press-ner" else e.id for e in data.test
        }


def test_labels_of_tagging_are_b_and_i_of_every_type():
    labels = tasks.load("press-ner", train_examples=2, test_examples=1).labels
    kinds = ("LOC", "MISC", "ORG", "PER")
    assert labels == ("O", *(f"{p}-{k}" for k, p in itertools.product(kinds, "BI")))


PACKAGED = {
    "movie-sentences": ("classification", "accuracy", ("negative", "positive"), 8016, 2056),
    "stsb": ("classification", "spearman", (), 5749, 1500),
    "conll2003": ("tagging", "entity_f1", None, 14041, 3453),
}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_tasks(name):
    if not (paths.downloads() / packaged.ASSETS[name].archive).is_file():
        pytest.skip(f"packaged:{name} has not been fetched")
    family, main_metric, labels, train, test = PACKAGED[name]
    data = tasks.load(name)
    assert (data.family, data.main_metric, data.source) == (family, main_metric, f"packaged:{name}")
    assert (len(data.train), len(data.test)) == (train, test)
    assert labels is None or data.labels == labels
    assert not data.synthetic and data.licence
    drawn = tasks.load(name, train_examples=5, test_examples=5, seed=3)
    assert all(example in data.train for example in drawn.train)
    again = tasks.load(name, train_examples=5, test_examples=5, seed=4)
    assert drawn.train != again.train and drawn.test == again.test


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"text": "x", "label": 1}, "needs sentence, label"),
        ({"sentence": "x", "label": "good"}, "needs sentence, label"),
        ({"sentence": None, "label": 1}, "is no sst2 record; it needs sentence, label"),
        ({"sentence": 7, "label": 1}, "is no sst2 record; it needs sentence, label"),
        ({"sentence": "x", "label": -1}, "label -1; sst2 knows 0 to 1"),
    ],
)
def test_bad_glue_records(tmp_path, record, says):
    for part in ("train", "dev"):
        (tmp_path / f"sst2.{part}.jsonl").write_text(json.dumps(record))
    with pytest.raises(CtdError, match=f"sst2.train.jsonl line 1.*{says}"):
        tasks.load("sst2", source=f"local:{tmp_path}")


def test_squad_with_dev_alone_trains_on_its_first_articles(tmp_path):
    articles = [_squad("the cat sat", "cat", title=f"article-{n:02}") for n in range(48)]
    (tmp_path / "dev-v1.1.json").write_text(json.dumps({"data": articles}))
    data = tasks.load("squad", source=str(tmp_path))
    assert (len(data.train), len(data.test)) == (38, 10)
    assert data.train[-1].title < data.test[0].title
    (tmp_path / "train-v1.1.json").write_text(json.dumps({"data": articles[:2]}))
    data = tasks.load("squad", source=str(tmp_path))
    assert (len(data.train), len(data.test)) == (2, 48)


def test_conll2003_by_sentence_or_by_document(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text("-DOCSTART- -X- O O\n\nAda B-PER\n\nleft O\n")
    data = tasks.load("conll2003", source=str(tmp_path))
    assert [example.words for example in data.test] == [("Ada",), ("left",)]
    whole = tasks.load("conll2003", source=str(tmp_path), context="document")
    assert [example.words for example in whole.test] == [("Ada", "left")]
    assert (data.max_length, whole.max_length) == (128, 4096)
    with pytest.raises(CtdError, match="context 'document' does not fit task sst2"):
        tasks.load("sst2", context="document")


def test_hub_layouts(monkeypatch):
    class Rows(list):
        names = SimpleNamespace(names=["O", "B-PER", "I-PER"])
        features = MappingProxyType({"ner_tags": SimpleNamespace(feature=names)})

    context = {"title": ["Rome", "Paris"], "sentences": [["It is old."], ["It is new."]]}
    documents = {"title": ["Rome"], "wiki_context": ["It is old."]}
    found = {
        "nyu-mll/glue": [{"sentence": "fine", "label": 1}],
        "eriktks/conll2003": [{"id": "7", "tokens": ["Ada", "left"], "ner_tags": [1, 0]}],
        "rajpurkar/squad": [
            {"id": "q", "title": "t", "context": "a cat", "question": "what?",
             "answers": {"text": ["cat"], "answer_start": [2]}}
        ],
        "hotpotqa/hotpot_qa": [
            {"id": "h", "question": "which?", "answer": "new", "type": "bridge",
             "supporting_facts": {"title": ["Paris"], "sent_id": [0]}, "context": context}
        ],
        "mandarjoshi/trivia_qa": [
            {"question_id": "t", "question": "which?", "entity_pages": documents,
             "search_results": {"title": ["Web"], "search_context": ["Eternal City"]},
             "answer": {"aliases": ["eternal city", "OLD"], "normalized_aliases": ["old"]}}
        ],
        "giant-oak/GONERD": [
            {"id": 4, "text": "Ada left", "tokens": ["Ada", "left"], "tags": ["B-PER", "O"]}
        ],
    }  # fmt: skip
    asked = []

    def load_dataset(name, config=None, data_dir=None, revision=None):
        asked.append((name, config, revision))
        if name == "eriktks/conll2003" and not revision:
            raise RuntimeError("Dataset scripts are no longer supported, but found conll2003.py")
        splits = ("train", "validation", "test", "validation_matched", "validation_mismatched")
        return dict.fromkeys(splits, Rows(found[name]))

    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert tasks.load("sst2").train == [tasks.FAMILIES["classification"].Text("fine", None, 1)]
    (tagged,) = tasks.load("conll2003", source="hub:eriktks/conll2003").test
    assert (tagged.words, tagged.tags) == (("Ada", "left"), ("B-PER", "O"))
    assert asked[-1] == ("eriktks/conll2003", None, "refs/convert/parquet")
    (question,) = tasks.load("squad").test
    assert question.answers == (("cat", 2),)
    (question,) = tasks.load("hotpotqa").test
    assert question.answers == (("new", question.context.index("new")),)
    assert question.kind == "bridge"
    assert asked[-1][1] == "distractor"
    (question,) = tasks.load("triviaqa").test
    assert question.context == "Rome\nIt is old."
    assert (question.answers, question.golds) == ((("old", 11),), ("old",))
    assert asked[-1][:2] == ("mandarjoshi/trivia_qa", "rc.wikipedia")
    (question,) = tasks.load("triviaqa-web").test
    assert question.context == "Rome\nIt is old.\n\nWeb\nEternal City"
    assert question.answers == (("old", 11), ("Eternal City", 21))
    assert asked[-1][:2] == ("mandarjoshi/trivia_qa", "rc.web")
    (tagged,) = tasks.load("gonerd").test
    assert (tagged.words, tagged.tags) == (("Ada", "left"), ("B-PER", "O"))
    found["nyu-mll/glue"] = [{"premise": "a", "hypothesis": "b", "label": 2}]
    assert [example.kind for example in tasks.load("mnli").test] == ["matched", "mismatched"]


@pytest.mark.parametrize("task", ["squad", "hotpotqa", "triviaqa", "gonerd", "sst2"])
def test_a_data_set_of_the_hub_in_another_layout_is_one_sentence(task, monkeypatch):
    class Rows(list):
        features = MappingProxyType({})

    rows = Rows([{"body": "x", "answers": None}])
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", lambda *given: splits)
    with pytest.raises(CtdError, match=r"hub:some/thing.*(record 1|has body)"):
        tasks.load(task, source="hub:some/thing")


def test_an_export_as_parquet_has_a_folder_for_each_configuration(tmp_path, monkeypatch):
    """As `datasets` itself reads it, from a folder in the layout of such a branch."""
    import datasets

    for config in ("distractor", "fullwiki"):
        for part in ("train", "validation"):
            folder = tmp_path / config / part
            folder.mkdir(parents=True)
            rows = datasets.Dataset.from_list([{"which": f"{config} {part}"}])
            rows.to_parquet(folder / "0000.parquet")
    real = datasets.load_dataset

    def load_dataset(name, config=None, data_dir=None, revision=None):
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found a.py")
        cache = str(tmp_path / "cache")
        return real(str(tmp_path), data_dir=data_dir, cache_dir=cache)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    source = sources.Source("hub", "some/thing", "")
    request = loaders.Request("hotpotqa", source, None, None, 0)
    found = common.hub(request, "distractor")
    assert {name: list(part["which"]) for name, part in found.items()} == {
        "train": ["distractor train"], "validation": ["distractor validation"],
    }  # fmt: skip


def test_what_the_hub_refuses_is_one_sentence(monkeypatch):
    def load_dataset(name, config=None):
        raise FileNotFoundError(f"Dataset '{name}' is a gated dataset.\nAsk for access.")

    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(CtdError) as caught:
        tasks.load("gonerd")
    assert str(caught.value) == (
        "hub:giant-oak/GONERD cannot be opened: Dataset 'giant-oak/GONERD' is a gated dataset."
    )


def test_users_own_conll_files(tmp_path):
    (tmp_path / "a.conll").write_text(CONLL)
    (tmp_path / "b.conll").write_text("Eve B-PER\n")
    files = {"train_file": str(tmp_path / "a.conll"), "test_file": str(tmp_path / "b.conll")}
    data = tasks.load("tagging", **files)
    assert [example.name for example in data.train] == ["one", "two"]
    assert data.source == f"local:{tmp_path / 'a.conll'}"
    (tmp_path / "b.conll").write_text("Mars B-PLANET\n")
    with pytest.raises(CtdError, match=r"b\.conll line 1.*B-PLANET.*which has LOC, PER"):
        tasks.load("tagging", **files)


def test_users_own_squad_files(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [_squad("the cat sat", "cat")]}))
    data = tasks.load("span-qa", train_file=str(path), test_file=str(path))
    assert data.test[0].answers == (("cat", 4),)


def test_users_own_texts(tmp_path):
    train, test = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    files = {"train_file": str(train), "test_file": str(test)}
    train.write_text('{"text": "x", "label": "spam"}\n{"text": "y", "label": "ham"}\n')
    test.write_text('{"text": "z", "label": "spam"}\n')
    data = tasks.load("classification", **files)
    assert data.labels == ("ham", "spam")
    assert ([e.label for e in data.train], data.test[0].label) == ([1, 0], 1)
    test.write_text('{"text": "z", "label": "eggs"}\n')
    with pytest.raises(CtdError, match=r"b\.jsonl line 1.*'eggs'.*ham, spam"):
        tasks.load("classification", **files)
    for path in (train, test):
        path.write_text('{"text": "x", "label": 0.5}\n{"text": "y", "label": 2.0}\n')
    data = tasks.load("classification", **files)
    assert (data.labels, data.main_metric) == ((), "spearman")


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        (("0.5", "2", "-1e1"), ((), [0.5, 2.0, -10.0])),
        (("3", "1", "3"), (("1", "3"), [1, 0, 1])),
        (("1.5", "nan", "high"), (("1.5", "high", "nan"), [0, 2, 1])),
    ],
)
@pytest.mark.parametrize(("ending", "sign"), [("csv", ","), ("tsv", "\t")])
def test_fractional_numbers_in_a_table_are_scores(tmp_path, labels, read, ending, sign):
    path = tmp_path / f"a.{ending}"
    path.write_text("\n".join([f"text{sign}label", *(f"x{sign}{label}" for label in labels)]))
    data = tasks.load("classification", train_file=str(path), test_file=str(path))
    assert (data.labels, [example.label for example in data.train]) == read
    assert type(data.train[0].label) is type(read[1][0])
    if not read[0]:
        test = tmp_path / f"b.{ending}"
        test.write_text(f"text{sign}label\nx{sign}3\nx{sign}high\n")
        with pytest.raises(CtdError, match="line 3: label 'high' is no number"):
            tasks.load("classification", train_file=str(path), test_file=str(test))


@pytest.mark.parametrize(
    ("second", "field"),
    [
        ('{"text": "y", "label": 0}', "text_pair"),
        ('{"text": "y", "text_pair": "z"}', "label"),
        ('{"body": "y", "text_pair": "z", "label": 0}', "text"),
    ],
)
def test_users_own_texts_with_a_field_missing(tmp_path, second, field):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "text_pair": "y", "label": 1}\n' + second)
    with pytest.raises(CtdError, match=rf"a\.jsonl line 2 has no proper field '{field}'"):
        tasks.load("classification", train_file=str(path), test_file=str(path))


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("nothing", {}, "there are movie-sentences, movie-reviews"),
        ("sst2", {}, r"no model hub answers, and CTD_DATA \(not set\).*glue/sst2.train.jsonl"),
        ("wikigold", {}, r"no data here: CTD_DATA.*ner/wikigold.iob2.conll.gz"),
        ("sst2", {"source": "packaged:stsb"}, "cannot come from packaged:stsb"),
        ("sst2", {"source": "packaged:nothing"}, "packaged:nothing is unknown"),
        ("sst2", {"source": "hub:nyu-mll/glue"}, "none answers"),
        ("sst2", {"train_file": "a"}, "takes no train_file.*tagging"),
        ("tagging", {"train_file": "a"}, "give train_file and test_file"),
    ],
)
def test_bad_requests(name, arguments, says):
    with pytest.raises(CtdError, match=says):
        tasks.load(name, **arguments)


def test_empty_parts_are_named(tmp_path):
    for part in ("train", "dev"):
        (tmp_path / f"sst2.{part}.jsonl").write_text("")
    with pytest.raises(CtdError, match="the train part is empty"):
        tasks.load("sst2", source=str(tmp_path))


def test_family_by_name_or_data():
    data = tasks.load("press-qa", train_examples=1, test_examples=1)
    assert tasks.family(data) is tasks.family("span-qa")
    with pytest.raises(CtdError, match="there are classification, tagging, span-qa"):
        tasks.family("nothing")


def test_every_glue_layout_has_a_task():
    assert set(texts.GLUE) <= set(tasks.TASKS)


LOCAL = {
    "sst2": 872, "cola": 1043, "mrpc": 408, "rte": 277, "wnli": 71, "stsb": 1500, "qnli": 5463,
    "mnli": 93, "qqp": 4745, "movie-reviews": 393, "wikigold": 45, "litbank": 20, "sec-filings": 3,
    "wnut17": 1287, "squad": 1988, "squad-long": 1988, "hotpotqa": 198, "triviaqa": 5,
}  # fmt: skip
STAND_INS = {"qnli", "mnli", "qqp", "squad", "squad-long", "hotpotqa", "triviaqa"}


@pytest.mark.skipif(not DATA, reason="CTD_DATA is not set")
@pytest.mark.parametrize("name", LOCAL)
def test_real_local_tasks(name, monkeypatch):
    monkeypatch.setenv("CTD_DATA", DATA)
    data = tasks.load(name)
    assert len(data.test) == LOCAL[name]
    assert ("(" in data.source) == (name in STAND_INS)

"""Files of a user that cannot be used are refused in one sentence with file and line."""

import json

import pytest

from ctd_lib import tasks
from ctd_lib.errors import CtdError

LONG = "\n".join(f"w{n} {'B-PER' if n % 50 == 0 else 'O'}" for n in range(40_000))
USER_FILES = {
    "wrong columns": ("tagging", "a.conll", b"Ada B-PER\nleft\n", "line 2 has one column"),
    "unknown tag": ("tagging", "b.conll", b"x O\nMars B-PLANET\n", "line 2.*no type in the train"),
    "not IOB2": ("tagging", "a.conll", b"Ada B-PER\n\nx I-LOC\n", "line 3.*continues no entity"),
    "not text": ("tagging", "a.conll", b"\x00\xff\xfe", "line 1 is not UTF-8"),
    "mixed encodings": ("tagging", "a.conll", b"Ada O\n\xfcber O\n", "line 2 is not UTF-8"),
    "no documents": ("tagging", "a.conll", b"-DOCSTART-\tone\n\n", "the train part is empty"),
    "not gzip": ("tagging", "a.conll.gz", b"Ada O\n", "not whole gzip"),
    "SQuAD as CoNLL": ("tagging", "a.conll", b'{"data": []}', "tag.*no IOB2 tag"),
    "no JSON": ("classification", "a.jsonl", b"text,label\nx,1\n", "line 1 is not JSON"),
    "no field": ("classification", "a.jsonl", b'{"text": "x"}', "line 1 .*field 'label'"),
    "empty text": ("classification", "a.jsonl", b'{"text": " ", "label": 1}', "line 1: .*empty"),
    "blank label": ("classification", "a.csv", b"text,label\nx,0.5\ny, \n",
                    "line 3: its label is empty"),
    "no label": ("classification", "b.jsonl", b'{"text": "x", "label": ""}', "line 1: its label"),
    "header alone": ("classification", "a.csv", b"text,label\n", "a.csv: the train part is empty"),
    "unknown label": ("classification", "b.jsonl", b'{"text": "x", "label": "z"}', "line 1: .*'z'"),
    "one label": ("classification", "a.jsonl", b'{"text": "x", "label": "a"}', "one label, 'a'"),
    "no number": ("classification", "b.csv", b"text\n", "the test part is empty"),
    "no SQuAD": ("span-qa", "a.json", b'{"questions": []}', "no list 'data'"),
    "empty context": (
        "span-qa", "a.json",
        b'{"data": [{"paragraphs": [{"context": "", "qas": [{"id": 7, "question": "?", "answers":'
        b' [{"text": "", "answer_start": 0}]}]}]}]}',
        "question 7: its context is empty",
    ),
}  # fmt: skip
ROW = '{"tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"]}\n'
QUESTION = """{"data": [{"title": "t", "paragraphs": [
{"context": "a cat", "qas": [
{"id": "q7", "question": "?", "answers": [%s]}]}]}]}"""
USER_FILES |= {
    "a tag of no scheme": (
        "tagging", "a.jsonl", (2 * ROW + "\n" + ROW.replace("B-PER", "PER")).encode(),
        "a.jsonl line 4: tag 'PER' is no IOB2 tag",
    ),
    "unknown tag in JSON": (
        "tagging", "b.jsonl", ("\n" + ROW + ROW.replace("PER", "PLANET")).encode(),
        "b.jsonl line 3,.*'B-PLANET' is of no type",
    ),
    "lists of other lengths": (
        "tagging", "a.jsonl", (ROW + ROW.replace(', "O"', "")).encode(), "line 2 has 2 words",
    ),
    "a record without tags": ("tagging", "a.jsonl", (ROW + '{"tokens": ["x"]}').encode(),
                              "line 2 has no list 'ner_tags'"),
    "a blank within a word": ("tagging", "a.conll", b"Ada B-PER\nNew York B-LOC\n",
                              "line 2 has 3 columns, those above 2"),
    "a list over lines": (
        "classification", "a.json", b'[\n{"text": "x",\n "label": "1"},\n{"text": "y"}]',
        "line 4 has no proper field 'label'; it has text",
    ),
    "JSON Lines by another name": (
        "classification", "a.json", b'{"text": "x", "label": "1"}\n{"text": "y", "label": "1"}\n',
        "not JSON.*is to end in .jsonl",
    ),
    "commas in a .tsv": ("classification", "a.tsv", b"text,label\nx,1\n",
                         "line 2 has no proper field 'text'; it has text,label"),
    "a cell over lines": ("classification", "a.csv", b'text,label\n"x\ny",1\n,1\n',
                          "line 4: its text is empty"),
    "a pair in some records": (
        "classification", "a.jsonl",
        b'{"text": "x", "label": "1"}\n{"text": "x", "text_pair": "y", "label": "1"}',
        "line 1 has no proper field 'text_pair'",
    ),
    "a pair in one file": ("classification", "a.csv", b"text,text_pair,label\nx,y,a\n",
                           "a.csv has a field 'text_pair', .*good.jsonl has none"),
    "half of a character": ("classification", "a.jsonl", b'{"text": "\\ud83d", "label": "1"}',
                            "line 1 has half of a character"),
    "no finite score": ("classification", "a.jsonl", b'{"text": "x", "label": NaN}',
                        "line 1: label nan is no number"),
    "a word among scores": (
        "classification", "a.jsonl",
        b'{"text": "x", "label": 0.5}\n{"text": "x", "label": "good"}', "line 2: label 'good'",
    ),
    "an answer elsewhere": (
        "span-qa", "a.json", (QUESTION % '{"text": "cat", "answer_start": 0}').encode(),
        "1 of 1 answers.*question q7 in line 3: answer 'cat' is not at character 0",
    ),
    "an answer before the text": (
        "span-qa", "a.json", (QUESTION % '{"text": "cat", "answer_start": -3}').encode(),
        "not at character -3",
    ),
    "no answer": ("span-qa", "a.json", (QUESTION % "").encode(), "line 3, question q7: no answer"),
    "a number as answer": (
        "span-qa", "a.json", (QUESTION % '{"text": 5, "answer_start": 0}').encode(),
        "line 1, article 't'.*5 is no str",
    ),
    "a title that is none": (
        "span-qa", "a.json",
        (QUESTION % '{"text": "cat", "answer_start": 2}').replace('"t"', "null").encode(),
        "article None: not in SQuAD's layout.*None is no str",
    ),
    "no articles": ("span-qa", "a.json", b'{"data": {"a": 1}}', "no list 'data'"),
}  # fmt: skip
GOOD = {
    "tagging": ("good.conll", "Ada B-PER\nleft O\n"),
    "classification": ("good.jsonl", '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'),
    "span-qa": ("good.json", json.dumps({"data": []})),
}


@pytest.mark.parametrize("name", USER_FILES)
def test_bad_files_of_a_user(tmp_path, name):
    task, bad, content, says = USER_FILES[name]
    good, text = GOOD[task]
    (tmp_path / good).write_text(text)
    (tmp_path / bad).write_bytes(content)
    files = [bad, good] if bad.startswith("a.") else [good, bad]
    train, test = (str(tmp_path / file) for file in files)
    with pytest.raises(CtdError, match=says) as caught:
        tasks.load(task, train_file=train, test_file=test)
    assert "\n" not in str(caught.value) and bad in str(caught.value)


def test_a_cell_may_be_a_long_document(tmp_path):
    text = "word " * 50_000
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(f"text,label\n{text},a\nshort,b\n")
    files = {f"{part}_file": str(tmp_path / f"{part}.csv") for part in ("train", "test")}
    example, _ = tasks.load("classification", **files).test
    assert len(example.text) == len(text)


def test_documents_without_words_are_left_out_and_said(tmp_path, capsys):
    conll, rows = tmp_path / "a.conll", tmp_path / "b.jsonl"
    conll.write_text("-DOCSTART-\tone\n\nAda B-PER\n\n-DOCSTART-\ttwo\n\n")
    rows.write_text('{"id": "1", "tokens": [], "tags": []}\n'
                    '{"id": "2", "tokens": ["Ada"], "tags": ["B-PER"]}\n')  # fmt: skip
    data = tasks.load("tagging", train_file=str(conll), test_file=str(rows))
    assert (len(data.train), [example.name for example in data.test]) == (1, ["2"])
    said = capsys.readouterr().out
    assert "a.conll: documents without words left out: 1, two first" in said
    assert f"documents without words left out: 1, {rows} line 1 first" in said


def test_whole_characters_beyond_16_bits_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud83d\\ude42", "label": "a"}\n{"text": "y", "label": "b"}\n')
    data = tasks.load("classification", train_file=str(path), test_file=str(path))
    assert data.train[0].text == "\U0001f642"


def test_a_document_of_200_000_tokens_is_cut_and_counted(tmp_path, tokenizer):
    path = tmp_path / "long.conll"
    path.write_text(LONG)
    files = {"train_file": str(path), "test_file": str(path)}
    data = tasks.load("tagging", context="document", **files)
    family = tasks.family(data)
    (feature,) = features = family.encode(data.test, tokenizer, 4096, data.labels)
    counts, bounds = family.survival(features, data.test)
    kept = counts["read_entities"]
    assert len(feature["input_ids"]) == 4096 and feature["tokens"] > 200_000
    assert counts["entities"] == 800 and 0 < kept < 82
    assert bounds["entity_f1"] == pytest.approx(2 * kept / (800 + kept))
    assert tasks.losses(features)["lost_labels"] > 35_000

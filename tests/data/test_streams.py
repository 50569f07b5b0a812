"""Streams give what tokenising at once gives, in another order, and go on where they were left.

Local files read by `datasets` in streaming mode stand in for the hub.
"""

import collections
import gzip
import itertools
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy_models import tokenizer

from ctd_lib import runtime
from ctd_lib.data import corpora, streams, texts
from ctd_lib.errors import CtdError

TOKENIZER = tokenizer("bert")
DOCUMENTS = [chr(97 + n % 26) * (1 + n % 7) + f" {n // 26 * 'z'}q" for n in range(260)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Every local corpus is streamed, in blocks of eleven documents."""
    monkeypatch.setattr(texts, "STREAM_BYTES", 0)
    monkeypatch.setattr(streams, "BLOCK_DOCUMENTS", 11)


@pytest.fixture(params=["jsonl", "jsonl.gz", "parquet", "txt"])
def folder(request, tmp_path):
    """The documents in four files (two hundred and sixty where a file is one)."""
    parts = 260 if request.param == "txt" else 4
    for number, documents in enumerate(np.array_split(np.array(DOCUMENTS), parts)):
        path = tmp_path / f"{number:03}.{request.param}"
        lines = "".join(json.dumps({"text": str(text)}) + "\n" for text in documents).encode()
        if request.param == "parquet":
            pq.write_table(pa.table({"text": documents.tolist()}), path, row_group_size=20)
        elif request.param == "txt":
            path.write_text(str(documents[0]))
        else:
            path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return str(tmp_path)


def _words(documents) -> list[str]:
    return [TOKENIZER.decode(ids) for ids in documents]


def _stream(spec):
    return corpora.open_corpus(spec, TOKENIZER)


def test_a_pass_gives_every_document_once_and_none_that_is_held_out(folder):
    stream = _stream(folder)
    assert isinstance(stream, streams.Stream)
    held_out = _words(stream.held_out())
    count = len(DOCUMENTS) - len(held_out)
    read = stream.training([0])
    first, second = (
        _words(ids for _, ids in itertools.islice(read(None), start, start + count))
        for start in (0, count)
    )
    assert sorted(first + held_out) == sorted(DOCUMENTS)
    assert sorted(first) == sorted(second) and first != second
    assert held_out == [t for t in DOCUMENTS if texts.share(t) < texts.HELD_OUT_FRACTION]


def test_order_is_a_function_of_the_seed_and_far_from_the_files(folder):
    one, again, other = (
        _words(ids for _, ids in itertools.islice(_stream(folder).training([seed])(None), 100))
        for seed in (0, 0, 1)
    )
    assert one == again != other
    places = np.array([DOCUMENTS.index(text) for text in one])
    assert (np.diff(places) == 1).mean() < 0.2


@pytest.mark.parametrize("hop", [1, 10, 11, 60, 249])
def test_documents_go_on_from_any_position_again_and_again(folder, hop):
    whole = itertools.islice(_stream(folder).training([3])(None), 300)
    wanted = [ids.tolist() for _, ids in whole]
    position = None
    for start in range(0, 300 - hop, hop)[:12]:
        found = list(itertools.islice(_stream(folder).training([3])(position), hop + 1))
        assert [ids.tolist() for _, ids in found] == wanted[start : start + hop + 1]
        position = json.loads(json.dumps(found[-1][0]))


@pytest.mark.parametrize("cross_documents", [True, False])
def test_batches_of_a_mix_with_a_stream_go_on(folder, cross_documents):
    def packed():
        mix = {folder: 0.7, f"{folder}?min_words=2&max_words=2": 0.3}
        return corpora.PackedBatches(mix, TOKENIZER, 16, 2, seed=1, cross_documents=cross_documents)

    left = packed()
    list(itertools.islice(left, 37))
    state = json.loads(json.dumps(left.state_dict()))
    taken_up = packed()
    taken_up.load_state_dict(state)
    wanted = itertools.islice(packed(), 37, 60)
    for one, two in zip(wanted, itertools.islice(taken_up, 23), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_held_out_batches_of_a_stream(folder):
    batches = corpora.held_out_batches({folder: 1}, TOKENIZER, 8, 2, 5)
    assert [len(batch["input_ids"]) for batch in batches] == [2, 2, 1]


def test_the_hub_is_asked_for_configuration_and_split(tmp_path, monkeypatch):
    asked = {}
    (tmp_path / "a.jsonl").write_text('{"content": "a b"}\n{"content": "c d"}\n' * 40)
    load = datasets.load_dataset

    def stand_in(**options):
        asked.update(options)
        return load("json", data_files=str(tmp_path / "a.jsonl"), split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    stream = _stream(
        "hub:org/name?config=en&data_dir=part&revision=v1&split=train&column=content&join=2"
    )
    assert asked == {
        "path": "org/name", "name": "en", "data_dir": "part", "revision": "v1", "split": "train",
        "streaming": True,
    }  # fmt: skip
    read = itertools.islice(stream.training([0])(None), 30)
    assert collections.Counter(_words(ids for _, ids in read)) == {"a b c d": 30}


def test_a_folder_of_the_parquet_branch_is_a_configuration(tmp_path):
    """In the layout of that branch, where a cut part of a large data set is `partial-train`."""
    for language in ("en", "de"):
        folder = tmp_path / language / "partial-train"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"text": [language] * 3}), folder / "0000.parquet")
    rows = datasets.load_dataset(str(tmp_path), data_dir="en", split="train", streaming=True)
    assert [row["text"] for row in rows] == ["en"] * 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"body": "x"}\n', "has no field 'text'"),
        ('{"text": " "}\n{"text": ""}\n', "has no text in it"),
    ],
)
def test_bad_streams(tmp_path, content, says):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(CtdError, match=says):
        next(_stream(str(tmp_path)).training([0])(None))


def test_kinds_of_files_are_not_mixed_in_a_stream(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(CtdError, match="files of one kind, not json, text"):
        _stream(str(tmp_path))

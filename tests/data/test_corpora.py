"""Packing loses and doubles no token; batches repeat; held-out text stays out of training."""

import gzip
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from ctd_lib.data import corpora
from ctd_lib.errors import CtdError

FIRST, SEPARATOR, PAD = 1, 2, 0
SPECIAL = SimpleNamespace(cls_token_id=FIRST, sep_token_id=SEPARATOR, pad_token_id=PAD)


def _corpus(documents: int, first_token: int, length: int = 7) -> corpora.Corpus:
    """Documents of one repeated token each, every third held out."""
    tokens = np.repeat(np.arange(first_token, first_token + documents), length).astype(np.int32)
    held_out = np.arange(documents) % 3 == 0
    return {"tokens": tokens, "offsets": np.arange(documents + 1) * length, "held_out": held_out}


CORPORA = {"long": _corpus(30, 100), "short": _corpus(30, 500, length=2)}


def _packed(mix, seed=0, batch_size=2, max_length=16, **options):
    return corpora.PackedBatches(
        mix, SPECIAL, max_length, batch_size, seed, open_corpus=CORPORA.__getitem__, **options
    )


def _batches(mix, count, seed=0, batch_size=2, **options):
    return list(itertools.islice(_packed(mix, seed, batch_size, **options), count))


def test_batches_are_full_repeat_by_seed_and_never_end():
    mix = {"long": 0.5, "short": 0.5}
    first, again, other = (_batches(mix, 200, seed) for seed in (0, 0, 1))
    assert all(batch["input_ids"].shape == (2, 16) for batch in first)
    assert all(batch["attention_mask"].all() for batch in first)
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one["input_ids"], two["input_ids"])
    assert not all(
        torch.equal(one["input_ids"], two["input_ids"])
        for one, two in zip(first, other, strict=True)
    )


@pytest.mark.parametrize("share", [0.5, 0.25, 0.9])
def test_each_corpus_gets_its_share_of_every_stretch(share):
    batches = _batches({"long": share, "short": 1 - share}, 60, batch_size=1)
    # The tokens of `short` begin at 500, and of any two neighbours at most one is a separator.
    from_long = np.array([bool(batch["input_ids"][0, 1:3].max() < 500) for batch in batches])
    turns = np.arange(1, 61)
    assert np.abs(from_long.cumsum() - share * turns).max() <= 1


def test_one_pass_gives_every_training_token_once_before_any_twice():
    tokens = [int(t) for batch in _batches({"long": 1}, 50) for t in batch["input_ids"].flatten()]
    text = [token for token in tokens if token >= 100]
    trained = [100 + n for n in range(30) if n % 3]
    one_pass = text[: 7 * len(trained)]
    assert sorted(one_pass) == sorted(trained * 7)


def test_held_out_batches_hold_no_training_token():
    mix = {"long": 0.5, "short": 0.5}
    trained = {int(t) for batch in _batches(mix, 100) for t in batch["input_ids"].flatten()}
    held_out = corpora.held_out_batches(mix, SPECIAL, 16, 3, open_corpus=CORPORA.__getitem__)
    tested = {int(t) for batch in held_out for t in batch["input_ids"].flatten()}
    assert trained & tested == {FIRST, SEPARATOR}
    assert len(held_out) > 1
    few = corpora.held_out_batches(mix, SPECIAL, 16, 3, 4, open_corpus=CORPORA.__getitem__)
    assert [len(batch["input_ids"]) for batch in few] == [3, 1]


def test_padding_and_special_tokens_are_marked():
    (batch,) = corpora.held_out_batches(
        {"long": 1}, SPECIAL, 60, 2, open_corpus=CORPORA.__getitem__
    )
    ids, mask, special = (
        batch[k] for k in ("input_ids", "attention_mask", "special_tokens_mask")
    )  # fmt: skip
    assert torch.equal(mask.bool(), ids != PAD)
    assert (mask == 0).any()
    assert torch.equal(special.bool(), ids < 100)


def test_documents_apart_lose_no_token_and_share_no_sequence():
    mix = {"long": 0.5, "short": 0.5}
    batches = _batches(mix, 200, max_length=6, cross_documents=False)
    rows = [
        row[mask.bool()]
        for batch in batches
        for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert all(len(set(row[1:-1].tolist())) == 1 for row in rows)  # one token a document
    assert all(row[0] == FIRST and row[-1] == SEPARATOR and 3 <= len(row) <= 6 for row in rows)
    # Whole passes: each training document gives 4 + 3 tokens, or 2, and nothing comes twice before.
    seen = torch.cat([row[1:-1] for row in rows])
    counts = torch.bincount(seen, minlength=530)
    trained = [first + n for first in (100, 500) for n in range(30) if n % 3]
    assert counts[trained].min() > 0 and counts.sum() == counts[trained].sum()
    assert counts[100:130].max() - counts[[t for t in trained if t < 500]].min() <= 2 * 7


def test_documents_apart_keep_shares_of_tokens_and_pad_little():
    batches = _batches({"long": 0.5, "short": 0.5}, 320, cross_documents=False, max_length=9)
    real = sum(int(batch["attention_mask"].sum()) for batch in batches)
    padded = sum(batch["input_ids"].numel() for batch in batches)
    short = sum(int((batch["input_ids"] >= 500).any(1).sum()) * 4 for batch in batches)
    assert all(batch["input_ids"].numel() <= 2 * 9 for batch in batches)
    assert real / padded > 0.95
    assert abs(short / real - 0.5) < 0.05


@given(
    weights=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    cut=st.integers(0, 90),
    seed=st.integers(0, 5),
    batch_size=st.integers(1, 3),
    max_length=st.integers(3, 40),
    cross_documents=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_batches_go_on_where_they_were_left(
    weights, cut, seed, batch_size, max_length, cross_documents
):
    def packed():
        mix = dict(zip(CORPORA, weights, strict=True))
        return _packed(mix, seed, batch_size, max_length, cross_documents=cross_documents)

    left = packed()
    list(itertools.islice(left, cut))
    state = json.loads(json.dumps(left.state_dict()))
    taken_up = packed()
    taken_up.load_state_dict(state)
    wanted = list(itertools.islice(packed(), cut, cut + 12))
    for again in (left, taken_up):  # the same object, and another one
        for one, two in zip(wanted, itertools.islice(again, 12), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_a_state_is_small_and_reached_without_replay():
    packed = _packed({"long": 0.5, "short": 0.5}, max_length=64)
    list(itertools.islice(packed, 500))
    state = packed.state_dict()
    assert len(json.dumps(state)) < 500
    state = state | {"places": [[[10**9, 3], 0], [[10**9, 5], 1]], "given": [10**15, 10**15]}
    packed.load_state_dict(state)
    assert next(iter(packed))["input_ids"].shape == (2, 64)


def test_a_state_of_other_corpora_is_refused():
    state = _packed({"long": 1}).state_dict()
    with pytest.raises(CtdError, match="of corpora"):
        _packed({"short": 1}).load_state_dict(state)


@pytest.mark.parametrize("mix", [{}, {"long": 0.0}])
def test_empty_mix(mix):
    with pytest.raises(CtdError, match=r"mix .* is empty"):
        _batches(mix, 1)


@pytest.fixture
def tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "four"]
    return BertTokenizer(vocab={token: index for index, token in enumerate(vocabulary)})


def _write(folder, texts):
    path = folder / "texts.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps({"text": t}) + "\n" for t in texts).encode()))
    return str(path)


def test_tokenized_corpus_has_every_document_in_its_place(tmp_path, tokenizer):
    texts = ["one two", "", "three", "two four one"] * 50
    corpus = corpora.tokenize_corpus(_write(tmp_path, texts), tokenizer)
    documents = np.split(corpus["tokens"], corpus["offsets"][1:-1])
    wanted = [tokenizer.convert_tokens_to_ids(text.split()) for text in texts if text]
    assert [list(document) for document in documents] == wanted
    assert (corpus["tokens"].dtype, corpus["offsets"].dtype) == (np.int32, np.int64)


def test_what_is_held_out_depends_on_the_text_alone(tmp_path, tokenizer):
    texts = [f"one {number}" for number in range(400)]
    found = []
    for order in (texts, texts[::-1], texts + texts):
        held_out = corpora.tokenize_corpus(_write(tmp_path, order), tokenizer)["held_out"]
        found.append({text for text, out in zip(order, held_out, strict=True) if out})
    assert found[0] == found[1] == found[2]
    assert 5 <= len(found[0]) <= 40


def test_small_corpora_still_have_both_parts(tmp_path, tokenizer):
    corpus = corpora.tokenize_corpus(_write(tmp_path, ["one two", "three four"]), tokenizer)
    assert len(corpora.split(corpus, "train")) == len(corpora.split(corpus, "held_out")) == 1
    alone = corpora.tokenize_corpus(_write(tmp_path, ["one two"]), tokenizer)
    assert len(corpora.split(alone, "train")) == 1
    with pytest.raises(CtdError, match="single document"):
        corpora.split(alone, "held_out")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"text": "x"}\n{"body": "y"}\n', "line 2 has no field 'text'"),
        ("a.pdf", "x", "is no corpus"),
        ("a.txt", " \n", "has no text in it"),
        ("a.jsonl", "", "has no text in it"),
    ],
)
def test_bad_corpora(tmp_path, tokenizer, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(CtdError, match=says):
        corpora.tokenize_corpus(str(tmp_path / name), tokenizer)

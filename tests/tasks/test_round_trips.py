"""From real files to tokens and back: no tag, answer or text is lost or shifted before any cut.

Of every labelled file below CTD_DATA some examples are tried; with CTD_FULL=1 all of them are, and
of SQuAD read as whole articles each twentieth.
"""

import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import perfect

from ctd_lib import tasks
from ctd_lib.data import formats, squad
from ctd_lib.tasks import classification, losses, span_qa, tagging
from ctd_lib.tasks.loaders import common, ner, qa, texts

DATA = Path(os.environ.get("CTD_DATA", "/nowhere"))
FULL = os.environ.get("CTD_FULL") == "1"
UNCUT = 10**6
SOME = 40
KINDS = {
    "ner/*.gz": "tagging", "squad1.1/*.gz": "squad", "hotpotqa/*.gz": "hotpotqa",
    "triviaqa/*.gz": "triviaqa", "glue/*.gz": "classification",
    "text/movie_reviews*.gz": "classification",
}  # fmt: skip
FILES = [(path, kind) for glob, kind in KINDS.items() for path in sorted(DATA.glob(glob))]


def test_every_labelled_file_is_tried():
    if not FILES:
        pytest.skip("CTD_DATA has no labelled files")
    corpora = {path for path in DATA.glob("text/*.gz") if "review" not in path.name}
    assert {path for path, _ in FILES} == set(DATA.rglob("*.gz")) - corpora


@pytest.mark.timeout(1500 if FULL else 300)
@pytest.mark.parametrize(("path", "kind"), FILES, ids=lambda value: getattr(value, "name", value))
def test_nothing_is_lost_or_shifted(path, kind, real_tokenizer):
    TRIPS[kind](path, real_tokenizer)


def _some(examples):
    return examples if FULL else examples[:: max(1, len(examples) // SOME)]


def _tags(path, tokenizer):
    examples = _some(ner.documents(formats.read_conll(path)))
    labels = tuple(sorted({tag for example in examples for tag in example.tags}))
    features = tagging.encode(examples, tokenizer, UNCUT, labels)
    outputs = (
        SimpleNamespace(logits=torch.eye(len(labels))[np.maximum(feature["labels"], 0)][None])
        for feature in features
    )
    predictions = tagging.decode(features, outputs, examples, labels)
    assert predictions == [list(example.tags) for example in examples]
    assert losses(features)["truncated_examples"] == 0


def _squad(path, tokenizer):
    everything = squad.read(path)
    examples = everything if FULL else everything[::50]
    _answers(examples, span_qa.encode(examples, tokenizer, 384))  # in windows
    whole = qa._whole_articles(common.Loaded(everything, []))[0]
    whole = whole[:: 20 if FULL else 250]  # 7,000 tokens each
    _answers(whole, span_qa.encode(whole, tokenizer, UNCUT))


def _hotpotqa(path, tokenizer):
    examples = [qa.hotpotqa(record) for record in _some(formats.read_records(path))]
    # Some answers stand in no paragraph as whole words, so that there is nothing to lose.
    assert sum(bool(example.answers) for example in examples) > 0.95 * len(examples)
    _answers(examples, span_qa.encode(examples, tokenizer, UNCUT))


def _triviaqa(path, tokenizer):
    data = tasks.load("triviaqa", source=str(path.parent))
    examples = data.train + data.test
    _answers(examples, span_qa.encode(examples, tokenizer, UNCUT))


def _answers(examples, features):
    """Each answer stands in its context, and its tokens are those that hold its ends."""
    for example in examples:
        for text, start in example.answers:
            assert example.context[start : start + len(text)] == text
    found = set()
    for feature in features:
        example, offsets = examples[feature["example"]], feature["offsets"]
        spans = []
        for text, start in example.answers:
            first = start + len(text) - len(text.lstrip())
            last = start + len(text.rstrip()) - 1
            inside = [(offsets[:, 0] <= end) & (end < offsets[:, 1]) for end in (first, last)]
            if all(map(np.any, inside)):
                spans.append(tuple(int(tokens.argmax()) for tokens in inside))
        assert bool(spans) == bool(feature["end_positions"])
        if spans:
            found.add(feature["example"])
            ours = (feature[name] - feature["context_start"] for name in POSITIONS)
            assert tuple(ours) in spans
    assert found == {number for number, example in enumerate(examples) if example.answers}
    predictions = span_qa.decode(features, perfect(features), examples)
    for feature in features:
        start, end = (feature[name] - feature["context_start"] for name in POSITIONS)
        if feature["end_positions"] and end - start < span_qa.MAX_ANSWER_TOKENS:
            prediction = predictions[feature["example"]]
            texts = [text.strip() for text, _ in examples[feature["example"]].answers]
            assert any(text in prediction for text in texts)
    assert losses(features)["truncated_examples"] == 0


POSITIONS = ("start_positions", "end_positions")


def _texts(path, tokenizer):
    records = _some(formats.read_records(path))
    if path.parent.name == "glue":
        task = path.name.split(".")[0]
        first, second, *_ = texts.GLUE[task]
        examples = texts._glue_texts(records, task, path)
        assert [example.text for example in examples] == [record[first] for record in records]
        if second:
            assert [example.pair for example in examples] == [record[second] for record in records]
    else:
        examples = [classification.Text(r["text"], None, r["label"]) for r in records]
    assert [example.label for example in examples] == [record["label"] for record in records]
    features = classification.encode(examples, tokenizer, UNCUT, ("0", "1", "2"))
    assert losses(features) == {"truncated_examples": 0, "lost_labels": 0}
    for example, feature in zip(examples, features, strict=True):
        parts = tokenizer(example.text, example.pair, return_offsets_mapping=True, verbose=False)
        assert list(feature["input_ids"]) == parts["input_ids"]
        for number, text in enumerate(filter(None, (example.text, example.pair))):
            covered = np.zeros(len(text), dtype=bool)
            offsets = zip(parts.sequence_ids(0), parts["offset_mapping"], strict=True)
            for start, end in (span for part, span in offsets if part == number):
                covered[start:end] = True
            left = "".join(c for c, known in zip(text, covered, strict=True) if not known)
            # Accents and control characters, which BERT's normaliser takes away, and blanks.
            assert {unicodedata.category(c)[0] for c in left} <= {"M", "C", "Z"}


TRIPS = {
    "tagging": _tags, "squad": _squad, "hotpotqa": _hotpotqa, "triviaqa": _triviaqa,
    "classification": _texts,
}  # fmt: skip

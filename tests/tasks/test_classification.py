"""Texts and pairs become features, outputs become classes or scores."""

from types import SimpleNamespace

import pytest
import torch

from ctd_lib.tasks import classification, losses
from ctd_lib.tasks.classification import Text

LABELS = ("negative", "positive")


def test_features_are_what_the_tokenizer_gives(tokenizer):
    examples = [Text("in the sun", "the end", 1), Text("in", "sun", 0)]
    features = classification.encode(examples, tokenizer, 64, LABELS)
    for feature, example in zip(features, examples, strict=True):
        assert feature["input_ids"].tolist() == tokenizer(example.text, example.pair)["input_ids"]
        assert feature["labels"] == example.label
    assert [feature["example"] for feature in features] == [0, 1]


def test_collate_pads_to_the_longest_and_marks_the_first_token(tokenizer):
    examples = [Text("in the sun again and again", None, 1), Text("sun", None, 0)]
    features = classification.encode(examples, tokenizer, 64, LABELS)
    batch = classification.collate(features, tokenizer.pad_token_id, global_attention="first")
    longest = max(len(feature["input_ids"]) for feature in features)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, longest)
    assert torch.equal(batch["input_ids"] == tokenizer.pad_token_id, batch["attention_mask"] == 0)
    assert batch["global_attention_mask"].sum(1).tolist() == [1, 1]
    assert batch["global_attention_mask"][:, 0].tolist() == [1, 1]
    assert batch["labels"].tolist() == [1, 0]
    without = classification.collate(features, tokenizer.pad_token_id)
    assert set(without) == set(tokenizer.model_input_names) | {"labels"}


def test_cut_texts_are_counted(tokenizer):
    examples = [Text("in the sun " * 20, None, 1), Text("sun", None, 0)]
    features = classification.encode(examples, tokenizer, 16, LABELS)
    assert len(features[0]["input_ids"]) == 16
    assert losses(features) == {"truncated_examples": 1, "lost_labels": 0}


def test_decode_follows_the_examples_not_the_order_of_features():
    features = [{"example": 2}, {"example": 0}, {"example": 1}]
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    outputs = (SimpleNamespace(logits=part) for part in (logits[:2], logits[2:]))
    assert classification.decode(features, outputs, [None] * 3, LABELS) == [0, 1, 1]


def test_scores_are_kept_as_they_are():
    outputs = iter([SimpleNamespace(logits=torch.tensor([[2.5], [0.25]]))])
    features = [{"example": 0}, {"example": 1}]
    assert classification.decode(features, outputs, [None] * 2, ()) == [2.5, 0.25]


def test_which_scores():
    two = [Text("", None, 1), Text("", None, 0), Text("", None, 1)]
    found = classification.score([1, 0, 0], two)
    assert found == {
        "accuracy": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3), "matthews_correlation": 0.5
    }  # fmt: skip
    assert "f1" not in classification.score([2, 0, 0], two)
    scores = [Text("", None, 0.5), Text("", None, 2.0), Text("", None, 4.0)]
    assert classification.score([1.0, 2.0, 3.0], scores)["spearman"] == pytest.approx(1.0)

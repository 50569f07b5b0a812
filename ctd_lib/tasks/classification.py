"""Classification and regression of a text or of a pair of texts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctd_lib.tasks import features as shared

HEAD = "sequence-classification"
GLOBAL_ATTENTION = "first"


@dataclass(frozen=True)
class Text:
    """A text, or a pair of texts, with the index of its class or, for regression, its score."""

    text: str
    pair: str | None
    label: int | float
    kind: str = ""
    """Part of the data that it belongs to, where scores are told apart, e.g. matched."""


def encode(
    examples: Sequence[Text], tokenizer, max_length: int, labels: Sequence[str]
) -> list[dict]:
    """One feature an example, cut to `max_length` tokens (of a pair, the longer text first)."""
    features = []
    for start, chunk in shared.in_chunks(examples):
        pairs = None if chunk[0].pair is None else [example.pair for example in chunk]
        encoded = tokenizer(
            [example.text for example in chunk], pairs,
            truncation=True, max_length=max_length, split_special_tokens=True,
        )  # fmt: skip
        cut = [bool(encoding.overflowing) for encoding in encoded.encodings]
        for row, example in enumerate(chunk):
            found = shared.inputs(encoded, row)
            tokens = len(found["input_ids"])
            if cut[row]:
                whole = tokenizer(
                    example.text, example.pair, verbose=False, split_special_tokens=True
                )
                tokens = len(whole["input_ids"])
            features.append(
                found
                | {
                    "labels": example.label,
                    "example": start + row,
                    "tokens": tokens,
                    "question_tokens": 0,
                    "truncated": cut[row],
                    "lost_labels": 0,
                    "trainable": True,
                }
            )
    return features


def collate(
    features: list[dict], pad_token_id: int, global_attention: str | None = None
) -> dict[str, torch.Tensor]:
    """Model inputs (B, T) and labels (B,): int64 classes or float32 scores."""
    batch = shared.collate(features, pad_token_id, global_attention)
    return batch | {"labels": torch.tensor([feature["labels"] for feature in features])}


def decode(
    features: list[dict], outputs: Iterable, examples: Sequence[Text], labels: Sequence[str]
) -> list[int] | list[float]:
    """The class of each example, or its score where there are no classes."""
    predictions = [0] * len(examples)
    read = _classes if labels else _scores
    for feature, value in shared.pair(features, outputs, read):
        predictions[feature["example"]] = value
    return predictions


def _classes(output) -> list[int]:
    return output.logits.argmax(-1).tolist()


def _scores(output) -> list[float]:
    return output.logits.float().squeeze(-1).tolist()


def score(predictions: Sequence[int | float], examples: Sequence[Text]) -> dict[str, float]:
    """Correlations of scores; accuracy and Matthews correlation of classes, F1 if there are two.

    Accuracy also by kind, as `accuracy_matched`, where the examples have one.
    """
    from ctd_lib.scores import metrics

    references = [example.label for example in examples]
    if isinstance(references[0], float):
        return metrics.PearsonSpearman().compute(predictions=predictions, references=references)
    used = [metrics.Accuracy(), metrics.MatthewsCorrelation()]
    if max(*predictions, *references) <= 1:
        used.append(metrics.F1())
    scores = {}
    for metric in used:
        scores |= metric.compute(predictions=predictions, references=references)
    right = np.equal(predictions, references)
    kinds = np.array([example.kind for example in examples])
    for kind in sorted(set(kinds) - {""}):
        scores[f"accuracy_{kind}"] = float(right[kinds == kind].mean())
    return scores


def survival(features: list[dict], examples: Sequence[Text]) -> shared.Survival:
    """Nothing is known of what a cut text would have told."""
    return shared.Survival({}, {})


def details(features: list[dict], predictions: Sequence, examples: Sequence[Text]) -> list[dict]:
    """Of each example: `gold`, `predicted`, `kind` and its length in `tokens`."""
    tokens = {feature["example"]: feature["tokens"] for feature in features}
    return [
        {"gold": e.label, "predicted": predicted, "kind": e.kind, "tokens": tokens[number]}
        for number, (e, predicted) in enumerate(zip(examples, predictions, strict=True))
    ]

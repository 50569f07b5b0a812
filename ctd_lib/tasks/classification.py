"""Classification and regression of a text or of a pair of texts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from ctd_lib import metrics
from ctd_lib.tasks import features as shared

HEAD = "sequence-classification"


@dataclass(frozen=True)
class Text:
    """A text, or a pair of texts, with the index of its class or, for regression, its score."""

    text: str
    pair: str | None
    label: int | float


def encode(
    examples: Sequence[Text], tokenizer, max_length: int, labels: Sequence[str]
) -> list[dict]:
    """One feature an example, cut to `max_length` tokens (of a pair, the longer text first)."""
    features = []
    for start, chunk in shared.in_chunks(examples):
        pairs = None if chunk[0].pair is None else [example.pair for example in chunk]
        encoded = tokenizer(
            [example.text for example in chunk], pairs, truncation=True, max_length=max_length
        )
        for row, example in enumerate(chunk):
            features.append(
                shared.inputs(encoded, row)
                | {
                    "labels": example.label,
                    "example": start + row,
                    "global_tokens": 1,
                    "truncated": bool(encoded.encodings[row].overflowing),
                    "lost_labels": 0,
                }
            )
    return features


def collate(
    features: list[dict], pad_token_id: int, global_attention: bool = False
) -> dict[str, torch.Tensor]:
    """Model inputs (B, T) and labels (B,): int64 classes or float32 scores.

    The first token has global attention, if any.
    """
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
    """Correlations of scores; accuracy and Matthews correlation of classes, F1 if there are two."""
    references = [example.label for example in examples]
    if isinstance(references[0], float):
        return metrics.PearsonSpearman().compute(predictions=predictions, references=references)
    used = [metrics.Accuracy(), metrics.MatthewsCorrelation()]
    if max(*predictions, *references) <= 1:
        used.append(metrics.F1())
    scores = {}
    for metric in used:
        scores |= metric.compute(predictions=predictions, references=references)
    return scores

"""Tagging of words: named entities of a sentence or of a whole document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctd_lib import metrics
from ctd_lib.tasks import features as shared

HEAD = "token-classification"
OUTSIDE = "O"


@dataclass(frozen=True)
class TaggedText:
    """Words and their IOB2 tags."""

    name: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


def encode(
    examples: Sequence[TaggedText], tokenizer, max_length: int, labels: Sequence[str]
) -> list[dict]:
    """One feature an example: the tag of a word on its first token, nothing on all other tokens.

    Words beyond `max_length` tokens are cut off and counted as lost; so are the rare words of which
    the tokenizer makes no token.
    """
    index_of = {label: index for index, label in enumerate(labels)}
    features = []
    for start, chunk in shared.in_chunks(examples):
        # Blanks between the words, not pre-split input: that reads alike with every tokenizer.
        encoded = tokenizer(
            [" ".join(example.words) for example in chunk],
            truncation=True, max_length=max_length, return_offsets_mapping=True,
        )  # fmt: skip
        for row, example in enumerate(chunk):
            positions, words = first_tokens(np.array(encoded["offset_mapping"][row]), example.words)
            targets = np.full(len(encoded["input_ids"][row]), shared.IGNORED_LABEL)
            targets[positions] = [index_of[example.tags[word]] for word in words]
            features.append(
                shared.inputs(encoded, row)
                | {
                    "labels": targets,
                    "words": words,
                    "example": start + row,
                    "global_tokens": 0,
                    "truncated": bool(encoded.encodings[row].overflowing),
                    "lost_labels": len(example.words) - len(words),
                }
            )
    return features


def first_tokens(offsets: np.ndarray, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where the first token of each word stands.

    Args:
        offsets: (T, 2) first and last + 1 character of each token in the words joined by blanks;
            empty for special tokens.
        words: the words.

    Returns:
        Positions among the tokens and indices of the words, both ascending, one entry for each word
        that has a token.
    """
    starts = np.cumsum([0] + [len(word) + 1 for word in words[:-1]])
    tokens = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    # By its last character: a byte-level token may begin with the blank before its word.
    word_of = np.searchsorted(starts, offsets[tokens, 1] - 1, side="right") - 1
    found, first = np.unique(word_of, return_index=True)
    return tokens[first], found


def collate(
    features: list[dict], pad_token_id: int, global_attention: bool = False
) -> dict[str, torch.Tensor]:
    """Model inputs and labels, each (B, T); no token has global attention."""
    batch = shared.collate(features, pad_token_id, global_attention)
    labels = shared.pad([feature["labels"] for feature in features], shared.IGNORED_LABEL)
    return batch | {"labels": labels}


def decode(
    features: list[dict], outputs: Iterable, examples: Sequence[TaggedText], labels: Sequence[str]
) -> list[list[str]]:
    """A tag for each word of each example; a word without a token is outside of every entity."""
    predictions = [[OUTSIDE] * len(example.words) for example in examples]
    for feature, best in shared.pair(
        features, outputs, lambda o: o.logits.argmax(-1).cpu().numpy()
    ):
        tags = predictions[feature["example"]]
        positions = np.flatnonzero(feature["labels"] != shared.IGNORED_LABEL)
        for word, label in zip(feature["words"], best[positions], strict=True):
            tags[word] = labels[label]
    return predictions


def score(predictions: Sequence[Sequence[str]], examples: Sequence[TaggedText]) -> dict[str, float]:
    """Entity precision, recall and F1, overall and F1 by type."""
    references = [list(example.tags) for example in examples]
    return metrics.EntityF1().compute(predictions=predictions, references=references)

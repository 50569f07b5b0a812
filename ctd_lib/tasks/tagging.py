"""Tagging of words: named entities of a sentence or of a whole document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctd_lib.scores import official
from ctd_lib.tasks import features as shared

HEAD = "token-classification"
GLOBAL_ATTENTION = "none"
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
    the tokenizer makes no token. `word_tokens` (W,) tells where the first token of each word stands
    in the whole input, before the cut; -1 without one.
    """
    index_of = {label: index for index, label in enumerate(labels)}
    features = []
    for start, chunk in shared.in_chunks(examples):
        # Blanks between the words, not pre-split input: that reads alike with every tokenizer.
        encoded = tokenizer(
            [" ".join(example.words) for example in chunk],
            truncation=True, max_length=max_length, return_offsets_mapping=True,
            split_special_tokens=True,
        )  # fmt: skip
        for row, example in enumerate(chunk):
            offsets, specials = _whole(encoded.encodings[row])
            word_tokens = first_tokens(offsets, example.words)
            found = shared.inputs(encoded, row)
            targets = np.full(len(found["input_ids"]), shared.IGNORED_LABEL, dtype=np.int32)
            words = read_words(word_tokens, len(targets))
            targets[word_tokens[words]] = [index_of[example.tags[word]] for word in words]
            features.append(
                found
                | {
                    "labels": targets,
                    "word_tokens": word_tokens,
                    "example": start + row,
                    "tokens": len(offsets) + specials,
                    "question_tokens": 0,
                    "truncated": bool(encoded.encodings[row].overflowing),
                    "lost_labels": len(example.words) - len(words),
                    "trainable": len(words) > 0,
                }
            )
    return features


def _whole(encoding) -> tuple[np.ndarray, int]:
    """Offsets (T, 2) of a whole input with its first special token, and how many others it has."""
    pieces = [np.array(encoding.offsets).reshape(-1, 2)[:1]]
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    for piece in (encoding, *encoding.overflowing):
        keep = ~np.array(piece.special_tokens_mask, dtype=bool)
        pieces.append(np.array(piece.offsets).reshape(-1, 2)[keep])
    return np.concatenate(pieces), int(special.sum()) - 1


def first_tokens(offsets: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """Where the first token of each word stands, -1 where it has none; (W,) int32.

    Args:
        offsets: (T, 2) first and last + 1 character of each token in the words joined by blanks;
            empty for special tokens.
        words: the words.
    """
    starts = np.cumsum([0] + [len(word) + 1 for word in words[:-1]])
    tokens = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    # By its last character: a byte-level token may begin with the blank before its word.
    word_of = np.searchsorted(starts, offsets[tokens, 1] - 1, side="right") - 1
    found, first = np.unique(word_of, return_index=True)
    places = np.full(len(words), -1, dtype=np.int32)
    places[found] = tokens[first]
    return places


def read_words(word_tokens: np.ndarray, length: int) -> np.ndarray:
    """Indices of the words whose first token is among the first `length`, the last one not counted.

    The last is the closing special token, in whose place the whole input may have a word.
    """
    return np.flatnonzero((word_tokens >= 0) & (word_tokens < length - 1))


def collate(
    features: list[dict], pad_token_id: int, global_attention: str | None = None
) -> dict[str, torch.Tensor]:
    """Model inputs and labels, each (B, T)."""
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
        words = read_words(feature["word_tokens"], len(feature["input_ids"]))
        for word, label in zip(words, best[feature["word_tokens"][words]], strict=True):
            tags[word] = labels[label]
    return predictions


def score(predictions: Sequence[Sequence[str]], examples: Sequence[TaggedText]) -> dict[str, float]:
    """Entity precision, recall and F1, overall and F1 by type."""
    from ctd_lib.scores import metrics

    references = [list(example.tags) for example in examples]
    return metrics.EntityF1().compute(predictions=predictions, references=references)


def survival(features: list[dict], examples: Sequence[TaggedText]) -> shared.Survival:
    """Entities all of whose words are read; the others cannot be found, whatever the model does."""
    total = whole = 0
    for feature in features:
        read = np.zeros(len(feature["word_tokens"]), dtype=bool)
        read[read_words(feature["word_tokens"], len(feature["input_ids"]))] = True
        for _, first, last in official.entities(examples[feature["example"]].tags):
            total += 1
            whole += bool(read[first:last].all())
    counts = {"entities": total, "read_entities": whole}
    if whole == total:
        return shared.Survival(counts, {})
    bounds = {"entity_recall": whole / total, "entity_f1": 2 * whole / (total + whole)}
    return shared.Survival(counts, bounds)


def details(
    features: list[dict], predictions: Sequence[Sequence[str]], examples: Sequence[TaggedText]
) -> list[dict]:
    """Of each example: its entities, `gold` and `predicted`, and its length in `tokens`.

    An entity is [type, first word, last word + 1, position of its first token in the whole input].
    """
    rows = [{} for _ in examples]
    for feature in features:
        number, places = feature["example"], feature["word_tokens"]
        rows[number] = {
            name: sorted([k, a, b, int(places[a])] for k, a, b in official.entities(tags))
            for name, tags in (("gold", examples[number].tags), ("predicted", predictions[number]))
        } | {"tokens": feature["tokens"]}
    return rows

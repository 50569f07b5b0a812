"""What the families share: padding features to a batch, pairing them with outputs, counting losses.

A feature is what one forward sees of one example: a dict with the model's inputs as sequences, and
`example` (index of its example), `global_tokens` (how many tokens from the first may have global
attention), `truncated` (whether text was cut off) and `lost_labels` (labels without a token in it).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
IGNORED_LABEL = -100
ENCODE_BATCH = 128


def inputs(encoded, row: int) -> dict:
    """The model's inputs of one row of a tokenizer's answer."""
    return {name: encoded[name][row] for name in MODEL_INPUTS if name in encoded}


def in_chunks(items: Sequence, size: int = ENCODE_BATCH) -> Iterator[tuple[int, Sequence]]:
    """A sequence in pieces of `size`, each with the index of its first item."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def pad(rows: list[Sequence[int]], value: int) -> torch.Tensor:
    """Rows as one tensor (B, T), T the longest of them, filled up with `value`."""
    padded = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.as_tensor(row)
    return padded


def collate(
    features: list[dict], pad_token_id: int, global_attention: bool
) -> dict[str, torch.Tensor]:
    """The model's inputs of some features, padded to the longest of them, each (B, T) int64."""
    names = [name for name in MODEL_INPUTS if name in features[0]]
    batch = {
        name: pad(
            [feature[name] for feature in features], pad_token_id if name == "input_ids" else 0
        )
        for name in names
    }
    if global_attention:
        counts = torch.tensor([feature["global_tokens"] for feature in features])
        positions = torch.arange(batch["input_ids"].shape[1])
        batch["global_attention_mask"] = (positions < counts[:, None]).long()
    return batch


def pair(features: list[dict], outputs: Iterable, read: Callable) -> Iterator[tuple[dict, object]]:
    """Each feature with its row of `read(output)`, one output a batch, in the features' order.

    Outputs are taken one at a time and let go, so that a generator never holds more than one batch.
    """
    waiting = iter(features)
    for output in outputs:
        for row in read(output):
            yield next(waiting), row


def losses(features: list[dict]) -> dict[str, int]:
    """How many examples were cut, and how many labels have no token in any feature."""
    return {
        "truncated_examples": len({f["example"] for f in features if f["truncated"]}),
        "lost_labels": sum(feature["lost_labels"] for feature in features),
    }

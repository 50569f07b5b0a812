"""What the families share: features padded to a batch, paired with outputs, kept in a folder.

A feature is what one forward sees of one example: a dict of the model's inputs as arrays (T,), and

- `example`: index of its example; `tokens`: how long its whole input is, before any cut;
- `question_tokens`: how many tokens from the first on are the question, 0 without one;
- `truncated`: whether text was cut off; `lost_labels`: labels without a token in it;
- `trainable`: whether it has something to learn from.

What a text spells like a special token, `[SEP]` or `<s>`, is text.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ctd_lib.errors import CtdError
from ctd_lib.training.masking import IGNORED as IGNORED_LABEL

ENCODE_BATCH = 128
EVERY = re.compile(r"every-([1-9]\d*)")


class Survival(NamedTuple):
    """What truncation leaves of the test part."""

    counts: dict[str, int]
    """Answers or entities, and how many of them are whole in what the model reads."""
    bounds: dict[str, float]
    """The score that a model without fault would reach, by the score's name, where that is below 1
    and can be told."""


def inputs(encoded, row: int) -> dict[str, np.ndarray]:
    """The model's inputs of one row of a tokenizer's answer; padding is a matter of the batch."""
    names = [name for name in ("input_ids", "token_type_ids") if name in encoded]
    return {name: np.array(encoded[name][row], dtype=np.int32) for name in names}


def in_chunks(items: Sequence, size: int = ENCODE_BATCH) -> Iterator[tuple[int, Sequence]]:
    """A sequence in pieces of `size`, each with the index of its first item."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def pad(rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
    """Rows as one tensor (B, T), T the longest of them, filled up with `value`."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded)


def collate(
    features: list[dict], pad_token_id: int, global_attention: str | None
) -> dict[str, torch.Tensor]:
    """The model's inputs of some features, padded to the longest of them, each (B, T) int64.

    Args:
        global_attention: which tokens get it (see `policy`); None: no mask, for an arch without.
    """
    batch = {"input_ids": pad([feature["input_ids"] for feature in features], pad_token_id)}
    if "token_type_ids" in features[0]:
        batch["token_type_ids"] = pad([feature["token_type_ids"] for feature in features], 0)
    lengths = torch.tensor([[len(feature["input_ids"])] for feature in features])
    positions = torch.arange(batch["input_ids"].shape[1])
    batch["attention_mask"] = (positions < lengths).long()
    if global_attention is not None:
        questions = torch.tensor([[feature["question_tokens"]] for feature in features])
        chosen = _global_tokens(global_attention, positions, questions)
        batch["global_attention_mask"] = batch["attention_mask"] * chosen
    return batch


def common_length(length: int, at_most: int) -> int:
    """The next of few lengths, sixteen a doubling and multiples of 8, for batches to be padded to.

    oneDNN makes kernels for every shape that it meets and keeps them: on sequences of 100 to 384
    tokens a step took a fifth longer, and memory grew by 50 MB with every new length.
    """
    step = max(8, 1 << max(0, (length - 1).bit_length() - 5))
    return min(-(-length // step) * step, at_most)


def widen(batch: dict[str, torch.Tensor], length: int, pad_token_id: int) -> dict:
    """A batch of `collate` with more padding: each (B, T) as (B, length)."""
    fill = {"input_ids": pad_token_id, "labels": IGNORED_LABEL}
    return {
        name: x if x.ndim == 1 else F.pad(x, (0, length - x.shape[1]), value=fill.get(name, 0))
        for name, x in batch.items()
    }


def _global_tokens(policy: str, positions: torch.Tensor, questions: torch.Tensor) -> torch.Tensor:
    if policy == "none":
        return positions < 0
    if policy == "first":
        return positions == 0
    if policy == "question":
        return positions < questions
    return positions % int(EVERY.fullmatch(policy)[1]) == 0


def policy(chosen: str | None, published: str) -> str:
    """The policy of global attention: `chosen`, or the published one of the family for None.

    Policies: none; first (token); question (and first token); every-N (tokens 0, N, 2 N ...).

    Raises:
        CtdError: no such policy, or a question where the task has none.
    """
    if chosen is None:
        return published
    if chosen == "question" and published != "question":
        raise CtdError("global_attention is 'question', but the examples of this task have none.")
    if chosen not in ("none", "first", "question") and not EVERY.fullmatch(chosen):
        raise CtdError(
            f"global_attention {chosen!r} is unknown; there are none, first, question, every-N."
        )
    return chosen


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


def save(features: list[dict], folder: Path) -> None:
    """Keep features in a folder of their own: an array for each of their entries."""
    folder.mkdir()
    for name, value in features[0].items():
        column = [feature[name] for feature in features]
        if isinstance(value, np.ndarray):
            ends = np.cumsum([len(row) for row in column])
            np.save(folder / f"{name}.ends.npy", ends, allow_pickle=False)
            column = np.concatenate(column)
        np.save(folder / f"{name}.npy", np.asarray(column), allow_pickle=False)


def load(folder: Path) -> list[dict[str, Any]]:
    """The features that `save` kept; their arrays are views of the files."""
    columns = {}
    for path in folder.glob("*.npy"):
        name = path.name.removesuffix(".npy")
        if name.endswith(".ends"):
            continue
        column = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        if (ends := path.with_name(f"{name}.ends.npy")).is_file():
            columns[name] = np.split(column, np.load(ends)[:-1])
        else:
            columns[name] = column.tolist()
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]

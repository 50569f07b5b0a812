"""What goes into one update of the weights: its micro-batches, their counts, who computes which.

The losses of an update are sums divided by the counts of the whole update, so that contributions
add up, however many micro-batches and processes they come from.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ctd_lib.errors import CtdError
from ctd_lib.training.masking import IGNORED

Batch = dict[str, Tensor]
Totals = dict[str, int]
"""Of a whole update: `sequences`; `tokens` without padding; `labels` that are to be predicted, or 1
where there are none, so that one may divide by it."""


def counts(batch: Batch) -> Totals:
    """Sequences, tokens and labels of one batch."""
    ids = batch["input_ids"]
    found = {"sequences": len(ids), "tokens": ids.numel(), "labels": 0}
    if "attention_mask" in batch:
        found["tokens"] = int(batch["attention_mask"].sum())
    if "labels" in batch:
        found["labels"] = int((batch["labels"] != IGNORED).sum())
    return found


def totals(batches: Iterable[Batch]) -> Totals:
    """The counts of all micro-batches of an update."""
    found = Counter(sequences=0, tokens=0, labels=0)
    for batch in batches:
        found.update(counts(batch))
    return found | {"labels": max(1, found["labels"])}


def windows(
    batches: Iterator[Batch], accumulation: int, tokens_per_update: int | None
) -> Iterator[list[Batch]]:
    """The micro-batches of one update after another; the last may hold fewer.

    Args:
        accumulation: micro-batches an update.
        tokens_per_update: take micro-batches until they have so many tokens, instead.
    """
    window: list[Batch] = []
    tokens = 0
    for batch in batches:
        window.append(batch)
        tokens += counts(batch)["tokens"]
        full = tokens >= tokens_per_update if tokens_per_update else len(window) == accumulation
        if full:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def require_size(accumulation: int, tokens_per_update: int | None) -> None:
    """Whether `windows` can fill updates of this size.

    Raises:
        CtdError: one of the two is less than 1, or both are given.
    """
    if accumulation < 1:
        raise CtdError(f"accumulation is {accumulation}; an update takes at least one batch.")
    if tokens_per_update is not None and tokens_per_update < 1:
        raise CtdError(
            f"tokens_per_update is {tokens_per_update}; give a number above 0, or None for as many"
            " as `accumulation` batches hold."
        )
    if accumulation != 1 and tokens_per_update:
        raise CtdError(
            f"accumulation is {accumulation} and tokens_per_update {tokens_per_update};"
            " give one of them."
        )


def share(window: list[Batch], rank: int, world: int) -> list[Batch]:
    """The micro-batches of an update that process `rank` of `world` computes; maybe none.

    They take turns, so that none has more of them than process 0. Where there are fewer
    micro-batches than processes, those are cut by sequences first.
    """
    if len(window) < world:
        parts = -(-world // len(window))
        window = [part for batch in window for part in _cut(batch, parts)]
    return window[rank::world]


def _cut(batch: Batch, parts: int) -> list[Batch]:
    sequences = len(batch["input_ids"])
    pieces = torch.arange(sequences).tensor_split(min(parts, sequences))
    return [{name: x[rows] for name, x in batch.items()} for rows in pieces]

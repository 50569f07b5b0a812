"""Finetuning one model on one task, and its scores on the test part by the task's own metric."""

import inspect
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctd_lib import models, tasks, train

BUCKET = 32  # batches whose examples are sorted by length together
TARGETS = ("labels", "start_positions", "end_positions")


@dataclass(frozen=True)
class FinetuneResult:
    """What one finetuned model reached."""

    scores: dict[str, float]
    """Every score of the task's family on the test part, 0 to 1 (correlations from -1)."""
    predictions: list[Any]
    """One per test example, in their order."""
    log: train.TrainLog
    counts: dict[str, int]
    """train_examples, test_examples; max_length, in tokens, at which examples were cut;
    truncated_examples and lost_labels of the test part; both again with `train_` before them."""


def finetune(
    model: PreTrainedModel,
    task_data: tasks.TaskData,
    tokenizer: PreTrainedTokenizerBase,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    max_length: int,
    seed: int = 0,
    precision: str = "float32",
    **options,
) -> FinetuneResult:
    """Train `model` in place on the train part, then predict and score the test part.

    Batches hold examples of like length and are padded to the longest; where the model takes a
    global attention mask, the task sets it.

    Args:
        model: has the head that the task's family names, with an output per label.
        lr: highest learning rate; it falls to 0 over all epochs.
        batch_size: examples an update, and a forward of the test.
        max_length: tokens at which examples are cut; at the model's own length if that is less.
        seed: of the order of the examples. New weights and dropout draw from torch's generator.
        **options: those of `train.fit`.
    """
    family = tasks.family(task_data)
    max_length = min(max_length, models.max_length(model.config))
    train_features, test_features = (
        family.encode(examples, tokenizer, max_length, task_data.labels)
        for examples in (task_data.train, task_data.test)
    )
    takes_global = "global_attention_mask" in inspect.signature(model.forward).parameters

    def collate(features: list[dict]) -> train.Batch:
        return family.collate(features, tokenizer.pad_token_id, global_attention=takes_global)

    steps = epochs * -(-len(train_features) // batch_size)
    batches = (
        collate(features)
        for epoch in range(epochs)
        for features in bucketed(train_features, batch_size, random.Random(f"{seed}-{epoch}"))
    )
    options = {"description": "finetune", "max_grad_norm": 1.0} | options
    log = train.fit(model, _loss, batches, steps=steps, lr=lr, precision=precision, **options)

    test_features.sort(key=_length, reverse=True)
    test_batches = (
        collate(test_features[start : start + batch_size])
        for start in range(0, len(test_features), batch_size)
    )
    outputs = _outputs(model, test_batches, precision)
    predictions = family.decode(test_features, outputs, task_data.test, task_data.labels)
    lost_in_training = tasks.losses(train_features)
    counts = {
        "train_examples": len(task_data.train),
        "test_examples": len(task_data.test),
        "max_length": max_length,
        **tasks.losses(test_features),
        **{f"train_{name}": count for name, count in lost_in_training.items()},
    }
    return FinetuneResult(family.score(predictions, task_data.test), predictions, log, counts)


def bucketed(features: list[dict], batch_size: int, rng: random.Random) -> Iterator[list[dict]]:
    """All features once, in batches of like length, in random order.

    Shuffled, cut into buckets, sorted within each: little padding, yet other batches every epoch.
    """
    order = rng.sample(features, len(features))
    size = BUCKET * batch_size
    batches = []
    for start in range(0, len(order), size):
        bucket = sorted(order[start : start + size], key=_length)
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    rng.shuffle(batches)
    yield from batches


def _length(feature: dict) -> int:
    return len(feature["input_ids"])


def _loss(model: PreTrainedModel, batch: train.Batch) -> tuple[torch.Tensor, dict]:
    return model(**batch).loss, {}


@torch.inference_mode()
def _outputs(model: PreTrainedModel, batches: Iterator[train.Batch], precision: str) -> Iterator:
    """The model's output for each batch, made when it is asked for and not kept."""
    model.eval()
    device = model.device
    for batch in batches:
        inputs = {name: x.to(device) for name, x in batch.items() if name not in TARGETS}
        with train.autocast(device, precision):
            yield model(**inputs)

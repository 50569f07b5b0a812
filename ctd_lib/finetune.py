"""Finetuning one model on one task, and its scores on the test part by the task's own metric."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctd_lib import attention, models, tasks
from ctd_lib.distillation.task import task_distill_loss
from ctd_lib.errors import CtdError
from ctd_lib.training import loop as train
from ctd_lib.training import updates
from ctd_lib.training.engine import require_precision

BUCKET = 32  # batches whose examples are sorted by length together
TARGETS = ("labels", "start_positions", "end_positions")


@dataclass(frozen=True)
class Scored:
    """What one finetuned model reached."""

    scores: dict[str, float]
    """Every score of the task's family on the test part, 0 to 1 (correlations from -1)."""
    predictions: list[Any]
    """One per test example, in their order."""
    details: list[dict]
    """Of each test example what was right, what was predicted, and where (`tasks`)."""
    counts: dict[str, int]
    """train_examples, test_examples; max_length, in tokens, at which examples were cut;
    truncated_examples and lost_labels of the test part; both again with `train_` before them;
    answers or entities of the test part, and those of them that are read."""
    upper_bounds: dict[str, float]
    """What the cut leaves to reach of a score, where that is less than 1."""
    global_attention: str
    """Which tokens have it, or what the arch has in its place."""


@dataclass(frozen=True)
class FinetuneResult(Scored):
    """The same, and how it got there."""

    log: train.TrainLog


class Encoded(NamedTuple):
    """The features of a task's two parts."""

    train: list[dict]
    test: list[dict]


BUILT_IN = {
    "full": "every token attends to every token",
    "bigbird": "built in: first and last block",
    "lsg": "built in: tokens put in front",
    "nystromformer": "built in: landmarks",
}
"""What archs without a global attention mask have in its place."""


def encode(
    task_data: tasks.TaskData, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Encoded:
    """Features of train and test part, the same for every model with this tokenizer."""
    family = tasks.family(task_data)
    parts = (task_data.train, task_data.test)
    return Encoded(*(family.encode(p, tokenizer, max_length, task_data.labels) for p in parts))


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
    global_attention: str | None = None,
    encoded: Encoded | None = None,
    teacher: PreTrainedModel | None = None,
    task_distill_weight: float = 1.0,
    temperature: float = 2.0,
    accumulation: int = 1,
    **options,
) -> FinetuneResult:
    """Train `model` in place on the train part, then predict and score the test part.

    Batches hold examples of like length and are padded to the longest, or a little more.

    Args:
        model: has the head that the task's family names, with an output per label.
        lr: highest learning rate; it falls to 0 over all epochs.
        batch_size: examples a batch, in training and in the test.
        max_length: tokens at which examples are cut; at the model's own length if that is less.
        seed: of the order of the examples. New weights and dropout draw from torch's generator.
        global_attention: of Longformer: none, first, question or every-N; None: as published for
            the task's family.
        encoded: what `encode` gave for the same data, tokenizer and length; None: encoded here.
        teacher: of the same arch, finetuned on the same task: its answers are targets too
            (`task_distill`).
        task_distill_weight: weight of that term beside the task's own loss.
        temperature: of that term.
        accumulation: batches an update; the last update may have fewer.
        **options: those of `train.fit`, but for `tokens_per_update`.

    Raises:
        CtdError: a policy that the task or the arch does not have, an option that is refused, no
            training example with something to learn from in what is read, or answers on the test
            part that are not finite.
    """
    if options.get("tokens_per_update") is not None:
        raise CtdError(
            "finetuning counts its steps in batches, not in tokens; give accumulation instead of"
            " tokens_per_update."
        )
    updates.require_size(accumulation, None)
    reader = _Reader(model, task_data, tokenizer, max_length, global_attention, encoded)
    train_features = [feature for feature in reader.encoded.train if feature["trainable"]]
    if not train_features:
        raise CtdError(
            f"task {task_data.name}: no training example has its label in the first "
            f"{reader.max_length} tokens; raise task_max_length or max_length."
        )
    batches_an_epoch = -(-len(train_features) // batch_size)
    steps = -(-epochs * batches_an_epoch // accumulation)
    batches = (
        reader.collate(features)
        for epoch in range(epochs)
        for features in bucketed(train_features, batch_size, random.Random(f"{seed}-{epoch}"))
    )
    options = {"description": "finetune", "max_grad_norm": 1.0} | options
    if teacher is not None:
        teacher.to(model.device).eval()
    loss_fn = _loss_function(task_data.family, teacher, task_distill_weight, temperature)
    log = train.fit(
        model, loss_fn, batches, steps=steps, lr=lr, accumulation=accumulation,
        precision=precision, **options,
    )  # fmt: skip
    return FinetuneResult(**vars(_score(model, reader, batch_size, precision)), log=log)


def score(
    model: PreTrainedModel,
    task_data: tasks.TaskData,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    max_length: int,
    precision: str = "float32",
    global_attention: str | None = None,
    encoded: Encoded | None = None,
    public_attention: bool = False,
) -> Scored:
    """Predict and score the test part with a finetuned model; arguments as of `finetune`.

    Args:
        public_attention: predict with what transformers computes in evaluation where that is not
            the arch (`as_public`).

    Raises:
        CtdError: the policy or the precision is not for this model on its device, or its answers
            are not finite.
    """
    require_precision(precision, model.device)
    reader = _Reader(model, task_data, tokenizer, max_length, global_attention, encoded)
    with as_public(model) if public_attention else nullcontext():
        return _score(model, reader, batch_size, precision)


class _Reader:
    """A task as one model reads it: features, cut at its length, and global attention."""

    def __init__(self, model, task_data, tokenizer, max_length, global_attention, encoded):
        self.data, self.family = task_data, tasks.family(task_data)
        arch = models.arch_of(model)
        self.policy, self.policy_name = policy_of(arch, self.family, global_attention)
        self.max_length = min(max_length, models.max_length(model.config))
        self.encoded = encoded or encode(task_data, tokenizer, self.max_length)
        self.padding = tokenizer.pad_token_id

    def collate(self, features: list[dict]) -> train.Batch:
        batch = self.family.collate(features, self.padding, self.policy)
        length = tasks.common_length(batch["input_ids"].shape[1], self.max_length)
        return tasks.widen(batch, length, self.padding)


def _score(model: PreTrainedModel, reader: _Reader, batch_size: int, precision: str) -> Scored:
    family, examples = reader.family, reader.data.test
    features = sorted(reader.encoded.test, key=_length, reverse=True)
    batches = (
        reader.collate(features[start : start + batch_size])
        for start in range(0, len(features), batch_size)
    )
    outputs = _outputs(model, batches, precision)
    predictions = family.decode(features, outputs, examples, reader.data.labels)
    survival = family.survival(features, examples)
    losses_of_training = tasks.losses(reader.encoded.train)
    return Scored(
        scores=family.score(predictions, examples),
        predictions=predictions,
        details=family.details(features, predictions, examples),
        counts={
            "train_examples": len(reader.data.train),
            "test_examples": len(examples),
            "max_length": reader.max_length,
            **tasks.losses(features),
            **{f"train_{name}": count for name, count in losses_of_training.items()},
            **survival.counts,
        },
        upper_bounds=survival.bounds,
        global_attention=reader.policy_name,
    )


def policy_of(arch: str, family, chosen: str | None) -> tuple[str | None, str]:
    """The policy of global attention for `family.collate`, and what the record says of it.

    Raises:
        CtdError: the task has no such policy, or the arch no choice.
    """
    if arch == "longformer":
        policy = tasks.policy(chosen, family.GLOBAL_ATTENTION)
        return policy, policy
    if chosen is not None:
        raise CtdError(
            f"global_attention cannot be chosen for arch {arch} ({BUILT_IN[arch]}); longformer "
            "has the choice."
        )
    return None, BUILT_IN[arch]


@contextmanager
def as_public(model: PreTrainedModel):
    """For a while, what transformers computes in evaluation with the published configuration.

    Big Bird has no random blocks then, and full attention on short inputs; Nystromformer has as
    many landmarks as segment means, which transformers takes for full attention.
    """
    config, landmarks = model.config, getattr(model.config, "num_landmarks", None)
    if landmarks is not None:
        config.num_landmarks = config.segment_means_seq_len
    attention.install(attention.uninstall(model), public=True)
    try:
        yield
    finally:
        if landmarks is not None:
            config.num_landmarks = landmarks
        attention.install(attention.uninstall(model))


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


def _loss_function(
    family: str, teacher: PreTrainedModel | None, weight: float, temperature: float
) -> train.LossFunction:
    """The task's loss, with a teacher also the divergence from its answers."""

    def loss_fn(
        model: PreTrainedModel, batch: train.Batch, totals: train.Totals
    ) -> tuple[torch.Tensor, dict]:
        output = model(**batch)
        loss = _task_loss(output, batch, totals)
        if teacher is None:
            return loss, {}
        with torch.no_grad():
            answers = teacher(**{name: x for name, x in batch.items() if name not in TARGETS})
        soft = task_distill_loss(output, answers, batch, family, temperature, totals)
        return loss + weight * soft, {"task": loss.detach(), "task_distill": soft.detach()}

    return loss_fn


def _task_loss(output, batch: train.Batch, totals: train.Totals) -> torch.Tensor:
    """The loss of the model's class, as this batch's contribution to the mean of an update."""
    labels = batch.get("labels")
    if labels is not None and labels.ndim == 2:
        # Where all labels of a batch are ignored, the mean over them is not a number.
        logits = output.logits.float().flatten(0, 1)  # (B T, labels)
        return F.cross_entropy(logits, labels.flatten(), reduction="sum") / totals["labels"]
    return output.loss * (len(batch["input_ids"]) / totals["sequences"])


@torch.inference_mode()
def _outputs(model: PreTrainedModel, batches: Iterator[train.Batch], precision: str) -> Iterator:
    """The model's output for each batch, made when it is asked for and not kept.

    Raises:
        CtdError: an output is not finite.
    """
    model.eval()
    device = model.device
    for batch in batches:
        inputs = {name: x.to(device) for name, x in batch.items() if name not in TARGETS}
        with train.autocast(device, precision):
            output = model(**inputs)
        # The highest of numbers that are none would be an answer like any other.
        if not all(x.isfinite().all() for name, x in output.items() if name.endswith("logits")):
            raise CtdError(
                "the model's answers on the test part are not finite numbers; finetune with a lower"
                " learning rate or precision 'float32'."
            )
        yield output


if __name__ == "__main__":
    from ctd_lib import cli

    sys.exit(cli.run("finetune"))

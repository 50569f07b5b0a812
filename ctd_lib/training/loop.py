"""One training loop, on accelerate, for pretraining, distillation and finetuning.

What is trained and on what is the caller's: a model, a function from model and batch to a loss
with its named terms, and an iterable of batches. Here live the schedule, early stopping, resuming,
and what is told of each step; `engine` does the updates.
"""

import importlib.util
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ctd_lib import processes
from ctd_lib.errors import CtdError
from ctd_lib.training import updates
from ctd_lib.training.engine import PRECISIONS, Engine, LossFunction, autocast
from ctd_lib.training.masking import seed_of
from ctd_lib.training.resume import Progress
from ctd_lib.training.steplog import StepLog, TrainLog
from ctd_lib.training.updates import Batch, Totals

__all__ = [
    "PRECISIONS", "SCHEDULES", "Batch", "Checkpoints", "Evaluation", "LossFunction", "Totals",
    "TrainLog", "autocast", "fit", "rate_factor",
]  # fmt: skip

SCHEDULES = ("linear", "cosine")


@dataclass(frozen=True)
class Evaluation:
    """When a training looks at itself, and when it gives up."""

    function: Callable[[], float]
    """What is to fall, of the model as it stands; it must draw no random numbers."""
    every: int
    """Steps between two evaluations; one more follows the last step."""
    patience: int | None = None
    """Evaluations in a row without a new best after which training ends; None: it never does."""


@dataclass(frozen=True)
class Checkpoints:
    """Where a training leaves its state for the run after an interruption, and how often.

    Each training takes a folder of its own.
    """

    folder: Path
    seconds: float = 600.0
    """Time between two checkpoints; 0: one after every step."""


def fit(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Batch],
    *,
    steps: int,
    lr: float,
    warmup_fraction: float = 0.05,
    schedule: str = "linear",
    betas: tuple[float, float] = (0.9, 0.98),
    epsilon: float = 1e-6,
    weight_decay: float = 0.01,
    max_grad_norm: float = 5.0,
    accumulation: int = 1,
    tokens_per_update: int | None = None,
    precision: str = "float32",
    gradient_checkpointing: bool = False,
    evaluation: Evaluation | None = None,
    checkpoints: Checkpoints | None = None,
    log_path: Path | str | None = None,
    tensorboard: Path | str | None = None,
    description: str = "train",
) -> TrainLog:
    """Train `model` in place, on the device where it is, for `steps` updates of its weights.

    The optimiser is AdamW, by default with DistilBERT's betas, epsilon and clipping; biases and
    LayerNorm weights do not decay, and parameters that require no gradient stay as they are.

    Several processes share the batches of each update and reach what one would, but for dropout,
    which they draw apart. Each must be given the same batches.

    Args:
        loss_fn: (model, batch, totals) -> (loss, terms). Loss and terms are sums over the batch
            divided by counts of the whole update (`updates.Totals`), so that those of its batches
            add up; the terms are only logged.
        batches: dicts of tensors with `input_ids` (B, T) and, if padded, `attention_mask` (B, T).
            With `state_dict` and `load_state_dict` a resumed training is at its place at once.
        lr: the highest learning rate, at the end of the warm-up.
        warmup_fraction: share of the steps in which the learning rate rises.
        schedule: "linear" or "cosine" descent after it.
        max_grad_norm: longer gradients are cut to this length.
        accumulation: batches an update, those of all processes together.
        tokens_per_update: batches are taken until they have so many tokens, instead.
        precision: "float32", or "bfloat16" or "float16" for autocast, the latter with loss scaling;
            weights and optimiser stay float32.
        gradient_checkpointing: layers keep their input alone and are computed twice.
        evaluation: with it, the model ends with the weights of the best evaluation.
        checkpoints: with it, training goes on from the last checkpoint in that folder, which must
            be of the same model, steps, learning rate, schedule and size of an update.
        log_path: CSV file that gets the row of each step as soon as the step is done.
        tensorboard: folder for TensorBoard.
        description: label of the progress bar.

    Raises:
        CtdError: an option is not one of those above, the checkpoints are of another training, the
            log cannot be written from the start, the batches end early, no evaluation is finite, or
            the loss or the gradient is not; the weights are then those of the step before.
    """
    _check_options(steps, schedule, evaluation)
    updates.require_size(accumulation, tokens_per_update)
    world, rank = processes.count(), processes.rank()
    accelerator = _accelerator(tensorboard)
    engine = Engine(
        model, loss_fn, accelerator, precision, max_grad_norm, weight_decay,
        lr=lr, betas=betas, eps=epsilon,
    )  # fmt: skip
    settings = {
        "steps": steps, "lr": lr, "schedule": schedule, "accumulation": accumulation,
        "tokens_per_update": tokens_per_update,
    }  # fmt: skip
    progress = Progress(engine, batches, settings)
    seed, saved = torch.initial_seed(), time.monotonic()
    if checkpoints:
        folder = Path(processes.from_main(str(checkpoints.folder)))
        progress.restore(folder)
    windows = updates.windows(progress.remaining, accumulation, tokens_per_update)
    log = progress.log
    shown = StepLog(log, steps, log_path, description, accelerator if tensorboard else None)
    with _training_mode(engine.trained, gradient_checkpointing), shown:
        for step in range(len(log) + 1, steps + 1):
            if evaluation and progress.stale == evaluation.patience:
                break
            started = time.perf_counter()
            window = next(windows, None)
            if window is None:
                raise CtdError(
                    f"the batches end at step {step} of {steps}; give more text or fewer steps."
                )
            if world > 1:  # dropout is to differ between processes
                torch.manual_seed(seed_of(seed, step * world + rank))
            values, totals = engine.backward(window)
            rate = lr * rate_factor(step, steps, warmup_fraction, schedule)
            norm = engine.step(step, rate, values)
            progress.taken += len(window)
            seconds = time.perf_counter() - started
            row = {
                "step": step,
                **values,
                "learning_rate": rate,
                "gradient_norm": norm,
                "tokens": totals["tokens"],
                "seconds": seconds,
                "tokens_per_second": totals["tokens"] / seconds,
            }
            if evaluation:
                row["evaluation"] = None
                if step % evaluation.every == 0 or step == steps:
                    engine.gather()
                    row["evaluation"] = _evaluate(model, evaluation)
                    progress.judge(row["evaluation"])
            shown.add(row)
            due = checkpoints and time.monotonic() - saved >= checkpoints.seconds
            if processes.from_main(due):
                progress.save(folder)
                saved = time.monotonic()
    engine.gather()
    if evaluation:
        progress.take_best()
    return log


def rate_factor(step: int, steps: int, warmup_fraction: float, schedule: str) -> float:
    """The learning rate of a step (from 1) as a share of the highest; no step is wasted on 0."""
    warmup = round(steps * warmup_fraction)
    if step <= warmup:
        return step / warmup
    left = (steps - step + 1) / (steps - warmup + 1)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def _check_options(steps: int, schedule: str, evaluation: Evaluation | None) -> None:
    if steps < 1:
        raise CtdError(f"steps is {steps}; training needs at least one.")
    if schedule not in SCHEDULES:
        raise CtdError(f"schedule {schedule!r} is unknown; use one of {', '.join(SCHEDULES)}.")
    if evaluation and evaluation.every < 1:
        raise CtdError(f"Evaluation.every is {evaluation.every}; it is at least 1 step.")
    if evaluation and evaluation.patience is not None and evaluation.patience < 1:
        raise CtdError(
            f"Evaluation.patience is {evaluation.patience}; it is at least 1, or None for a"
            " training that never ends early."
        )


def _accelerator(tensorboard: Path | str | None) -> Accelerator:
    """One for this training; autocast and loss scaling are the engine's own."""
    # LSG's unused global tokens and the poolers get no gradient.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    if tensorboard is None:
        return Accelerator(mixed_precision="no", kwargs_handlers=handlers)
    if not importlib.util.find_spec("tensorboard"):
        raise CtdError("tensorboard is not installed; `pip install tensorboard`, or leave it out.")
    accelerator = Accelerator(
        mixed_precision="no",
        kwargs_handlers=handlers,
        log_with="tensorboard",
        project_dir=tensorboard,
    )
    accelerator.init_trackers("")
    return accelerator


def _evaluate(model: nn.Module, evaluation: Evaluation) -> float:
    """The main process's value in all of them, so that they stop together."""
    value = None
    if processes.is_main():
        before = model.training
        model.eval()
        with processes.apart():
            value = float(evaluation.function())
        model.train(before)
    return processes.from_main(value)


@contextmanager
def _training_mode(model: nn.Module, gradient_checkpointing: bool) -> Iterator[None]:
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if gradient_checkpointing and not layers:
        raise CtdError(f"{type(model).__name__} has no layers for gradient checkpointing.")
    # Not by the model's own method, which leaves a hook on the embeddings behind.
    for layer in layers:
        layer.gradient_checkpointing = gradient_checkpointing
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    before = model.training
    model.train()
    try:
        yield
    finally:
        model.train(before)
        for layer in layers:
            layer.gradient_checkpointing = False

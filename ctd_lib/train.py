"""One training loop, on accelerate, for pretraining, distillation and finetuning.

What is trained and on what is the caller's: a model, a function from model and batch to a loss
with its named terms, and an iterable of batches. Here live the optimiser, the schedule, mixed
precision, accumulation, clipping, the step log, the progress bar and the guard against NaN.
"""

import csv
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from ctd_lib.errors import CtdError

SCHEDULES = ("linear", "cosine")
PRECISIONS = ("float32", "bfloat16")

Batch = dict[str, Tensor]
LossFunction = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


class TrainLog(list[dict[str, float]]):
    """A row per step: step, loss, every term, and of that step alone learning_rate,
    gradient_norm, tokens, seconds, tokens_per_second."""

    @property
    def tokens(self) -> int:
        """Tokens trained on, without padding; those of this process."""
        return sum(row["tokens"] for row in self)

    @property
    def seconds(self) -> float:
        """Time of all steps."""
        return sum(row["seconds"] for row in self)


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
    precision: str = "float32",
    log_path: Path | str | None = None,
    description: str = "train",
) -> TrainLog:
    """Train `model` in place, on the device where it is, for `steps` updates of its weights.

    The optimiser is AdamW, by default with DistilBERT's betas, epsilon and clipping; biases and
    LayerNorm weights do not decay, and parameters that require no gradient stay as they are.

    Args:
        loss_fn: (model, batch) -> (loss, terms); the terms are only logged.
        batches: dicts of tensors with `input_ids` (B, T) and, if padded, `attention_mask` (B, T);
            at least steps x accumulation of them.
        lr: the highest learning rate, at the end of the warm-up.
        warmup_fraction: share of the steps in which the learning rate rises.
        schedule: "linear" or "cosine" descent after it.
        max_grad_norm: longer gradients are cut to this length.
        accumulation: batches whose losses are averaged into one update.
        precision: "float32", or "bfloat16" for autocast; weights and optimiser stay float32.
        log_path: CSV file that gets the row of each step as soon as the step is done.
        description: label of the progress bar.

    Raises:
        CtdError: an option is not one of those above, the batches end early, or the loss or the
            gradient is not finite; the weights are then those of the step before.
    """
    _check_options(steps, schedule, precision)
    accelerator = Accelerator()
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        _decay_groups(model, weight_decay), lr=lr, betas=betas, eps=epsilon, fused=True
    )
    objective, optimizer = accelerator.prepare(
        _Objective(model, loss_fn), optimizer, device_placement=[False, False]
    )
    source = iter(batches)
    log = TrainLog()
    show = accelerator.is_main_process
    with (
        _training_mode(model),
        _step_log(log_path if show else None) as write,
        tqdm(total=steps, desc=description, mininterval=1, disable=not show) as bar,
    ):
        for step in range(1, steps + 1):
            started = time.perf_counter()
            means: dict[str, float] = defaultdict(float)
            tokens = 0
            for micro_step in range(accumulation):
                batch = {k: v.to(device) for k, v in _next(source, step, steps).items()}
                last = micro_step == accumulation - 1
                with nullcontext() if last else accelerator.no_sync(objective):
                    with autocast(device, precision):
                        loss, terms = objective(batch)
                    for name, value in {"loss": loss, **terms}.items():
                        means[name] += value.item() / accumulation
                    _require_finite(step, means)
                    accelerator.backward(loss / accumulation)
                tokens += int(
                    batch.get("attention_mask", torch.ones_like(batch["input_ids"])).sum()
                )
            norm = float(accelerator.clip_grad_norm_(model.parameters(), max_grad_norm))
            _require_finite(step, means | {"gradient_norm": norm})
            for group in optimizer.param_groups:
                group["lr"] = lr * rate_factor(step, steps, warmup_fraction, schedule)
            optimizer.step()
            optimizer.zero_grad()

            seconds = time.perf_counter() - started
            row = {
                "step": step,
                **means,
                "learning_rate": optimizer.param_groups[0]["lr"],
                "gradient_norm": norm,
                "tokens": tokens,
                "seconds": seconds,
                "tokens_per_second": tokens / seconds,
            }
            log.append(row)
            write(row)
            bar.set_postfix_str(
                f"loss {row['loss']:.3f}, {row['tokens_per_second']:.0f} tokens/s", refresh=False
            )
            bar.update()
    return log


def rate_factor(step: int, steps: int, warmup_fraction: float, schedule: str) -> float:
    """The learning rate of a step (from 1) as a share of the highest; no step is wasted on 0."""
    warmup = round(steps * warmup_fraction)
    if step <= warmup:
        return step / warmup
    left = (steps - step + 1) / (steps - warmup + 1)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which models run in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class _Objective(nn.Module):
    """Model and loss as one module, so that DDP, which hooks `forward`, sees the whole of it."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction):
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss_fn(self.model, batch)


def _check_options(steps: int, schedule: str, precision: str) -> None:
    if steps < 1:
        raise CtdError(f"steps is {steps}; training needs at least one.")
    if schedule not in SCHEDULES:
        raise CtdError(f"schedule {schedule!r} is unknown; use one of {', '.join(SCHEDULES)}.")
    if precision not in PRECISIONS:
        raise CtdError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}.")


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _next(source: Iterator[Batch], step: int, steps: int) -> Batch:
    for batch in source:
        return batch
    raise CtdError(f"the batches end at step {step} of {steps}; give more text or fewer steps.")


def _require_finite(step: int, values: dict[str, float]) -> None:
    if all(math.isfinite(value) for value in values.values()):
        return
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise CtdError(
        f"training stopped at step {step}, before its update: {shown};"
        " try a lower learning rate, a longer warm-up or precision 'float32'."
    )


@contextmanager
def _training_mode(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.train()
    try:
        yield
    finally:
        model.train(before)


@contextmanager
def _step_log(path: Path | str | None) -> Iterator[Callable[[dict[str, float]], None]]:
    """A function that appends one row to the CSV file; the first row names the columns."""
    if path is None:
        yield lambda row: None
        return
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)

        def write(row: dict[str, float]) -> None:
            if file.tell() == 0:
                writer.writerow(row)
            writer.writerow(row.values())
            file.flush()

        yield write

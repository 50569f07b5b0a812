"""One update of the weights: forward, backward, clipping, step; any precision, any process."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ctd_lib import processes
from ctd_lib.errors import CtdError
from ctd_lib.training import sharding, updates
from ctd_lib.training.updates import Batch, Totals

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

LossFunction = Callable[[nn.Module, Batch, Totals], tuple[Tensor, dict[str, Tensor]]]


class Engine:
    """Updates a model's weights with AdamW, alike in every process.

    Args:
        model: where it is, it is trained; its parameters are float32.
        precision: one of PRECISIONS, for autocast; float16 with loss scaling.

    Attributes:
        trained: the module whose weights change: the model, or where it is sharded its twin, and
            then the model's own weights are those of the last `gather`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        accelerator: Accelerator,
        precision: str,
        max_grad_norm: float,
        weight_decay: float,
        **adamw,
    ):
        self.model, self.accelerator = model, accelerator
        self.precision, self.max_grad_norm = precision, max_grad_norm
        self.device = next(model.parameters()).device
        require_precision(precision, self.device)
        self.sharded = processes.sharded()
        self.trained = copy.deepcopy(model) if self.sharded else model
        self.objective = _Objective(self.trained, loss_fn)
        if self.sharded:
            if precision == "float16":
                raise CtdError("precision 'float16' is not for FSDP; use 'bfloat16' or 'float32'.")
            sharding.shard(self.objective)
        elif processes.count() > 1:
            self.objective = accelerator.prepare_model(self.objective, device_placement=False)
        groups = _decay_groups(self.trained, weight_decay)
        self.optimizer = torch.optim.AdamW(groups, fused=True, **adamw)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")

    def backward(self, window: list[Batch]) -> tuple[dict[str, float], Totals]:
        """Gradients of one update.

        Args:
            window: the micro-batches of all processes.

        Returns:
            The loss and its terms, of all processes, and the counts that they are means over.
        """
        world, totals = processes.count(), updates.totals(window)
        share = [(1.0, batch) for batch in updates.share(window, processes.rank(), world)]
        # The others wait for a process whose share is used up, DDP once an update and FSDP in each
        # round: it takes part with a loss of 0.
        rounds = len(updates.share(window, 0, world)) if self.sharded else 1
        share += [(0.0, window[0])] * (rounds - len(share))
        sums: dict[str, Tensor] = {}
        for number, (weight, batch) in enumerate(share, 1):
            batch = {name: x.to(self.device, non_blocking=True) for name, x in batch.items()}
            last = number == len(share)
            at_once = last or self.sharded  # a sharded gradient is never whole in one process
            with nullcontext() if at_once else self.accelerator.no_sync(self.objective):
                with autocast(self.device, self.precision):
                    loss, terms = self.objective(batch, totals)
                # DDP and FSDP take the mean over the processes, where their sum is wanted.
                self.scaler.scale(loss * (weight * world)).backward()
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0) + value.detach().float() * weight
        values = self.accelerator.reduce(torch.stack(list(sums.values())), "sum").tolist()
        return dict(zip(sums, values, strict=True)), totals

    def step(self, step: int, rate: float, values: dict[str, float]) -> float:
        """Change the weights by the gradients, and forget those.

        In float16 an update whose gradient overflows is left out and the loss scale lowered.

        Args:
            step: number of the step and
            values: its loss and terms, for the message.
            rate: learning rate.

        Returns:
            The length of the gradient before it was cut.

        Raises:
            CtdError: loss or gradient is not finite; the weights stay as they were.
        """
        _require_finite(step, values)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), self.max_grad_norm)
        norm = float(sharding.whole(norm))
        if self.scaler.get_scale() <= 1:  # 1 too where there is no scaling
            _require_finite(step, values | {"gradient_norm": norm})
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return norm

    def gather(self) -> None:
        """Bring the model's weights up to date; every process must take part."""
        if self.sharded:
            sharding.gather(self.trained, self.model)

    def moments(self) -> dict[int, dict[str, Tensor]]:
        """What the optimizer knows of each parameter, whole, on the CPU; all must take part."""
        state = self.optimizer.state_dict()["state"]
        return {
            index: {what: sharding.whole(x).cpu() for what, x in values.items()}
            for index, values in state.items()
        }

    def restore(self, moments: dict[int, dict[str, Tensor]]) -> None:
        """Go on from the model's weights as they are, and from an optimizer's whole moments."""
        if self.sharded:
            sharding.scatter(self.model, self.trained)
        groups = self.optimizer.state_dict()["param_groups"]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state = {
            index: {what: sharding.part(x, parameters[index]) for what, x in values.items()}
            for index, values in moments.items()
        }
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which models run in this precision.

    Raises:
        CtdError: the precision is unknown.
    """
    _require_known(precision)
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def require_precision(precision: str, device: torch.device) -> None:
    """Whether a device computes in a precision.

    Raises:
        CtdError: it does not, or the precision is unknown.
    """
    _require_known(precision)
    other = "float16" if precision == "bfloat16" else "bfloat16"
    try:
        with autocast(device, precision):
            one = torch.ones(1, 1, device=device)
            able = (one @ one).dtype == PRECISIONS[precision]
        if device.type == "cuda" and precision == "bfloat16":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
    except RuntimeError:
        able = False
    if not able:
        raise CtdError(
            f"precision {precision!r} is not for device {device.type!r};"
            f" use {other!r} or 'float32'."
        )


def _require_known(precision: str) -> None:
    if precision not in PRECISIONS:
        raise CtdError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}.")


class _Objective(nn.Module):
    """Model and loss as one module, so that DDP, which hooks `forward`, sees the whole of it."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction):
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Batch, totals: Totals) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss_fn(self.model, batch, totals)


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _require_finite(step: int, values: dict[str, float]) -> None:
    if all(math.isfinite(value) for value in values.values()):
        return
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise CtdError(
        f"training stopped at step {step}, before its update: {shown};"
        " try a lower learning rate, a longer warm-up or precision 'float32'."
    )

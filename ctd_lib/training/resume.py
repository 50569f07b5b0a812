"""The state of a training in progress: what a checkpoint holds, and how to go on from it."""

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ctd_lib import processes
from ctd_lib.errors import CtdError
from ctd_lib.training import checkpoint
from ctd_lib.training.engine import Engine
from ctd_lib.training.sharding import weights
from ctd_lib.training.steplog import TrainLog
from ctd_lib.training.updates import Batch

MODEL, OPTIMIZER, BEST = "model.", "optimizer.", "best."


class Progress:
    """How far a training has come; `restore` makes it that of an interrupted run.

    Args:
        settings: options that make the training the one it is, JSON-able; a checkpoint of others
            is refused.

    Attributes:
        log: a row per finished step.
        remaining: the batches that are still to come.
        taken: batches that the finished steps took from the stream.
        best: the lowest evaluation so far, None before the first.
        stale: evaluations since the best one.
    """

    def __init__(self, engine: Engine, batches: Iterable[Batch], settings: dict):
        self.engine, self.model, self.batches = engine, engine.model, batches
        self.settings = settings
        self.log = TrainLog()
        self.taken = 0
        self.best: float | None = None
        self.stale = 0
        self._best_weights: dict[str, Tensor] = {}
        self.remaining = iter(batches)

    def save(self, folder: Path) -> None:
        """Write a checkpoint; every process takes part, the main one writes.

        A disk that refuses is only a warning.
        """
        if not (self.engine.sharded or processes.is_main()):
            return
        self.engine.gather()
        moments = self.engine.moments()
        if not processes.is_main():
            return
        tensors = _prefixed(MODEL, weights(self.model)) | _prefixed(BEST, self._best_weights)
        for index, values in moments.items():
            tensors |= _prefixed(f"{OPTIMIZER}{index}.", values)
        state = {
            "settings": self.settings,
            "log": self.log,
            "taken": self.taken,
            "place": self.batches.state_dict() if hasattr(self.batches, "state_dict") else None,
            "best": self.best,
            "stale": self.stale,
            "scaler": self.engine.scaler.state_dict(),
            "random": checkpoint.random_state(),
        }
        checkpoint.save(folder, len(self.log), tensors, state)

    def restore(self, folder: Path) -> None:
        """Take over the last readable checkpoint, if there is one.

        Raises:
            CtdError: it is of another training; the model is left as it is.
        """
        found = checkpoint.load(folder)
        if found is None:
            return
        tensors, state = found
        self._require_own(folder, _without(MODEL, tensors), state)
        _copy(_without(MODEL, tensors), weights(self.model))
        moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, value in _without(OPTIMIZER, tensors).items():
            index, _, what = name.partition(".")
            moments[int(index)][what] = value
        self.engine.restore(moments)
        self._best_weights = _without(BEST, tensors)
        self.log = TrainLog(state["log"])
        self.taken, self.best, self.stale = state["taken"], state["best"], state["stale"]
        self.engine.scaler.load_state_dict(state["scaler"])
        if state["place"] is None:
            next(islice(self.remaining, self.taken, self.taken), None)
        else:
            self.batches.load_state_dict(state["place"])
            self.remaining = iter(self.batches)
        checkpoint.set_random_state(state["random"])

    def _require_own(self, folder: Path, saved: dict[str, Tensor], state: dict) -> None:
        then = state.get("settings", self.settings)  # checkpoints of older versions have none
        differ = [f"{name} {then.get(name)}, not {value}" for name, value in self.settings.items()
                  if then.get(name) != value]  # fmt: skip
        shapes, others = (
            {name: tuple(x.shape) for name, x in tensors.items()}
            for tensors in (weights(self.model), saved)
        )
        names = sorted(n for n in shapes | others if shapes.get(n) != others.get(n))
        differ += [f"{n} of shape {others.get(n)}, not {shapes.get(n)}" for n in names[:1]]
        if differ:
            raise CtdError(
                f"the checkpoint in {folder} is of another training ({'; '.join(differ)}); take"
                " another folder, or delete this one."
            )

    def judge(self, value: float) -> None:
        """Take note of an evaluation, and of the weights if it is the best one."""
        self.stale += 1
        if math.isfinite(value) and (self.best is None or value < self.best):
            self.best, self.stale = value, 0
            now = weights(self.model).items()
            self._best_weights = {name: x.detach().to("cpu", copy=True) for name, x in now}

    def take_best(self) -> None:
        """Give the model the weights of the best evaluation.

        Raises:
            CtdError: there is none.
        """
        if self.best is None:
            raise CtdError(
                f"training ended at step {len(self.log)}, and no evaluation gave a finite number;"
                " try a lower learning rate or precision 'float32'."
            )
        _copy(self._best_weights, weights(self.model))


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in source.items():
        target[name].copy_(value)


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}

"""What every stage shares: its revision, its way through the store, its record."""

import functools
from collections.abc import Callable
from pathlib import Path

from ctd_lib import params, paths, processes, records, runtime, store
from ctd_lib.store import Artifact
from ctd_lib.training import checkpoint
from ctd_lib.training import loop as train

# Raised by hand when a stage's code changes what it makes.
REVISIONS = {
    "backbone": 2,
    "corpus": 2,
    "convert": 1,
    "pretrain": 2,
    "teacher": 1,
    "distill": 2,
    "features": 2,
    "finetune": 2,
    "measure": 3,
    "export": 3,
}
TRAINED = ("backbone", "pretrain", "distill", "finetune")
"""Stages in which all processes of a run take part."""
MEANS = ("variant", "device", "gradient_checkpointing", "checkpoint_minutes", "tensorboard")
"""Parameters on which a model's weights do not depend; what a variant changes has its own name."""
STEP_LOG = "steps.csv"
TENSOR_REPORT = "tensors.json"
PREDICTIONS = "predictions.json.gz"


def get_or_make(stage, label, settings, upstream, seed, make) -> Artifact:
    """The stage's artifact through the store, made with all randomness seeded.

    What comes after draws the same numbers, whether the artifact was made or found. Without a seed
    nothing is drawn.
    """

    def seeded(folder: Path) -> dict:
        before = checkpoint.random_state()
        runtime.seed_everything(seed)
        try:
            return make(folder)
        finally:
            checkpoint.set_random_state(before)

    given, making = (settings, make) if seed is None else (settings | {"seed": seed}, seeded)
    return store.get_or_make(
        stage, label, given, upstream, REVISIONS[stage], making, stage in TRAINED
    )


def without_means(settings: dict) -> dict:
    """The settings that a key is made of."""
    return {name: value for name, value in settings.items() if name not in MEANS}


def precision(p: params.BackboneParams) -> str:
    """What a stage computes in: `p.precision`, but float32 on a CPU that bfloat16 makes slower."""
    if p.precision != "bfloat16" or runtime.multiplies_bfloat16(runtime.device(p.device)):
        return p.precision
    _say_float32()
    return "float32"


@functools.cache
def _say_float32() -> None:
    """Once a process."""
    store.say("this processor has no instructions for bfloat16: float32 is computed in its place")


def training(p: params.BackboneParams, folder: Path) -> dict:
    """Options of `train.fit` that every training stage takes from its parameters."""
    name = folder.name.removeprefix(".").removesuffix(".partial")
    return {
        "precision": precision(p),
        "gradient_checkpointing": p.gradient_checkpointing,
        "checkpoints": train.Checkpoints(folder / store.CHECKPOINTS, 60 * p.checkpoint_minutes),
        "log_path": folder / STEP_LOG,
        "tensorboard": paths.artifacts() / "tensorboard" / name if p.tensorboard else None,
    }


def updates_of(p: params.PretrainParams) -> dict:
    """What makes an update and ends a training: settings of pretraining and of distillation."""
    names = ("precision", "batch_size", "accumulation", "tokens_per_update", "evaluate_every",
             "patience")  # fmt: skip
    return {name: getattr(p, name) for name in names}


def full_training(p: params.PretrainParams, folder: Path, evaluate: Callable[[], float]) -> dict:
    """`training` with what pretraining and distillation take besides."""
    evaluation = None
    if p.evaluate_every:
        evaluation = train.Evaluation(evaluate, p.evaluate_every, p.patience)
    if p.cross_documents:  # every sequence is full: the steps allocate alike
        runtime.keep_freed_memory()
    return training(p, folder) | {
        "accumulation": p.accumulation,
        "tokens_per_update": p.tokens_per_update,
        "evaluation": evaluation,
    }


def record(kind: str, p: params.ReportParams, artifact: Artifact) -> None:
    """Write the record of a finished stage, once."""
    if not processes.is_main():
        return
    values = dict(artifact.values)
    source = values.pop("source", None)
    kept = artifact.path / PREDICTIONS
    predictions = kept if kept.is_file() else None
    settings = {name: getattr(p, name) for name in params.names(params.STAGES[kind])}
    del settings["variant"]  # a record is of its parameters, by whatever name they were asked for
    records.write(kind, p.profile, settings, values, source, artifact, predictions)


def costs(log) -> dict:
    """What the training cost, for the record."""
    return {
        "steps": len(log), "tokens": log.tokens, "seconds": log.seconds,
        "tokens_per_second": log.tokens / log.seconds,
    }  # fmt: skip

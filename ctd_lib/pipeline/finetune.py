"""One model on one task: its scores and predictions."""

import shutil
from dataclasses import replace
from pathlib import Path

from ctd_lib import finetune as finetuning
from ctd_lib import models, params, runtime, tasks
from ctd_lib.errors import CtdError
from ctd_lib.pipeline.common import PREDICTIONS, STEP_LOG, get_or_make, precision, record, training
from ctd_lib.pipeline.distill import model_of
from ctd_lib.pipeline.text import tokenizer_digest
from ctd_lib.scores import predictions
from ctd_lib.store import Artifact
from ctd_lib.tasks import features


def finetune(p: params.FinetuneParams) -> Artifact:
    """Scores and predictions of one model, teacher or student, on one task."""
    data = task_data(p)  # first: a bad file is found before hours of training
    _check(p, data)
    scored_only = p.test_attention != "ours"
    if scored_only:
        upstream = [finetune(replace(p, test_attention="ours", save_model=True))]
    elif p.task_distill_weight:
        upstream = [_start(p, data), _finetuned_teacher(p)]
    else:
        upstream = [_start(p, data)]
    max_length = min(p.task_max_length or data.max_length, p.max_length)
    seed = p.seed if p.finetune_seed is None else p.finetune_seed
    settings = params.own(p, params.FinetuneParams) | {
        "precision": p.precision, "max_length": max_length, "content": data.digest,
    }  # fmt: skip
    del settings["finetune_seed"], settings["first_task"]  # the seed below, and what is upstream

    def make(folder: Path) -> dict:
        head = tasks.family(data).HEAD
        model = models.load(upstream[0].path, head, **_outputs(data))
        tokenizer = models.load_tokenizer(upstream[0].path)
        encoded = features_of(data, tokenizer, min(max_length, models.max_length(model.config)))
        reading = {
            "batch_size": p.finetune_batch_size, "max_length": max_length, "encoded": encoded,
            "global_attention": p.global_attention,
        }  # fmt: skip
        model.to(runtime.device(p.device))
        runtime.keep_freed_memory()  # batches have few lengths
        if scored_only:
            result = finetuning.score(
                model, data, tokenizer, precision=precision(p), public_attention=True, **reading
            )
            seconds = upstream[0].values["seconds"]
            shutil.copy(upstream[0].path / STEP_LOG, folder)  # of the training that is scored
        else:
            result = finetuning.finetune(
                model, data, tokenizer, epochs=p.epochs, lr=p.finetune_learning_rate, seed=seed,
                teacher=models.load(upstream[1].path, head) if upstream[1:] else None,
                task_distill_weight=p.task_distill_weight, temperature=p.temperature,
                **reading, **training(p, folder),
            )  # fmt: skip
            seconds = result.log.seconds
        rules = data.test[0].rules if data.family == "span-qa" else ""
        kept = predictions.Predictions(
            data.name, data.family, data.main_metric, rules, result.details
        )
        predictions.write(kept, folder / PREDICTIONS)
        if p.save_model:
            models.save(model, tokenizer, folder)
        return {
            "family": data.family, "main_metric": data.main_metric,
            "score": result.scores[data.main_metric], "scores": result.scores,
            "upper_bound": result.upper_bounds.get(data.main_metric, 1.0),
            "upper_bounds": result.upper_bounds, "global_attention": result.global_attention,
            "precision": precision(p), "seconds": seconds, "source": _source(data), **result.counts,
        }  # fmt: skip

    label = f"{p.arch}-{p.role}-{p.task}"
    artifact = get_or_make("finetune", label, settings, upstream, seed, make)
    record("finetune", p, artifact)
    return artifact


def task_data(p: params.FinetuneParams) -> tasks.TaskData:
    """The examples of the task."""
    return tasks.load(
        p.task, p.data_source, p.train_examples or None, p.test_examples or None, p.seed,
        p.train_file, p.test_file, p.task_context,
    )  # fmt: skip


def _check(p: params.FinetuneParams, data: tasks.TaskData) -> None:
    """Refuse what does not fit together before anything is trained."""
    finetuning.policy_of(p.arch, tasks.family(data), p.global_attention)
    if p.task_distill_weight and p.role == "teacher":
        raise CtdError(
            f"task_distill_weight is {p.task_distill_weight} and role is teacher; only a student "
            "learns from the teacher."
        )


def _start(p: params.FinetuneParams, data: tasks.TaskData) -> Artifact:
    """What finetuning begins with: the model of the role, or that finetuned on the first task."""
    if p.first_task is None:
        return model_of(p, p.role)
    first = params.of_first_task(p)
    before = task_data(first)
    if (before.family, before.labels) != (data.family, data.labels):
        raise CtdError(
            f"first_task {p.first_task} has other answers ({_answers(before)}) than task {p.task} "
            f"({_answers(data)}); the head of one must fit the other."
        )
    return finetune(first)


def _answers(data: tasks.TaskData) -> str:
    return f"{data.family}: {', '.join(data.labels)}" if data.labels else data.family


def _finetuned_teacher(p: params.FinetuneParams) -> Artifact:
    """The teacher of a student on the same task, with its weights."""
    return finetune(replace(p, role="teacher", save_model=True, task_distill_weight=0.0))


def features_of(data: tasks.TaskData, tokenizer, max_length: int) -> finetuning.Encoded:
    """The features of the data: made once for all models that share tokenizer and length."""
    settings = {
        "content": data.digest, "family": data.family, "max_length": max_length,
        "tokenizer": tokenizer_digest(tokenizer), "inputs": list(tokenizer.model_input_names),
    }  # fmt: skip

    def make(folder: Path) -> dict:
        for name, part in finetuning.encode(data, tokenizer, max_length)._asdict().items():
            features.save(part, folder / name)
        return {}

    found = get_or_make("features", data.name, settings, [], None, make)
    parts = finetuning.Encoded._fields
    return finetuning.Encoded(*(features.load(found.path / part) for part in parts))


def _outputs(data: tasks.TaskData) -> dict:
    """The configuration of the head: one output a label, one for a number to predict."""
    if data.labels:
        return {
            "id2label": dict(enumerate(data.labels)),
            "label2id": {label: i for i, label in enumerate(data.labels)},
        }
    return {"num_labels": 1} if data.family == "classification" else {}


def _source(data: tasks.TaskData) -> dict:
    return {
        "name": data.source, "licence": data.licence, "notice": data.notice,
        "synthetic": data.synthetic,
    }  # fmt: skip

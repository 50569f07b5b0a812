"""Which stage needs which: makes or loads every artifact through the store and writes its record.

Each public function takes a stage's parameters and returns its finished artifact, after making
whatever is missing upstream. Notebooks call nothing else to compute.
"""

import dataclasses
import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ctd_lib import convert as conversion
from ctd_lib import distill as distillation
from ctd_lib import finetune as finetuning
from ctd_lib import measure as measurement
from ctd_lib import models, params, records, runtime, store, tasks
from ctd_lib import pretrain as pretraining
from ctd_lib.data import corpora, sources
from ctd_lib.store import Artifact

# Raised by hand when a stage's code changes what it makes.
REVISIONS = {
    "backbone": 1,
    "corpus": 1,
    "convert": 1,
    "pretrain": 1,
    "distill": 1,
    "finetune": 1,
    "measure": 1,
}
HEAD_LENGTH = 128
HEAD_BATCH_SIZE = 8
HELD_OUT_TOKENS = 8192
PARITY_LENGTH = 128
STEP_LOG = "steps.csv"
TENSOR_REPORT = "tensors.json"
PREDICTIONS = "predictions.json"


def backbone(p: params.BackboneParams) -> Artifact:
    """The pretrained encoder with a masked-LM head, trained here if its checkpoint has none."""
    source = sources.backbone(p.backbone)
    settings = params.own(p, params.BackboneParams) | {
        "content": source.digest, "text": _contents(p.head_corpora),
    }  # fmt: skip
    del settings["device"]  # where it is trained is no part of what is trained

    def make(folder: Path) -> dict:
        found = models.load_backbone(source.path)
        model = found.model.to(runtime.device(p.device))
        values = {"family": found.family, "had_lm_head": found.has_lm_head}
        if not found.has_lm_head:
            text = _Text(
                p.head_corpora, found.tokenizer, min(HEAD_LENGTH, models.max_length(model.config))
            )
            log = pretraining.train_lm_head(
                model, text.batches(HEAD_BATCH_SIZE, p.seed), found.tokenizer, steps=p.head_steps,
                seed=p.seed, precision=p.precision, log_path=folder / STEP_LOG,
            )  # fmt: skip
            values |= {"mlm_loss": text.evaluate(model, p.precision), "tokens": log.tokens}
        models.save(model, found.tokenizer, folder)
        return values

    label = p.backbone.split(":")[-1].rstrip("/").split("/")[-1]
    return _get_or_make("backbone", label, settings, [], p.seed, make)


def convert(p: params.ConvertParams) -> Artifact:
    """The backbone with the attention of `p.arch`, reading `p.max_length` tokens."""
    artifact = _converted(p, backbone(p))
    _record("convert", p, artifact)
    return artifact


def pretrain(p: params.PretrainParams) -> Artifact:
    """The converted teacher, pretrained further at full length."""
    artifact = _pretrained(p, convert(p))
    _record("pretrain", p, artifact)
    return artifact


def distill(p: params.DistillParams) -> Artifact:
    """The student, in either order of conversion and distillation."""
    if p.order == "convert-then-distill":
        artifact = _distilled(p, pretrain(p))
    else:
        full_student = distill(replace(p, arch="full", order="convert-then-distill"))
        artifact = _pretrained(p, _converted(p, full_student))
    _record("distill", p, artifact)
    return artifact


def finetune(p: params.FinetuneParams) -> Artifact:
    """Scores and predictions of one model, teacher or student, on one task."""
    model_artifact = _model(p, p.role)
    data = tasks.load(
        p.task, p.data_source, p.train_examples or None, p.test_examples or None, p.seed,
        p.train_file, p.test_file,
    )  # fmt: skip
    max_length = min(p.task_max_length or data.max_length, p.max_length)
    settings = params.own(p, params.FinetuneParams) | {
        "precision": p.precision, "max_length": max_length, "content": data.digest,
    }  # fmt: skip

    def make(folder: Path) -> dict:
        head = tasks.family(data).HEAD
        model = models.load(model_artifact.path, head, **_outputs(data))
        tokenizer = models.load_tokenizer(model_artifact.path)
        result = finetuning.finetune(
            model.to(runtime.device(p.device)), data, tokenizer, epochs=p.epochs,
            lr=p.finetune_learning_rate, batch_size=p.finetune_batch_size, max_length=max_length,
            seed=p.seed, precision=p.precision, log_path=folder / STEP_LOG,
        )  # fmt: skip
        (folder / PREDICTIONS).write_text(json.dumps(result.predictions))
        if p.save_model:
            models.save(model, tokenizer, folder)
        return {
            "family": data.family, "main_metric": data.main_metric,
            "score": result.scores[data.main_metric], "scores": result.scores,
            "seconds": result.log.seconds, "source": _source(data), **result.counts,
        }  # fmt: skip

    label = f"{p.arch}-{p.role}-{p.task}"
    artifact = _get_or_make("finetune", label, settings, [model_artifact], p.seed, make)
    _record("finetune", p, artifact)
    return artifact


def measure(p: params.MeasureParams) -> Artifact:
    """Seconds and peak memory of teacher and student over lengths, in turn, on this machine."""
    found = {role: _model(p, role) for role in ("teacher", "student")}
    device = runtime.device(p.device)
    settings = params.own(p, params.MeasureParams) | {
        "device": str(device), "host": runtime.host(), "threads": torch.get_num_threads(),
    }  # fmt: skip

    def make(folder: Path) -> dict:
        loaded = {role: models.load(a.path, "base").to(device) for role, a in found.items()}
        rows = measurement.latency(
            loaded, p.lengths, p.measure_batch_size, p.repeats, dtype=p.dtype
        )
        memory = {
            role: measurement.peak_memory(
                a.path, p.lengths, p.measure_batch_size, p.dtype, device.type
            )
            for role, a in found.items()
        }  # fmt: skip
        return {
            "rows": [row | memory[row["role"]][row["length"]] for row in rows],
            "dtype": p.dtype, "device": device.type, "threads": torch.get_num_threads(),
        }  # fmt: skip

    artifact = _get_or_make("measure", p.arch, settings, list(found.values()), p.seed, make)
    _record("measure", p, artifact)
    return artifact


def _model(p: params.DistillParams, role: str) -> Artifact:
    return pretrain(p) if role == "teacher" else distill(p)


def _converted(p: params.ConvertParams, upstream: Artifact) -> Artifact:
    settings = params.own(p, params.ConvertParams)

    def make(folder: Path) -> dict:
        before, tokenizer = models.load(upstream.path), models.load_tokenizer(upstream.path)
        geometry = {n: v for n, v in settings.items() if n not in ("arch", "max_length") and v}
        done = conversion.convert(before, p.arch, p.max_length, **geometry)
        models.save(done.model, tokenizer, folder)
        after = models.load(folder)
        report = [dataclasses.asdict(tensor) for tensor in done.report]
        (folder / TENSOR_REPORT).write_text(json.dumps(report, indent=1))
        actions = [tensor.action for tensor in done.report]
        length = min(PARITY_LENGTH, p.max_length, models.max_length(before.config))
        text = _Text(p.head_corpora, tokenizer, length)
        return {
            **{action: actions.count(action) for action in ("copied", "tiled", "new", "dropped")},
            "parameters": measurement.parameters(after),
            "mlm_loss_before": text.evaluate(before, p.precision),
            "mlm_loss_after": text.evaluate(after, p.precision),
            "parity_length": length, "parity_max_abs_diff": _parity(before, after, text),
        }  # fmt: skip

    return _get_or_make("convert", p.arch, settings, [upstream], p.seed, make)


def _pretrained(p: params.PretrainParams, upstream: Artifact) -> Artifact:
    settings = params.own(p, params.PretrainParams) | {
        "precision": p.precision, "text": _contents(p.corpora),
    }  # fmt: skip

    def make(folder: Path) -> dict:
        model = models.load(upstream.path).to(runtime.device(p.device))
        tokenizer = models.load_tokenizer(upstream.path)
        text = _Text(p.corpora, tokenizer, p.max_length)
        before = text.evaluate(model, p.precision)
        log = pretraining.pretrain(
            model, text.batches(p.batch_size, p.seed), tokenizer, steps=p.pretrain_steps,
            lr=p.pretrain_learning_rate, seed=p.seed, precision=p.precision,
            log_path=folder / STEP_LOG,
        )  # fmt: skip
        models.save(model, tokenizer, folder)
        return {
            "mlm_loss_before": before,
            "mlm_loss_after": text.evaluate(model, p.precision),
        } | _costs(log)

    return _get_or_make("pretrain", p.arch, settings, [upstream], p.seed, make)


def _distilled(p: params.DistillParams, upstream: Artifact) -> Artifact:
    settings = params.own(p, params.DistillParams) | {
        "corpora": p.corpora, "text": _contents(p.corpora), "batch_size": p.batch_size,
        "precision": p.precision,
    }  # fmt: skip

    def make(folder: Path) -> dict:
        teacher = models.load(upstream.path).to(runtime.device(p.device))
        tokenizer = models.load_tokenizer(upstream.path)
        teacher_layers = len(models.layers(teacher))
        student_layers = p.student_layers or teacher_layers // 2
        layer_map = distillation.layer_map(teacher_layers, student_layers, p.layer_map)
        student = distillation.student_from_teacher(teacher, layer_map)
        text = _Text(p.corpora, tokenizer, p.max_length)
        before = text.evaluate(student, p.precision)
        log = distillation.distill(
            student, teacher, text.batches(p.batch_size, p.seed), tokenizer,
            steps=p.distill_steps, lr=p.distill_learning_rate, mlm_weight=p.mlm_weight,
            soft_target_weight=p.soft_target_weight, cosine_weight=p.cosine_weight,
            temperature=p.temperature, seed=p.seed, precision=p.precision,
            log_path=folder / STEP_LOG,
        )  # fmt: skip
        models.save(student, tokenizer, folder)
        terms = ("mlm", "soft_target", "cosine")
        return {
            "teacher_layers": teacher_layers, "student_layers": student_layers,
            "layer_map": layer_map, "parameters_teacher": measurement.parameters(teacher),
            "parameters_student": measurement.parameters(student),
            "mlm_loss_teacher": text.evaluate(teacher, p.precision), "mlm_loss_before": before,
            "mlm_loss_after": text.evaluate(student, p.precision),
            "terms_first": {name: log[0][name] for name in terms},
            "terms_last": {name: log[-1][name] for name in terms},
        } | _costs(log)  # fmt: skip

    return _get_or_make("distill", p.arch, settings, [upstream], p.seed, make)


class _Text:
    """A mix of corpora, tokenised once through the store, as batches of full sequences."""

    def __init__(self, mix: dict[str, float], tokenizer, length: int):
        self.mix, self.tokenizer, self.length = mix, tokenizer, length
        self.tokenize = functools.cache(lambda spec: _corpus(spec, tokenizer))

    def batches(self, batch_size: int, seed: int):
        return corpora.packed_batches(
            self.mix, self.tokenizer, self.length, batch_size, seed, self.tokenize
        )

    def held_out(self) -> list[dict[str, torch.Tensor]]:
        sequences = max(1, HELD_OUT_TOKENS // self.length)
        return corpora.held_out_batches(
            self.mix, self.tokenizer, self.length, 1, sequences, self.tokenize
        )

    def evaluate(self, model, precision: str) -> float:
        return pretraining.evaluate_mlm(model, self.held_out(), self.tokenizer, precision=precision)


def _corpus(spec: str, tokenizer) -> corpora.Corpus:
    """A tokenised corpus, memory-mapped from its artifact."""
    settings = {"text": _contents({spec: 1.0}), "tokenizer": _tokenizer_digest(tokenizer)}

    def make(folder: Path) -> dict:
        corpus = corpora.tokenize_corpus(spec, tokenizer)
        for name, array in corpus.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        return {"tokens": len(corpus["tokens"]), "documents": len(corpus["held_out"])}

    label = spec.split(":")[-1].split("/")[-1]
    artifact = _get_or_make("corpus", label, settings, [], None, make)
    return {
        name: np.load(artifact.path / f"{name}.npy", mmap_mode="r")
        for name in ("tokens", "offsets", "held_out")
    }


def _tokenizer_digest(tokenizer) -> str:
    """Of all but truncation and padding, which change with use and are not used here."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": 0, "padding": 0}
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()


def _contents(mix: dict[str, float]) -> dict[str, str]:
    """What each corpus is: a digest of the user's own files, which may change under one name."""
    found = {spec: sources.resolve(spec) for spec in mix}
    return {spec: sources.digest(s.path) if s.path else s.spec for spec, s in found.items()}


def _get_or_make(stage, label, settings, upstream, seed, make) -> Artifact:
    def seeded(folder: Path) -> dict:
        runtime.seed_everything(seed or 0)
        return make(folder)

    settings = settings | ({} if seed is None else {"seed": seed})
    return store.get_or_make(stage, label, settings, upstream, REVISIONS[stage], seeded)


def _record(kind: str, p: params.ReportParams, artifact: Artifact) -> None:
    values = dict(artifact.values)
    source = values.pop("source", None)
    records.write(kind, p.profile, params.as_dict(p), values, source, artifact)


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


def _costs(log) -> dict:
    return {
        "steps": len(log), "tokens": log.tokens, "seconds": log.seconds,
        "tokens_per_second": log.tokens / log.seconds,
    }  # fmt: skip


@torch.inference_mode()
def _parity(before, after, text: _Text) -> float:
    """Largest difference of the last hidden states on one held-out sequence."""
    batch = text.held_out()[0]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = [models.encoder(m)(**inputs).last_hidden_state for m in (before, after)]
    return float((hidden[0] - hidden[1]).abs().max())

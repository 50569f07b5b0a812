"""A model as a hub-ready folder, with a card of what its records say; ONNX and int8 if asked."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ctd_lib import measure as measurement
from ctd_lib import models, params, records, runtime, tasks
from ctd_lib.data import sources
from ctd_lib.errors import CtdError
from ctd_lib.export import card, folder, forms, int8, onnx
from ctd_lib.pipeline.common import MEANS, get_or_make, record
from ctd_lib.pipeline.distill import model_of
from ctd_lib.pipeline.finetune import features_of, finetune, task_data
from ctd_lib.store import Artifact

HUB = "model"
"""The hub-ready folder within the artifact."""
NAMED = ("backbone", "data_source", "train_file", "test_file")
MIXES = ("corpora", "head_corpora", "distill_corpora")


def export(p: params.ExportParams) -> Artifact:
    """The teacher, the student, or either finetuned, as a folder for others to use.

    The model card has what is in the model's records at the time; with later records it is made
    anew.

    Raises:
        CtdError: ONNX is asked for, but a package is missing or a length is over `max_length`.
    """
    if p.onnx:
        _check_forms(p)
    upstream = finetune(replace(p, save_model=True)) if p.finetuned else model_of(p, p.role)
    scores, timings = list(_scores(p)), _timings(p)
    settings = params.own(p, params.ExportParams) | {
        "scores": [vars(score) for score in scores], **timings,
    }  # fmt: skip

    def make(path: Path) -> dict:
        folder.write(upstream.path, path / HUB)
        model = models.load(upstream.path, folder.head_of(upstream.path))
        values = _forms(p, path / HUB) if p.onnx else {}
        facts = card.Facts(
            arch=p.arch, role=p.role, head=folder.head_of(upstream.path),
            task=p.task if p.finetuned else None, max_length=models.max_length(model.config),
            parameters=measurement.parameters(model), provenance=upstream.provenance,
            key=upstream.key, scores=scores, settings=_settings(p),
            backbone=_public(p.backbone), licences=_licences(p, scores), **timings,
            forms=values.get("rows", ()), forms_on=_machine(runtime.host(), values),
            global_attention=upstream.values["global_attention"]
            if p.finetuned and p.arch == "longformer" else None,
        )  # fmt: skip
        (path / HUB / folder.CARD).write_text(card.text(facts))
        return values

    label = f"{p.arch}-{p.role}" + (f"-{p.task}" if p.finetuned else "")
    artifact = get_or_make("export", label, settings, [upstream], p.seed, make)
    if p.onnx:
        record("export", p, artifact)
    return artifact


def _check_forms(p: params.ExportParams) -> None:
    """Refuse what the other forms cannot have, before anything is trained."""
    onnx.require()
    if p.arch != "full" and (over := [n for n in p.lengths if n > p.max_length]):
        raise CtdError(
            f"length {over[0]} is over max_length {p.max_length}; give lengths that are not."
        )


def _forms(p: params.ExportParams, hub: Path) -> dict:
    """ONNX and int8 beside the model, and the measured rows of all its forms.

    Of a model that was not finetuned the encoder alone.
    """
    head = folder.head_of(hub) if p.finetuned else "base"
    model = models.load(hub, head)
    float32, int8_file = (hub / file for file in forms.FILES.values())
    float32.parent.mkdir()
    difference = onnx.export(model, float32)
    agreement = int8.quantise(model, float32, int8_file)
    rows = forms.measure(
        hub, head, p.lengths, p.measure_batch_size, p.repeats, _score(p, hub, model)
    )
    return {
        "rows": rows, "head": head, "onnx_difference": difference, "int8_agreement": agreement,
        "device": "cpu", "threads": torch.get_num_threads(),
    }  # fmt: skip


def _score(p: params.ExportParams, hub: Path, model) -> Callable[[forms.Run], float] | None:
    """What gives each form of a finetuned model its score on the task's test part."""
    if not p.finetuned:
        return None
    data = task_data(p)
    policy = None
    if p.arch == "longformer":
        policy = tasks.policy(p.global_attention, tasks.family(data).GLOBAL_ATTENTION)
    longest = min(p.task_max_length or data.max_length, models.max_length(model.config))
    tokenizer = models.load_tokenizer(hub)
    features = features_of(data, tokenizer, longest).test
    return functools.partial(forms.task_score, data, features, tokenizer.pad_token_id, policy)


def _scores(p: params.ExportParams) -> Iterator[card.Score]:
    """Of each task on which this model was finetuned, its score beside its teacher's.

    Of the task that a finetuned model is exported for, the score of that very finetuning; of others
    the latest. A teacher's is of a finetuning alike.
    """
    alike = set(params.names(params.FinetuneParams)) - {"role", "save_model", *MEANS}
    of_teachers = alike - params.of_the_student() - {"task_distill_weight"}
    ours_alike = of_teachers if p.role == "teacher" else alike
    found = [row for row in _records(p, "finetune")
             if row["params"].get("test_attention", "ours") == "ours"]  # fmt: skip
    ours = {row["params"]["task"]: row for row in found if row["params"]["role"] == p.role}
    for row in found if p.finetuned else ():
        if row["params"]["role"] == p.role and _agree(row["params"], params.as_dict(p), ours_alike):
            ours[p.task] = row
    for task, own in ours.items():
        teachers = [row for row in found if row["params"]["role"] == "teacher"
                    and _agree(row["params"], own["params"], of_teachers)]  # fmt: skip
        values, source = own["values"], own["source"]
        yield card.Score(
            task=task, metric=values["main_metric"], score=values["score"],
            teacher=teachers[-1]["values"]["score"] if teachers else None,
            examples=values["test_examples"], source=_public(source["name"]),
            licence=source["licence"],
        )  # fmt: skip


def _timings(p: params.ExportParams) -> dict:
    """The latest measurement of this model and its teacher: `timings`, and where: `timed_on`."""
    found = list(_records(p, "measure"))
    if not found:
        return {}
    values, host = found[-1]["values"], found[-1]["provenance"]["host"]
    return {"timings": values["rows"], "timed_on": _machine(host, values)}


def _machine(host: dict, values: dict) -> str:
    return runtime.processor(host, values["device"], values["threads"]) if values else ""


def _records(p: params.ExportParams, kind: str) -> Iterator[dict]:
    """The records of a kind that were made from this very model or its teacher, oldest first."""
    shared = set(params.names(params.DistillParams)) - set(MEANS)
    ours = params.as_dict(p)
    rows = records.load(p.profile).query("kind == @kind").to_dict("records")
    for row in sorted(rows, key=lambda row: row["provenance"]["date"]):
        a_teachers = row["params"].get("role") == "teacher"
        if _agree(row["params"], ours, shared - params.of_the_student() if a_teachers else shared):
            yield row


def _agree(one: dict, other: dict, names: Iterable[str]) -> bool:
    """Whether parameters of two records are the same; a record may be older than a parameter."""
    defaults = params.defaults(params.FinetuneParams)
    return all(one.get(n, defaults.get(n)) == other.get(n, defaults.get(n)) for n in names)


def _settings(p: params.ExportParams) -> dict:
    """The parameters that made this model; of the user's own files the names alone."""
    stage = params.PretrainParams if p.role == "teacher" else params.DistillParams
    known = params.names(params.FinetuneParams if p.finetuned else stage)
    settings = {name: value for name, value in params.as_dict(p).items()
                if name in known and name not in MEANS and value is not None}  # fmt: skip
    settings |= {name: _public(settings[name]) for name in NAMED if name in settings}
    return settings | {
        name: {_public(spec): weight for spec, weight in settings[name].items()}
        for name in MIXES if name in settings
    }  # fmt: skip


def _licences(p: params.ExportParams, scores: list[card.Score]) -> dict[str, str]:
    distilled = p.distill_corpora or {} if p.role == "student" else {}
    specs = [p.backbone, *p.head_corpora, *p.corpora, *distilled]
    found = {_public(spec): _source(spec).licence for spec in specs}
    return found | {s.source: s.licence for s in scores if p.finetuned and s.task == p.task}


def _public(spec: str) -> str:
    """The specification of a source, without the folders that a local one lies in."""
    kind, _, name = spec.partition("?")[0].rpartition(":")
    local = kind == "local" or Path(name).is_absolute() or _source(spec).kind == "local"
    return f"local:{Path(name).name}" if local else spec


def _source(spec: str) -> sources.Source:
    name = spec.partition("?")[0]
    try:
        return sources.resolve(name)
    except CtdError:  # a hub id without its kind, or one of a hub that does not answer now
        return sources.Source("hub", name.removeprefix("hub:"), "see its page on the hub")

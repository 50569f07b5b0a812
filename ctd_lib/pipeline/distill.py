"""The student, and which model plays which role."""

import copy
from itertools import chain, islice
from pathlib import Path

from ctd_lib import distill as distillation
from ctd_lib import measure as measurement
from ctd_lib import models, params, runtime
from ctd_lib.distillation import student as students
from ctd_lib.distillation import teacher as teachers
from ctd_lib.errors import CtdError
from ctd_lib.pipeline.backbone import config_of
from ctd_lib.pipeline.common import (
    costs,
    full_training,
    get_or_make,
    precision,
    record,
    updates_of,
)
from ctd_lib.pipeline.convert import check_geometry, converted, geometry
from ctd_lib.pipeline.pretrain import pretrain, pretrained
from ctd_lib.pipeline.text import Text, check, contents
from ctd_lib.store import Artifact
from ctd_lib.training import updates
from ctd_lib.training.masking import masked_batches


def distill(p: params.DistillParams) -> Artifact:
    """The student, in either order of conversion and distillation.

    Raises:
        CtdError: as `check_student`, before anything is trained.
    """
    check_student(p)
    if p.order == "convert-then-distill":
        artifact = _distilled(p, pretrain(p))
    else:
        artifact = pretrained(p, converted(p, distill(_with_full_attention(p))))
    record("distill", p, artifact)
    return artifact


def model_of(p: params.DistillParams, role: str) -> Artifact:
    """The model of that role, which later stages finetune and measure."""
    return pretrain(p) if role == "teacher" else distill(p)


def _with_full_attention(p: params.DistillParams) -> params.DistillParams:
    """The distillation that conversion comes after in the other order, as if asked for by itself.

    Settings of another arch's attention are none of the arch `full`, nor of its key.
    """
    given = {name: getattr(p, name) for name in params.names(params.DistillParams)}
    given |= dict.fromkeys(geometry(p)) | {"arch": "full", "order": "convert-then-distill"}
    return params.DistillParams(**given)


def check_student(p: params.DistillParams) -> None:
    """Refuse a student that its teacher cannot have, as the backbone's configuration tells.

    Raises:
        CtdError: layers, width, recipe, attention or text that do not fit or are not there.
    """
    teacher = config_of(p)
    layers, width = teacher.num_hidden_layers, p.student_hidden_size or teacher.hidden_size
    students.layer_map(layers, p.student_layers or layers // 2, p.layer_map)
    students.narrow(copy.deepcopy(teacher), width)
    check_geometry(p, width if p.order == "distill-then-convert" else teacher.hidden_size)
    if p.teacher_top_k:
        distillation.require_cacheable(_recipe(p))
        teachers.require_top_k(p.teacher_top_k, teacher.vocab_size)
    if p.cosine_weight and width != teacher.hidden_size:
        raise CtdError(
            f"student_hidden_size is {width} and cosine_weight {p.cosine_weight}, but cosine"
            f" compares vectors of one size, and the teacher's is {teacher.hidden_size}; set"
            " cosine_weight to 0 and relation_weight above 0."
        )
    check(p.corpora, p.distill_corpora)
    if not p.relation_weight:
        return
    if p.relation_layer is not None and p.relation_layer >= layers:
        raise CtdError(
            f"relation_layer is {p.relation_layer}; the teacher has layers 0 to {layers - 1}."
        )
    heads = p.relation_heads or teacher.num_attention_heads
    if width % heads or teacher.hidden_size % heads:
        raise CtdError(
            f"relation_heads is {heads}; the widths of student and teacher, {width} and"
            f" {teacher.hidden_size}, must be multiples of it."
        )


def _distilled(p: params.DistillParams, upstream: Artifact) -> Artifact:
    corpora = p.distill_corpora or p.corpora
    settings = params.own(p, params.DistillParams) | _of_text(p) | updates_of(p)
    del settings["distill_corpora"]  # `corpora` says it

    def make(folder: Path) -> dict:
        teacher = models.load(upstream.path).to(runtime.device(p.device))
        tokenizer = models.load_tokenizer(upstream.path)
        teacher_layers = len(models.layers(teacher))
        layer_map = students.layer_map(
            teacher_layers, p.student_layers or teacher_layers // 2, p.layer_map
        )
        student = students.student_from_teacher(teacher, layer_map, p.student_hidden_size)
        text = Text(corpora, tokenizer, p.max_length)
        held_out = Text(p.corpora, tokenizer, p.max_length)  # the same for any distill_corpora
        before = held_out.evaluate(student, precision(p))
        teacher = teachers.frozen(teacher, precision(p))  # float32 weights are of no more use
        # Opens the corpora in every process, before the main one reads them by itself.
        batches = text.batches(p.batch_size, p.seed, p.cross_documents)
        outputs = _outputs(p, upstream, text) if p.teacher_top_k else None
        log = distillation.distill(
            student, outputs or teacher, batches, tokenizer, steps=p.distill_steps,
            lr=p.distill_learning_rate, recipe=_recipe(p), layer_map=layer_map, seed=p.seed,
            **full_training(p, folder, lambda: held_out.evaluate(student, precision(p))),
        )  # fmt: skip
        models.save(student, tokenizer, folder)
        terms = ("mlm", "soft_target", "cosine", "relation")
        return {
            "teacher_layers": teacher_layers, "student_layers": len(layer_map),
            "layer_map": layer_map, "student_hidden_size": student.config.hidden_size,
            "parameters_teacher": measurement.parameters(teacher),
            "parameters_student": measurement.parameters(student),
            "precision": precision(p),
            "mlm_loss_teacher": upstream.values["mlm_loss_after"],  # on the same text
            "mlm_loss_before": before,
            "mlm_loss_after": held_out.evaluate(student, precision(p)),
            "terms_first": {name: log[0][name] for name in terms},
            "terms_last": {name: log[-1][name] for name in terms},
        } | costs(log)  # fmt: skip

    return get_or_make("distill", p.arch, settings, [upstream], p.seed, make)


def _recipe(p: params.DistillParams) -> distillation.Recipe:
    return distillation.Recipe(
        mlm_weight=p.mlm_weight, soft_target_weight=p.soft_target_weight,
        cosine_weight=p.cosine_weight, relation_weight=p.relation_weight,
        temperature=p.temperature, positions=p.soft_target_positions,
        hidden_layers=p.hidden_layers, relation_heads=p.relation_heads,
        relation_layer=p.relation_layer,
    )  # fmt: skip


def _of_text(p: params.DistillParams) -> dict:
    corpora = p.distill_corpora or p.corpora
    return {
        "corpora": corpora, "text": contents(corpora), "cross_documents": p.cross_documents,
    }  # fmt: skip


def _outputs(p: params.DistillParams, upstream: Artifact, text: Text) -> teachers.Cache:
    """What the teacher says of all batches of the distillation, once for any student of it."""
    settings = _of_text(p) | {
        name: getattr(p, name)
        for name in ("batch_size", "accumulation", "tokens_per_update", "distill_steps",
                     "precision", "temperature", "teacher_top_k")
    }  # fmt: skip

    def make(folder: Path) -> dict:
        teacher = models.load(upstream.path).to(runtime.device(p.device))
        batches = text.batches(p.batch_size, p.seed, p.cross_documents)
        masked = iter(masked_batches(batches, text.tokenizer, seed=p.seed))
        windows = updates.windows(masked, p.accumulation, p.tokens_per_update)
        cache = teachers.write(
            teacher, chain.from_iterable(islice(windows, p.distill_steps)), folder,
            top_k=p.teacher_top_k, temperature=p.temperature, precision=precision(p),
        )  # fmt: skip
        return {"batches": cache.batches}

    return teachers.Cache(get_or_make("teacher", p.arch, settings, [upstream], p.seed, make).path)

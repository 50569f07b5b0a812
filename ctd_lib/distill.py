"""Distillation: a student of fewer layers, begun from its teacher and taught by it.

Brown et al. 2023: DistilBERT's recipe (Sanh et al. 2019) on converted models. A student of half the
layers starts from every other layer of the teacher; the loss is the weighted sum of masked LM,
soft targets and cosine between the last hidden states.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctd_lib import attention, models, train
from ctd_lib.errors import CtdError
from ctd_lib.losses import chunked_loss, hidden_cosine_loss
from ctd_lib.masking import masked_batches

LAYER_MAPS = ("even", "odd", "distilbert", "first", "last")


def layer_map(teacher_layers: int, student_layers: int, name: str = "even") -> list[int]:
    """The teacher layer that each student layer starts from.

    "even" takes every other layer from the first on, "odd" from the second on; where the depth is
    not halved, they spread evenly and include the first, or the last, layer. "distilbert" are the
    layers of the published DistilBERT, [0, 2, 4, 7, 9, 11], for 12 layers to 6 only.

    Raises:
        CtdError: the name is unknown or the numbers of layers do not fit.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise CtdError(
            f"student_layers is {student_layers}; this teacher allows 1 to {teacher_layers}."
        )
    if name == "even":
        return [i * teacher_layers // student_layers for i in range(student_layers)]
    if name == "odd":
        return [(i + 1) * teacher_layers // student_layers - 1 for i in range(student_layers)]
    if name == "first":
        return list(range(student_layers))
    if name == "last":
        return list(range(teacher_layers - student_layers, teacher_layers))
    if name == "distilbert":
        if (teacher_layers, student_layers) != (12, 6):
            raise CtdError(
                "layer map 'distilbert' is for 12 teacher and 6 student layers, not"
                f" {teacher_layers} and {student_layers}; use 'even'."
            )
        return [0, 2, 4, 7, 9, 11]
    raise CtdError(f"layer map {name!r} is unknown; use one of {', '.join(LAYER_MAPS)}.")


def student_from_teacher(teacher: PreTrainedModel, layer_map: list[int]) -> PreTrainedModel:
    """A new model of the teacher's class with these of its layers, and all else copied.

    It is in evaluation mode, on the teacher's device, and has the fast attention if the teacher
    has. The teacher is left as it is.

    Raises:
        CtdError: a layer is not one of the teacher's.
    """
    teacher_layers = models.layers(teacher)
    if any(not 0 <= layer < len(teacher_layers) for layer in layer_map):
        raise CtdError(
            f"layer map {layer_map} names a layer that the teacher, with layers 0 to"
            f" {len(teacher_layers) - 1}, does not have."
        )
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(layer_map)
    # Longformer has one window per layer.
    if isinstance(windows := getattr(config, "attention_window", None), list):
        config.attention_window = [windows[layer] for layer in layer_map]
    student = type(teacher)(config).to(teacher.device, teacher.dtype)

    prefix = next(name for name, module in teacher.named_modules() if module is teacher_layers)
    state = {
        name: tensor
        for name, tensor in teacher.state_dict().items()
        if not name.startswith(f"{prefix}.")
    }
    for index, layer in enumerate(layer_map):
        for name, tensor in teacher_layers[layer].state_dict().items():
            state[f"{prefix}.{index}.{name}"] = tensor
    student.load_state_dict(state)
    if attention.installed(teacher):
        attention.install(student)
    return student.eval()


def distill(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Iterable[train.Batch],
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int,
    lr: float = 5e-4,
    mlm_weight: float = 2.0,
    soft_target_weight: float = 5.0,
    cosine_weight: float = 1.0,
    temperature: float = 2.0,
    positions: str = "all",
    probability: float = 0.15,
    seed: int = 0,
    precision: str = "float32",
    **options,
) -> train.TrainLog:
    """Train the student in place; both models read the same masked text.

    The log has the terms `mlm`, `soft_target` and `cosine` before their weights.

    Args:
        batches: dicts of `input_ids`, `attention_mask` and, if any, `special_tokens_mask`,
            each (B, T).
        temperature: softens both distributions; the soft-target term is multiplied by its square.
        positions: soft targets at "all" tokens or at the "masked" ones only.
        probability: share of the tokens that masked LM predicts.
        seed: of the masking.
        precision: "float32" or "bfloat16"; the teacher's weights are then bfloat16 too.
        **options: those of `train.fit`.

    Raises:
        CtdError: student and teacher differ in vocabulary or, with a cosine term, in hidden size.
    """
    _require_same("vocab_size", student, teacher)
    if cosine_weight:
        _require_same("hidden_size", student, teacher)
    if temperature <= 0:
        raise CtdError(f"temperature is {temperature}; it must be above 0.")
    frozen = copy.deepcopy(teacher).eval().requires_grad_(False)
    if precision == "bfloat16":
        frozen.bfloat16()

    def loss_fn(student: PreTrainedModel, batch: train.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        mask = batch["attention_mask"]
        inputs = {"input_ids": batch["input_ids"], "attention_mask": mask}
        with torch.no_grad():
            teacher_hidden = models.encoder(frozen)(**inputs).last_hidden_state
        hidden = models.encoder(student)(**inputs).last_hidden_state
        vocabulary = chunked_loss(
            hidden,
            models.lm_head(student),
            batch["labels"],
            teacher_hidden,
            models.lm_head(frozen),
            mask,
            mlm_weight=mlm_weight,
            soft_target_weight=soft_target_weight,
            temperature=temperature,
            positions=positions,
        )
        cosine = hidden.new_zeros(())
        if cosine_weight:
            cosine = hidden_cosine_loss(hidden, teacher_hidden, mask)
        terms = {
            "mlm": vocabulary.mlm,
            "soft_target": vocabulary.soft_target,
            "cosine": cosine.detach(),
        }
        return vocabulary.loss + cosine_weight * cosine, terms

    masked = masked_batches(batches, tokenizer, probability, seed)
    options = {"description": "distill"} | options
    return train.fit(student, loss_fn, masked, steps=steps, lr=lr, precision=precision, **options)


def _require_same(field: str, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    ours, theirs = getattr(student.config, field), getattr(teacher.config, field)
    if ours != theirs:
        raise CtdError(f"the student's {field} is {ours}, the teacher's {theirs}; they must agree.")

"""Distillation: a student of fewer layers, begun from its teacher and taught by it.

Brown et al. 2023: DistilBERT's recipe (Sanh et al. 2019) on converted models. A student of half the
layers starts from every other layer of the teacher; the loss is the weighted sum of masked LM,
soft targets and cosine between the last hidden states. Beyond the paper: the cosine on all layers,
and MiniLMv2's relation distillation (see `relations`).
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctd_lib import models
from ctd_lib.distillation import relations
from ctd_lib.distillation.student import output_map
from ctd_lib.distillation.teacher import Cache, cached_outputs, frozen, outputs
from ctd_lib.errors import CtdError
from ctd_lib.losses import chunked_loss, hidden_cosine_loss
from ctd_lib.training import loop as train
from ctd_lib.training.masking import IGNORED, masked_batches

HIDDEN_LAYERS = ("last", "all")


@dataclass(frozen=True)
class Recipe:
    """What a student is taught: the terms of the loss and their weights, 0 for none."""

    mlm_weight: float = 2.0
    soft_target_weight: float = 5.0
    cosine_weight: float = 1.0
    relation_weight: float = 0.0
    temperature: float = 2.0
    """Softens both distributions; the soft-target term is multiplied by its square."""
    positions: str = "all"
    """Soft targets at "all" tokens or at the "masked" ones only."""
    hidden_layers: str = "last"
    """Cosine of the "last" layer, or the mean over "all": each student layer with the teacher layer
    whose output it stands for (`student.output_map`)."""
    relation_heads: int | None = None
    """None: as many as the teacher has attention heads."""
    relation_layer: int | None = None
    """The teacher's layer, from 0, whose relations the student's last layer learns; None: the last.
    MiniLMv2 takes the last of 12, and one of the upper middle of 24."""


def distill(
    student: PreTrainedModel,
    teacher: PreTrainedModel | Cache,
    batches: Iterable[train.Batch],
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int,
    lr: float = 5e-4,
    recipe: Recipe = Recipe(),
    layer_map: list[int] | None = None,
    probability: float = 0.15,
    seed: int = 0,
    precision: str = "float32",
    **options,
) -> train.TrainLog:
    """Train the student in place; both models read the same masked text.

    The log has the terms `mlm`, `soft_target`, `cosine` and `relation` before their weights, 0
    where a term is left out.

    Args:
        teacher: a model, on any device, or what it said of these batches (`teacher.write`); not
            asked where every term but `mlm` is left out.
        batches: dicts of `input_ids`, `attention_mask` and, if any, `special_tokens_mask`,
            each (B, T).
        recipe: the terms of the loss.
        layer_map: teacher layers that the student started from; for the cosine of all layers.
        probability: share of the tokens that masked LM predicts.
        seed: of the masking.
        precision: as in `train.fit`; with "bfloat16" the teacher's weights are bfloat16 too.
        **options: those of `train.fit`.

    Raises:
        CtdError: the recipe is not one for these two models.
    """
    masked, asked = masked_batches(batches, tokenizer, probability, seed), None
    if isinstance(teacher, Cache):
        require_cacheable(recipe)
        _check(recipe, student, teacher, layer_map)
        if recipe.temperature != teacher.temperature:
            raise CtdError(
                f"temperature is {recipe.temperature}, that of the teacher's outputs on disk"
                f" {teacher.temperature}; they must agree."
            )
        if _asks(recipe):
            masked = teacher.join(masked)
    else:
        _check(recipe, student, teacher.config, layer_map)
        if _asks(recipe):
            asked = frozen(teacher, precision).to(student.device)
    loss_fn = _loss_function(recipe, asked, layer_map)
    options = {"description": "distill"} | options
    return train.fit(student, loss_fn, masked, steps=steps, lr=lr, precision=precision, **options)


def _loss_function(
    recipe: Recipe, teacher: PreTrainedModel | None, layer_map: list[int] | None
) -> Callable:
    """The recipe as a function for `train.fit`; without a teacher its outputs are in the batch."""
    all_layers = bool(recipe.cosine_weight) and recipe.hidden_layers == "all"
    asks = _asks(recipe)
    vocabulary_counts = recipe.mlm_weight or recipe.soft_target_weight

    def loss_fn(
        student: PreTrainedModel, batch: train.Batch, totals: train.Totals
    ) -> tuple[Tensor, dict[str, Tensor]]:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with ExitStack() as stack:
            if recipe.relation_weight:
                chosen = -1 if recipe.relation_layer is None else recipe.relation_layer
                theirs = stack.enter_context(_projections(teacher, chosen, ids))
                ours = stack.enter_context(_projections(student, -1, ids))
            if asks:
                said = outputs(teacher, batch, all_layers) if teacher else cached_outputs(batch)
            found = models.encoder(student)(
                input_ids=ids, attention_mask=mask, output_hidden_states=all_layers
            )
        hidden = found.last_hidden_state
        # Also where neither term counts: the head then has a gradient of 0 and its weights decay.
        vocabulary = chunked_loss(
            hidden,
            models.lm_head(student),
            batch["labels"] if vocabulary_counts else torch.full_like(ids, IGNORED),
            said.targets if recipe.soft_target_weight else None,
            mask,
            mlm_weight=recipe.mlm_weight,
            soft_target_weight=recipe.soft_target_weight,
            temperature=recipe.temperature,
            positions=recipe.positions,
            totals=totals,
        )
        cosine = relation = hidden.new_zeros(())
        if all_layers:
            pairs = output_map(layer_map, len(said.layers))
            layers = (*found.hidden_states[1:-1], hidden)
            cosine = torch.stack([
                hidden_cosine_loss(layer, said.layers[number], mask, totals["tokens"])
                for layer, number in zip(layers, pairs, strict=True)
            ]).mean()  # fmt: skip
        elif recipe.cosine_weight:
            cosine = hidden_cosine_loss(hidden, said.layers[-1], mask, totals["tokens"])
        if recipe.relation_weight:
            heads = recipe.relation_heads or teacher.config.num_attention_heads
            relation = relations.relation_loss(ours[0], theirs[0], mask, heads, totals["tokens"])
        terms = {
            "mlm": vocabulary.mlm,
            "soft_target": vocabulary.soft_target,
            "cosine": cosine.detach(),
            "relation": relation.detach(),
        }
        weighted = recipe.cosine_weight * cosine + recipe.relation_weight * relation
        return vocabulary.loss + weighted, terms

    return loss_fn


def _asks(recipe: Recipe) -> bool:
    """Whether any term of the loss needs the teacher."""
    return any((recipe.soft_target_weight, recipe.cosine_weight, recipe.relation_weight))


def _projections(model: PreTrainedModel, layer: int, ids: Tensor):
    front = getattr(model.config, "num_global_tokens", 0)
    return relations.captured(models.layers(model)[layer], ids.shape[1], front)


def _check(recipe: Recipe, student: PreTrainedModel, teacher, layer_map: list[int] | None) -> None:
    """Whether student and teacher (its configuration or cache) suit the recipe."""
    if student.config.vocab_size != teacher.vocab_size:
        raise CtdError(
            f"the student's vocab_size is {student.config.vocab_size}, the teacher's"
            f" {teacher.vocab_size}; they must agree."
        )
    if recipe.cosine_weight and student.config.hidden_size != teacher.hidden_size:
        raise CtdError(
            f"the student's hidden_size is {student.config.hidden_size}, the teacher's"
            f" {teacher.hidden_size}, and cosine compares vectors of one size; set cosine_weight to"
            " 0 and relation_weight above 0: relation distillation takes any two widths."
        )
    if recipe.temperature <= 0:
        raise CtdError(f"temperature is {recipe.temperature}; it must be above 0.")
    if recipe.hidden_layers not in HIDDEN_LAYERS:
        raise CtdError(
            f"hidden_layers is {recipe.hidden_layers!r}; use one of {', '.join(HIDDEN_LAYERS)}."
        )
    if recipe.hidden_layers == "all" and layer_map is None:
        raise CtdError("hidden_layers 'all' needs the layer map that the student started from.")
    if recipe.cosine_weight and recipe.hidden_layers == "all":
        _check_layer_map(layer_map, student.config.num_hidden_layers, teacher.num_hidden_layers)
    layer = recipe.relation_layer
    if recipe.relation_weight and not 0 <= (layer or 0) < teacher.num_hidden_layers:
        raise CtdError(
            f"relation_layer is {layer}; the teacher has layers 0 to"
            f" {teacher.num_hidden_layers - 1}."
        )


def _check_layer_map(layer_map: list[int], ours: int, theirs: int) -> None:
    """Whether each student layer stands for the output of a teacher layer (`output_map`)."""
    if len(layer_map) != ours or not all(0 < layer < theirs for layer in layer_map[1:]):
        raise CtdError(
            f"layer_map is {layer_map}; for hidden_layers 'all' it names a teacher layer, up to"
            f" {theirs - 1}, for each of the student's {ours}, and layer 0 for the first only."
        )


def require_cacheable(recipe: Recipe) -> None:
    """Whether a teacher's outputs on disk serve a recipe.

    Raises:
        CtdError: it needs more of them than the last layer.
    """
    if recipe.hidden_layers == "all" or recipe.relation_weight:
        raise CtdError(
            "the teacher's outputs on disk hold its last layer only; with hidden_layers 'all' or a"
            " relation_weight set teacher_top_k to 0."
        )


if __name__ == "__main__":
    from ctd_lib import cli

    sys.exit(cli.run("distill"))

"""Convert a full-attention backbone into an efficient arch that begins as the same function."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    BigBirdForMaskedLM,
    LongformerForMaskedLM,
    NystromformerForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaForMaskedLM,
)

from ctd_lib.convert.defaults import geometry
from ctd_lib.convert.weights import new_weights, weight_map
from ctd_lib.errors import CtdError
from ctd_lib.lsg import LsgBertForMaskedLM, LsgRobertaForMaskedLM
from ctd_lib.models import FAMILIES, position_offset

__all__ = ["Conversion", "TensorReport", "convert", "geometry"]

_TARGETS = {
    ("full", "roberta"): RobertaForMaskedLM,
    ("full", "bert"): BertForMaskedLM,
    ("lsg", "roberta"): LsgRobertaForMaskedLM,
    ("lsg", "bert"): LsgBertForMaskedLM,
    **{("longformer", family): LongformerForMaskedLM for family in FAMILIES},
    **{("bigbird", family): BigBirdForMaskedLM for family in FAMILIES},
    **{("nystromformer", family): NystromformerForMaskedLM for family in FAMILIES},
}

_SHARED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "classifier_dropout",
)

_POSITIONS = "embeddings.position_embeddings.weight"
_TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
_WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class TensorReport:
    """What became of one tensor."""

    target: str | None
    """Name in the converted model; None where the teacher's tensor was dropped."""
    source: str | None
    """Name in the teacher; None where the tensor is new and starts from none of the teacher's."""
    action: str
    """copied, tiled, new or dropped."""
    shape: tuple[int, ...]
    """Shape in the converted model, or of the dropped tensor."""
    why: str


@dataclass(frozen=True)
class Conversion:
    """A converted teacher, with an account of every tensor."""

    model: PreTrainedModel
    report: list[TensorReport]


def convert(model: PreTrainedModel, arch: str, max_length: int, **overrides) -> Conversion:
    """Build the model of another arch out of a backbone's weights.

    Position embeddings are repeated until they reach `max_length` (the backbone's own rows first),
    reserved rows are kept; `full` changes nothing else. What the backbone lacks starts so that
    the converted model computes the same function wherever its pattern lets every token attend to
    every other: Longformer's global projections as copies of the local ones, Nystromformer's
    convolution at zero, LSG's global token as the first token.

    Args:
        model: a `...ForMaskedLM` (or `...ForPreTraining`) of one of models.FAMILIES; not changed.
        arch: one of ARCHS.
        max_length: longest input of the converted model, in tokens.
        **overrides: settings of the attention pattern, see `geometry`.

    Returns:
        A `...ForMaskedLM` of transformers (of ctd_lib.lsg for `lsg`), on the device, in the dtype
        and in the mode of `model`, without the fast attention of ctd_lib.attention.

    Raises:
        CtdError: settings that do not fit, a family that cannot be converted, or a tensor that
            the weight map does not know.
    """
    family = model.config.model_type
    if family not in FAMILIES:
        raise CtdError(
            f"a model of family {family!r} cannot be converted, only {', '.join(FAMILIES)}."
        )
    fields = geometry(arch, model.config.hidden_size, max_length, **overrides)
    target_class = _TARGETS[arch, family]
    config = _config(target_class.config_class, model.config, max_length, fields)
    converted = target_class(config)
    sources = _common_tensors(model)
    tensors, report = _fill(converted, model.config, sources)
    converted.load_state_dict(tensors)
    converted = converted.to(model.device, model.dtype).train(model.training)
    return Conversion(converted, report)


def _config(config_class, teacher: PreTrainedConfig, max_length: int, fields: dict):
    """The converted model's configuration: the teacher's own but for length and attention."""
    shared = {name: getattr(teacher, name) for name in _SHARED_FIELDS if hasattr(teacher, name)}
    separators = (getattr(teacher, name, None) for name in ("sep_token_id", "eos_token_id"))
    shared["sep_token_id"] = next((token for token in separators if token is not None), None)
    model_type = config_class.model_type
    if model_type == "nystromformer":
        # Its landmarks are means over segments of this many tokens in all: the whole input.
        fields = fields | {"segment_means_seq_len": max_length}
    if model_type == "big_bird":
        # Its question answering marks the question, up to the separator, by token type, of which
        # RoBERTa has only one.
        if shared["sep_token_id"] is None:
            raise CtdError(
                "Big Bird's question answering needs to know the separator, but the backbone's"
                " configuration does not name it: set sep_token_id to the id of the token that"
                " ends a question."
            )
        shared["type_vocab_size"] = max(2, teacher.type_vocab_size)
    head_applies_hidden_act = model_type in ("bert", "lsg-bert", "big_bird", "nystromformer")
    if teacher.hidden_act != "gelu" and head_applies_hidden_act != (teacher.model_type == "bert"):
        raise CtdError(
            f"activation {teacher.hidden_act!r} of the backbone cannot be kept in {model_type}'s"
            " masked-LM head; take a backbone with 'gelu'."
        )
    # Dropout of attention probabilities throws the fused attention kernels away: training at 2048
    # tokens takes 2.5 times as long and 4.6 times the memory.
    config = config_class(**shared, **fields, attention_probs_dropout_prob=0.0)
    reserved = 0 if model_type == "nystromformer" else position_offset(config)
    config.max_position_embeddings = max_length + reserved
    return config


def _common_tensors(model: PreTrainedModel) -> dict[str, tuple[str, Tensor]]:
    """The teacher's tensors: common name (own name if the map drops it) -> (own name, tensor)."""
    names = weight_map(model.config.model_type, model.config.num_hidden_layers)
    sources = {}
    for name, tensor in model.state_dict().items():
        if name not in names:
            raise CtdError(f"tensor {name!r} of the backbone is not in the weight map.")
        sources[names[name] or name] = (name, tensor)
    return sources


def _fill(
    converted: PreTrainedModel, teacher: PreTrainedConfig, sources: dict[str, tuple[str, Tensor]]
) -> tuple[dict[str, Tensor], list[TensorReport]]:
    config = converted.config
    names = weight_map(config.model_type, config.num_hidden_layers)
    starts = new_weights(config.model_type, config.num_hidden_layers)
    tensors, report, used = {}, [], set()

    def put(target: str, tensor: Tensor, source: str | None, action: str, why: str) -> None:
        wanted = converted.get_parameter(target).shape
        if tensor.shape != wanted:
            raise CtdError(f"tensor {target!r} needs shape {tuple(wanted)}, not {tensor.shape}.")
        tensors[target] = tensor
        report.append(TensorReport(target, source, action, tuple(tensor.shape), why))

    for target in converted.state_dict():
        if target in starts:
            put(target, *_new(converted, target, starts[target], config, teacher, sources))
            continue
        common = names.get(target)
        if common is None:
            raise CtdError(f"tensor {target!r} of {config.model_type} is not in the weight map.")
        if common not in sources:
            put(target, *_pooler(common, config.hidden_size))
            continue
        source, tensor = sources[common]
        used.add(source)
        action, why = "copied", "same place and meaning"
        if common == _POSITIONS:
            tensor, action, why = _positions(tensor, teacher, config)
        elif common == _TOKEN_TYPES and config.type_vocab_size > len(tensor):
            tensor = tensor.repeat(config.type_vocab_size, 1)
            action, why = "tiled", "the arch has two token types, the backbone one"
        put(target, tensor, source, action, why)

    for common, (source, tensor) in sources.items():
        if source not in used:
            why = "the arch has no such part" if common != source else "masked-LM does not use it"
            report.append(TensorReport(None, source, "dropped", tuple(tensor.shape), why))
    return tensors, report


def _positions(rows: Tensor, teacher: PreTrainedConfig, config: PreTrainedConfig):
    """Repeat the teacher's position rows to the length of the converted model."""
    old, new = position_offset(teacher), position_offset(config)
    total = config.max_position_embeddings + (2 if config.model_type == "nystromformer" else 0)
    length = total - new
    body = rows[old:]
    tiled = body.repeat(math.ceil(length / len(body)), 1)[:length]
    reserved = rows.new_zeros(new, rows.shape[1])
    kept = min(old, new)
    reserved[:kept] = rows[:kept]
    if length > len(body):
        action, why = "tiled", f"{len(body)} positions repeated to {length}"
    else:
        action, why = "copied", f"{length} of {len(body)} positions"
    return torch.cat([reserved, tiled]), action, f"{why}; {kept} of {old} reserved rows kept"


def _new(converted, target, start, config, teacher, sources):
    """A tensor that the teacher lacks, started so that the function stays the teacher's."""
    if start is None:
        zeros = torch.zeros_like(converted.get_parameter(target))
        return zeros, None, "new", "zero: the added path contributes nothing at first"
    if start == "embeddings.global":
        rows = len(converted.get_parameter(target))
        tensor = _global_embeddings(rows, config, teacher, sources)
        return tensor, sources[_WORDS][0], "new", "the first token's embedding at spread positions"
    source, tensor = sources[start]
    return tensor.clone(), source, "new", "a copy: global tokens attend as local ones at first"


def _global_embeddings(rows: int, config, teacher, sources) -> Tensor:
    """LSG's global tokens (rows, C): the first is exactly the embedding of the first token.

    The others differ from it by their position alone, spread over the teacher's positions.
    """
    if config.bos_token_id is None:
        raise CtdError(
            "LSG's global token starts as the first token, but the backbone's configuration does"
            " not name it: set bos_token_id to the id of the token that opens every input."
        )
    positions = sources[_POSITIONS][1][position_offset(teacher) :]
    spread = torch.linspace(0, len(positions) - 1, rows).long()
    first = sources[_WORDS][1][config.bos_token_id] + sources[_TOKEN_TYPES][1][0]
    return first + positions[spread]


def _pooler(common: str, hidden_size: int):
    """Big Bird's classes always hold a pooler; where the teacher has none it passes input on."""
    tensor = torch.eye(hidden_size) if common == "pooler.weight" else torch.zeros(hidden_size)
    return tensor, None, "new", "identity: the backbone has no pooler, the heads here use none"

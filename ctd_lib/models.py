"""Opening and saving models: any backbone, any arch, any head, with the tokenizer beside it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ctd_lib import attention, checkpoints, lsg
from ctd_lib.errors import CtdError

FAMILIES = ("roberta", "bert")
"""Families that can be converted."""

_BUFFERS = (".position_ids", ".token_type_ids")
"""What older checkpoints hold and transformers counts by itself."""

HEADS = {
    "base": AutoModel,
    "masked-lm": AutoModelForMaskedLM,
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
}

_ARCH_OF_MODEL_TYPE = {
    "roberta": "full",
    "bert": "full",
    "longformer": "longformer",
    "big_bird": "bigbird",
    "nystromformer": "nystromformer",
    lsg.LsgRobertaConfig.model_type: "lsg",
    lsg.LsgBertConfig.model_type: "lsg",
}


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder as its publisher saved it, before any conversion."""

    model: PreTrainedModel
    """A `...ForMaskedLM`, in evaluation mode."""
    tokenizer: PreTrainedTokenizerBase
    family: str
    """One of FAMILIES."""
    has_lm_head: bool
    """False where the checkpoint held no masked-LM head: that of `model` is then untrained."""


class LmHead(NamedTuple):
    """A masked-LM head in its two parts."""

    transform: Callable[[Tensor], Tensor]
    """Hidden states (..., C) -> (..., C)."""
    decoder: nn.Linear
    """(..., C) -> logits (..., V); its weight may be that of the embeddings."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V)"""
        return self.decoder(self.transform(hidden))


def load_backbone(path_or_id: str | Path) -> Backbone:
    """Open a checkpoint folder or hub id of a convertible family.

    The ids of the first token and of the separator are written into the model's configuration,
    because BERT's own does not have them and some converted models need them, and that of padding
    where it has none. Dropout of attention probabilities is switched off, as in every converted
    model (see `convert`).

    Raises:
        CtdError: no such folder or hub id, no weights in it, too few or too many of them for the
            encoder, a family other than FAMILIES, or a tokenizer that is not a fast one, has more
            tokens than the model, or lacks the first token, the separator or padding.
    """
    config, tokenizer = read_backbone_config(path_or_id), load_tokenizer(path_or_id)
    _check_tokenizer(tokenizer, config, f"the tokenizer of {str(path_or_id)!r}")
    config.attention_probs_dropout_prob = 0.0
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    model, missing = _from_pretrained(AutoModelForMaskedLM, path_or_id, config)
    model.config.bos_token_id = tokenizer.cls_token_id
    model.config.sep_token_id = tokenizer.sep_token_id
    head_is_missing = any(not _is_encoder_weight(model, name) for name in missing)
    return Backbone(model, tokenizer, config.model_type, not head_is_missing)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, config, which: str) -> None:
    if not tokenizer.is_fast:
        raise CtdError(
            f"{which}, {type(tokenizer).__name__}, is written in Python; one with a tokenizer.json"
            " (a fast one) is needed."
        )
    if len(tokenizer) > config.vocab_size:
        raise CtdError(
            f"{which} has {len(tokenizer)} tokens and the model {config.vocab_size}; resize the"
            " model's embeddings and save both again."
        )
    for name in ("cls_token", "sep_token", "pad_token"):
        if getattr(tokenizer, name) is None:
            raise CtdError(f"{which} has no {name}; name one in its tokenizer_config.json.")


def read_backbone_config(path_or_id: str | Path) -> PreTrainedConfig:
    """The configuration of a checkpoint folder or hub id of a convertible family.

    Raises:
        CtdError: no such folder or hub id, or a family other than FAMILIES.
    """
    config = read_config(path_or_id)
    if config.model_type not in FAMILIES:
        raise CtdError(
            f"backbone {str(path_or_id)!r} is of family {config.model_type!r}, which cannot be"
            f" converted; take a model of one of the families {', '.join(FAMILIES)}."
        )
    return config


def load(path: str | Path, head: str = "masked-lm", **config) -> PreTrainedModel:
    """Open a saved model of any arch with its fast attention installed, in evaluation mode.

    Args:
        path: a folder made by `save`, or any checkpoint folder or hub id of one of the archs.
        head: one of HEADS; a head that the checkpoint lacks starts untrained, save `masked-lm`.
        **config: configuration fields to set, e.g. `num_labels`.

    Raises:
        CtdError: unknown head or configuration field, no such model, an unsupported one, weights
            missing from it, or weights of another size, as those of a head with other labels.
    """
    if head not in HEADS:
        raise CtdError(f"head {head!r} is unknown; take one of {', '.join(HEADS)}.")
    settings = read_config(path)
    arch_of(settings)
    for name in config:
        if not hasattr(settings, name):
            raise CtdError(f"{name!r} is no field of the configuration of {str(path)!r}.")
    settings.update(config)
    model, missing = _from_pretrained(HEADS[head], path, settings)
    if head == "masked-lm" and missing:
        raise CtdError(
            f"model {str(path)!r} has no masked-LM head (it lacks {sorted(missing)[0]});"
            " train one first."
        )
    return attention.install(model)


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a checkpoint folder or hub id.

    Raises:
        CtdError: there is none.
    """
    with checkpoints.opening(path, "tokenizer") as local:
        # What is too long loses its end, whatever the checkpoint says: positions count from there.
        return AutoTokenizer.from_pretrained(
            str(path), local_files_only=local, truncation_side="right"
        )


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Write model and tokenizer to one folder that plain transformers opens.

    The tokenizer is told the model's length, so that it truncates where the model must end.
    """
    plain = attention.uninstall(copy.deepcopy(model)) if attention.installed(model) else model
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_length(model.config)
    with checkpoints.quiet():
        plain.save_pretrained(path)
        tokenizer.save_pretrained(path)


def read_config(path: str | Path) -> PreTrainedConfig:
    """The configuration of a checkpoint folder or hub id, published LSG checkpoints included.

    Note:
        Published LSG checkpoints say `model_type` roberta or bert and bring code of their own.
        Opened by name they would be taken for full attention, so they are told apart here by
        their `base_model_prefix`.
    """
    with checkpoints.opening(path, "configuration") as local:
        fields, _ = PreTrainedConfig.get_config_dict(str(path), local_files_only=local)
        if fields.get("base_model_prefix") == "lsg":
            return lsg.config_from_published(fields)
        return AutoConfig.from_pretrained(str(path), local_files_only=local)


def arch_of(model_or_config: PreTrainedModel | PreTrainedConfig) -> str:
    """Which of ARCHS a model is.

    Raises:
        CtdError: none of them.
    """
    config = getattr(model_or_config, "config", model_or_config)
    if config.model_type not in _ARCH_OF_MODEL_TYPE:
        raise CtdError(
            f"model type {config.model_type!r} is not supported; take one of"
            f" {', '.join(_ARCH_OF_MODEL_TYPE)}."
        )
    return _ARCH_OF_MODEL_TYPE[config.model_type]


def position_offset(config: PreTrainedConfig) -> int:
    """Rows of the position embeddings before that of the first token.

    RoBERTa, Longformer and LSG on RoBERTa count from `pad_token_id + 1` (2 in every published
    checkpoint), Nystromformer always from 2, BERT, Big Bird and LSG on BERT from 0.
    """
    if config.model_type in ("roberta", "longformer", lsg.LsgRobertaConfig.model_type):
        return config.pad_token_id + 1
    return 2 if config.model_type == "nystromformer" else 0


def max_length(config: PreTrainedConfig) -> int:
    """The longest input in tokens. Nystromformer adds its 2 reserved rows by itself."""
    if config.model_type == "nystromformer":
        return config.max_position_embeddings
    return config.max_position_embeddings - position_offset(config)


def encoder(model: PreTrainedModel) -> PreTrainedModel:
    """The model below the head."""
    return model.base_model


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, from the first to the last."""
    return encoder(model).encoder.layer


def lm_head(model: PreTrainedModel) -> LmHead:
    """The masked-LM head."""
    if not hasattr(model, "lm_head"):
        return LmHead(model.cls.predictions.transform, model.cls.predictions.decoder)
    head = model.lm_head
    return LmHead(lambda hidden: head.layer_norm(F.gelu(head.dense(hidden))), head.decoder)


def _from_pretrained(auto_class, path, config) -> tuple[PreTrainedModel, set[str]]:
    """The model, and the names of the weights that its checkpoint lacked outside the encoder."""
    with checkpoints.opening(path, "weights") as local:
        # Float32 whatever the checkpoint holds: training and measurement choose their precision.
        model, info = auto_class.from_pretrained(
            str(path),
            config=config,
            dtype=torch.float32,
            local_files_only=local,
            use_safetensors=True,  # the other format can run code when it is opened
            ignore_mismatched_sizes=True,  # to name them below: transformers' error does not
            output_loading_info=True,
        )
    for name, saved, wanted in sorted(info["mismatched_keys"]):
        raise CtdError(
            f"model {str(path)!r} has {name} of shape {tuple(saved)}, where {tuple(wanted)} is"
            " asked for; a head is opened with as many labels as it was saved with."
        )
    for name in sorted(info["unexpected_keys"]):
        if _is_encoder_weight(model, name) and not name.endswith(_BUFFERS):
            raise CtdError(
                f"model {str(path)!r} has {name} in its encoder, which no {config.model_type}"
                " encoder of transformers has; without it the model would be another."
            )
    missing = set(info["missing_keys"])
    lost = sorted(name for name in missing if _is_encoder_weight(model, name))
    if lost:
        raise CtdError(
            f"model {str(path)!r} lacks {len(lost)} weights of its encoder, {lost[0]} among them."
        )
    return model.eval(), missing


def _is_encoder_weight(model, name: str) -> bool:
    """Whether a checkpoint's weight, with the encoder's prefix or without, is below the pooler."""
    inside = name.removeprefix(f"{model.base_model_prefix}.")
    return inside.split(".")[0] in ("embeddings", "encoder")

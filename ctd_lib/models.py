"""Opening and saving models: any backbone, any arch, any head, with the tokenizer beside it."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError
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
from transformers.utils import logging

from ctd_lib import attention, lsg, runtime
from ctd_lib.errors import CtdError

FAMILIES = ("roberta", "bert")
"""Families that can be converted."""

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
_CONFIGURATION = ("config.json",)
_WEIGHTS = ("model*.safetensors",)
_VOCABULARY = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


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
    because BERT's own does not have them and some converted models need them. Dropout of
    attention probabilities is switched off, as in every converted model (see `convert`).

    Raises:
        CtdError: no such folder or hub id, no weights in it, a family other than FAMILIES, or a
            tokenizer that is not a fast one or has more tokens than the model.
    """
    config = read_backbone_config(path_or_id)
    config.attention_probs_dropout_prob = 0.0
    model, missing = _from_pretrained(AutoModelForMaskedLM, path_or_id, config)
    tokenizer = load_tokenizer(path_or_id)
    if not tokenizer.is_fast:
        raise CtdError(
            f"the tokenizer of {str(path_or_id)!r}, {type(tokenizer).__name__}, is written in"
            " Python; one with a tokenizer.json (a fast one) is needed."
        )
    if len(tokenizer) > config.vocab_size:
        raise CtdError(
            f"the tokenizer of {str(path_or_id)!r} has {len(tokenizer)} tokens and the model"
            f" {config.vocab_size}; resize the model's embeddings and save both again."
        )
    model.config.bos_token_id = tokenizer.cls_token_id
    model.config.sep_token_id = tokenizer.sep_token_id
    head_is_missing = any(not _is_encoder_weight(model, name) for name in missing)
    return Backbone(model, tokenizer, config.model_type, not head_is_missing)


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
    # Without this, transformers makes an empty tokenizer of the class that the model type implies.
    _require_files(path, _VOCABULARY, "tokenizer")
    # What is too long loses its end, whatever the checkpoint says: positions count from the front.
    given = {"local_files_only": _local_only(path), "truncation_side": "right"}
    with _quiet(), _explained(path, "tokenizer"):
        return AutoTokenizer.from_pretrained(str(path), **given)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Write model and tokenizer to one folder that plain transformers opens.

    The tokenizer is told the model's length, so that it truncates where the model must end.
    """
    plain = attention.uninstall(copy.deepcopy(model)) if attention.installed(model) else model
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_length(model.config)
    with _quiet():
        plain.save_pretrained(path)
        tokenizer.save_pretrained(path)


def read_config(path: str | Path) -> PreTrainedConfig:
    """The configuration of a checkpoint folder or hub id, published LSG checkpoints included.

    Note:
        Published LSG checkpoints say `model_type` roberta or bert and bring code of their own.
        Opened by name they would be taken for full attention, so they are told apart here by
        their `base_model_prefix`.
    """
    local = _local_only(path)
    _require_files(path, _CONFIGURATION, "configuration")
    with _quiet(), _explained(path, "configuration"):
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
    local = _local_only(path)
    _require_files(path, _WEIGHTS, "weights")
    with _quiet(), _explained(path, "weights"):
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
    missing = set(info["missing_keys"])
    lost = sorted(name for name in missing if _is_encoder_weight(model, name))
    if lost:
        raise CtdError(
            f"model {str(path)!r} lacks {len(lost)} weights of its encoder, {lost[0]} among them."
        )
    return model.eval(), missing


def _is_encoder_weight(model, name: str) -> bool:
    if ".pooler." in f".{name}":
        return False
    return model.base_model is model or name.startswith(f"{model.base_model_prefix}.")


def _local_only(path: str | Path) -> bool:
    """Whether to look on this machine alone.

    Raises:
        CtdError: the path is no folder and can be no hub id.
    """
    if Path(path).is_dir():
        return True
    if isinstance(path, Path) or path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise CtdError(f"there is no folder {str(path)!r}; give a checkpoint folder or a hub id.")
    return not runtime.hub_answers()


def _require_files(path: str | Path, patterns: tuple[str, ...], what: str) -> None:
    folder = Path(path)
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in patterns):
        raise CtdError(
            f"folder {str(path)!r} holds no {what}: there is no {' or '.join(patterns)}."
        )


@contextlib.contextmanager
def _explained(path: str | Path, what: str) -> Iterator[None]:
    """Turn what transformers says of a missing or broken file into one sentence."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if Path(path).is_dir():
            message = f"folder {str(path)!r} holds no {what} that can be read: {reason}"
        elif not runtime.hub_answers():
            message = (
                f"{str(path)!r} is no folder, no hub answers, and the local cache has no {what}"
                f" that can be read: {reason}"
            )
        elif _is_unknown_to_the_hub(error):
            message = f"{str(path)!r} is no folder, and the hub does not have it."
        else:
            message = f"the {what} of {str(path)!r} cannot be had from the hub: {reason}"
        raise CtdError(message) from error


def _is_unknown_to_the_hub(error: BaseException | None) -> bool:
    """Whether what transformers says goes back to the hub's answer that there is no such model."""
    while error is not None:
        if isinstance(error, RepositoryNotFoundError):
            return not isinstance(error, GatedRepoError)
        error = error.__cause__
    return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars, and its table of missing weights: we check those."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

"""Masked language modelling: more pretraining, its evaluation, a head for encoders without one."""

from collections.abc import Iterable
from itertools import chain, islice

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctd_lib import models, train
from ctd_lib.errors import CtdError
from ctd_lib.losses import chunked_masked_lm_loss
from ctd_lib.masking import IGNORED, masked_batches

FREQUENCY_BATCHES = 200


def pretrain(
    model: PreTrainedModel,
    batches: Iterable[train.Batch],
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int,
    lr: float = 1e-4,
    probability: float = 0.15,
    seed: int = 0,
    **options,
) -> train.TrainLog:
    """Train a `...ForMaskedLM` in place on masked text.

    Args:
        batches: dicts of `input_ids`, `attention_mask` and, if any, `special_tokens_mask`,
            each (B, T).
        seed: of the masking.
        **options: those of `train.fit`.
    """
    masked = masked_batches(batches, tokenizer, probability, seed)
    options = {"description": "pretrain"} | options
    return train.fit(model, _loss, masked, steps=steps, lr=lr, **options)


@torch.inference_mode()
def evaluate_mlm(
    model: PreTrainedModel,
    batches: Iterable[train.Batch],
    tokenizer: PreTrainedTokenizerBase,
    seed: int = 0,
    probability: float = 0.15,
    precision: str = "float32",
) -> float:
    """Mean masked-LM loss over all predicted tokens of the batches, masked alike for each seed.

    Raises:
        CtdError: not one token was there to predict.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in masked_batches(batches, tokenizer, probability, seed):
        with train.autocast(device, precision):
            loss, _ = _loss(model, {name: value.to(device) for name, value in batch.items()})
        predicted = int((batch["labels"] != IGNORED).sum())
        total += float(loss) * predicted
        count += predicted
    model.train(training)
    if count == 0:
        raise CtdError("there is no text to evaluate on: no token could be masked.")
    return total / count


def train_lm_head(
    model: PreTrainedModel,
    batches: Iterable[train.Batch],
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int,
    lr: float = 5e-4,
    **options,
) -> train.TrainLog:
    """Give an encoder that was published without one a masked-LM head, and train both in place.

    Short sequences do. The decoder is tied to the word embeddings, as in the families themselves,
    and its bias begins as the log frequency of each token, which spares the first hundreds of
    steps. The encoder is trained too: one that was tuned for something else, such as sentence
    similarity, otherwise stays near the loss of token frequencies.

    Args:
        **options: those of `pretrain`.
    """
    options = {"description": "masked-LM head", "weight_decay": 0.0} | options
    source = iter(batches)
    first = list(islice(source, FREQUENCY_BATCHES))
    _start_at_frequencies(model, first, tokenizer)
    return pretrain(model, chain(first, source), tokenizer, steps=steps, lr=lr, **options)


@torch.no_grad()
def _start_at_frequencies(
    model: PreTrainedModel, batches: list[train.Batch], tokenizer: PreTrainedTokenizerBase
) -> None:
    bias = model.get_output_embeddings().bias
    counts = torch.ones(len(bias))
    for batch in batches:
        counts += torch.bincount(batch["input_ids"].flatten().cpu(), minlength=len(bias))
    counts[tokenizer.all_special_ids] = 1  # they are never predicted
    bias.copy_((counts / counts.sum()).log())


def _loss(model: PreTrainedModel, batch: train.Batch) -> tuple[Tensor, dict[str, Tensor]]:
    hidden = models.encoder(model)(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    loss = chunked_masked_lm_loss(hidden, models.lm_head(model), batch["labels"])
    return loss, {"mlm": loss.detach()}

"""Masked language modelling: more pretraining, its evaluation, a head for encoders without one."""

import sys
from collections.abc import Iterable
from itertools import chain, islice

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctd_lib import models
from ctd_lib.errors import CtdError
from ctd_lib.losses import chunked_masked_lm_loss
from ctd_lib.training import loop as train
from ctd_lib.training import updates
from ctd_lib.training.engine import require_precision
from ctd_lib.training.masking import masked_batches

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
        CtdError: not one token was there to predict, or the device does not compute in the
            precision.
    """
    device = next(model.parameters()).device
    require_precision(precision, device)
    training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in masked_batches(batches, tokenizer, probability, seed):
        batch = {name: value.to(device) for name, value in batch.items()}
        totals = updates.totals([batch])
        with train.autocast(device, precision):
            loss, _ = _loss(model, batch, totals)
        total += float(loss) * totals["labels"]
        count += updates.counts(batch)["labels"]
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
    first, batches = _peek(batches, FREQUENCY_BATCHES)
    _start_at_frequencies(model, first, tokenizer)
    return pretrain(model, batches, tokenizer, steps=steps, lr=lr, **options)


def _peek(
    batches: Iterable[train.Batch], count: int
) -> tuple[list[train.Batch], Iterable[train.Batch]]:
    """The first batches, and all of them still to come."""
    if hasattr(batches, "load_state_dict"):
        place = batches.state_dict()
        first = list(islice(batches, count))
        batches.load_state_dict(place)
        return first, batches
    source = iter(batches)
    first = list(islice(source, count))
    return first, chain(first, source)


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


def _loss(
    model: PreTrainedModel, batch: train.Batch, totals: train.Totals
) -> tuple[Tensor, dict[str, Tensor]]:
    hidden = models.encoder(model)(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    loss = chunked_masked_lm_loss(hidden, models.lm_head(model), batch["labels"], totals)
    return loss, {"mlm": loss.detach()}


if __name__ == "__main__":
    from ctd_lib import cli

    sys.exit(cli.run("pretrain"))

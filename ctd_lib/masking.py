"""Masked language modelling: which tokens are to be predicted, and what the model sees instead."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ctd_lib.errors import CtdError

IGNORED = -100  # the label of a token that is not predicted, as in transformers
MASKED_SHARE = 0.8
RANDOM_SHARE = 0.1


def mask_tokens(
    input_ids: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    probability: float = 0.15,
    generator: torch.Generator | None = None,
    special_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose tokens to predict, and hide most of them from the model.

    Of those chosen 80 % are masked, 10 % replaced by a random token and 10 % left as they are
    (Devlin et al. 2019, section 3.1).

    Args:
        input_ids: (B, T).
        tokenizer: has a mask token; its special tokens and padding are never chosen.
        probability: chance of any other token to be chosen.
        generator: source of randomness, on the CPU.
        special_mask: (B, T), true or 1 for further tokens that must not be chosen.

    Returns:
        The inputs (B, T) and the labels (B, T), which are `IGNORED` where nothing is
        predicted.

    Raises:
        CtdError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise CtdError("the tokenizer has no mask token; masked language modelling needs one.")
    special_ids = torch.tensor(tokenizer.all_special_ids, device=input_ids.device)
    fixed = torch.isin(input_ids, special_ids)
    if special_mask is not None:
        fixed |= special_mask.bool()

    def draw() -> Tensor:
        return torch.rand(input_ids.shape, generator=generator).to(input_ids.device)

    chosen = (draw() < probability) & ~fixed
    kind = draw()
    masked = chosen & (kind < MASKED_SHARE)
    replaced = chosen & (kind >= MASKED_SHARE) & (kind < MASKED_SHARE + RANDOM_SHARE)

    # Random special tokens would not do: RoBERTa gives padding no position of its own.
    ordinary = torch.ones(len(tokenizer), dtype=torch.bool)
    ordinary[special_ids] = False
    random_ids = ordinary.nonzero().squeeze(1).to(input_ids.device)
    random_ids = random_ids[(draw() * len(random_ids)).long()]
    inputs = input_ids.masked_fill(masked, tokenizer.mask_token_id).where(~replaced, random_ids)
    return inputs, input_ids.where(chosen, IGNORED)


def masked_batches(
    batches: Iterable[dict[str, Tensor]],
    tokenizer: PreTrainedTokenizerBase,
    probability: float = 0.15,
    seed: int = 0,
) -> Iterator[dict[str, Tensor]]:
    """Batches with `input_ids` masked and `labels` added; the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        inputs, labels = mask_tokens(
            batch["input_ids"], tokenizer, probability, generator, batch.get("special_tokens_mask")
        )
        yield {"input_ids": inputs, "attention_mask": batch["attention_mask"], "labels": labels}

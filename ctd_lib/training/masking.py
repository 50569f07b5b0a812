"""Masked language modelling: which tokens are to be predicted, and what the model sees instead."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
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
) -> "MaskedBatches":
    """Batches with `input_ids` masked and `labels` added; the same ones for the same seed."""
    return MaskedBatches(batches, tokenizer, probability, seed)


class MaskedBatches:
    """See `masked_batches`; other fields but the mask of special tokens stay as they are.

    What is masked depends on the seed and the number of the batch alone, so that an interrupted
    stream can be taken up anywhere: `state_dict` gives the place, `load_state_dict` goes there, by
    the batches' own methods of these names or else by passing over what came before.
    """

    def __init__(self, batches, tokenizer, probability: float, seed: int):
        self.batches, self.tokenizer = batches, tokenizer
        self.probability, self.seed = probability, seed
        self.start = self.index = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        begun = hasattr(self.batches, "load_state_dict")  # such batches are where they should be
        if not begun:
            self.index = self.start
        for batch in islice(self.batches, 0 if begun else self.start, None):
            generator = torch.Generator().manual_seed(seed_of(self.seed, self.index))
            self.index += 1
            inputs, labels = mask_tokens(
                batch["input_ids"], self.tokenizer, self.probability, generator,
                batch.get("special_tokens_mask"),
            )  # fmt: skip
            others = {name: x for name, x in batch.items() if name != "special_tokens_mask"}
            yield others | {"input_ids": inputs, "labels": labels}

    def state_dict(self) -> dict:
        """The place after the last batch given, JSON-able."""
        own = hasattr(self.batches, "state_dict")
        return {"index": self.index, "batches": self.batches.state_dict() if own else None}

    def load_state_dict(self, state: dict) -> None:
        """Begin the next iteration at that place."""
        self.start = self.index = state["index"]
        if hasattr(self.batches, "load_state_dict"):
            self.batches.load_state_dict(state["batches"])


def seed_of(seed: int, index: int) -> int:
    """A seed of its own for each `index`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)

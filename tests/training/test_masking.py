"""Masking: shares, determinism, and what is never masked."""

import json
import math
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import ToyTokenizer

from ctd_lib.errors import CtdError
from ctd_lib.training import masking
from ctd_lib.training.masking import IGNORED


def test_masking_shares():
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(5, 100, (100, 1000), generator=generator)
    inputs, labels = masking.mask_tokens(input_ids, ToyTokenizer(100), 0.15, generator)
    chosen = labels != IGNORED
    masked, changed = inputs == 4, inputs != input_ids
    n = input_ids.numel()

    def assert_share(part, whole, share):
        # Five standard deviations of a binomial share.
        assert abs(part / whole - share) < 5 * math.sqrt(share * (1 - share) / whole)

    assert_share(int(chosen.sum()), n, 0.15)
    assert_share(int((chosen & masked).sum()), int(chosen.sum()), 0.8)
    # A random token is now and then the one that it replaces.
    assert_share(int((chosen & changed & ~masked).sum()), int(chosen.sum()), 0.1 * 94 / 95)
    assert torch.equal(labels[chosen], input_ids[chosen])
    assert not (changed & ~chosen).any()
    replaced = inputs[chosen & changed & ~masked]
    assert replaced.min() == 5 and replaced.max() == 99


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=40), st.integers(0, 1000), st.data())
def test_special_tokens_are_never_chosen(ids, seed, data):
    input_ids = torch.tensor([ids])
    special = torch.tensor(
        [data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))]
    )
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = masking.mask_tokens(input_ids, ToyTokenizer(100), 1.0, generator, special)
    fixed = special | (input_ids < 5)
    assert torch.equal(inputs[fixed], input_ids[fixed])
    assert torch.equal(labels != IGNORED, ~fixed)


def test_masking_repeats_with_its_seed():
    batches = [{"input_ids": torch.arange(5, 90)[None], "attention_mask": torch.ones(1, 85)}] * 2
    first, second = (
        list(masking.masked_batches(batches, ToyTokenizer(100), seed=s)) for s in (7, 7)
    )
    other = list(masking.masked_batches(batches, ToyTokenizer(100), seed=8))
    assert all(
        torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, second, strict=True)
    )
    assert not torch.equal(first[0]["input_ids"], first[1]["input_ids"])
    assert not torch.equal(first[0]["input_ids"], other[0]["input_ids"])


class Places:
    """Batches that know their place, as those of a corpus do."""

    def __init__(self, batches):
        self.batches, self.place = batches, 0

    def __iter__(self):
        while self.place < len(self.batches):
            self.place += 1
            yield self.batches[self.place - 1]

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


@pytest.mark.parametrize("kind", [list, Places])
def test_masking_goes_on_anywhere(kind):
    text = [
        {"input_ids": torch.arange(5, 90)[None] + i, "attention_mask": torch.ones(1, 85)}
        for i in range(6)
    ]
    whole = list(masking.masked_batches(kind(text), ToyTokenizer(100), seed=7))
    first = masking.masked_batches(kind(text), ToyTokenizer(100), seed=7)
    assert len(list(islice(first, 4))) == 4
    state = json.loads(json.dumps(first.state_dict()))
    second = masking.masked_batches(kind(text), ToyTokenizer(100), seed=7)
    second.load_state_dict(state)
    rest = list(second)
    assert len(rest) == 2
    for ours, expected in zip(rest, whole[4:], strict=True):
        torch.testing.assert_close(ours, expected)


def test_other_fields_pass_through():
    text = {"input_ids": torch.arange(5, 90)[None], "attention_mask": torch.ones(1, 85)}
    extra = {"special_tokens_mask": torch.zeros(1, 85), "documents": torch.ones(1, 85)}
    batch = next(iter(masking.masked_batches([text | extra], ToyTokenizer(100))))
    assert set(batch) == {"input_ids", "attention_mask", "labels", "documents"}


def test_masking_needs_a_mask_token():
    tokenizer = ToyTokenizer(100)
    tokenizer.mask_token_id = None
    with pytest.raises(CtdError, match="no mask token"):
        masking.mask_tokens(torch.zeros(1, 1, dtype=int), tokenizer)

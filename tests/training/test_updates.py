"""What an update is made of, and how processes share it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctd_lib.errors import CtdError
from ctd_lib.training import updates


def batch(sequences: int, length: int = 5, labels: int = 2):
    mask = torch.ones(sequences, length, dtype=torch.int64)
    mask[0, 3:] = 0
    wanted = torch.full((sequences, length), updates.IGNORED)
    wanted[:, :labels] = 7
    return {"input_ids": torch.rand(sequences, length), "attention_mask": mask, "labels": wanted}


def test_counts():
    assert updates.counts(batch(3)) == {"sequences": 3, "tokens": 13, "labels": 6}
    assert updates.counts({"input_ids": torch.ones(2, 4)}) == {
        "sequences": 2, "tokens": 8, "labels": 0
    }  # fmt: skip
    assert updates.totals([batch(1), batch(2)]) == {"sequences": 3, "tokens": 11, "labels": 6}
    assert updates.totals([batch(1, labels=0)])["labels"] == 1


def test_windows_by_tokens_are_as_long_as_they_must():
    found = list(updates.windows(iter([batch(1)] * 7), 1, tokens_per_update=7))
    assert [len(window) for window in found] == [3, 3, 1]  # 3 tokens each


@pytest.mark.parametrize(
    ("accumulation", "tokens", "message"),
    [
        (0, None, "accumulation is 0; an update takes at least one batch"),
        (1, 0, "tokens_per_update is 0; give a number above 0, or None"),
        (2, 9, "accumulation is 2 and tokens_per_update 9; give one of them"),
    ],
)
def test_sizes_of_no_update(accumulation, tokens, message):
    with pytest.raises(CtdError, match=message):
        updates.require_size(accumulation, tokens)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 8))
def test_every_sequence_is_computed_by_one_process(sizes, world):
    window = [batch(size) for size in sizes]
    shares = [updates.share(window, rank, world) for rank in range(world)]
    rows = torch.cat([part["input_ids"] for share in shares for part in share])
    expected = torch.cat([part["input_ids"] for part in window])
    assert torch.equal(rows.sort(0).values, expected.sort(0).values)
    assert max(map(len, shares)) == len(shares[0])
    assert updates.totals(p for share in shares for p in share) == updates.totals(window)
    if len(expected) >= world * max(sizes):
        assert all(shares)

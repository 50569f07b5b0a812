"""Packing loses no token and doubles none."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd_lib.data import packing
from ctd_lib.errors import CtdError

FIRST, SEPARATOR, PAD = 1, 2, 0
SPECIAL = SimpleNamespace(cls_token_id=FIRST, sep_token_id=SEPARATOR, pad_token_id=PAD)
DOCUMENT = st.lists(st.integers(10, 99), min_size=1, max_size=30).map(np.array)


@given(st.lists(DOCUMENT, max_size=8), st.integers(3, 20))
@settings(max_examples=200, deadline=None)
def test_sequences_keep_every_token_once_and_in_order(documents, max_length):
    sequences = list(packing.Sequences(packing.once(documents), SPECIAL, max_length))
    stream = [token for sequence in sequences for token in sequence[1:-1]]
    joined = [token for document in documents for token in [*document, SEPARATOR]][:-1]
    assert stream == joined
    assert all(s[0] == FIRST and s[-1] == SEPARATOR for s in sequences)
    assert all(len(sequence) == max_length for sequence in sequences[:-1])
    assert all(3 <= len(sequence) <= max_length for sequence in sequences[-1:])


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(CtdError, match="max_length 2"):
        packing.Sequences(packing.once([]), SPECIAL, 2)
    with pytest.raises(CtdError, match="no CLS or SEP token"):
        packing.Sequences(
            packing.once([]), SimpleNamespace(cls_token_id=None, sep_token_id=None), 8
        )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 200))
def test_batches_by_length_hold_every_sequence_within_the_tokens(lengths, tokens):
    batches = packing.by_length([np.zeros(length) for length in lengths], tokens)
    assert sorted(len(s) for batch in batches for s in batch) == sorted(lengths)
    assert all(len(batch) * max(map(len, batch)) <= tokens for batch in batches)

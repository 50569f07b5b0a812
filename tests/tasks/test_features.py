"""Features survive a folder, and global attention goes where its policy says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctd_lib import tasks
from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.tasks import classification, features, tagging

SIZES = {"train_examples": 3, "test_examples": 2}


@pytest.mark.parametrize("name", ["press-ner", "press-qa", "classification"])
def test_features_come_back_from_their_folder(name, tokenizer, tmp_path):
    family = tasks.FAMILIES["classification"]
    if name == "classification":
        examples, labels = [family.Text("in the sun", None, 1), family.Text("in", None, 0)], "ab"
    else:
        data = tasks.load(name, **SIZES)
        family, examples, labels = tasks.family(data), data.train, data.labels
    made = family.encode(examples, tokenizer, 256, labels)
    features.save(made, tmp_path / "train")
    found = features.load(tmp_path / "train")
    assert len(found) == len(made) and set(found[0]) == set(made[0])
    for before, after in zip(made, found, strict=True):
        for key, value in before.items():
            assert np.array_equal(value, after[key]) and type(value) is type(after[key]), key
    batches = [family.collate(part, tokenizer.pad_token_id, "first") for part in (made, found)]
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])


def _spelled(family, tokenizer):
    """One example of a family whose text spells every special token out, and its labels."""
    words = ("the", *tokenizer.all_special_tokens, "in")
    text = " ".join(words)
    return {
        "classification": (classification.Text(text, text, 0), "ab"),
        "tagging": (tagging.TaggedText("0", words, ("O",) * len(words)), ["O"]),
        "span-qa": (Question("0", "", text, text, (("in", len(text) - 2),)), ()),
    }[family]


@pytest.mark.parametrize("max_length", [500, 24])
@pytest.mark.parametrize("name", tasks.FAMILIES)
def test_what_text_spells_like_a_special_token_is_text(name, max_length, tokenizer):
    example, labels = _spelled(name, tokenizer)
    encoded = tasks.FAMILIES[name].encode([example], tokenizer, max_length, labels)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    pair = name != "tagging"
    of_its_own = tokenizer.num_special_tokens_to_add(pair=pair)
    for feature in encoded:
        assert sum(token in special for token in feature["input_ids"]) == of_its_own
        assert feature["tokens"] > 24
    assert not encoded[0]["lost_labels"] or max_length == 24


@pytest.mark.parametrize(
    ("policy", "positions"),
    [
        ("none", [[], []]),
        ("first", [[0], [0]]),
        ("question", [[0, 1, 2], [0]]),
        ("every-3", [[0, 3, 6], [0, 3]]),
    ],
)
def test_where_global_attention_goes(policy, positions):
    rows = [(8, 3), (5, 1)]
    made = [{"input_ids": np.ones(n, np.int32), "question_tokens": q} for n, q in rows]
    mask = features.collate(made, 0, policy)["global_attention_mask"]
    assert [row.nonzero().flatten().tolist() for row in mask] == positions
    assert "global_attention_mask" not in features.collate(made, 0, None)


def test_policies_that_there_are():
    assert features.policy(None, "question") == "question"
    assert features.policy("every-12", "none") == "every-12"
    with pytest.raises(CtdError, match="'question', but the examples of this task have none"):
        features.policy("question", "first")
    for unknown in ("last", "every-0", "every-x"):
        with pytest.raises(CtdError, match="none, first, question, every-N"):
            features.policy(unknown, "first")


@given(length=st.integers(1, 5000), at_most=st.integers(1, 5000))
def test_common_lengths_hold_the_batch_and_waste_little(length, at_most):
    common = features.common_length(length, max(length, at_most))
    assert length <= common <= max(length, at_most)
    assert common - length < max(8, length / 8)


def test_common_lengths_are_few():
    assert len({features.common_length(length, 4096) for length in range(1, 4097)}) == 16 * 6
    assert features.common_length(300, 301) == 301


def test_widened_padding_is_padding():
    rows = [(8, 3), (5, 1)]
    made = [{"input_ids": np.ones(n, np.int32), "question_tokens": q} for n, q in rows]
    batch = features.collate(made, 7, "question") | {
        "labels": torch.zeros(2, 8, dtype=torch.long), "start_positions": torch.tensor([1, 2]),
    }  # fmt: skip
    wide = features.widen(batch, 16, 7)
    for name, value in {"input_ids": 7, "attention_mask": 0, "global_attention_mask": 0,
                        "labels": features.IGNORED_LABEL}.items():  # fmt: skip
        assert wide[name].shape == (2, 16) and set(wide[name][:, 8:].flatten().tolist()) == {value}
        assert torch.equal(wide[name][:, :8], batch[name])
    assert torch.equal(wide["start_positions"], batch["start_positions"])

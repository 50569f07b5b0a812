"""Answers survive the way from characters to tokens and back, through windows too."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctd_lib.data import formats
from ctd_lib.data.formats import Question
from ctd_lib.tasks import losses, span_qa

RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
CONTEXT = st.lists(st.text("thein.,0", min_size=1, max_size=6), min_size=1, max_size=120)


def _question(context: str, text: str, start: int, question: str = "in the?") -> Question:
    return Question("q", "t", context, question, ((text, start),))


def _perfect(features):
    """Outputs that point at the targets; windows without the answer point nowhere."""
    for feature in features:
        start, end = torch.zeros(2, 1, len(feature["input_ids"]))
        if feature["end_positions"]:
            start[0, feature["start_positions"]] = end[0, feature["end_positions"]] = 9
        yield SimpleNamespace(start_logits=start, end_logits=end)


@given(words=CONTEXT, data=st.data(), max_length=st.sampled_from([48, 4096]))
@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
def test_round_trip_through_windows(tokenizer, words, data, max_length):
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(len(words) - 1, first + 1)))
    context, text = " ".join(words), " ".join(words[first : last + 1])
    example = _question(context, text, len(" ".join([*words[:first], ""])))
    features = span_qa.encode([example], tokenizer, max_length)
    assert all(len(feature["input_ids"]) <= max_length for feature in features)
    if losses(features)["lost_labels"]:
        assert max_length == 48
    else:
        assert span_qa.decode(features, _perfect(features), [example]) == [text]


def test_every_token_of_the_context_is_in_a_window(tokenizer):
    example = _question("the end in the sun " * 30, "the", 0)
    features = span_qa.encode([example], tokenizer, 64)
    assert len(features) > 1
    seen = {tuple(span) for feature in features for span in feature["offsets"].tolist()}
    whole = tokenizer(example.context, add_special_tokens=False, return_offsets_mapping=True)
    # The blank before the first word is a matter of the tokenizer, hence the ends alone.
    assert {end for _, end in seen} == {end for _, end in whole["offset_mapping"]}


def test_an_answer_longer_than_every_overlap_may_be_lost_and_is_counted_once(tokenizer):
    context = "the sun in " * 40
    example = _question(context, context[:300], 0)
    features = span_qa.encode([example, _question("the sun", "sun", 4)], tokenizer, 48)
    assert losses(features) == {"truncated_examples": 1, "lost_labels": 1}


def test_long_questions_leave_room_for_the_context(tokenizer):
    example = _question("the sun", "sun", 4, question="in the end? " * 50)
    features = span_qa.encode([example], tokenizer, 64)
    assert len(features[0]["input_ids"]) <= 64
    assert span_qa.decode(features, _perfect(features), [example]) == ["sun"]


def test_question_and_first_token_have_global_attention(tokenizer):
    examples = [_question("the sun", "sun", 4), _question("the sun", "sun", 4, "in the end?")]
    features = span_qa.encode(examples, tokenizer, 64)
    batch = span_qa.collate(features, tokenizer.pad_token_id, global_attention=True)
    for row, example in enumerate(examples):
        tokens = len(tokenizer(example.question, add_special_tokens=False)["input_ids"])
        assert batch["global_attention_mask"][row].nonzero().flatten().tolist() == list(
            range(tokens + 1)
        )
    assert batch["start_positions"].shape == batch["end_positions"].shape == (2,)


@given(st.integers(1, 60), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_best_span_is_the_best_of_all(length, seed):
    start, end = np.random.default_rng(seed).normal(size=(2, length))
    limit = span_qa.MAX_ANSWER_TOKENS
    every = [
        (start[i] + end[j], i, j) for i in range(length) for j in range(i, min(length, i + limit))
    ]
    assert span_qa.best_span(start, end) == pytest.approx(max(every))


def test_the_best_window_wins(tokenizer):
    context = " ".join(f"{number} the" for number in range(60))
    example = _question(context, "50", context.index("50"))
    features = span_qa.encode([example], tokenizer, 48)
    outputs = list(_perfect(features))
    assert len(outputs) > 2
    assert span_qa.decode(features, iter(outputs), [example]) == ["50"]


SQUAD = Path(os.environ.get("CTD_DATA", ""), "squad1.1/dev-v1.1.json.gz")


@pytest.mark.skipif(not SQUAD.is_file(), reason="CTD_DATA has no squad1.1")
def test_no_answer_is_lost_or_shifted_on_squad(real_tokenizer):
    examples = formats.read_squad(SQUAD)[::7]
    features = span_qa.encode(examples, real_tokenizer, 384)
    assert losses(features)["lost_labels"] == 0
    predictions = span_qa.decode(features, _perfect(features), examples)
    too_long = {
        feature["example"]
        for feature in features
        if feature["end_positions"] - feature["start_positions"] >= span_qa.MAX_ANSWER_TOKENS
    }
    assert len(too_long) < 10
    exact = 0
    for number, (prediction, example) in enumerate(zip(predictions, examples, strict=True)):
        if number not in too_long:
            # A token cannot be cut in two, so a few answers come back with a neighbour's letters.
            assert example.answers[0][0].strip() in prediction
            exact += example.answers[0][0].strip() == prediction
    assert exact > 0.985 * len(examples)

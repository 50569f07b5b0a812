"""Answers survive the way from characters to tokens and back, through windows too."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import perfect

from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.scores import official
from ctd_lib.tasks import losses, span_qa

RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
CONTEXT = st.lists(st.text("thein.,0", min_size=1, max_size=6), min_size=1, max_size=120)


def _question(context: str, text: str, start: int, question: str = "in the?") -> Question:
    return Question("q", "t", context, question, ((text, start),))


@pytest.mark.parametrize("max_length", [4, 6, 8, 12, 16])
def test_a_short_window_is_read_or_refused_in_a_sentence(tokenizer, max_length):
    example = _question("the cat sat in the hat", "cat", 4, question="in the? " * 20)
    try:
        features = span_qa.encode([example], tokenizer, max_length)
    except CtdError as error:
        assert f"task_max_length is {max_length}" in str(error) and max_length < 10
    else:
        assert all(len(feature["input_ids"]) <= max_length for feature in features)


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
        assert span_qa.decode(features, perfect(features), [example]) == [text]


def test_an_answer_right_after_a_sign_starts_at_its_own_token():
    offsets = np.array([[0, 4], [4, 5], [5, 9]])  # 1914-1918
    assert span_qa.token_span(offsets, 5, 9) == (2, 2)
    assert span_qa.token_span(offsets, 0, 4) == (0, 0)


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
    assert span_qa.decode(features, perfect(features), [example]) == ["sun"]


def test_question_and_first_token_have_global_attention(tokenizer):
    examples = [_question("the sun", "sun", 4), _question("the sun", "sun", 4, "in the end?")]
    features = span_qa.encode(examples, tokenizer, 64)
    batch = span_qa.collate(features, tokenizer.pad_token_id, global_attention="question")
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
    outputs = list(perfect(features))
    assert len(outputs) > 2
    assert span_qa.decode(features, iter(outputs), [example]) == ["50"]


@given(st.integers(0, 79), st.booleans(), st.sampled_from([40, 64, 4096]))
@settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)
def test_position_and_length_are_those_of_the_uncut_input(tokenizer, word, windows, max_length):
    context = " ".join(f"{number:02} the" for number in range(80))
    example = replace(_question(context, f"{word:02}", 6 * word + word // 100), windows=windows)
    example = replace(example, answers=((f"{word:02}", context.index(f"{word:02}")),))
    (whole,) = span_qa.encode([example], tokenizer, 4096)
    features = span_qa.encode([example], tokenizer, max_length)
    for feature in features:
        assert feature["tokens"] == len(whole["input_ids"])
        assert feature["position"] == whole["start_positions"] == whole["position"]
    read = whole["end_positions"] < max_length - 1
    assert windows or len(features) == 1
    assert features[0]["trainable"] == (windows or read)
    assert losses(features) == {
        "truncated_examples": int(not windows and max_length < 4096),
        "lost_labels": int(not windows and not read),
    }


def test_bounds_hold_for_the_best_span_of_what_is_read(tokenizer):
    context = "the sun in " * 30 + "ten end"
    texts = ("ten end", "sun ten", "sun in")
    examples = [
        Question("q", "", context, "in?", ((text, context.index(text)),) if text in context else (),
                 accepted=(text,), windows=False)
        for text in texts
    ]  # fmt: skip
    features = span_qa.encode(examples, tokenizer, 48)
    assert [feature["trainable"] for feature in features] == [False, False, True]
    counts, bounds = span_qa.survival(features, examples)
    assert counts == {"answers": 3, "read_answers": 1}
    # Nothing of "ten end", one word of "sun ten", all of "sun in".
    assert bounds == {
        "exact_match": pytest.approx(1 / 3), "f1": pytest.approx((0 + 2 / 3 + 1) / 3)
    }  # fmt: skip
    offsets = features[0]["offsets"]
    read = context[: offsets[-1, 1]].split()
    spans = [" ".join(read[i:j]) for i in range(len(read)) for j in range(i + 1, i + 4)]
    best = [max(official.answer_scores(spans, [(t,)] * len(spans))[:, 1]) for t in texts]
    assert sum(best) / 3 <= bounds["f1"] + 1e-9
    assert span_qa.survival(span_qa.encode(examples[2:], tokenizer, 48), examples[2:]).bounds == {}


def test_a_context_of_200_000_tokens(tokenizer):
    context = "in " * 200_000 + "sun"
    example = _question(context, "sun", len(context) - 3)
    features = span_qa.encode([example], tokenizer, 4096)
    assert losses(features)["lost_labels"] == 0
    assert span_qa.decode(features, perfect(features), [example]) == ["sun"]
    (cut,) = span_qa.encode([replace(example, windows=False)], tokenizer, 4096)
    assert (len(cut["input_ids"]), cut["lost_labels"], cut["truncated"]) == (4096, 1, True)
    last = [len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in ("sun", " sun")]
    assert cut["tokens"] - 1 - cut["position"] in last


def test_scores_by_kind_and_details(tokenizer):
    kinds = ("bridge", "comparison", "bridge")
    examples = [
        replace(_question("the sun", "sun", 4, "Where is it?"), kind=kind, rules="hotpotqa")
        for kind in kinds
    ]
    found = span_qa.score(["sun", "moon", "moon sun"], examples)
    assert (found["f1_bridge"], found["f1_comparison"]) == (pytest.approx((1 + 2 / 3) / 2), 0)
    assert found["exact_match_bridge"] == 0.5 and found["exact_match"] == pytest.approx(1 / 3)
    features = span_qa.encode(examples, tokenizer, 64)
    rows = span_qa.details(features, ["sun", "moon", "sun"], examples)
    assert [row["kind"] for row in rows] == list(kinds)
    assert rows[1]["gold"] == ["sun"] and rows[1]["predicted"] == "moon"
    assert [row["document"] for row in rows] == [0, 0, 0]
    assert span_qa.question_word("On the day, where was it?") == "where"
    assert span_qa.question_word("Name it.") == "other"


def test_questions_on_one_article_or_text_are_on_one_document(tokenizer):
    asked = _question("the sun", "sun", 4, "Where is it?")
    examples = [
        replace(asked, title=title, context=context, answers=())
        for title, context in (("A", "x"), ("A", "y"), ("", "x"), ("B", "x"), ("", "x"), ("A", "z"))
    ]
    features = [{"example": n, "position": 0, "tokens": 1} for n in range(len(examples))]
    rows = span_qa.details(features, [""] * len(examples), examples)
    assert [row["document"] for row in rows] == [0, 0, 1, 2, 1, 0]

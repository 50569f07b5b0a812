"""No tag is lost or shifted between words and tokens, on any text that is not cut."""

from types import SimpleNamespace

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctd_lib.tasks import losses, tagging
from ctd_lib.tasks.tagging import TaggedText

LABELS = ("O", "B-PER", "I-PER")
WORD = st.text("thein.,Äß東🙂-", min_size=1, max_size=6)
TAGGED = st.lists(st.tuples(WORD, st.sampled_from(LABELS)), min_size=1, max_size=20)


def _perfect(features, labels):
    """Outputs whose best class is the target, with noise where there is none, in batches of two."""
    torch.manual_seed(0)
    for start in range(0, len(features), 2):
        batch = tagging.collate(features[start : start + 2], 0)
        logits = torch.randn(*batch["labels"].shape, len(labels))
        known = batch["labels"] >= 0
        logits[known] += 99 * torch.nn.functional.one_hot(batch["labels"][known], len(labels))
        yield SimpleNamespace(logits=logits)


@given(st.lists(TAGGED, min_size=1, max_size=3))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip(tokenizer, documents):
    examples = [TaggedText("d", *zip(*document, strict=True)) for document in documents]
    features = tagging.encode(examples, tokenizer, 4096, LABELS)
    predictions = tagging.decode(features, _perfect(features, LABELS), examples, LABELS)
    assert predictions == [list(example.tags) for example in examples]
    assert losses(features) == {"truncated_examples": 0, "lost_labels": 0}


def test_the_tag_is_on_the_first_token_of_its_word(tokenizer):
    example = TaggedText("d", ("in", "theinin", "t"), ("O", "B-PER", "I-PER"))
    (feature,) = tagging.encode([example], tokenizer, 64, LABELS)
    tokens = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    kept = [
        (token.strip("Ġ#"), LABELS[label])
        for token, label in zip(tokens, feature["labels"], strict=True)
        if label >= 0
    ]
    assert [label for _, label in kept] == ["O", "B-PER", "I-PER"]
    assert [token[0] for token, _ in kept] == ["i", "t", "t"]
    assert tokens[0] in ("<s>", "[CLS]") and feature["labels"][0] == -100


def test_what_is_cut_off_is_counted_and_predicted_as_outside(tokenizer):
    example = TaggedText("d", ("in",) * 50, ("B-PER",) * 50)
    features = tagging.encode([example], tokenizer, 12, LABELS)
    kept = int((features[0]["labels"] >= 0).sum())
    assert losses(features) == {"truncated_examples": 1, "lost_labels": 50 - kept}
    (tags,) = tagging.decode(features, _perfect(features, LABELS), [example], LABELS)
    assert tags == ["B-PER"] * kept + ["O"] * (50 - kept)
    assert 0 < kept <= 10


def test_words_without_a_token_are_counted(real_tokenizer):
    example = TaggedText("d", ("Ada", "\u200b", "left"), ("B-PER", "O", "O"))
    (feature,) = tagging.encode([example], real_tokenizer, 64, LABELS)
    assert feature["word_tokens"].tolist() == [1, -1, 2]
    assert losses([feature]) == {"truncated_examples": 0, "lost_labels": 1}


def test_collate_ignores_padding_and_gives_no_token_global_attention(tokenizer):
    examples = [TaggedText("d", ("in",) * n, ("O",) * n) for n in (3, 9)]
    features = tagging.encode(examples, tokenizer, 64, LABELS)
    batch = tagging.collate(features, tokenizer.pad_token_id, global_attention="none")
    assert batch["labels"].shape == batch["input_ids"].shape
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert (batch["labels"] >= 0).sum(1).tolist() == [3, 9]
    assert not batch["global_attention_mask"].any()


def test_score_is_entity_f1():
    example = TaggedText("d", ("a", "b", "c"), ("B-PER", "I-PER", "B-LOC"))
    found = tagging.score([["B-PER", "O", "B-LOC"]], [example])
    assert found["entity_f1"] == 0.5
    assert (found["entity_f1_LOC"], found["entity_f1_PER"]) == (1.0, 0.0)

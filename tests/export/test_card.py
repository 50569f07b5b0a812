"""What a model card says of how the model is to be given its inputs."""

import pytest

from ctd_lib.export import card


def limits(**given) -> str:
    facts = card.Facts(
        arch="longformer", role="student", head="question-answering", task="squad",
        max_length=4096, parameters=1, backbone="local:toy", licences={"local:toy": "unknown"},
        settings={}, provenance={"commit": None, "date": "2026-01-01"}, key="0" * 16, **given,
    )  # fmt: skip
    return card.text(facts).split("## Limits")[1].split("##")[0]


@pytest.mark.parametrize(
    ("policy", "tokens"),
    [
        ("question", "at the first token and those of the question."),
        ("none", "at no token."),
        ("every-64", "at the first of every 64 tokens."),
    ],
)
def test_a_finetuned_longformers_card_says_which_tokens_are_global(policy, tokens):
    text = limits(global_attention=policy)
    assert tokens in text and "Give `global_attention_mask`" in text


def test_a_longformer_without_a_task_has_no_global_tokens_to_name():
    assert "Give `global_attention_mask`" not in limits()

"""Masked language modelling on toy models, against transformers' own loss."""

import pytest
import torch
from toy_models import ToyTokenizer
from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from ctd_lib import pretrain
from ctd_lib.errors import CtdError
from ctd_lib.training.masking import IGNORED, masked_batches


def batches(count: int, size: int = 4, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Text in which a token is followed by the next higher one: easy to learn."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(3, (count, size, 1), generator=generator)
    ids = 5 + (starts + torch.arange(12)) % 25
    mask = torch.ones_like(ids)
    mask[:, 0, 9:] = 0
    ids = torch.where(mask.bool(), ids, 1)
    return [{"input_ids": i, "attention_mask": m} for i, m in zip(ids, mask, strict=True)]


def toy(kind: str = "bert"):
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=20, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    if kind == "bert":
        return BertForMaskedLM(BertConfig(**sizes, pad_token_id=1)).eval()
    return RobertaForMaskedLM(RobertaConfig(**sizes)).eval()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_evaluation_equals_transformers(kind):
    model, text = toy(kind), batches(3)
    total = count = 0
    for batch in masked_batches(text, ToyTokenizer(), seed=5):
        predicted = int((batch["labels"] != IGNORED).sum())
        with torch.no_grad():
            total += model(**batch).loss.item() * predicted
        count += predicted
    assert pretrain.evaluate_mlm(model, text, ToyTokenizer(), seed=5) == pytest.approx(
        total / count
    )
    assert pretrain.evaluate_mlm(model, text, ToyTokenizer(), seed=6) != pytest.approx(
        total / count
    )


def test_pretraining_learns(tmp_path):
    model, held_out = toy(), batches(5, seed=1)
    before = pretrain.evaluate_mlm(model, held_out, ToyTokenizer())
    log = pretrain.pretrain(
        model, batches(120), ToyTokenizer(), steps=120, lr=1e-2, log_path=tmp_path / "steps.csv"
    )
    after = pretrain.evaluate_mlm(model, held_out, ToyTokenizer())
    assert before > 3 and after < 0.7 * before
    assert log[0]["mlm"] == log[0]["loss"]
    assert not model.training


def test_pretraining_repeats_with_its_seed():
    losses = []
    for seed in (1, 1, 2):
        log = pretrain.pretrain(toy(), batches(3), ToyTokenizer(), steps=3, seed=seed)
        losses.append([row["loss"] for row in log])
    assert losses[0] == losses[1] != losses[2]


def test_head_begins_at_the_frequencies_of_the_text(monkeypatch):
    model, text = toy(), batches(50, size=16)
    torch.nn.init.zeros_(model.bert.embeddings.word_embeddings.weight)
    monkeypatch.setattr(pretrain.train, "fit", lambda model, loss_fn, batches, **_: list(batches))
    trained_on = pretrain.train_lm_head(model, iter(text), ToyTokenizer(), steps=1)
    assert len(trained_on) == 50  # none of the text is lost by counting
    ids = torch.cat([batch["input_ids"].flatten() for batch in text])
    counts = torch.bincount(ids[ids > 4], minlength=30).float()
    entropy = torch.distributions.Categorical(probs=counts / counts.sum()).entropy().item()
    # A head that knows the frequencies and nothing else has their entropy as its loss.
    loss = pretrain.evaluate_mlm(model, text, ToyTokenizer(), probability=1.0)
    assert loss == pytest.approx(entropy, abs=0.02)


def test_head_is_trained_with_its_encoder():
    model, held_out = toy(), batches(5, seed=1)
    before = pretrain.evaluate_mlm(model, held_out, ToyTokenizer())
    embeddings = model.bert.embeddings.word_embeddings.weight.clone()
    pretrain.train_lm_head(model, batches(60), ToyTokenizer(), steps=60, lr=1e-2)
    assert pretrain.evaluate_mlm(model, held_out, ToyTokenizer()) < before
    assert not torch.equal(model.bert.embeddings.word_embeddings.weight, embeddings)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_evaluation_knows_its_precisions():
    with pytest.raises(CtdError, match="precision 'bf16' is unknown; use one of float32, bfloat16"):
        pretrain.evaluate_mlm(toy(), batches(1), ToyTokenizer(), precision="bf16")


def test_nothing_to_evaluate():
    with pytest.raises(CtdError, match="no token could be masked"):
        pretrain.evaluate_mlm(toy(), [], ToyTokenizer())

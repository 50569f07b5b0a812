"""What the training loop asks of the models of every arch."""

import copy

import pytest
import torch
import toy_models

from ctd_lib import ARCHS, attention, convert, models, pretrain
from ctd_lib.errors import CtdError
from ctd_lib.training import loop as train
from ctd_lib.training.masking import IGNORED, masked_batches

TOKENIZER = toy_models.tokenizer("bert")


def teacher(arch: str):
    torch.manual_seed(0)
    model = convert.convert(toy_models.backbone("bert"), arch, 32).model
    if not attention.installed(model):
        attention.install(model)
    model(**text()[0])  # the first forward of a process may draw random numbers to time products
    return model


def text(count: int = 2):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(TOKENIZER), (count, 2, 32), generator=generator)
    mask = torch.ones_like(ids)
    mask[:, 1, 20:] = 0
    return [{"input_ids": i, "attention_mask": m} for i, m in zip(ids, mask, strict=True)]


@pytest.mark.parametrize("arch", ARCHS)
def test_gradient_checkpointing_changes_nothing_but_the_work(arch):
    plain = teacher(arch)
    recomputing = copy.deepcopy(plain)
    forwards = []
    for model in (plain, recomputing):
        inner = models.layers(model)[0].intermediate.dense
        inner.register_forward_hook(lambda *_, model=model: forwards.append(model is plain))
        torch.manual_seed(1)  # of dropout, which must be drawn alike the second time
        pretrain.pretrain(
            model, text(), TOKENIZER, steps=2, lr=1e-3, gradient_checkpointing=model is recomputing
        )
    torch.testing.assert_close(plain.state_dict(), recomputing.state_dict(), rtol=0, atol=1e-6)
    assert forwards.count(True) == 2 and forwards.count(False) == 4
    assert not models.layers(recomputing)[0].gradient_checkpointing


def test_a_model_without_layers_to_recompute():
    with pytest.raises(CtdError, match="Linear has no layers for gradient checkpointing"):
        train.fit(torch.nn.Linear(1, 1), None, [], steps=1, lr=0.1, gradient_checkpointing=True)


def test_batches_of_unequal_labels_add_up_to_the_mean_over_all():
    """Real models and losses: four batches of one sequence are one of four."""
    masked = list(masked_batches(text(2), TOKENIZER))
    whole = {name: torch.cat([batch[name] for batch in masked]) for name in masked[0]}
    whole["labels"][0, 4:] = IGNORED
    parts = [{name: x[i : i + 1] for name, x in whole.items()} for i in range(4)]
    one, four = teacher("full"), teacher("full")
    for model in (one, four):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    log = train.fit(one, pretrain._loss, [whole], steps=1, lr=1e-3)
    same = train.fit(four, pretrain._loss, parts, steps=1, lr=1e-3, accumulation=4)
    assert same[0]["loss"] == pytest.approx(log[0]["loss"], rel=1e-6)
    assert same[0]["gradient_norm"] == pytest.approx(log[0]["gradient_norm"], rel=1e-5)
    with torch.no_grad():
        assert log[0]["loss"] == pytest.approx(teacher("full")(**whole).loss.item(), rel=1e-5)

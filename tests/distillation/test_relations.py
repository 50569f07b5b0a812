"""Relations against their definition, token by token, and taken from every arch."""

import pytest
import torch
from toy_teachers import batches, toy

from ctd_lib import attention, models
from ctd_lib.distillation import relations
from ctd_lib.errors import CtdError


def plain_relations(ours, theirs, mask, heads, window):
    """The definition, token by token: mean over tokens and heads, sum of the three relations."""
    total = 0.0
    for one, two in zip(ours, theirs, strict=True):
        for row in range(len(one)):
            for token in range(one.shape[1]):
                if not mask[row, token]:
                    continue
                begin = token // window * window
                keys = [t for t in range(begin, min(begin + window, one.shape[1])) if mask[row, t]]
                for head in range(heads):
                    rows = [x[row].unflatten(-1, (heads, -1))[:, head] for x in (one, two)]
                    scores = [x[keys] @ x[token] / x.shape[-1] ** 0.5 for x in rows]
                    student, teacher = (x.log_softmax(0) for x in scores)
                    total = total + (teacher.exp() * (teacher - student)).sum()
    return total / (heads * mask.sum())


@pytest.mark.parametrize("window", [4, 7, 512])
@pytest.mark.parametrize("elements", [1, 2**24])
def test_relations_equal_their_definition(window, elements, monkeypatch):
    monkeypatch.setattr(relations, "ELEMENTS", elements)
    torch.manual_seed(0)
    ours = [torch.randn(2, 10, 8, requires_grad=True) for _ in range(3)]
    theirs = relations.Projections(*torch.randn(3, 2, 10, 12))
    mask = torch.ones(2, 10)
    mask[1, 3:] = 0
    expected = plain_relations(ours, theirs, mask, 2, window)
    wanted = torch.autograd.grad(expected, ours)
    loss = relations.relation_loss(relations.Projections(*ours), theirs, mask, 2, window=window)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * loss, ours), tuple(3 * g for g in wanted))


def test_relations_by_hand():
    # One head of one value: scores log 3 and 0 for the first token, 0 and 0 for the second.
    theirs = relations.Projections(*[torch.tensor([[[1.0986123**0.5], [0.0]]])] * 3)
    ours = relations.Projections(*[torch.zeros(1, 2, 1)] * 3)
    # KL of (3/4, 1/4) from (1/2, 1/2) is 3/4 log 3 - log 2 = 0.130812; of the second token 0.
    loss = relations.relation_loss(ours, theirs, torch.ones(1, 2), 1)
    assert loss.item() == pytest.approx(3 * 0.130812 / 2, abs=1e-6)


def test_relations_of_nothing_and_of_themselves_are_zero():
    x = relations.Projections(*torch.randn(3, 1, 5, 4))
    assert relations.relation_loss(x, x, torch.ones(1, 5), 2).item() == pytest.approx(0, abs=1e-6)
    y = relations.Projections(*torch.randn(3, 1, 5, 4))
    assert relations.relation_loss(x, y, torch.zeros(1, 5), 2).item() == 0
    with pytest.raises(CtdError, match="relation_heads is 3; the width 4"):
        relations.relation_loss(x, x, torch.ones(1, 5), 3)


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "longformer", "bigbird", "lsg", "nystromformer"]
)
def test_relations_are_of_the_projections_of_every_arch(kind):
    model = attention.install(toy(kind))
    layer = models.layers(model)[-1]
    inputs = {"input_ids": batches(1)[0]["input_ids"][:, :50]}
    with relations.captured(layer, 50, getattr(model.config, "num_global_tokens", 0)) as found:
        states = models.encoder(model)(**inputs, output_hidden_states=True).hidden_states
    (projections,) = found
    for name in ("query", "key", "value"):
        expected = getattr(layer.attention.self, name)(states[-2])
        torch.testing.assert_close(getattr(projections, name), expected)
    models.encoder(model)(**inputs)
    assert len(found) == 1  # the hooks are gone


def test_relations_of_an_unknown_layout_are_refused():
    model = toy("longformer")  # transformers' own lays its projections out as (T, B, C)
    inputs = {"input_ids": batches(1)[0]["input_ids"]}
    with (
        relations.captured(models.layers(model)[0], 64),
        pytest.raises(CtdError, match="installed"),
    ):
        models.encoder(model)(**inputs)

"""The training loop on a problem small enough to follow by hand."""

import copy
import csv
import math

import pytest
import torch
from torch import nn

from ctd_lib import train
from ctd_lib.errors import CtdError


def endless(size: int = 4, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield {"input_ids": torch.randn(size, 3, generator=generator)}


def squares(model, batch):
    loss = (model(batch["input_ids"]) - batch["input_ids"].sum(1, keepdim=True)).square().mean()
    return loss, {"square": loss.detach(), "twice": 2 * loss.detach()}


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_fit_learns_and_logs(tmp_path, capsys):
    model, path = linear(), tmp_path / "steps.csv"
    log = train.fit(model, squares, endless(), steps=200, lr=0.1, log_path=path)
    torch.testing.assert_close(model.weight, torch.ones(1, 3), atol=0.02, rtol=0)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(log) == 200
    for row, written in zip(log, rows, strict=True):
        assert {name: float(value) for name, value in written.items()} == row
        assert row["twice"] == 2 * row["square"] == 2 * row["loss"]
    assert [row["step"] for row in log] == list(range(1, 201))
    assert log.tokens == 200 * 12
    assert log.seconds == pytest.approx(sum(r["tokens"] / r["tokens_per_second"] for r in log))
    shown = capsys.readouterr()
    assert not shown.out
    assert "loss" in shown.err and "tokens/s" in shown.err


def test_fit_equals_a_hand_written_loop():
    model, oracle = linear(), linear()
    train.fit(
        model, squares, endless(), steps=5, lr=0.1, warmup_fraction=0.4, max_grad_norm=0.5,
        weight_decay=0.1,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        [{"params": [oracle.weight], "weight_decay": 0.1}, {"params": [oracle.bias]}],
        betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0,
    )  # fmt: skip
    # Two steps up, then a line from the top that would be at 0 one step after the last.
    for rate, batch in zip((0.05, 0.1, 0.075, 0.05, 0.025), endless(), strict=False):
        squares(oracle, batch)[0].backward()
        nn.utils.clip_grad_norm_(oracle.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(model.state_dict(), oracle.state_dict())


def test_accumulation_equals_one_large_batch():
    small, large = linear(), linear()
    halves = ({"input_ids": half} for batch in endless(8) for half in batch["input_ids"].split(4))
    log = train.fit(small, squares, halves, steps=3, lr=0.1, accumulation=2)
    expected = train.fit(large, squares, endless(8), steps=3, lr=0.1)
    torch.testing.assert_close(small.state_dict(), large.state_dict())
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in expected])
    assert log.tokens == expected.tokens


@pytest.mark.parametrize("schedule", train.SCHEDULES)
def test_schedules_rise_and_fall(schedule):
    factors = [train.rate_factor(step, 100, 0.1, schedule) for step in range(1, 101)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert 0 < factors[-1] < 0.02
    # Half way down both are at one half: 91 steps from 1 to 0.
    half = (factors[54] + factors[55]) / 2
    assert half == pytest.approx(0.5, abs=1e-9)


def test_no_warm_up_starts_at_the_top():
    assert train.rate_factor(1, 4, 0.0, "linear") == pytest.approx(4 / 5)


def test_frozen_parameters_stay():
    model = linear()
    model.weight.requires_grad_(False)
    before = model.weight.clone()
    train.fit(model, squares, endless(), steps=3, lr=0.1)
    assert torch.equal(model.weight, before)


def test_padding_counts_no_tokens():
    batch = {"input_ids": torch.randn(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}
    assert train.fit(linear(), squares, [batch], steps=1, lr=0.1).tokens == 4


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights():
    seen = []

    def loss_fn(model, batch):
        out = model(batch["input_ids"])
        seen.append(out.dtype)
        return out.float().square().mean(), {}

    model = linear()
    train.fit(model, loss_fn, endless(), steps=1, lr=0.1, precision="bfloat16")
    assert seen == [torch.bfloat16]
    assert model.weight.dtype == torch.float32


def test_mode_is_restored():
    modes = []

    def loss_fn(model, batch):
        modes.append(model.training)
        return squares(model, batch)

    model = linear().eval()
    train.fit(model, loss_fn, endless(), steps=1, lr=0.1)
    assert modes == [True] and not model.training


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nan_stops_before_the_weights_change(where, tmp_path):
    model, before = linear(), []

    def loss_fn(model, batch):
        before.append(copy.deepcopy(model.state_dict()))
        loss, terms = squares(model, batch)
        if len(before) < 3:
            return loss, terms
        # The square root of 0 is finite, its slope is not.
        bad = loss * math.nan if where == "loss" else (model.weight * 0).sum().sqrt()
        return bad, {"mlm": torch.tensor(1.25)}

    path = tmp_path / "steps.csv"
    with pytest.raises(CtdError, match=r"step 3.*mlm 1\.25.*lower learning rate") as error:
        train.fit(model, loss_fn, endless(), steps=3, lr=0.1, log_path=path)
    assert ("gradient_norm" in str(error.value)) == (where == "gradient")
    torch.testing.assert_close(model.state_dict(), before[2], atol=0, rtol=0)
    assert len(path.read_text().splitlines()) == 3


def test_batches_that_end_early():
    with pytest.raises(CtdError, match="end at step 2 of 3"):
        train.fit(linear(), squares, [next(endless())], steps=3, lr=0.1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"schedule": "constant"}, "schedule 'constant' is unknown; use one of linear, cosine"),
        ({"precision": "float8"}, "precision 'float8' is unknown; use one of float32, bfloat16"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_bad_options(option, message):
    with pytest.raises(CtdError, match=message):
        train.fit(linear(), squares, endless(), **({"steps": 1, "lr": 0.1} | option))

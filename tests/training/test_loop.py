"""The training loop on a problem small enough to follow by hand."""

import copy
import csv
import math
import resource
import shutil
from itertools import islice

import pytest
import torch
from torch import nn

from ctd_lib.errors import CtdError
from ctd_lib.training import loop as train
from ctd_lib.training.masking import IGNORED


def endless(size: int = 4, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield {"input_ids": torch.randn(size, 3, generator=generator)}


def squares(model, batch, totals):
    errors = model(batch["input_ids"]) - batch["input_ids"].sum(1, keepdim=True)
    loss = errors.square().sum() / totals["sequences"]
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
        squares(oracle, batch, {"sequences": 4})[0].backward()
        nn.utils.clip_grad_norm_(oracle.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(model.state_dict(), oracle.state_dict())


def guess_labels(model, batch, totals):
    """Errors at the labelled places only, of which each batch has another number."""
    errors = (model(batch["input_ids"]).squeeze(1) - 1).square()
    loss = errors[batch["labels"] != IGNORED].sum() / totals["labels"]
    return loss, {"error": loss.detach()}


def labelled(parts: int):
    """Four steps of eight sequences, cut into `parts`; the first half has one label only."""
    for batch in islice(endless(8), 4):
        labels = torch.tensor([1, *[IGNORED] * 3, 1, 1, 1, 1])
        for rows in torch.arange(8).tensor_split(parts):
            yield {"input_ids": batch["input_ids"][rows], "labels": labels[rows]}


@pytest.mark.parametrize("option", [{"accumulation": 4}, {"tokens_per_update": 24}])
def test_accumulation_equals_one_large_batch(option):
    small, large = linear(), linear()
    log = train.fit(small, guess_labels, labelled(4), steps=4, lr=0.1, **option)
    expected = train.fit(large, guess_labels, labelled(1), steps=4, lr=0.1)
    torch.testing.assert_close(small.state_dict(), large.state_dict())
    for name in ("loss", "error", "gradient_norm", "tokens"):
        assert [row[name] for row in log] == pytest.approx([row[name] for row in expected])


def test_an_update_may_end_with_the_stream():
    halves = [half for half in labelled(2)][:3]
    assert train.fit(linear(), guess_labels, halves, steps=2, lr=0.1, accumulation=2).tokens == 36


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


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_computes_in_it_and_keeps_float32_weights(precision):
    seen = []

    def loss_fn(model, batch, totals):
        out = model(batch["input_ids"])
        seen.append(out.dtype)
        return 0.01 * (out.float() - 1).square().mean(), {}

    model, exact = linear(), linear()
    log = train.fit(model, loss_fn, endless(), steps=3, lr=0.1, precision=precision)
    expected = train.fit(exact, loss_fn, endless(), steps=3, lr=0.1)
    assert seen == [train.PRECISIONS[precision]] * 3 + [torch.float32] * 3
    assert model.weight.dtype == torch.float32
    for name in ("loss", "gradient_norm"):  # the loss scale is taken out again
        assert [row[name] for row in log] == pytest.approx([r[name] for r in expected], rel=0.03)


def test_float16_leaves_out_an_update_that_overflows():
    def loss_fn(model, batch, totals):
        return 1e3 * squares(model, batch, totals)[0], {}

    model, start = linear(), linear()
    log = train.fit(model, loss_fn, endless(), steps=1, lr=0.01, precision="float16")
    assert not math.isfinite(log[0]["gradient_norm"])
    assert torch.equal(model.weight, start.weight)
    log = train.fit(model, loss_fn, endless(), steps=20, lr=0.01, precision="float16")
    assert math.isfinite(log[-1]["gradient_norm"])
    assert torch.isfinite(model.weight).all() and not torch.equal(model.weight, start.weight)


def test_a_device_without_the_precision(monkeypatch):
    def unable(*_, **__):
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(torch, "ones", unable)
    with pytest.raises(CtdError, match="'float16' is not for device 'cpu'; use 'bfloat16'"):
        train.fit(linear(), squares, endless(), steps=1, lr=0.1, precision="float16")


def test_mode_is_restored():
    modes = []

    def loss_fn(model, batch, totals):
        modes.append(model.training)
        return squares(model, batch, totals)

    model = linear().eval()
    train.fit(model, loss_fn, endless(), steps=1, lr=0.1)
    assert modes == [True] and not model.training


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nan_stops_before_the_weights_change(where, tmp_path):
    model, before = linear(), []

    def loss_fn(model, batch, totals):
        before.append(copy.deepcopy(model.state_dict()))
        loss, terms = squares(model, batch, totals)
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
        ({"precision": "float8"}, "'float8' is unknown; use one of float32, bfloat16, float16"),
        ({"accumulation": 2, "tokens_per_update": 9}, "accumulation is 2 and tokens_per_update 9"),
        ({"accumulation": 0}, "accumulation is 0"),
        ({"tokens_per_update": 0}, "tokens_per_update is 0"),
        ({"evaluation": train.Evaluation(float, every=0)}, "Evaluation.every is 0"),
        ({"evaluation": train.Evaluation(float, 1, patience=0)}, "Evaluation.patience is 0"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_bad_options(option, message):
    with pytest.raises(CtdError, match=message):
        train.fit(linear(), squares, endless(), **({"steps": 1, "lr": 0.1} | option))


def wandering(values):
    """An evaluation that gives these values, and notes the model's weights at each."""
    model, seen = linear(), []

    def function():
        assert not model.training
        seen.append(model.weight.detach().clone())
        return values[len(seen) - 1]

    return model, seen, function


def test_evaluation_keeps_the_best_weights_and_stops_early(tmp_path):
    model, seen, function = wandering([3.0, 1.0, 2.0, math.nan, 0.0])
    evaluation = train.Evaluation(function, every=2, patience=2)
    path = tmp_path / "steps.csv"
    log = train.fit(
        model, squares, endless(), steps=20, lr=0.1, evaluation=evaluation, log_path=path
    )
    assert len(log) == 8  # two evaluations after the best one, at step 4
    assert [row["evaluation"] for row in log][:7] == [None, 3.0, None, 1.0, None, 2.0, None]
    assert torch.equal(model.weight, seen[1]) and not torch.equal(seen[1], seen[3])
    with open(path, newline="") as file:
        assert [row["evaluation"] for row in csv.DictReader(file)][:3] == ["", "3.0", ""]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_evaluation_that_is_not_finite_is_never_the_best(bad):
    model, seen, function = wandering([bad, 2.0, bad, 3.0])
    train.fit(
        model, squares, endless(), steps=4, lr=0.1, evaluation=train.Evaluation(function, every=1)
    )
    assert torch.equal(model.weight, seen[1])


def test_a_training_without_a_finite_evaluation_has_no_best():
    model, _, function = wandering([math.nan] * 9)
    evaluation = train.Evaluation(function, every=1, patience=3)
    with pytest.raises(CtdError, match="at step 3, and no evaluation gave a finite number"):
        train.fit(model, squares, endless(), steps=9, lr=0.1, evaluation=evaluation)


def test_the_last_step_is_evaluated_too():
    model, seen, function = wandering([1.0, 0.5])
    log = train.fit(
        model, squares, endless(), steps=3, lr=0.1, evaluation=train.Evaluation(function, every=2)
    )
    assert [row["evaluation"] for row in log] == [None, 1.0, 0.5]
    assert torch.equal(model.weight, seen[1])


def test_a_full_disk_interrupts_the_log_not_the_training(tmp_path):
    path, steps, none = tmp_path / "steps.csv", [], resource.RLIM_INFINITY

    def loss_fn(model, batch, totals):
        steps.append(path.stat().st_size)
        if len(steps) in (20, 40):  # from here to there no file may grow beyond 1000 bytes
            limit = 1000 if len(steps) == 20 else none
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, none))
        return squares(model, batch, totals)

    with pytest.warns(UserWarning, match=r"steps\.csv cannot be written"):
        train.fit(linear(), loss_fn, endless(), steps=60, lr=0.1, log_path=path)
    assert steps[39] <= steps[20]
    with open(path, newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(i) for i in range(1, 61)]


def test_a_log_that_cannot_be_completed_costs_no_training(tmp_path):
    folder = tmp_path / "logs"

    def loss_fn(model, batch, totals):
        if folder.is_dir():  # and now there is no such folder, nor can one be made
            shutil.rmtree(folder)
            folder.touch()
        return squares(model, batch, totals)

    model, seen, function = wandering([2.0, 1.0, 3.0])
    evaluation = train.Evaluation(function, every=1)
    with pytest.warns(UserWarning, match=r"steps\.csv cannot be written") as warned:
        log = train.fit(
            model, loss_fn, endless(), steps=3, lr=0.1, log_path=str(folder / "steps.csv"),
            evaluation=evaluation,
        )  # fmt: skip
    assert [str(w.message).rpartition("; ")[2] for w in warned] == [
        "training goes on.", "it lacks the last steps."
    ]  # fmt: skip
    assert len(log) == 3 and torch.equal(model.weight, seen[1])


def test_the_log_makes_its_folder_or_says_why_not(tmp_path):
    path = tmp_path / "logs" / "more" / "steps.csv"
    train.fit(linear(), squares, endless(), steps=1, lr=0.1, log_path=path)
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(CtdError, match=r"step log .*steps\.csv/a\.csv cannot be written"):
        train.fit(linear(), squares, endless(), steps=1, lr=0.1, log_path=path / "a.csv")


def test_tensorboard_gets_every_step(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = train.fit(linear(), squares, endless(), steps=3, lr=0.1, tensorboard=tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    seen = [(event.step, event.value) for event in events.Scalars("loss")]
    assert seen == [(row["step"], pytest.approx(row["loss"])) for row in log]


def test_tensorboard_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CtdError, match="tensorboard is not installed"):
        train.fit(linear(), squares, endless(), steps=3, lr=0.1, tensorboard=tmp_path)

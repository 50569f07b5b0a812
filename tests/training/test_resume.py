"""A training that is interrupted at any step and started again equals one that is not."""

import json
import math

import pytest
import torch
from torch import nn

from ctd_lib.errors import CtdError
from ctd_lib.training import checkpoint
from ctd_lib.training import loop as train

STEPS = 9


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def stream():
    generator = torch.Generator().manual_seed(0)
    while True:
        yield {"input_ids": torch.randn(4, 3, generator=generator)}


class Numbered:
    """Batches that know their place and count what they gave."""

    def __init__(self):
        self.place = self.given = 0

    def __iter__(self):
        while True:
            generator = torch.Generator().manual_seed(self.place)
            self.place += 1
            self.given += 1
            yield {"input_ids": torch.randn(4, 3, generator=generator)}

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


class Run:
    """One training after another on the same folder; `stop_before` a loss is computed."""

    def __init__(self, folder, kind, **options):
        self.folder, self.kind, self.options = folder, kind, options

    def __call__(self, stop_before: int | None = None):
        network, batches, losses = model(), self.kind(), []
        torch.manual_seed(5)  # of dropout

        def loss_fn(network, batch, totals):
            losses.append(None)
            if len(losses) == stop_before:
                raise KeyboardInterrupt
            errors = network(batch["input_ids"]) - batch["input_ids"].sum(1, keepdim=True)
            return errors.square().sum() / totals["sequences"], {}

        def evaluate():
            with torch.no_grad():
                return float((network(torch.eye(3)) - 1).square().mean())

        options = dict(self.options)
        if every := options.pop("evaluate_every", None):
            options["evaluation"] = train.Evaluation(evaluate, every, patience=2)
        log = train.fit(
            network, loss_fn, batches, steps=STEPS, lr=0.1, log_path=self.folder / "steps.csv",
            checkpoints=train.Checkpoints(self.folder / "checkpoints", seconds=0), **options,
        )  # fmt: skip
        return network.state_dict(), log, batches


@pytest.mark.parametrize("kind", [stream, Numbered])
@pytest.mark.parametrize(
    "options",
    [
        {"accumulation": 2},
        {"tokens_per_update": 20},
        {"evaluate_every": 2},
        {"precision": "float16", "schedule": "cosine"},
    ],
    ids=str,
)
def test_an_interrupted_training_equals_one_that_is_not(tmp_path, kind, options):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    weights, log, _ = Run(tmp_path / "whole", kind, **options)()
    again = Run(tmp_path / "parts", kind, **options)
    for stop in (2, 4, 4):
        with pytest.raises(KeyboardInterrupt):
            again(stop)
    ours, rows, batches = again()
    torch.testing.assert_close(ours, weights, atol=1e-7, rtol=0)
    untimed = ("seconds", "tokens_per_second")
    for row, expected in zip(rows, log, strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - set(untimed):
            assert row[name] == pytest.approx(expected[name], nan_ok=True)
    lines = (tmp_path / "parts" / "steps.csv").read_text().splitlines()
    assert len(lines) == len(log) + 1 and len({line.split(",")[0] for line in lines}) == len(lines)
    if kind is Numbered:  # it went to its place at once
        assert batches.given < batches.place


@pytest.mark.parametrize("stop", range(2, 9))
def test_early_stopping_counts_on_over_an_interruption(tmp_path, stop):
    def run(folder, stop_before=None):
        network, calls = nn.Linear(1, 1, bias=False), []
        nn.init.zeros_(network.weight)

        def climb(network, batch, totals):  # each step is up, and past the best weight
            calls.append(None)
            if len(calls) == stop_before:
                raise KeyboardInterrupt
            return -network.weight.sum(), {}

        log = train.fit(
            network, climb, stream(), steps=20, lr=0.1, warmup_fraction=0.0, weight_decay=0.0,
            evaluation=train.Evaluation(lambda: abs(network.weight.item() - 0.4), 2, patience=2),
            checkpoints=train.Checkpoints(folder, seconds=0),
        )  # fmt: skip
        return network.weight.item(), [row["evaluation"] for row in log]

    weight, evaluations = run(tmp_path / "whole")
    assert len(evaluations) == 8 and min(filter(None, evaluations)) == evaluations[3]
    assert abs(weight - 0.4) == evaluations[3]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop)
    assert run(tmp_path / "parts") == (weight, evaluations)


def test_a_damaged_checkpoint_costs_a_step_not_the_training(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    weights, _, _ = Run(tmp_path / "whole", stream)()
    again = Run(tmp_path / "parts", stream)
    with pytest.raises(KeyboardInterrupt):
        again(6)
    last = max((tmp_path / "parts" / "checkpoints").iterdir())
    (last / "tensors.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="step-000000005 is unreadable"):
        ours, log, _ = again()
    torch.testing.assert_close(ours, weights, atol=1e-7, rtol=0)
    assert len(log) == STEPS and math.isfinite(log[-1]["loss"])


def fit(network, folder, **options):
    def loss_fn(network, batch, totals):
        return network(batch["input_ids"]).square().sum() / totals["sequences"], {}

    checkpoints = train.Checkpoints(folder, seconds=0)
    options = {"steps": 3, "lr": 0.1} | options
    return train.fit(network, loss_fn, stream(), checkpoints=checkpoints, **options)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (model(), {"lr": 0.2}, r"another training \(lr 0.1, not 0.2\); take another folder"),
        (model(), {"steps": 4, "schedule": "cosine"}, "steps 3, not 4; schedule linear, not cos"),
        (model(), {"accumulation": 2}, "accumulation 1, not 2"),
        (model(), {"tokens_per_update": 9}, "tokens_per_update None, not 9"),
        (nn.Sequential(nn.Linear(3, 1)), {}, r"0.bias of shape \(8,\), not \(1,\)"),
        (nn.Linear(3, 1), {}, r"0.bias of shape \(8,\), not None"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, network, options, message):
    fit(model(), tmp_path)
    before = [value.clone() for value in network.state_dict().values()]
    with pytest.raises(CtdError, match=message):
        fit(network, tmp_path, **options)
    assert all(map(torch.equal, network.state_dict().values(), before))


def test_a_checkpoint_of_an_older_version_is_taken(tmp_path):
    log = fit(model(), tmp_path)
    for path in tmp_path.glob("step-*/state.json"):
        body = json.loads(path.read_text())["body"]
        del body["state"]["settings"]
        path.write_text(json.dumps({"sha256": checkpoint._digest(body), "body": body}))
    assert fit(model(), tmp_path) == log

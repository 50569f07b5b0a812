"""Measurements of models whose time and memory are known."""

import contextlib
import io
import re
import subprocess
import time

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from ctd_lib import measure
from ctd_lib.errors import CtdError

MIB = 2**20


def toy(layers: int = 1, positions: int = 64, width: int = 16) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=positions,
    )  # fmt: skip
    return BertModel(config)


class Watched(BertModel):
    """Notes its name and its input, then waits; runs out of memory at 32 tokens if it is to."""

    calls: list = []  # noqa: RUF012
    wait = 0.0
    fails = False

    def forward(self, input_ids, attention_mask):
        self.calls.append((self.wait, self.training, self.dtype, input_ids))
        if self.fails and input_ids.shape[1] == 32:
            torch.empty(10**15)
        time.sleep(self.wait)


def watched(wait: float, fails: bool = False) -> Watched:
    model = Watched(toy().config)
    model.wait, model.fails = wait, fails
    return model


def test_latency_is_interleaved_and_burnt_in():
    Watched.calls.clear()
    rows = measure.latency(
        {"teacher": watched(0.04), "student": watched(0.01)}, [8, 16], batch_size=2, repeats=3,
        burn_in=2, dtype="bfloat16",
    )  # fmt: skip
    assert [call[0] for call in Watched.calls] == [0.04, 0.01] * 10
    assert all(call[1:3] == (False, torch.bfloat16) for call in Watched.calls)
    assert [tuple(call[3].shape) for call in Watched.calls] == [(2, 8)] * 10 + [(2, 16)] * 10
    assert all(torch.equal(call[3], Watched.calls[0][3]) for call in Watched.calls[:10])
    assert Watched.calls[0][3].min() > 0  # no padding
    assert [(row["role"], row["length"]) for row in rows] == [
        ("teacher", 8), ("student", 8), ("teacher", 16), ("student", 16),
    ]  # fmt: skip
    for row in rows:
        wait = {"teacher": 0.04, "student": 0.01}[row["role"]]
        low, high = row["seconds_iqr"]
        assert wait <= low <= row["seconds_median"] <= high < wait + 0.5
        assert row["tokens_per_second"] * row["seconds_median"] == pytest.approx(2 * row["length"])
        assert row["repeats"] == 3 and row["parameters"] == measure.parameters(toy())


def test_median_and_quartiles(monkeypatch):
    seconds = iter([9.0, 5.0, 1.0, 3.0, 2.0, 4.0])
    monkeypatch.setattr(measure, "_timed_forward", lambda model, inputs: next(seconds))
    (row,) = measure.latency({"teacher": toy()}, [10], repeats=5, burn_in=1)
    assert (row["seconds_median"], row["seconds_iqr"]) == (3.0, [2.0, 4.0])
    assert row["tokens_per_second"] == pytest.approx(10 / 3)


def test_models_are_left_as_they_are():
    model = toy().train()
    measure.latency({"teacher": model}, [8], repeats=1, dtype="bfloat16")
    assert model.training and model.dtype == torch.float32


def test_no_memory_costs_one_row_only():
    rows = measure.latency(
        {"teacher": watched(0, fails=True), "student": watched(0)}, [16, 32, 64], repeats=2
    )
    errors = {(row["role"], row["length"]): row.get("error") for row in rows}
    assert errors.pop(("teacher", 32)) == "out of memory"
    assert len(errors) == 5 and not any(errors.values())
    (row,) = (row for row in rows if "error" in row)
    assert row["seconds_median"] is None and row["seconds_iqr"] is None


def test_other_errors_are_not_taken_for_missing_memory(monkeypatch):
    def broken(model, inputs):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(measure, "_timed_forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure.latency({"teacher": toy()}, [8])


def test_lengths_are_checked_before_anything_runs():
    Watched.calls.clear()
    with pytest.raises(CtdError, match="length 65 is over the 64 positions of student"):
        measure.latency({"teacher": toy(positions=80), "student": watched(0)}, [8, 65])
    assert not Watched.calls
    with pytest.raises(CtdError, match="dtype 'float16' is unknown; use one of float32, bfloat16"):
        measure.latency({"teacher": toy()}, [8], dtype="float16")


def test_parameters_count_tied_weights_once():
    embeddings, decoder = nn.Embedding(10, 4), nn.Linear(4, 10)
    decoder.weight = embeddings.weight
    assert measure.parameters(nn.ModuleList([embeddings, decoder])) == 50


@pytest.mark.slow
def test_peak_memory_follows_the_length_and_not_the_parent(tmp_path):
    toy(positions=2048, width=256).save_pretrained(tmp_path)
    held = torch.ones(2048 * MIB // 4)
    rows = measure.peak_memory(tmp_path, [2048, 128], batch_size=16)
    assert list(rows) == [2048, 128]
    for row in rows.values():
        assert 50 * MIB < row["baseline_bytes"] < row["peak_bytes"] < 1024 * MIB < held.nbytes
    # One hidden state is 16 KiB a token; at least three exist at a time.
    extra = (rows[2048]["peak_bytes"] - rows[128]["peak_bytes"]) / (1920 * 16)
    assert 3 * 1024 < extra < 40 * 1024


def test_peak_memory_passes_the_childs_last_words_on(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "warning\nfolder 'x' holds no model.\n")
    monkeypatch.setattr(measure.subprocess, "run", lambda *_, **__: failed)
    message = "the memory of x could not be measured: folder 'x' holds no model."
    with pytest.raises(CtdError, match=f"^{re.escape(message)}$"):
        measure.peak_memory("x", [64])


@pytest.fixture
def no_child(monkeypatch):
    """The child's work without a child."""

    def run(command, **options):
        monkeypatch.setattr(measure.sys, "argv", command[2:])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            measure._child()
        return subprocess.CompletedProcess(command, 0, out.getvalue(), "")

    monkeypatch.setattr(measure.subprocess, "run", run)


@pytest.mark.usefixtures("no_child")
def test_peak_memory_of_what_does_not_fit(tmp_path, monkeypatch):
    toy().save_pretrained(tmp_path)
    forward = measure._timed_forward
    monkeypatch.setattr(
        measure,
        "_timed_forward",
        lambda model, inputs: (
            torch.empty(10**15) if inputs["input_ids"].shape[1] == 64 else forward(model, inputs)
        ),
    )
    rows = measure.peak_memory(tmp_path, [64, 32])
    assert rows[32]["peak_bytes"] >= rows[32]["baseline_bytes"] > 0
    assert rows[64] == {"peak_bytes": None, "baseline_bytes": None}


def test_peak_memory_of_a_killed_process(monkeypatch):
    out = 'loading\n{"length": 32, "peak_bytes": 2, "baseline_bytes": 1}\n'
    killed = subprocess.CompletedProcess([], -9, out, "")
    monkeypatch.setattr(measure.subprocess, "run", lambda *_, **__: killed)
    rows = measure.peak_memory("model", [32, 64])
    assert rows[32] == {"peak_bytes": 2, "baseline_bytes": 1}
    assert rows[64] == {"peak_bytes": None, "baseline_bytes": None}


@pytest.mark.usefixtures("no_child")
def test_a_child_ends_with_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="holds no configuration"):
        measure.peak_memory(tmp_path, [32])
    toy().save_pretrained(tmp_path)
    with pytest.raises(SystemExit, match="length 65 is over the 64 positions"):
        measure.peak_memory(tmp_path, [32, 65])

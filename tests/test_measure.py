"""Measurements of models whose time and memory are known."""

import itertools
import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from toy_models import NO_MEMORY, bare_bert
from transformers import BertModel, LongformerConfig, LongformerForQuestionAnswering

from ctd_lib import measure, runtime
from ctd_lib.errors import CtdError
from ctd_lib.measure import contenders, figures, forwards, machine, rounds

SLOWER = machine.SLOWER  # before a fixture takes it away

MIB = 2**20


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch):
    """Small products, and no round of a real calibration is disturbed."""
    monkeypatch.setattr(machine, "SIZE", {"cpu": 64})
    monkeypatch.setattr(machine, "CALIBRATION_SIZE", {"cpu": 16})
    monkeypatch.setattr(machine, "SLOWER", float("inf"))


class Watched(BertModel):
    """Notes its name and its input, then waits; fails at 32 tokens if it is to."""

    calls: list = []  # noqa: RUF012
    wait = 0.0
    fails: str | None = None

    def forward(self, input_ids, attention_mask):
        self.calls.append((self.wait, self.training, self.dtype, input_ids, attention_mask))
        if self.fails and input_ids.shape[1] == 32:
            raise RuntimeError(self.fails)
        time.sleep(self.wait)


def watched(wait: float, fails: str | None = None) -> Watched:
    model = Watched(bare_bert().config)
    model.wait, model.fails = wait, fails
    Watched.calls.clear()
    return model


def test_latency_is_interleaved_and_burnt_in():
    rows = measure.latency(
        {"teacher": watched(0.04), "student": watched(0.01)}, [8, 16], batch_size=2, repeats=3,
        burn_in=2, dtype="bfloat16",
    )  # fmt: skip
    assert [call[0] for call in Watched.calls] == [0.04, 0.01] * 10
    assert all(call[1:3] == (False, torch.bfloat16) for call in Watched.calls)
    assert [tuple(call[3].shape) for call in Watched.calls] == [(2, 8)] * 10 + [(2, 16)] * 10
    assert all(torch.equal(call[3], Watched.calls[0][3]) for call in Watched.calls[:10])
    assert Watched.calls[0][3].min() > 0 and Watched.calls[0][4].all()  # no padding
    assert [(row["role"], row["length"]) for row in rows] == [
        ("teacher", 8), ("student", 8), ("teacher", 16), ("student", 16),
    ]  # fmt: skip
    for row in rows:
        wait = {"teacher": 0.04, "student": 0.01}[row["role"]]
        low, high = row["seconds_iqr"]
        assert wait <= row["seconds_p5"] <= low <= row["seconds_median"]
        assert row["seconds_median"] <= high <= row["seconds_p95"] < wait + 0.5
        assert row["tokens_per_second"] * row["seconds_median"] == pytest.approx(2 * row["length"])
        assert row["documents_per_second"] * row["seconds_median"] == pytest.approx(2)
        assert row["repeats"] == 3 and row["parameters"] == measure.parameters(bare_bert())
        assert row["error"] is None and row["workload"] == "fixed"


def test_median_quartiles_and_percentiles():
    found = figures.summary([5.0, 1.0, 3.0, 2.0, 4.0], tokens=10, documents=2)
    assert (found["seconds_median"], found["seconds_iqr"]) == (3.0, [2.0, 4.0])
    assert (found["seconds_p5"], found["seconds_p95"]) == (pytest.approx(1.2), pytest.approx(4.8))
    assert found["tokens_per_second"] == pytest.approx(10 / 3)
    failed = figures.summary("out of memory", tokens=10, documents=2)
    assert failed.pop("error") == "out of memory" and set(failed.values()) == {None}
    assert failed.keys() | {"error"} == found.keys()


def test_a_ratio_is_paired_by_rounds_and_its_interval_is_the_bootstraps():
    draw = np.random.default_rng(1)
    drift = draw.uniform(1, 3, 30)  # the machine's, which both feel
    paired = figures.ratio(0.5 * drift, drift)
    assert (paired["ratio"], paired["low"], paired["high"]) == pytest.approx((0.5, 0.5, 0.5))
    of, to = draw.normal(1, 0.1, 30), draw.normal(2, 0.2, 30)
    found = figures.ratio(of, to)
    expected = stats.bootstrap(
        (of, to), lambda x, y, axis: np.median(x, axis=axis) / np.median(y, axis=axis),
        paired=True, method="percentile", rng=2, n_resamples=9999,
    ).confidence_interval  # fmt: skip
    assert found["ratio"] == np.median(of) / np.median(to)
    assert found["low"] == pytest.approx(expected.low, abs=0.01)
    assert found["high"] == pytest.approx(expected.high, abs=0.01)
    assert figures.ratio([1.0, 2.0], [2.0, 4.0]) == {"ratio": 0.5, "low": None, "high": None}


class Calibrated:
    """A calibration that says of itself whether it was quiet."""

    def __init__(self, *said: bool):
        self.said = itertools.chain(said, itertools.repeat(False))
        self.rounds = self.disturbed = 0

    def quiet(self) -> bool:
        return next(self.said)


def counting():
    """A contender whose seconds are the number of its call."""
    numbers = itertools.count(1)
    return lambda: float(next(numbers))


def test_disturbed_rounds_are_run_again_as_a_whole_and_counted():
    calibration = Calibrated(True, True, False, True, True, True)
    found = rounds.interleave({"a": counting(), "b": counting()}, 3, 1, calibration)
    # Call 1 burns in, 2 is quiet, a slow calibration lies between 3 and 4, 5 and 6 are quiet.
    assert found == {"a": [2.0, 5.0, 6.0], "b": [2.0, 5.0, 6.0]}
    assert (calibration.rounds, calibration.disturbed) == (5, 2)


def test_a_machine_that_never_rests_is_measured_all_the_same():
    calibration = Calibrated()
    found = rounds.interleave({"a": counting()}, 2, 0, calibration)
    assert found == {"a": [3.0, 4.0]}
    assert (calibration.rounds, calibration.disturbed) == (4, 4)


def test_a_calibration_is_slow_against_its_own_best(monkeypatch):
    monkeypatch.setattr(machine, "SLOWER", SLOWER)
    calibration = machine.Calibration(torch.device("cpu"))
    seconds = iter([1.2, 1.0, 1.24, 1.26, 0.9, 1.24])
    monkeypatch.setattr(calibration, "seconds", lambda: next(seconds))
    assert [calibration.quiet() for _ in range(6)] == [True, True, True, False, True, False]
    assert calibration.values()["best_seconds"] == 0.9


def test_a_gpu_that_vanishes_costs_the_rows_that_are_left():
    alive = iter([True] * 5)

    def run():
        if not next(alive, False):
            raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors ...")
        return 1.0

    class Dead(Calibrated):
        def quiet(self):
            run()
            return True

    first = rounds.interleave({"a": run}, 1, 0, Dead())
    second = rounds.interleave({"a": run, "b": run}, 3, 0, Dead())
    sentence = "the GPU stopped answering (CUDA error: unspecified launch failure)"
    assert first == {"a": [1.0]} and second == {"a": sentence, "b": sentence}


def test_models_are_left_as_they_are():
    model = bare_bert().train()
    measure.latency({"teacher": model}, [8], repeats=1, dtype="bfloat16")
    assert model.training and model.dtype == torch.float32


def test_no_memory_costs_one_row_only():
    rows = measure.latency(
        {"teacher": watched(0, NO_MEMORY), "student": watched(0)}, [16, 32, 64], repeats=2
    )
    errors = {(row["role"], row["length"]): row["error"] for row in rows}
    assert errors.pop(("teacher", 32)) == "out of memory"
    assert len(errors) == 5 and not any(errors.values())
    (row,) = (row for row in rows if row["error"])
    assert row["seconds_median"] is row["seconds_iqr"] is row["flops"] is None


def test_what_found_no_memory_alone_is_not_tried_again(monkeypatch):
    taking_part = contenders.of_models(
        {"teacher": watched(0), "student": watched(0.001)}, "float32"
    )
    small = {"peak_bytes": 2 * MIB, "baseline_bytes": MIB}
    nothing = {"peak_bytes": None, "baseline_bytes": None}
    found = contenders.compare(
        taking_part, [(1, 0)], [16, 32], repeats=3,
        memory=[{16: small, 32: nothing}, {16: small, 32: small}],
    )  # fmt: skip
    assert {call[3].shape[1] for call in Watched.calls if call[0] == 0} == {16}
    assert [row["error"] for row in found["rows"]] == [None, None, "out of memory", None]
    assert [row["peak_bytes"] for row in found["rows"]] == [2 * MIB, 2 * MIB, None, 2 * MIB]
    (ratio,) = found["ratios"]
    assert ratio["of"]["role"] == "student" and ratio["to"]["length"] == 16
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    monkeypatch.setattr(
        contenders.psutil, "virtual_memory", lambda: SimpleNamespace(available=MIB - 1)
    )
    found = contenders.compare(taking_part[:1], [], [16], repeats=1, memory=[{16: small}])
    assert found["rows"][0]["error"] == "out of memory"


def test_other_errors_are_not_taken_for_missing_memory():
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure.latency({"teacher": watched(0, "shapes do not fit")}, [32])


def test_a_length_over_the_positions_costs_its_row_and_all_of_them_are_an_error():
    rows = measure.latency(
        {"teacher": bare_bert(positions=80), "student": bare_bert()}, [65, 8], repeats=1
    )
    assert [row["error"] for row in rows] == [None, "not possible: 64 positions", None, None]
    model = watched(0)
    with pytest.raises(CtdError, match="length 65 of student is not possible: 64 positions"):
        measure.latency({"teacher": bare_bert(positions=80), "student": model}, [65, 70])
    with pytest.raises(CtdError, match="dtype 'float16' is unknown; use one of float32, bfloat16"):
        measure.latency({"teacher": model}, [8], dtype="float16")
    with pytest.raises(CtdError, match="workload 'odd' is unknown; use one of fixed, variable"):
        measure.latency({"teacher": model}, [8], workload="odd")
    assert not Watched.calls


def test_longformer_with_a_question_head_is_measured_without_a_question(tmp_path):
    config = LongformerConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=70, attention_window=[8], pad_token_id=1,
        sep_token_id=2,
    )  # fmt: skip
    LongformerForQuestionAnswering(config).save_pretrained(tmp_path)
    model = LongformerForQuestionAnswering.from_pretrained(tmp_path).eval()
    assert forwards.forward(model, [16])() > 0


def test_variable_documents_are_short_or_long_and_padded_to_the_longest():
    drawn = forwards.documents("variable", 4096, 400)
    short = [n for n in drawn if 256 <= n <= 1024]
    long = [n for n in drawn if 2048 <= n <= 4096]
    assert len(short) + len(long) == 400 and 160 < len(short) < 240
    assert np.mean(short) == pytest.approx(640, rel=0.1)
    assert np.mean(long) == pytest.approx(3072, rel=0.1)
    (row,) = measure.latency({"m": watched(0.01)}, [64], 3, repeats=1, workload="variable")
    tokens, mask = Watched.calls[0][3:]
    lengths = forwards.documents("variable", 64, 3)
    assert mask.sum(1).tolist() == (tokens != 0).sum(1).tolist() == lengths
    assert tokens.shape == (3, max(lengths))
    assert row["tokens_per_second"] * row["seconds_median"] == pytest.approx(sum(lengths))
    assert row["flops"] == sum(contenders.flops.flops(bare_bert().config, n) for n in lengths)


def test_the_share_of_the_peak_is_flop_over_time_over_the_products_speed(monkeypatch):
    monkeypatch.setattr(machine, "matmul_gflops", lambda *_: {"float32": 2.0})
    found = contenders.compare(contenders.of_models({"m": watched(0.01)}, "float32"), [], [64])
    (row,) = found["rows"]
    assert row["peak_share"] == pytest.approx(row["flops"] / row["seconds_median"] / 2e9)
    assert found["machine"]["matmul_gflops"] == {"float32": 2.0}
    assert found["machine"]["calibration"]["rounds"] == 5


def test_the_machines_speed_is_that_of_a_product(monkeypatch):
    monkeypatch.setattr(machine, "SIZE", {"cpu": 512})
    found = machine.matmul_gflops(torch.device("cpu"), ["float32"])
    x = torch.randn(512, 512)
    seconds = min(machine._seconds(lambda: x @ x, torch.device("cpu")) for _ in range(20))
    assert 0.3 < found["float32"] / (2 * 512**3 / seconds / 1e9) < 10


def test_onednn_is_not_asked_for_what_the_processor_does_not_multiply(monkeypatch):
    """There it does not answer more slowly, it raises."""
    asked = []
    monkeypatch.setattr(machine, "SIZE", {"cpu": 8})
    monkeypatch.setattr(runtime, "multiplies_bfloat16", lambda device: False)
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda x, *_: asked.append(x.dtype), raising=False
    )
    found = machine.matmul_gflops(torch.device("cpu"), ["float32", "bfloat16"])
    assert min(found.values()) > 0 and set(asked) <= {torch.float32}


def test_energy_is_left_out_where_nothing_measures_it(monkeypatch, tmp_path):
    with machine.energy(torch.device("cpu")) as found:
        pass
    assert found == {}
    tracker = SimpleNamespace(
        start=lambda: None, stop=lambda: None,
        final_emissions_data=SimpleNamespace(energy_consumed=0.25),
    )  # fmt: skip
    package = SimpleNamespace(OfflineEmissionsTracker=lambda **_: tracker)
    monkeypatch.setitem(sys.modules, "codecarbon", package)
    monkeypatch.setattr(machine, "find_spec", lambda name: package)
    monkeypatch.setattr(machine, "ENERGY_COUNTERS", tmp_path)
    with machine.energy(torch.device("cpu")) as found:
        pass
    assert found == {}  # no counters: codecarbon would guess
    (tmp_path / "rapl").mkdir()
    (tmp_path / "rapl" / "energy_uj").write_text("1")
    with machine.energy(torch.device("cpu")) as found:
        pass
    assert found == {"kwh": 0.25, "tool": "codecarbon"}


def test_parameters_count_tied_weights_once():
    embeddings, decoder = nn.Embedding(10, 4), nn.Linear(4, 10)
    decoder.weight = embeddings.weight
    assert measure.parameters(nn.ModuleList([embeddings, decoder])) == 50


@pytest.mark.slow
def test_records_can_hold_what_a_comparison_returns():
    found = contenders.compare(
        contenders.of_models({"teacher": bare_bert(2), "student": bare_bert(1)}, "float32"),
        [(1, 0)],
        [8],
    )
    assert json.loads(json.dumps(found)) == found

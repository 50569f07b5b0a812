"""Peak memory of models whose size is known, and of what does not fit."""

import contextlib
import io
import re
import subprocess
from types import SimpleNamespace

import pytest
import torch
from toy_models import NO_MEMORY, bare_bert

from ctd_lib import measure
from ctd_lib.errors import CtdError
from ctd_lib.export import forms
from ctd_lib.measure import child, forwards, memory

MIB = 2**20


def test_peak_memory_follows_the_length_and_not_the_parent(tmp_path):
    bare_bert(positions=2048, width=256).save_pretrained(tmp_path)
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
    monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: failed)
    message = "the memory of x could not be measured: folder 'x' holds no model."
    with pytest.raises(CtdError, match=f"^{re.escape(message)}$"):
        measure.peak_memory("x", [64])


@pytest.fixture
def no_child(monkeypatch):
    """The child's work without a child."""

    def run(command, **options):
        assert command[1:3] == ["-m", "ctd_lib.measure.child"]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            child.main(command[3])
        return subprocess.CompletedProcess(command, 0, out.getvalue(), "")

    monkeypatch.setattr(memory.subprocess, "run", run)


@pytest.mark.usefixtures("no_child")
def test_peak_memory_of_what_does_not_fit(tmp_path, monkeypatch):
    bare_bert().save_pretrained(tmp_path)
    timed = forwards.timed

    def without_room(model, given):
        return torch.empty(10**15) if given["input_ids"].shape[1] == 64 else timed(model, given)

    monkeypatch.setattr(forwards, "timed", without_room)
    rows = measure.peak_memory(tmp_path, [64, 32])
    assert rows[32]["peak_bytes"] >= rows[32]["baseline_bytes"] > 0
    assert rows[64] == {"peak_bytes": None, "baseline_bytes": None}


def test_peak_memory_of_a_killed_process(monkeypatch):
    out = 'loading\n{"length": 32, "peak_bytes": 2, "baseline_bytes": 1}\n'
    killed = subprocess.CompletedProcess([], -9, out, "")
    monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: killed)
    rows = measure.peak_memory("model", [32, 64])
    assert rows[32] == {"peak_bytes": 2, "baseline_bytes": 1}
    assert rows[64] == {"peak_bytes": None, "baseline_bytes": None}


@pytest.mark.usefixtures("no_child")
def test_a_child_ends_with_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="holds no configuration"):
        measure.peak_memory(tmp_path, [32])
    bare_bert().save_pretrained(tmp_path)
    with pytest.raises(SystemExit, match="is not possible: 64 positions"):
        measure.peak_memory(tmp_path, [32, 65])


def test_the_forms_of_an_export_record_missing_memory_as_a_row(tmp_path, monkeypatch):
    bare_bert().save_pretrained(tmp_path)
    outputs = SimpleNamespace(last_hidden_state=None)

    def refusing(given):
        raise RuntimeError(NO_MEMORY)

    runs = {"torch float32": lambda given: outputs, "torch bfloat16": refusing}
    runs["ONNX float32"] = runs["ONNX int8"] = runs["torch float32"]
    monkeypatch.setattr(forms, "open_forms", lambda *_: runs)
    monkeypatch.setattr(forms, "_size", lambda *_: 1)
    peaks = {32: {"peak_bytes": 2, "baseline_bytes": 1}}
    monkeypatch.setattr(measure, "peak_memory", lambda *_: peaks)
    gone = {32: {"peak_bytes": None, "baseline_bytes": None}}
    monkeypatch.setattr(
        forms, "_memory", lambda path, *_: gone if path.name == "model.onnx" else peaks
    )
    rows = forms.measure(tmp_path, "base", [32], repeats=2)
    assert [row["error"] for row in rows] == [None, "out of memory", "out of memory", None]
    assert [row["seconds_median"] is None for row in rows] == [False, True, True, False]

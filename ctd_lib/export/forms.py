"""The forms of one model beside each other: time, memory, size and score.

Forwards are interleaved between the forms, so that a machine that slows down slows all of them.
Peak memory is that of a process of its own for each form. That of ONNX holds torch too, though it
has no need of it: between forms compare peak less baseline.
"""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch

from ctd_lib import measure as measurement
from ctd_lib import models, tasks
from ctd_lib.errors import CtdError
from ctd_lib.export import onnx

TORCH = {"torch float32": "float32", "torch bfloat16": "bfloat16"}
FILES = {"ONNX float32": "onnx/model.onnx", "ONNX int8": "onnx/model_int8.onnx"}
"""Form -> its file in the hub-ready folder."""
WEIGHTS = "model.safetensors"

Run = Callable[[dict], SimpleNamespace]
"""Inputs (B, T) by name to outputs by name, float32."""


def open_forms(folder: Path, head: str) -> dict[str, Run]:
    """Every form of the model in a hub-ready folder, ready to run on the CPU."""
    model = models.load(folder, head)
    runs: dict[str, Run] = {
        form: _torch(copy.deepcopy(model).to(measurement.DTYPES[dtype]))
        for form, dtype in TORCH.items()
    }
    return runs | {form: _onnx(onnx.Session(folder / file)) for form, file in FILES.items()}


def _torch(model) -> Run:
    @torch.inference_mode()
    def run(given: dict) -> SimpleNamespace:
        output = model(**given)
        return SimpleNamespace(**{
            name: x.float() for name, x in output.items() if isinstance(x, torch.Tensor)
        })  # fmt: skip

    return run


def _onnx(session: onnx.Session) -> Run:
    def run(given: dict) -> SimpleNamespace:
        return SimpleNamespace(**{n: torch.from_numpy(x) for n, x in session(given).items()})

    return run


def measure(
    folder: Path,
    head: str,
    lengths: Sequence[int],
    batch_size: int = 1,
    repeats: int = 5,
    score: Callable[[Run], float] | None = None,
) -> list[dict]:
    """A row per form and length.

    Args:
        folder: hub-ready, with the files of ONNX and int8.
        head: the head that its files have, one of `models.HEADS`.
        lengths: in tokens, without padding.
        repeats: timed forwards, after one that is not.
        score: the score that a form reaches; None: not measured.

    Returns:
        form, length, batch_size, repeats, the figures of `measure.summary`, peak_bytes,
        baseline_bytes (when the model had been loaded), file_bytes, score. Where memory ran out,
        `error` says so, figures and peak_bytes are None, and the other rows are there.

    Raises:
        CtdError: a length is over the model's positions.
    """
    config = models.read_config(folder)
    if over := [length for length in lengths if length > models.max_length(config)]:
        raise CtdError(f"length {over[0]} is over the {models.max_length(config)} of the model.")
    runs = open_forms(folder, head)
    scores = {form: score(run) if score else None for form, run in runs.items()}
    memory = {
        form: measurement.peak_memory(folder, lengths, batch_size, dtype, "cpu", head)
        for form, dtype in TORCH.items()
    } | {form: _memory(folder / file, lengths, batch_size) for form, file in FILES.items()}
    rows = []
    for length in lengths:
        given = _inputs(config.vocab_size, length, batch_size)
        if config.model_type == "longformer":
            given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
        # What found no memory in a process of its own is not tried in this one.
        able = {form: _timed(run, given) for form, run in runs.items()
                if memory[form][length]["peak_bytes"] is not None}  # fmt: skip
        found = dict.fromkeys(runs, measurement.OUT_OF_MEMORY)
        found |= measurement.interleave(able, repeats)
        for form, seconds in found.items():
            rows.append({
                "form": form, "length": length, "batch_size": batch_size, "repeats": repeats,
                **measurement.summary(seconds, batch_size * length, batch_size),
                **memory[form][length], "file_bytes": _size(folder, form), "score": scores[form],
            })  # fmt: skip
    return rows


def _timed(run: Run, given: dict) -> Callable[[], float]:
    def seconds() -> float:
        started = time.perf_counter()
        run(given)
        return time.perf_counter() - started

    return seconds


def _inputs(vocabulary: int, length: int, batch_size: int) -> dict[str, torch.Tensor]:
    """Random tokens beyond the special ones, none of them padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocabulary, (batch_size, length), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _size(folder: Path, form: str) -> int:
    """Bytes of the weights' file; of bfloat16, which has none here, half of float32's."""
    size = (folder / FILES.get(form, WEIGHTS)).stat().st_size
    return size // 2 if form == "torch bfloat16" else size


def task_score(
    data: tasks.TaskData, features: Sequence[dict], padding: int, policy: str | None, run: Run
) -> float:
    """The main score of a form on a task's test part.

    Args:
        features: of the test part.
        padding: the tokenizer's.
        policy: Longformer: which tokens have global attention (`tasks.policy`).
    """
    family = tasks.family(data)
    given = (family.collate([one], padding, policy) for one in features)
    names = ("input_ids", "attention_mask", "global_attention_mask", "token_type_ids")
    outputs = (run({name: x for name, x in one.items() if name in names}) for one in given)
    predictions = family.decode(features, outputs, data.test, data.labels)
    return family.score(predictions, data.test)[data.main_metric]


def _memory(path: Path, lengths: Sequence[int], batch_size: int) -> measurement.Peaks:
    """As `measure.peak_memory`, of an ONNX file."""
    command = [sys.executable, "-m", "ctd_lib.export.forms", str(path), str(batch_size)]
    done = subprocess.run([*command, *map(str, lengths)], capture_output=True, text=True)
    return measurement.read_peaks(done, lengths, str(path))


def _child(path: str, batch_size: str, *lengths: str) -> None:
    session = onnx.Session(Path(path))
    device = torch.device("cpu")
    baseline = measurement.start_peak(device)
    for length in sorted(map(int, lengths)):
        measurement.start_peak(device)
        try:
            given = _inputs(6, length, int(batch_size))
            session(given | {"global_attention_mask": torch.zeros_like(given["input_ids"])})
        except Exception as error:  # ONNX Runtime's own have no common class
            if measurement.explained(error) != measurement.OUT_OF_MEMORY:
                raise
            return
        peak = max(baseline, measurement.peak(device))
        row = {"length": length, "peak_bytes": peak, "baseline_bytes": baseline}
        print(json.dumps(row), flush=True)  # now: the system may end this process at the next


if __name__ == "__main__":
    _child(*sys.argv[1:])

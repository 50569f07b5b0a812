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

import numpy as np
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
        form, length, batch_size, repeats, seconds_median, seconds_iqr, tokens_per_second,
        peak_bytes, baseline_bytes (when the model had been loaded), file_bytes, score.

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
        for form, seconds in _interleaved(runs, config, length, batch_size, repeats).items():
            low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
            rows.append({
                "form": form, "length": length, "batch_size": batch_size, "repeats": repeats,
                "seconds_median": median, "seconds_iqr": [low, high],
                "tokens_per_second": batch_size * length / median, **memory[form][length],
                "file_bytes": _size(folder, form), "score": scores[form],
            })  # fmt: skip
    return rows


def _interleaved(runs, config, length: int, batch_size: int, repeats: int) -> dict[str, list]:
    given = _inputs(config.vocab_size, length, batch_size)
    seconds: dict[str, list[float]] = {form: [] for form in runs}
    for turn in range(1 + repeats):
        for form, run in runs.items():
            started = time.perf_counter()
            run(given)
            if turn:
                seconds[form].append(time.perf_counter() - started)
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


def task_score(data: tasks.TaskData, tokenizer, max_length: int, policy: str | None, run: Run):
    """The main score of a form on a task's test part.

    Args:
        max_length: tokens that examples are cut to.
        policy: Longformer: which tokens have global attention (`tasks.policy`).
    """
    family = tasks.family(data)
    features = family.encode(data.test, tokenizer, max_length, data.labels)
    given = (family.collate([one], tokenizer.pad_token_id, policy) for one in features)
    names = ("input_ids", "attention_mask", "global_attention_mask", "token_type_ids")
    outputs = (run({name: x for name, x in one.items() if name in names}) for one in given)
    predictions = family.decode(features, outputs, data.test, data.labels)
    return family.score(predictions, data.test)[data.main_metric]


def _memory(path: Path, lengths: Sequence[int], batch_size: int) -> dict[int, dict[str, int]]:
    """As `measure.peak_memory`, of an ONNX file."""
    command = [sys.executable, "-m", "ctd_lib.export.forms", str(path), str(batch_size)]
    done = subprocess.run([*command, *map(str, lengths)], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CtdError(f"the memory of {path} could not be measured: {reason[0]}")
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row.pop("length"): row for row in rows}


def _child(path: str, batch_size: str, *lengths: str) -> None:
    session = onnx.Session(Path(path))
    device = torch.device("cpu")
    baseline = measurement._start_peak(device)
    for length in sorted(map(int, lengths)):
        measurement._start_peak(device)
        session(_inputs(6, length, int(batch_size)))
        peak = max(baseline, measurement._peak(device))
        print(json.dumps({"length": length, "peak_bytes": peak, "baseline_bytes": baseline}))


if __name__ == "__main__":
    _child(*sys.argv[1:])

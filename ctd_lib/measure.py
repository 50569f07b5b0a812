"""Time, memory and parameters of models.

Times are medians over forwards that are interleaved between the models, so that a machine that
slows down slows all of them. Memory is measured in a process of its own, which holds one model and
nothing else.
"""

import argparse
import contextlib
import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ctd_lib.errors import CtdError
from ctd_lib.models import load, max_length

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OUT_OF_MEMORY = "out of memory"


def parameters(model: nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(p.numel() for p in model.parameters())


def latency(
    models: dict[str, PreTrainedModel],
    lengths: Sequence[int],
    batch_size: int = 1,
    repeats: int = 5,
    burn_in: int = 1,
    dtype: str = "float32",
) -> list[dict]:
    """Seconds of a forward of each model at each length, on the device where the model is.

    Args:
        models: by the name that the rows will call `role`.
        lengths: in tokens, without padding.
        repeats: timed forwards.
        burn_in: forwards before them that are not timed.
        dtype: of weights and activations, "float32" or "bfloat16".

    Returns:
        A row per length and model: role, length, batch_size, seconds_median, seconds_iqr (first and
        third quartile), repeats, tokens_per_second, parameters. Where memory runs out, the
        figures are None, `error` says so, and the other rows are measured all the same.

    Raises:
        CtdError: a length is over a model's positions; the dtype is unknown.
    """
    for name, model in models.items():
        for length in lengths:
            _check(name, model, length, dtype)
    measured = {
        name: copy.deepcopy(model).to(DTYPES[dtype]).eval() for name, model in models.items()
    }
    rows = []
    for length in lengths:
        seconds = _interleaved(measured, length, batch_size, repeats, burn_in)
        for name, model in measured.items():
            rows.append(
                {"role": name, "length": length, "batch_size": batch_size, "repeats": repeats}
                | {"parameters": parameters(model)}
                | _summary(seconds[name], batch_size * length)
            )
    return rows


def peak_memory(
    model_path: Path | str,
    lengths: Sequence[int],
    batch_size: int = 1,
    dtype: str = "float32",
    device: str = "cpu",
    head: str = "base",
) -> dict[int, dict[str, int | None]]:
    """Peak memory of a forward at each length, measured in a process that does nothing else.

    Args:
        model_path: folder of a saved model.
        head: with which head it is loaded, as in `models.load`.

    Returns:
        By length: peak_bytes, on a CPU the process's highest resident set during the forward, on
        CUDA the allocator's peak; and baseline_bytes, the same when the model had been loaded, so
        that the difference is the forward's own. Both are None where memory ran out.

    Raises:
        CtdError: a length is over the model's positions; the dtype is unknown; the model cannot be
            loaded.
    """
    command = [sys.executable, "-m", "ctd_lib.measure", "--child", str(model_path)]
    command += [str(batch_size), dtype, device, head, *map(str, lengths)]
    done = subprocess.run(command, capture_output=True, text=True)
    # -9: Linux kills the process whose memory it cannot find; the lengths before that one stand.
    if done.returncode not in (0, -9):
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CtdError(f"the memory of {model_path} could not be measured: {reason[0]}")
    nothing = dict.fromkeys(("peak_bytes", "baseline_bytes"))
    found = {length: nothing for length in lengths}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            found[row.pop("length")] = row
    return found


def _check(name: str, model: PreTrainedModel, length: int, dtype: str) -> None:
    if dtype not in DTYPES:
        raise CtdError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}.")
    if length > max_length(model.config):
        raise CtdError(
            f"length {length} is over the {max_length(model.config)} positions of {name};"
            " give shorter lengths or convert with a larger max_length."
        )


def _interleaved(
    models: dict[str, PreTrainedModel], length: int, batch_size: int, repeats: int, burn_in: int
) -> dict[str, list[float] | None]:
    """Seconds of each model's forwards in turns; None for a model that ran out of memory."""
    inputs = {name: _inputs(model, length, batch_size) for name, model in models.items()}
    seconds: dict[str, list[float] | None] = {name: [] for name in models}
    for turn in range(burn_in + repeats):
        for name, model in models.items():
            if seconds[name] is None:
                continue
            try:
                elapsed = _timed_forward(model, inputs[name])
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                seconds[name] = None
                continue
            if turn >= burn_in:
                seconds[name].append(elapsed)
    return seconds


def _inputs(model: PreTrainedModel, length: int, batch_size: int) -> dict[str, Tensor]:
    """Random tokens, none of them padding, alike for models of one vocabulary."""
    generator = torch.Generator().manual_seed(0)
    first = (model.config.pad_token_id or 0) + 1
    shape = (batch_size, length)
    ids = torch.randint(first, model.config.vocab_size, shape, generator=generator)
    ids = ids.to(model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.inference_mode()
def _timed_forward(model: PreTrainedModel, inputs: dict[str, Tensor]) -> float:
    _synchronize(model.device)
    started = time.perf_counter()
    model(**inputs)
    _synchronize(model.device)
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(seconds: list[float] | None, tokens: int) -> dict:
    if seconds is None:
        nothing = dict.fromkeys(("seconds_median", "seconds_iqr", "tokens_per_second"))
        return nothing | {"error": OUT_OF_MEMORY}
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return {
        "seconds_median": median,
        "seconds_iqr": [low, high],
        "tokens_per_second": tokens / median,
    }


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "DefaultCPUAllocator" in str(error)
    )


def _measure_memory(
    path: str, lengths: list[int], batch_size: int, dtype: str, device: str, head: str
) -> Iterator[dict[str, int]]:
    """Runs in the child: a row per length, from the shortest until memory runs out."""
    model = load(path, head)
    for length in lengths:
        _check(path, model, length, dtype)
    try:
        model = model.to(device, DTYPES[dtype])
        baseline = _start_peak(model.device)
        for length in sorted(lengths):
            _start_peak(model.device)
            _timed_forward(model, _inputs(model, length, batch_size))
            # Linux counts the two a few pages differently.
            peak = max(baseline, _peak(model.device))
            yield {"length": length, "peak_bytes": peak, "baseline_bytes": baseline}
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise


def _start_peak(device: torch.device) -> int:
    """Forget the peak so far, which is that of loading; returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    # Where the system has no such file, or guards it, the peak may be that of loading.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        # getrusage would do elsewhere only: on Linux its maximum is inherited from the parent.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _child() -> None:
    parser = argparse.ArgumentParser(prog="python -m ctd_lib.measure")
    parser.add_argument("--child", action="store_true", required=True)
    for name in ("path", "batch_size", "dtype", "device", "head"):
        parser.add_argument(name, type=int if name == "batch_size" else str)
    parser.add_argument("lengths", type=int, nargs="+")
    given = vars(parser.parse_args())
    given.pop("child")
    try:
        for row in _measure_memory(**given):
            print(json.dumps(row), flush=True)
    except CtdError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _child()

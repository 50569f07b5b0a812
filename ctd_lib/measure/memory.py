"""Peak memory of a forward, measured in a process that does nothing else."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ctd_lib.errors import CtdError

KILLED = -9
"""Linux ends a process so whose memory it cannot find."""
Peaks = dict[int, dict[str, int | None]]
"""By length: peak_bytes and baseline_bytes, both None where memory ran out."""


def peak_memory(
    model_path: Path | str,
    lengths: Sequence[int],
    batch_size: int = 1,
    dtype: str = "float32",
    device: str = "cpu",
    head: str = "base",
    workload: str = "fixed",
    implementation: str = "ours",
) -> Peaks:
    """Peak memory of a forward of a saved model at each length.

    Args:
        model_path: folder of a saved model.
        head: with which head it is loaded, as in `models.load`.
        workload: one of `WORKLOADS`.
        implementation: "ours", or "transformers" for the attention that transformers has.

    Returns:
        By length: peak_bytes, on a CPU the process's highest resident set during the forward, on
        CUDA the allocator's peak; and baseline_bytes, the same when the model had been loaded, so
        that the difference is the forward's own. Both are None where memory ran out.

    Raises:
        CtdError: a length is over the model's positions; the dtype is unknown; the model cannot be
            loaded.
    """
    model = {"path": str(model_path), "head": head, "implementation": implementation}
    return in_a_child({"model": model}, lengths, batch_size, dtype, device, workload)


def in_a_child(
    opened: dict,
    lengths: Sequence[int],
    batch_size: int,
    dtype: str,
    device: str,
    workload: str = "fixed",
) -> Peaks:
    """As `peak_memory`, of whatever `measure.child` can open."""
    if not lengths:
        return {}
    work = opened | {
        "lengths": sorted(lengths), "batch_size": batch_size, "dtype": dtype, "device": device,
        "workload": workload,
    }  # fmt: skip
    command = [sys.executable, "-m", "ctd_lib.measure.child", json.dumps(work)]
    done = subprocess.run(command, capture_output=True, text=True)
    what = opened.get("model", opened.get("system", {}))
    return read_peaks(done, lengths, what.get("path", what.get("name")))


def read_peaks(done: subprocess.CompletedProcess, lengths: Sequence[int], what: str) -> Peaks:
    """What a child wrote, a JSON object a line; the lengths before it was killed stand.

    Raises:
        CtdError: it failed of something else than memory.
    """
    if done.returncode not in (0, KILLED):
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CtdError(f"the memory of {what} could not be measured: {reason[0]}")
    nothing = dict.fromkeys(("peak_bytes", "baseline_bytes"))
    found: Peaks = {length: nothing for length in lengths}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            found[row.pop("length")] = row
    return found

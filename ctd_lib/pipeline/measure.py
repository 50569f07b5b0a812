"""Teacher and student in turn, on this machine."""

from pathlib import Path

import torch

from ctd_lib import measure as measurement
from ctd_lib import models, params, runtime
from ctd_lib.pipeline.common import get_or_make, record
from ctd_lib.pipeline.distill import model_of
from ctd_lib.store import Artifact


def measure(p: params.MeasureParams) -> Artifact:
    """Seconds and peak memory of teacher and student over lengths, in turn, on this machine."""
    found = {role: model_of(p, role) for role in ("teacher", "student")}
    device = runtime.device(p.device)
    settings = params.own(p, params.MeasureParams) | {
        "device": str(device), "host": runtime.host(), "threads": torch.get_num_threads(),
    }  # fmt: skip

    def make(folder: Path) -> dict:
        loaded = {role: models.load(a.path, "base").to(device) for role, a in found.items()}
        rows = measurement.latency(
            loaded, p.lengths, p.measure_batch_size, p.repeats, dtype=p.dtype
        )
        memory = {
            role: measurement.peak_memory(
                a.path, p.lengths, p.measure_batch_size, p.dtype, device.type
            )
            for role, a in found.items()
        }  # fmt: skip
        return {
            "rows": [row | memory[row["role"]][row["length"]] for row in rows],
            "dtype": p.dtype, "device": device.type, "threads": torch.get_num_threads(),
        }  # fmt: skip

    artifact = get_or_make("measure", p.arch, settings, list(found.values()), p.seed, make)
    record("measure", p, artifact)
    return artifact

"""The machine while it measures: its speed at matrix products, and the energy that it took."""

import contextlib
import logging
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from ctd_lib import runtime
from ctd_lib.measure.forwards import DTYPES

SIZE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product whose speed is the machine's peak."""
CALIBRATION_SIZE = {"cpu": 1024, "cuda": 4096}
RUNS = 3
SLOWER = 1.25
"""A calibration that takes this many times the best one disturbs the round beside it."""
ENERGY_COUNTERS = Path("/sys/class/powercap")


def matmul_gflops(device: torch.device, dtypes: Sequence[str]) -> dict[str, float]:
    """10^9 FLOP per second of the fastest matrix product at hand, by dtype."""
    size = SIZE[device.type]
    speeds = {}
    for name in dtypes:
        x, y = (torch.randn(size, size, device=device).to(DTYPES[name]) for _ in range(2))
        products = [lambda x=x, y=y: torch.nn.functional.linear(x, y)]
        able = name == "float32" or runtime.multiplies_bfloat16(device)
        if device.type == "cpu" and torch.backends.mkldnn.is_available() and able:
            # PyTorch's own float32 product holds back on CPUs that are not Intel's.
            products.append(
                lambda x=x, y=y: torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")
            )
        best = min(_seconds(product, device) for product in products for _ in range(RUNS))
        speeds[name] = 2 * size**3 / best / 1e9
    return speeds


class Calibration:
    """A matrix product between rounds, the same each time: is the machine as fast as before?"""

    def __init__(self, device: torch.device):
        self.device = device
        size = CALIBRATION_SIZE[device.type]
        self.factors = [torch.randn(size, size, device=device) for _ in range(2)]
        self.best_seconds = float("inf")
        self.rounds = self.disturbed = 0

    def quiet(self) -> bool:
        """Whether the machine is at most SLOWER times slower than at its best so far."""
        seconds = self.seconds()
        self.best_seconds = min(self.best_seconds, seconds)
        return seconds <= SLOWER * self.best_seconds

    def seconds(self) -> float:
        """Median seconds of a few products."""
        x, y = self.factors
        return statistics.median(_seconds(lambda: x @ y, self.device) for _ in range(RUNS))

    def values(self) -> dict:
        """For the record: best_seconds, rounds that were run, and how many were disturbed."""
        return {
            "best_seconds": self.best_seconds,
            "rounds": self.rounds,
            "disturbed": self.disturbed,
        }


@contextlib.contextmanager
def energy(device: torch.device) -> Iterator[dict]:
    """Fills the given dictionary with kwh and tool at the end, where it can be measured.

    It stays empty without codecarbon, and where the machine lets nobody read its counters:
    codecarbon would then guess from the processor's name.
    """
    found: dict = {}
    if find_spec("codecarbon") is None or not _has_counters(device):
        yield found
        return
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level=logging.ERROR
    )  # the country matters for emissions, which are not asked for
    tracker.start()
    try:
        yield found
    finally:
        tracker.stop()
        found |= {"kwh": tracker.final_emissions_data.energy_consumed, "tool": "codecarbon"}


def _has_counters(device: torch.device) -> bool:
    if device.type == "cuda":
        return True
    return any(os.access(path, os.R_OK) for path in ENERGY_COUNTERS.glob("*/energy_uj"))


@torch.inference_mode()
def _seconds(product, device: torch.device) -> float:
    started = time.perf_counter()
    product()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started

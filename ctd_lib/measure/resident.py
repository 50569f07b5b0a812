"""Peak memory of this process. Needs torch alone, so that other environments can import it."""

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch


def start_peak(device: torch.device) -> int:
    """Forget the peak so far, which is that of loading; returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if sys.platform != "linux":
        return peak(device)
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)  # what loading freed goes back to the system
    # Where the system guards this file, the peak may be that of loading.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: torch.device) -> int:
    """Highest bytes since `start_peak`: resident set on a CPU, the allocator's on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        # getrusage would do elsewhere only: on Linux its maximum is inherited from the parent.
        return _status("VmHWM")
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

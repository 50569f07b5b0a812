"""The machine and the process: seeds, device, provenance, and whether a model hub answers."""

import ctypes
import functools
import importlib.metadata
import os
import platform
import random
import re
import subprocess
import sys
from datetime import UTC, datetime
from urllib.parse import urlparse

from ctd_lib import paths
from ctd_lib.errors import CtdError

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "papermill")
HUB_TIMEOUT_SECONDS = 2.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, from its malloc.h
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch, so that a run repeats."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def device(name: str = "auto"):
    """The torch device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        CtdError: there is no device of that name, on this machine or at all.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise CtdError(f"device {name!r} is unknown; use 'auto', 'cpu' or 'cuda'.") from error
    if found.type == "meta":
        raise CtdError("device 'meta' computes nothing; use 'auto', 'cpu' or 'cuda'.")
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, ImportError) as error:  # each backend has its own
        raise CtdError(
            f"device {name!r} is not on this machine; use device 'cpu' or 'auto'."
        ) from error
    return found


def multiplies_bfloat16(found) -> bool:
    """Whether a torch device has instructions for products in bfloat16; of CPUs not all do.

    Without them, which are AVX-512's on x86, PyTorch multiplies element by element. A layer of 384
    by 1536 took 7 times as long as in float32, attention's products 28 times (two cores, AVX2).
    """
    import torch

    if found.type != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@functools.cache
def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees, where the C library is glibc.

    Steps on full sequences allocate the same megabytes again and again. By default glibc gives
    larger ones back to the system, which hands them out page by page, each filled with zeros: a
    fifth of a step's time on the CPU. Blocks above 256 MiB still go back; those of a step, like the
    gradient of the embeddings, are smaller.

    Not for steps on sequences of any length: what one frees does not fit the next, so that memory
    grows, and no time is won. Of few lengths it does not grow.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 256 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def hub_answers() -> bool:
    """Whether a model hub can be reached: decided once per process, within three seconds.

    Where it cannot, the offline variables are set, so that no library waits for its own time-out.
    """
    answers = not any(_is_set(name) for name in OFFLINE_VARIABLES) and _reachable(
        os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    )
    if not answers:
        for name in OFFLINE_VARIABLES:
            os.environ[name] = "1"
        if "huggingface_hub" in sys.modules:  # it read the variables when it was imported
            sys.modules["huggingface_hub"].constants.HF_HUB_OFFLINE = True
    return answers


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() not in ("", "0", "false", "no")


def _reachable(endpoint: str) -> bool:
    address = urlparse(_proxy() or endpoint)
    if not address.hostname:
        return False
    port = address.port or (443 if address.scheme == "https" else 80)
    # Name resolution has no time-out of its own, hence a child process that can be abandoned.
    probe = (
        "import socket, sys; "
        "socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"
    )
    command = [
        sys.executable, "-S", "-c", probe, address.hostname, str(port), str(HUB_TIMEOUT_SECONDS)
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=HUB_TIMEOUT_SECONDS + 0.5)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _proxy() -> str | None:
    """The proxy as curl takes it: an address without a scheme is one of http."""
    found = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    return f"http://{found}" if found and "://" not in found else found


def provenance(seconds: float) -> dict:
    """Where, when and from which code a number came; `seconds` is how long it took to make."""
    return code() | {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "host": host(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


@functools.cache
def code() -> dict:
    """The commit of the checkout, and whether it has changes, when this was asked first."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":!results")),
    }


@functools.cache
def host() -> dict:
    """This machine: processor, usable cores, memory, accelerator."""
    import psutil
    import torch

    return {
        "cpu": _cpu_name(),
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }  # fmt: skip


def processor(host: dict, device: str, threads: int) -> str:
    """What of a machine, as `host` describes it, computed on a device: in a few words."""
    if device == "cuda":
        return host["gpu"]
    # What makes a name long and tells nothing.
    name = re.sub(r"\((R|TM)\)| (CPU|Processor)\b", "", host["cpu"])
    return f"{name}, {threads} threads"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """What git says of the checkout; None where there is no checkout, or no git."""
    command = ["git", "-C", str(paths.CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None

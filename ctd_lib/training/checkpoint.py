"""Checkpoints of a training in progress: written aside, checksummed, renamed; the last two kept.

A checkpoint is a folder `step-N` with one safetensors file and one JSON file, which holds the
checksum of the other and of itself. Nothing is pickled.
"""

import hashlib
import json
import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctd_lib.files import sha256

KEPT = 2
TENSORS = "tensors.safetensors"
STATE = "state.json"


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict) -> bool:
    """Write a checkpoint and drop all but it and the one before.

    Those of later steps too: training that is at this step could not read them.

    A disk that is full, or otherwise refuses, is a warning: the checkpoint before this one stays.

    Args:
        tensors: by name; none may share memory with another.
        state: all else, JSON-able.

    Returns:
        Whether it was written.
    """
    partial, final = folder / ".partial", folder / f"step-{step:09d}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: x.detach().contiguous() for name, x in tensors.items()}, partial / TENSORS)
        _sync(partial / TENSORS)
        body = {"step": step, "sha256": sha256(partial / TENSORS), "state": state}
        (partial / STATE).write_text(json.dumps({"sha256": _digest(body), "body": body}))
        _sync(partial / STATE)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        warnings.warn(
            f"the checkpoint of step {step} could not be written to {folder}: {error};"
            " training goes on, and the checkpoint before it is kept.",
            stacklevel=2,
        )
        return False
    found = _found(folder)
    kept = [path for path in found if path <= final][-KEPT:]
    for other in found:
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)
    return True


def load(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors, on the CPU, and state of the last readable checkpoint; None where there is none.

    An unreadable one is skipped with a warning.
    """
    for path in reversed(_found(folder)):
        try:
            content = json.loads((path / STATE).read_text())
            body = content["body"]
            if content["sha256"] != _digest(body) or body["sha256"] != sha256(path / TENSORS):
                raise ValueError("it does not match its checksum")
            return load_file(path / TENSORS), body["state"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            warnings.warn(
                f"checkpoint {path} is unreadable ({error}); the one before it is used.",
                stacklevel=2,
            )
    return None


def random_state() -> dict:
    """The states of all random generators, that of the GPU in use among them, JSON-able."""
    numpy_state = np.random.get_state()
    on_gpu = torch.cuda.is_initialized()
    return {
        "python": random.getstate(),
        "numpy": [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]],
        "torch": _to_hex(torch.get_rng_state()),
        "cuda": _to_hex(torch.cuda.get_rng_state()) if on_gpu else None,
    }


def set_random_state(state: dict) -> None:
    """Bring all random generators into the states that `random_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_from_hex(state["torch"]))
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_from_hex(state["cuda"]))


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _to_hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(state: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8)


def _digest(body: dict) -> str:
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Have the system write a file or folder to the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

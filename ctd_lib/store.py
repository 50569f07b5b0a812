"""Artifacts by content key: made once, written aside, checksummed, renamed into place, locked.

An artifact is a folder. Its key is a digest of the stage, its parameters, the keys of the artifacts
it was made from and the stage's revision; the same key is therefore the same content. A folder
under its final name is complete by construction: an interrupted run leaves only a `.partial` folder
behind, of which the next run keeps the checkpoints and nothing else.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ctd_lib import files, paths, processes, runtime
from ctd_lib.errors import CtdError

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
"""Folder within the one being made where `make` may leave what a later run goes on from."""
MAKING, DONE = "making", "done"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and what its manifest says of it."""

    stage: str
    key: str
    path: Path
    values: dict
    provenance: dict


def key_of(stage: str, params: dict, upstream: Sequence[str], revision: int) -> str:
    """The content key, 16 hex digits."""
    what = {"stage": stage, "params": params, "upstream": list(upstream), "revision": revision}
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def get_or_make(
    stage: str,
    label: str,
    params: dict,
    upstream: Sequence[Artifact],
    revision: int,
    make: Callable[[Path], dict | None],
    together: bool = False,
) -> Artifact:
    """The artifact of that key: the finished one, or `make(folder)` if there is none.

    Of several processes the main one decides and makes, and the others wait. Where they are to
    work `together`, the others call `make` too, with a folder that is thrown away.

    Args:
        stage: name of the stage, a folder under `artifacts/`.
        label: what a reader calls it, for the folder name and the messages ("longformer").
        params: JSON-able values on which the content depends.
        upstream: artifacts that it is made from.
        revision: raised by hand whenever the stage's code changes what it makes.
        make: fills the folder it is given and returns JSON-able values worth keeping.
        together: whether all processes take part in `make`.

    Raises:
        CtdError: a finished artifact does not match its checksums, the disk is full, or the memory
            does not suffice.
    """
    key = key_of(stage, params, [artifact.key for artifact in upstream], revision)
    path = paths.artifacts() / stage / f"{label}-{key}"
    make = _saying_out_of_memory(make, f"{stage} {label}")
    if not processes.is_main():
        return _follow(path, make if together else None)
    if (path / MANIFEST).is_file():
        say(f"{stage} {label}: found, reused ({key})")
        return _announce(load(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CtdError(f"{path.parent} cannot be made: {error}; set CTD_HOME.") from error
    with _locked(path, f"{stage} {label}"):
        if (path / MANIFEST).is_file():
            say(f"{stage} {label}: made by another run meanwhile, reused ({key})")
            return _announce(load(path))
        if path.exists():
            raise CtdError(f"Artifact {path} has no {MANIFEST}; delete the folder to remake it.")
        partial = path.with_name(f".{path.name}.partial")
        goes_on = (partial / CHECKPOINTS).is_dir()
        say(f"{stage} {label}: {'going on after an interruption' if goes_on else 'making'} ({key})")
        processes.from_main(MAKING)
        started = time.perf_counter()
        try:
            _clear(partial)
            values = _make(make, partial, together)
            seconds = time.perf_counter() - started
            manifest = {
                "stage": stage,
                "key": key,
                "params": params,
                "upstream": [artifact.key for artifact in upstream],
                "revision": revision,
                "values": values,
                "provenance": runtime.provenance(seconds) | {"stage_revision": revision},
                "files": _checksums(partial),
            }
            _write_json(partial / MANIFEST, manifest)
            # Last: whatever fails before loses no training.
            shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            failed = f"written to {path.parent}" if _is_of_the_disk(error) else "made"
            raise CtdError(f"{stage} {label} could not be {failed}: {error}.") from error
        say(f"{stage} {label}: done in {seconds:.0f} s")
    return _announce(load(path, verify=False))


def _is_of_the_disk(error: OSError | SafetensorError) -> bool:
    """Whether writing failed: errors of the network are OSErrors too, many without a number."""
    elsewhere = (ConnectionError, FileNotFoundError, TimeoutError)
    return not isinstance(error, elsewhere) and getattr(error, "errno", errno.EIO) is not None


def _saying_out_of_memory(make: Callable[[Path], dict | None], what: str) -> Callable:
    """`make`, but that memory runs out is one sentence."""

    def explained(folder: Path) -> dict | None:
        try:
            return make(folder)
        except (MemoryError, RuntimeError) as error:
            from ctd_lib.measure import failures  # not above: torch is slow to import

            if failures.explained(error) != failures.OUT_OF_MEMORY:
                raise
            raise CtdError(
                f"{what} could not be made: out of memory; set gradient_checkpointing, or a "
                "smaller batch_size with more accumulation, or a smaller finetune_batch_size."
            ) from error

    return explained


def _make(make: Callable[[Path], dict | None], folder: Path, together: bool) -> dict:
    with nullcontext() if together else processes.apart():
        return make(folder) or {}


def _announce(artifact: Artifact) -> Artifact:
    processes.from_main(DONE)
    return artifact


def _follow(path: Path, make: Callable[[Path], dict | None] | None) -> Artifact:
    """What the other processes do while the main one makes the artifact."""
    if processes.from_main() == MAKING:
        if make is not None:
            with tempfile.TemporaryDirectory() as scratch:
                make(Path(scratch))
        processes.from_main()
    return load(path, verify=False)


def _clear(partial: Path) -> None:
    """Leave nothing of an interrupted run but its checkpoints."""
    partial.mkdir(exist_ok=True)
    for path in partial.iterdir():
        if path.is_dir() and path.name != CHECKPOINTS:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def load(path: Path, verify: bool = True) -> Artifact:
    """Open a finished artifact, checking every file against its checksum.

    Raises:
        CtdError: a file is missing, changed or unreadable.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        expected, stage = manifest["files"], manifest["stage"]
    except (ValueError, KeyError) as error:
        raise CtdError(_corrupt(path, MANIFEST)) from error
    if verify:
        for name, digest in expected.items():
            if not (path / name).is_file() or files.sha256(path / name) != digest:
                raise CtdError(_corrupt(path, name))
    return Artifact(stage, manifest["key"], path, manifest["values"], manifest["provenance"])


def say(message: str) -> None:
    """One line of progress to the reader of a notebook or a terminal; the main process says it."""
    if processes.is_main():
        print(f"[ctd] {message}", file=sys.stdout, flush=True)


def _corrupt(path: Path, name: str) -> str:
    return (
        f"Artifact {path} is corrupt: {name} does not match its checksum; "
        "delete the folder to remake it."
    )


class _locked:
    """Holds the lock of one artifact; says so when another run has it and this one must wait."""

    def __init__(self, path: Path, what: str):
        self.lock = FileLock(path.with_name(f".{path.name}.lock"))
        self.what = what

    def __enter__(self):
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            say(f"{self.what}: another run is making it, waiting")
            self.lock.acquire()
        except OSError as error:
            raise CtdError(f"{self.what} could not be made: its lock, {error}.") from error

    def __exit__(self, *exception):
        self.lock.release()


def _checksums(folder: Path) -> dict[str, str]:
    """Of every file but checkpoints."""
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix(): files.sha256(folder / path)
        for path in found if path.parts[0] != CHECKPOINTS
    }  # fmt: skip


def _write_json(path: Path, value: dict) -> None:
    with open(path, "w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())

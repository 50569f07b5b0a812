"""Several processes of one run: the main one decides and writes, all of them train.

One process is the ordinary case and costs nothing here. Several are started by `accelerate launch`
or `torchrun`, which tell each its place in environment variables.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=1)  # the others may wait for hours while the main process tokenises

_apart = False
# Of `accelerate launch --use_fsdp`. Taken out, for accelerate would wrap models in its own way and
# transformers load them in the main process only.
_use_fsdp = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true"


def count() -> int:
    """How many processes take part; 1 within `apart`."""
    if _apart or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 1
    return _state().num_processes


def rank() -> int:
    """The number of this process, from 0."""
    return _state().process_index if count() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that decides and writes."""
    return rank() == 0


def sharded() -> bool:
    """Whether the processes are to share the state of a training, not each to hold all of it."""
    return _use_fsdp and count() > 1


def from_main(value: Any = None) -> Any:
    """The main process's value, in every process; the others wait for it."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


@contextmanager
def apart() -> Iterator[None]:
    """What one process does by itself while the others wait: it counts as the only one."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def end() -> None:
    """Part from the other processes, at the very end."""
    if count() > 1:
        _state().destroy_process_group()


def _state():
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)

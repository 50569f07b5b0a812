"""The process whose memory is measured: `python -m ctd_lib.measure.child JSON`.

It opens one model and prints a JSON object for each length, from the shortest on until memory runs
out.
"""

import json
import sys
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel

from ctd_lib import attention, models
from ctd_lib.errors import CtdError
from ctd_lib.measure import contenders, failures, forwards, systems
from ctd_lib.measure.resident import peak, start_peak

Prepare = Callable[[PreTrainedModel, list[int]], Callable[[], float]]


def main(text: str) -> None:
    """Do what the JSON object says, see `memory.in_a_child`."""
    work = json.loads(text)
    try:
        for row in _rows(**work):
            print(json.dumps(row), flush=True)
    except CtdError as error:
        sys.exit(str(error))
    except RuntimeError as error:
        sys.exit(failures.explained(error) or str(error))


def _rows(
    lengths: list[int], batch_size: int, dtype: str, device: str, workload: str, **opened
) -> Iterator[dict[str, int]]:
    try:
        model, prepare = _open(lengths, dtype, **opened)
        model = model.to(device, forwards.torch_dtype(dtype))
        baseline = start_peak(model.device)
        for length in lengths:
            forward = prepare(model, forwards.documents(workload, length, batch_size))
            start_peak(model.device)
            forward()
            # Linux counts the two a few pages differently.
            highest = max(baseline, peak(model.device))
            yield {"length": length, "peak_bytes": highest, "baseline_bytes": baseline}
    except (RuntimeError, MemoryError) as error:
        if failures.explained(error) != failures.OUT_OF_MEMORY:
            raise


def _open(
    lengths: list[int], dtype: str, model: dict | None = None, system: dict | None = None
) -> tuple[PreTrainedModel, Prepare]:
    if system is not None:
        named = systems.System(**system)
        loaded = systems.build(named, max(lengths))
        return loaded, lambda model, documents: systems.prepare(named, model, documents)
    loaded = models.load(model["path"], model["head"])
    if model["implementation"] != systems.OURS:
        attention.uninstall(loaded)
    contender = contenders.of_model({"model": model["path"]}, loaded, dtype)
    contenders.check_lengths([contender], lengths[-1:])
    return loaded, forwards.forward


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])

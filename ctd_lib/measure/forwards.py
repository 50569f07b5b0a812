"""What is timed: one forward of a base model on a batch of documents."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ctd_lib import attention
from ctd_lib.errors import CtdError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WORKLOADS = ("fixed", "variable")
SHORT, LONG = (1 / 16, 1 / 4), (1 / 2, 1)
"""Workload `variable`: shares of the length between which short and long documents lie."""


def torch_dtype(name: str) -> torch.dtype:
    """The dtype of that name.

    Raises:
        CtdError: it is none of `DTYPES`.
    """
    if name not in DTYPES:
        raise CtdError(f"dtype {name!r} is unknown; use one of {', '.join(DTYPES)}.")
    return DTYPES[name]


def documents(workload: str, length: int, batch_size: int) -> list[int]:
    """Tokens of each document of a batch; the same ones at every call.

    Args:
        workload: "fixed": all have `length`; "variable": each is short or long with equal
            probability, its length uniform between the shares `SHORT` or `LONG` of `length`.

    Raises:
        CtdError: the workload is unknown.
    """
    if workload not in WORKLOADS:
        raise CtdError(f"workload {workload!r} is unknown; use one of {', '.join(WORKLOADS)}.")
    if workload == "fixed":
        return [length] * batch_size
    draw = np.random.default_rng(0)
    shares = (draw.uniform(*(LONG if draw.random() < 0.5 else SHORT)) for _ in range(batch_size))
    return [max(1, round(share * length)) for share in shares]


def inputs(
    config, device: torch.device, lengths: Sequence[int], multiple: int = 1
) -> dict[str, Tensor]:
    """Random tokens (B, T) of documents of these lengths, padded to the longest of them.

    Alike for models of one vocabulary; no token of a document is the padding token.

    Args:
        multiple: T is a multiple of this.
    """
    generator = torch.Generator().manual_seed(0)
    padding = config.pad_token_id or 0
    shape = (len(lengths), math.ceil(max(lengths) / multiple) * multiple)
    ids = torch.randint(0, config.vocab_size - 1, shape, generator=generator)
    ids += ids >= padding
    mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).long()
    ids = torch.where(mask.bool(), ids, padding)
    given = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
    if "LongformerForQuestionAnswering" in (config.architectures or ()):
        # Left to itself it looks for the separators of a question, which random tokens lack.
        given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
    return given


def forward(model: PreTrainedModel, lengths: Sequence[int]) -> Callable[[], float]:
    """A forward of these documents (`inputs`); every call runs it and returns its seconds."""
    if model.config.model_type == "big_bird" and not attention.installed(model):
        # A short input turns transformers' Big Bird to full attention for good.
        model.set_attention_type(model.config.attention_type)
    given = inputs(model.config, model.device, lengths)
    return lambda: timed(model, given)


@torch.inference_mode()
def timed(model: PreTrainedModel, given: dict[str, Tensor]) -> float:
    """Seconds of one forward; on CUDA between two events of its own stream."""
    if model.device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(model.device)
        start.record()
        model(**given)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    started = time.perf_counter()
    model(**given)
    return time.perf_counter() - started

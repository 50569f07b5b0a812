"""The numbers that shape each attention pattern: published at base size, smaller for the small."""

import math

from ctd_lib import ARCHS
from ctd_lib.attention.lsg import LsgGeometry
from ctd_lib.errors import CtdError

BASE_HIDDEN_SIZE = 768
BASE_MAX_LENGTH = 4096
SMALLEST_BLOCK = 16

PUBLISHED = {
    "full": {},
    "longformer": {"attention_window": 512},
    "bigbird": {"block_size": 64, "num_random_blocks": 3},
    "lsg": {
        "block_size": 128,
        "sparse_block_size": 128,
        "sparsity_factor": 2,
        "sparsity_type": "norm",
        "num_global_tokens": 1,
        "mask_first_token": True,
        "pool_with_global": True,
    },
    "nystromformer": {"num_landmarks": 64, "conv_kernel_size": 65},
}
"""The published checkpoints' configurations (base size, 4096 tokens).

LSG's `mask_first_token` is ours: with it the global token takes the first token's place as a key
instead of standing beside it, and the converted model begins as the teacher's function.
"""

_BLOCK = {
    "longformer": "attention_window",
    "bigbird": "block_size",
    "lsg": "block_size",
    "nystromformer": "num_landmarks",
}
_SCALED = ("attention_window", "block_size", "sparse_block_size", "num_landmarks")


def geometry(arch: str, hidden_size: int, max_length: int, **overrides) -> dict:
    """The configuration fields of an arch's attention pattern.

    Without overrides: the published numbers at hidden size 768 and 4096 tokens or more. Below
    either, windows, blocks and landmarks shrink in proportion to the smaller of the two, to a
    power of two and to no less than 16, so that a pattern costs the same share of the whole.

    Args:
        arch: one of ARCHS.
        hidden_size: the backbone's, C.
        max_length: longest input, in tokens; a multiple of the window, block or landmark count.
        **overrides: fields to set otherwise; None stands for the default.

    Raises:
        CtdError: unknown arch or field, or numbers that do not fit together.
    """
    if arch not in ARCHS:
        raise CtdError(f"arch {arch!r} is unknown; take one of {', '.join(ARCHS)}.")
    if max_length < 1:
        raise CtdError(f"max_length is {max_length}; it must be positive.")
    given = {name: value for name, value in overrides.items() if value is not None}
    fields = PUBLISHED[arch]
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise CtdError(f"{name!r} is no setting of arch {arch!r}; its settings are: {known}.")
    scale = min(1.0, hidden_size / BASE_HIDDEN_SIZE, max_length / BASE_MAX_LENGTH)
    scale = 2.0 ** math.floor(math.log2(scale))
    scaled = {
        name: max(SMALLEST_BLOCK, int(fields[name] * scale)) for name in _SCALED if name in fields
    }
    result = fields | scaled | given
    if arch == "nystromformer" and "conv_kernel_size" not in given:
        result["conv_kernel_size"] = result["num_landmarks"] + 1 - result["num_landmarks"] % 2
    _check(arch, max_length, result)
    return result


def _check(arch: str, max_length: int, fields: dict) -> None:
    for name, value in fields.items():
        if type(value) is int and value < (0 if name == "num_random_blocks" else 1):
            raise CtdError(f"{name} of arch {arch!r} is {value}; it must be positive.")
    if arch == "longformer" and fields["attention_window"] % 2:
        raise CtdError(
            f"attention_window is {fields['attention_window']}; it is the total width, half on"
            " each side, and must be even."
        )
    if arch == "nystromformer" and fields["conv_kernel_size"] % 2 == 0:
        raise CtdError(f"conv_kernel_size is {fields['conv_kernel_size']}; it must be odd.")
    if arch == "lsg":
        LsgGeometry(**{name: fields[name] for name in LsgGeometry.__dataclass_fields__})
    if arch == "full":
        return
    block = fields[_BLOCK[arch]]
    if max_length % block:
        raise CtdError(
            f"max_length {max_length} fits no {_BLOCK[arch]} of {block}; take a multiple of it,"
            f" such as {math.ceil(max_length / block) * block}, or another {_BLOCK[arch]}."
        )

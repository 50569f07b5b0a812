"""Weights in int8, activations quantised as they come: onnxruntime's dynamic quantisation.

torch.ao's own is deprecated; onnxruntime's is maintained and its files run wherever ONNX does.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ctd_lib import models
from ctd_lib.errors import CtdError
from ctd_lib.export import onnx

LEAST_AGREEMENT = 0.8
"""Cosine similarity with torch below which the outputs are no longer those of the model."""
LENGTH = 256
"""Tokens at which that is checked."""


def quantise(model: PreTrainedModel, source: Path, target: Path) -> float:
    """Write a quantised copy of an ONNX file; embeddings, norms and attention stay float32.

    Weights have one scale a column, and seven bits: with eight, processors without VNNI overflow.

    Args:
        model: what `source` was made from, with which the copy is compared; left as it is.

    Returns:
        The cosine similarity of its outputs to the model's.

    Raises:
        CtdError: that is below LEAST_AGREEMENT. A copy that did not pass is deleted.
    """
    onnx.require()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with onnx.quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_stacked(source),
            extra_options={"MatMulConstBOnly": True},
        )
    with onnx.deleted_on_error(target):
        agreement = _agreement(model, target)
        if not agreement >= LEAST_AGREEMENT:
            raise CtdError(
                f"int8 outputs have a cosine similarity of {agreement:.2f} to torch's, less than "
                f"{LEAST_AGREEMENT}; the file was deleted. Keep float32."
            )
    return agreement


def _stacked(path: Path) -> list[str]:
    """Products with weights that are stacked by head, which onnxruntime cannot quantise."""
    import onnx as format

    graph = format.load(path).graph
    stacked = {weight.name for weight in graph.initializer if len(weight.dims) > 2}
    return [node.name for node in graph.node if stacked.intersection(node.input)]


def _agreement(model: PreTrainedModel, path: Path) -> float:
    given = onnx.inputs(model, min(LENGTH, models.max_length(model.config)), rows=2)
    kept = given["attention_mask"].bool()
    with torch.inference_mode():
        expected = onnx.as_compared(model)(**given)
    similar = []
    for name, found in onnx.Session(path)(given).items():
        theirs, found = onnx.comparable(expected[name], torch.from_numpy(found), kept)
        similar.append(F.cosine_similarity(theirs, found, dim=0).item())
    return float(np.min(similar))  # NaN if any is

"""A model as ONNX: batch size and length stay open, outputs checked against torch.

Inputs and outputs are named as in transformers. Longformer takes `global_attention_mask` besides,
all zeros where nothing is global; models with token types take `token_type_ids`.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ctd_lib import attention, models
from ctd_lib.errors import CtdError
from ctd_lib.export import graphs

TOLERANCE = 1e-3
"""Largest difference from torch, in units of the outputs' standard deviation."""
LENGTHS = (3, 130, 700, 2050)
"""Checked besides the model's own; none of them whole blocks."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export(model: PreTrainedModel, path: Path) -> float:
    """Write a model of any arch, with any head, as one ONNX file in float32, and check it.

    Returns:
        The largest difference from torch (`check`).

    Raises:
        CtdError: packages are missing, the model is of no supported arch, or the file does not
            compute what torch does; it is deleted then.
    """
    require()
    graph = graphs.Graph(model)
    length, batch = (torch.export.Dim(name) for name in ("length", "batch"))
    example = inputs(model, min(200, models.max_length(model.config)), rows=2)
    with quiet(), torch.no_grad():
        torch.onnx.export(
            graph,
            kwargs=example,
            f=str(path),
            dynamo=True,
            dynamic_shapes={name: {0: batch, 1: length} for name in example},
            output_names=graphs.output_names(model),
            external_data=False,
            verbose=False,
        )
    difference = check(model, path)
    if not difference <= TOLERANCE:  # nor if it is NaN
        path.unlink()
        raise CtdError(
            f"the ONNX file differs from torch by {difference:.1e} standard deviations, more than "
            f"{TOLERANCE}; it was deleted."
        )
    return difference


def check(model: PreTrainedModel, path: Path) -> float:
    """Compare a file with the model that it was made from, at several lengths and paddings.

    Returns:
        The largest difference at any token that is no padding, in units of the standard deviation
        of the outputs; of a single number in units of itself, at least 1. NaN if any output is.
    """
    ours = model if attention.installed(model) else attention.install(model)
    session = Session(path)
    longest = models.max_length(model.config)
    differences = []
    for length in sorted({min(length, longest) for length in (*LENGTHS, longest)}):
        for rows in (1, 2):
            given = inputs(model, length, rows)
            with torch.inference_mode():
                expected = ours(**given)
            kept = given["attention_mask"].bool()
            for name, found in session(given).items():
                theirs, found = expected[name], torch.from_numpy(found)
                if theirs.shape[:2] == kept.shape:
                    theirs, found = theirs[kept], found[kept]
                unit = theirs.std() if theirs.numel() > 1 else theirs.abs().clamp(min=1)
                differences.append(float((found - theirs).abs().max() / unit))
    return float(np.max(differences))


def inputs(model: PreTrainedModel, length: int, rows: int) -> dict[str, Tensor]:
    """Random tokens (B, T); the second row ends in padding; two tokens of the first are global."""
    generator = torch.Generator().manual_seed(length)
    first = (model.config.pad_token_id or 0) + 1
    ids = torch.randint(first, model.config.vocab_size, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, -(-2 * length // 3) :] = 0
    ids = ids.where(mask.bool(), torch.tensor(model.config.pad_token_id or 0))
    is_global = torch.zeros_like(ids)
    is_global[:, 0] = is_global[0, length // 2] = 1
    given = {"input_ids": ids, "attention_mask": mask, "global_attention_mask": is_global}
    given["token_type_ids"] = torch.zeros_like(ids)
    return {name: given[name] for name in graphs.input_names(model)}


class Session:
    """An ONNX file opened by onnxruntime: tensors by name in, arrays by name out.

    Args:
        path: the file.
        threads: as torch by default.
    """

    def __init__(self, path: Path, threads: int | None = None):
        require()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.outputs = [entry.name for entry in self.session.get_outputs()]

    def __call__(self, given: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """The outputs for (B, T) inputs; what is not an input of the file is ignored, and a mask of
        global attention or token types that are not given are zeros."""
        zeros = torch.zeros_like(given["input_ids"])
        arrays = {name: given.get(name, zeros).numpy() for name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, arrays), strict=True))


def require() -> None:
    """Raises:
    CtdError: a package that ONNX needs is not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise CtdError(
            f"ONNX needs the package {missing[0]}; install the extra with pip install "
            "'ctd_lib[export]'."
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on packages and shapes that do not matter here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

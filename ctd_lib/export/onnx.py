"""A model as ONNX: batch size and length stay open, outputs checked against torch.

Inputs and outputs are named as in transformers. Longformer takes `global_attention_mask` besides,
all zeros where nothing is global; models with token types take `token_type_ids`, but for Big Bird's
question answering, which makes them out of the tokens.
"""

import contextlib
import copy
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
RULED_OUT = -1e5
"""At or below it a score says that a token is no answer at all."""
LENGTHS = (3, 130, 700, 2050)
"""Checked besides the model's own; none of them whole blocks."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export(model: PreTrainedModel, path: Path) -> float:
    """Write a model of any arch, with any head, as one ONNX file in float32, and check it.

    Args:
        model: on any device, in any dtype and mode; left as it is.

    Returns:
        The largest difference from torch (`check`).

    Raises:
        CtdError: packages are missing, the model is of no supported arch, or the file does not
            compute what torch does. A file that did not pass is deleted.
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
    with deleted_on_error(path):
        difference = check(model, path)
        if not difference <= TOLERANCE:  # nor if it is NaN
            raise CtdError(
                f"the ONNX file differs from torch by {difference:.1e} standard deviations, more "
                f"than {TOLERANCE}; it was deleted."
            )
    return difference


def check(model: PreTrainedModel, path: Path) -> float:
    """Compare a file with the model that it was made from, at several lengths and paddings.

    Returns:
        The largest difference at any token that is no padding, in units of the standard deviation
        of the outputs; of a single number in units of itself, at least 1. NaN if any output is.
    """
    ours = as_compared(model)
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
                theirs, found = comparable(expected[name], torch.from_numpy(found), kept)
                unit = theirs.std() if theirs.numel() > 1 else theirs.abs().clamp(min=1)
                differences.append(float((found - theirs).abs().max() / unit))
    return float(np.max(differences))


def comparable(theirs: Tensor, found: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """What two outputs have of tokens that are no padding, without what both of them rule out.

    Big Bird's head for questions puts the question's tokens at -1e6: beside such scores any
    difference looks small.
    """
    if theirs.shape[:2] == kept.shape:
        theirs, found = theirs[kept], found[kept]
    ruled_out = theirs <= RULED_OUT
    if not ruled_out.equal(found <= RULED_OUT):
        return theirs.flatten(), found.flatten()  # far apart
    return theirs[~ruled_out], found[~ruled_out]


def as_compared(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the model as a file is compared with it: on the CPU, in float32, in evaluation mode
    and with the fast attention."""
    model = copy.deepcopy(model).cpu().float().eval()
    return model if attention.installed(model) else attention.install(model)


@contextlib.contextmanager
def deleted_on_error(path: Path) -> Iterator[None]:
    """Leaves no file that has not passed its check, whatever stopped that."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def inputs(model: PreTrainedModel, length: int, rows: int) -> dict[str, Tensor]:
    """Random tokens (B, T); the second row ends in padding; two tokens of the first are global.

    For question answering a third of them are the question, where the model knows the separator.
    """
    generator = torch.Generator().manual_seed(length)
    first = (model.config.pad_token_id or 0) + 1
    ids = torch.randint(first, model.config.vocab_size, (rows, length), generator=generator)
    separator = getattr(model.config, "sep_token_id", None)
    if graphs.answers_questions(model) and separator is not None:
        ids[:, length // 3] = separator
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
        # Else its threads go on waiting for work and slow down whatever runs next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.outputs = [entry.name for entry in self.session.get_outputs()]

    def __call__(self, given: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """The outputs for (B, T) inputs; what is not an input of the file is ignored, and token
        types that are not given are zeros.

        Raises:
            CtdError: the file takes a mask of global attention and none is given.
        """
        if "global_attention_mask" in self.inputs and "global_attention_mask" not in given:
            # Some of torch's heads make one then, each by a rule of its own.
            raise CtdError(
                "this file takes global_attention_mask, which is not given; give one of the shape "
                "of input_ids, with zeros where no token is global."
            )
        zeros = torch.zeros_like(given["input_ids"])
        arrays = {name: given.get(name, zeros).numpy() for name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, arrays), strict=True))


def require() -> None:
    """Raises:
    CtdError: a package that ONNX needs is not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise CtdError(
            f"ONNX needs the package {missing[0]}; install the extra: "
            "pip install -e '.[export]' in the folder of this project."
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

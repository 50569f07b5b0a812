"""The converted teacher."""

import dataclasses
import json
from pathlib import Path

import torch

from ctd_lib import convert as conversion
from ctd_lib import measure as measurement
from ctd_lib import models, params
from ctd_lib.pipeline.backbone import backbone, config_of
from ctd_lib.pipeline.common import TENSOR_REPORT, get_or_make, precision, record
from ctd_lib.pipeline.text import Text
from ctd_lib.store import Artifact

PARITY_LENGTH = 128


def convert(p: params.ConvertParams) -> Artifact:
    """The backbone with the attention of `p.arch`, reading `p.max_length` tokens."""
    check_geometry(p, config_of(p).hidden_size)
    artifact = converted(p, backbone(p))
    record("convert", p, artifact)
    return artifact


def check_geometry(p: params.ConvertParams, hidden_size: int) -> None:
    """Refuse settings of the attention that do not fit, before anything is trained.

    Args:
        hidden_size: width of the model that is converted.

    Raises:
        CtdError: as `convert.geometry`.
    """
    conversion.geometry(p.arch, hidden_size, p.max_length, **geometry(p))


def geometry(p: params.ConvertParams) -> dict[str, int | str | None]:
    """The settings of the attention's pattern; None for the published ones."""
    settings = params.own(p, params.ConvertParams)
    return {name: x for name, x in settings.items() if name not in ("arch", "max_length")}


def converted(p: params.ConvertParams, upstream: Artifact) -> Artifact:
    """`upstream` with the attention of `p.arch`; writes no record."""
    settings = params.own(p, params.ConvertParams)

    def make(folder: Path) -> dict:
        before, tokenizer = models.load(upstream.path), models.load_tokenizer(upstream.path)
        done = conversion.convert(before, p.arch, p.max_length, **geometry(p))
        models.save(done.model, tokenizer, folder)
        after = models.load(folder)
        report = [dataclasses.asdict(tensor) for tensor in done.report]
        (folder / TENSOR_REPORT).write_text(json.dumps(report, indent=1))
        actions = [tensor.action for tensor in done.report]
        length = min(PARITY_LENGTH, p.max_length, models.max_length(before.config))
        text = Text(p.head_corpora, tokenizer, length)
        return {
            **{action: actions.count(action) for action in ("copied", "tiled", "new", "dropped")},
            "parameters": measurement.parameters(after),
            "mlm_loss_before": text.evaluate(before, precision(p)),
            "mlm_loss_after": text.evaluate(after, precision(p)),
            "parity_length": length, "parity_max_abs_diff": _parity(before, after, text),
        }  # fmt: skip

    return get_or_make("convert", p.arch, settings, [upstream], p.seed, make)


@torch.inference_mode()
def _parity(before, after, text: Text) -> float:
    """Largest difference of the last hidden states on one held-out sequence."""
    batch = text.held_out()[0]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = [models.encoder(m)(**inputs).last_hidden_state for m in (before, after)]
    return float((hidden[0] - hidden[1]).abs().max())

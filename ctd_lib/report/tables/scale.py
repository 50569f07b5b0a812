"""What the paper's profile would take, computed from the speed of our own trainings."""

import functools
from dataclasses import dataclass

import pandas as pd

from ctd_lib import ARCHS, params
from ctd_lib.report import tidy
from ctd_lib.report.tables import cells

PROFILE = "paper"
ASSUMED_FLOPS = 100e12
"""FLOP/s of a GPU that nobody measured here: an assumption, and named one."""
COUNTED = {
    "order": "convert-then-distill", "student_layers": None, "student_hidden_size": None,
    "teacher_top_k": 0, "relation_weight": 0.0, "soft_target_weight": 5.0, "cosine_weight": 1.0,
    "soft_target_positions": "all",
}  # fmt: skip
"""Parameters of the trainings whose work is counted here."""
PREDICTED = 0.15
"""Share of the tokens that masked LM predicts; pretraining computes logits for them alone."""
COLUMNS = (
    "arch", "stage", "tokens (M)", "work (EFLOP)", "measured (tokens/s)", "measured (GFLOP/s)",
    "machine", "at that speed (days)", "at an assumed 100 TFLOP/s (h)",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A backbone, as far as its work depends on it."""

    layers: int
    width: int
    heads: int
    vocabulary: int


SHAPES = {
    "packaged:minilm-l6": Shape(6, 384, 12, 30522),
    "FacebookAI/roberta-base": Shape(12, 768, 12, 50265),
}


def paper_scale(records: pd.DataFrame) -> pd.DataFrame:
    """Work of the paper's profile, and how long it takes at the speed of the records."""
    rows = []
    for arch in ARCHS:
        paper = params.make(params.DistillParams, profile=PROFILE, arch=arch)
        for stage, steps in (("pretrain", paper.pretrain_steps), ("distill", paper.distill_steps)):
            tokens = steps * paper.batch_size * paper.accumulation * paper.max_length
            work = tokens * flop_per_token(stage, SHAPES[paper.backbone], arch, paper.max_length)
            row = {
                "arch": arch,
                "stage": stage,
                "tokens (M)": _figures(tokens / 1e6),
                "work (EFLOP)": _figures(work / 1e18),
                "at an assumed 100 TFLOP/s (h)": _figures(work / ASSUMED_FLOPS / 3600),
            }
            rows.append(row | _measured(records, stage, arch, work))
    return cells.complete({column: row.get(column) for column in COLUMNS} for row in rows)


def _measured(records: pd.DataFrame, stage: str, arch: str, work: float) -> dict:
    """The latest training of the stage, and how long the work takes at its FLOP/s."""
    found = tidy.select(records, stage)
    known = [row for row in found[found.arch == arch].itertuples() if _known(row)]
    if not known:
        return {}
    row = max(known, key=lambda row: row.provenance["date"])
    speed = row.values["tokens"] / row.values["seconds"]
    shape, length = SHAPES[row.params["backbone"]], row.params["max_length"]
    flops = speed * flop_per_token(stage, shape, arch, length)
    host = row.provenance["host"]
    machine = host["gpu"] or f"{host['cpu']}, {host['cores']} cores"
    return {
        "measured (tokens/s)": speed,
        "measured (GFLOP/s)": _figures(flops / 1e9),
        "machine": f"{machine}, {tidy.precision(row)}",
        "at that speed (days)": _figures(work / flops / 86400),
    }


def _known(row) -> bool:
    """Whether the work of a training is the one that `flop_per_token` counts."""
    same = all(row.params.get(name, value) == value for name, value in COUNTED.items())
    return same and row.params["backbone"] in SHAPES


@functools.cache
def flop_per_token(stage: str, shape: Shape, arch: str, length: int) -> float:
    """FLOP of a training step by its tokens: a backward counts as two forwards.

    Distillation is a forward of the teacher, forward and backward of a student of half the layers,
    and both their logits for every token; pretraining has logits for the predicted tokens alone.
    """
    from ctd_lib import attention

    encoder = sum(attention.flops(_config(shape, arch, length), length).values()) / length
    head = 2 * shape.width * (shape.width + shape.vocabulary)
    if stage == "pretrain":
        return 3 * (encoder + PREDICTED * head)
    return encoder + head + 3 * (encoder / 2 + head)


def _config(shape: Shape, arch: str, length: int):
    import transformers

    from ctd_lib import convert, lsg

    classes = {
        "full": transformers.RobertaConfig,
        "longformer": transformers.LongformerConfig,
        "bigbird": transformers.BigBirdConfig,
        "lsg": lsg.LsgRobertaConfig,
        "nystromformer": transformers.NystromformerConfig,
    }
    return classes[arch](
        hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width, **convert.geometry(arch, shape.width, length),
    )  # fmt: skip


def _figures(value: float) -> float:
    """Two significant figures, or whole numbers from ten on."""
    return float(round(value)) if value >= 10 else float(f"{value:.2g}")

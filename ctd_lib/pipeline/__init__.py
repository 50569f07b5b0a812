"""Which stage needs which: makes or loads every artifact through the store and writes its record.

Each stage is a function of its parameters that returns its finished artifact, after making
whatever is missing upstream. Notebooks and commands call nothing else to compute.
"""

from ctd_lib.pipeline.backbone import backbone
from ctd_lib.pipeline.common import PREDICTIONS, REVISIONS, STEP_LOG, TENSOR_REPORT
from ctd_lib.pipeline.convert import convert
from ctd_lib.pipeline.distill import distill
from ctd_lib.pipeline.export import HUB, export
from ctd_lib.pipeline.finetune import finetune
from ctd_lib.pipeline.measure import measure
from ctd_lib.pipeline.pretrain import pretrain

__all__ = [
    "HUB",
    "PREDICTIONS",
    "REVISIONS",
    "STEP_LOG",
    "TENSOR_REPORT",
    "backbone",
    "convert",
    "distill",
    "export",
    "finetune",
    "measure",
    "pretrain",
]

"""Tasks: labelled data in, encoded features, official scores out.

`load` gives a task's examples; the module of its family turns them into features and batches, model
outputs into predictions, and predictions into scores. The three families have the same functions:
encode, collate, decode, score, survival (what a cut leaves) and details (what `predictions` keeps).
"""

from ctd_lib.tasks.features import common_length, losses, policy, widen
from ctd_lib.tasks.registry import FAMILIES, TASKS, TaskData, family, load

__all__ = [
    "FAMILIES", "TASKS", "TaskData", "common_length", "family", "load", "losses", "policy", "widen",
]  # fmt: skip

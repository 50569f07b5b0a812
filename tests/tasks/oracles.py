"""Models that know the answers."""

from types import SimpleNamespace

import torch


def perfect(features):
    """Outputs that point at the targets; windows without the answer point nowhere."""
    for feature in features:
        start, end = torch.zeros(2, 1, len(feature["input_ids"]))
        if feature["end_positions"]:
            start[0, feature["start_positions"]] = end[0, feature["end_positions"]] = 9
        yield SimpleNamespace(start_logits=start, end_logits=end)

"""Task distillation: a finetuned teacher's answers as targets of the student's finetuning.

Soft targets at temperature T, times T squared, for classes, for tags, and for the first and last
token of an answer (Hinton et al. 2015; Sanh et al. 2019, section 4, do so on SQuAD); the squared
difference for numbers.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from ctd_lib.errors import CtdError
from ctd_lib.training.masking import IGNORED

EXCLUDED = -1e9  # logit of a token that is padding


def task_distill_loss(
    student_output,
    teacher_output,
    batch: Mapping[str, Tensor],
    family: str,
    temperature: float = 2.0,
    totals: Mapping[str, int] | None = None,
) -> Tensor:
    """Mean divergence of the student's answers from the teacher's.

    Args:
        student_output: of the model with the head of the task's family, with `logits` (B, labels)
            or (B, T, labels), or `start_logits` and `end_logits` (B, T).
        teacher_output: alike, for the same batch; no gradient flows into it.
        batch: `labels` (B, T) for tagging; `attention_mask` (B, T) for span-qa.
        family: classification, where one label stands for a number to predict: squared difference;
            tagging: mean over the labelled tokens; span-qa: mean of start and end, each over all
            tokens but padding.
        temperature: softens both distributions.
        totals: counts of a whole update (`updates.Totals`), whose part is then returned; None: the
            mean over this batch.

    Raises:
        CtdError: the temperature is not above 0, or student and teacher give different answers.
    """
    if temperature <= 0:
        raise CtdError(f"temperature is {temperature}; it must be above 0.")
    names = ("start_logits", "end_logits") if family == "span-qa" else ("logits",)
    pairs = [
        (getattr(student_output, name).float(), getattr(teacher_output, name).detach().float())
        for name in names
    ]
    for ours, theirs in pairs:
        if ours.shape != theirs.shape:
            raise CtdError(
                f"the student gives answers of shape {tuple(ours.shape)}, the teacher"
                f" {tuple(theirs.shape)}; they must be finetuned on the same labels."
            )
    count = None if totals is None else totals["labels" if family == "tagging" else "sequences"]
    if family == "tagging":
        labelled = batch["labels"] != IGNORED
        pairs = [(ours[labelled], theirs[labelled]) for ours, theirs in pairs]
    if family == "span-qa":
        padding = batch["attention_mask"] == 0
        pairs = [tuple(x.masked_fill(padding, EXCLUDED) for x in pair) for pair in pairs]
    if family == "classification" and pairs[0][0].shape[-1] == 1:
        sums = [F.mse_loss(ours, theirs, reduction="sum") for ours, theirs in pairs]
    else:
        sums = [_divergence(ours, theirs, temperature) for ours, theirs in pairs]
    return sum(sums) / (len(pairs) * (count or max(1, len(pairs[0][0]))))


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T squared times the KL divergence of softened rows (n, labels), summed."""
    ours, theirs = (F.log_softmax(x / temperature, dim=-1) for x in (student, teacher))
    return temperature**2 * F.kl_div(ours, theirs, reduction="sum", log_target=True)

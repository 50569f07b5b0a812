"""What a teacher says of each token, and the divergence of a student from it.

Softened with a temperature T, the divergence is multiplied by T squared, see `losses`. Sums over
tokens come with their gradients, written down instead of left to autograd: half the passes over the
logits, which on a CPU cost more than the products that make them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Head = Callable[[Tensor], Tensor]  # (n, C) -> (n, V)


class SoftTargets(Protocol):
    """What the teacher says of each token of a batch."""

    def at(self, used: Tensor) -> "SoftTargets":
        """Those of the n tokens where `used` (B, T) is true, flat."""

    def of(self, rows: slice) -> "Said":
        """What it says of some of the n tokens, worked out."""


class Said(Protocol):
    """What the teacher says of r tokens, to be compared with what the student says."""

    def compare(self, rows: slice, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Of some of the r tokens the sum of the soft-target term, and its gradient.

        Args:
            logits: the student's at these tokens, in float32.
        """


@dataclass(frozen=True)
class AllTargets:
    """The teacher's whole distribution, from its hidden states and its masked-LM head."""

    hidden: Tensor  # (B, T, C') or flat (n, C'); no gradient flows into it
    head: Head

    def at(self, used: Tensor) -> "AllTargets":
        """See `SoftTargets`."""
        return AllTargets(self.hidden[used].detach(), self.head)

    def of(self, rows: slice) -> "_Logits":
        """See `SoftTargets`."""
        return _Logits(self.head(self.hidden[rows]))


@dataclass(frozen=True)
class _Logits:
    logits: Tensor  # (r, V)

    def compare(self, rows: slice, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Said`."""
        return _soft_target_sum(logits, self.logits[rows].float(), temperature)


@dataclass(frozen=True)
class TopTargets:
    """The teacher's k highest probabilities, and as one class the mass of all other tokens.

    The divergence is that of the k + 1 classes, at most that of all V and equal to it for k = V.
    Its gradient is that of a teacher that spreads the rest as the student does: the student learns
    how much lies outside of the k tokens, and nothing of how it is spread there.
    """

    ids: Tensor  # (B, T, k) or flat (n, k)
    probabilities: Tensor  # alike, softened with the temperature of the loss

    def at(self, used: Tensor) -> "TopTargets":
        """See `SoftTargets`."""
        return TopTargets(self.ids[used], self.probabilities[used])

    def of(self, rows: slice) -> "TopTargets":
        """See `SoftTargets`."""
        return TopTargets(self.ids[rows], self.probabilities[rows])

    def compare(self, rows: slice, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Said`."""
        ids, teacher = self.ids[rows].long(), self.probabilities[rows].float()
        return _top_target_sum(logits, ids, teacher, temperature)


def _soft_target_sum(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    student = F.log_softmax(student_logits / temperature, dim=-1)  # (n, V)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    probability = teacher.exp()
    divergence = torch.dot(probability.flatten(), teacher.sub_(student).flatten())
    gradient = student.exp_().sub_(probability).mul_(temperature)
    return divergence * temperature**2, gradient


def _top_target_sum(
    student_logits: Tensor, ids: Tensor, teacher: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    log_student = F.log_softmax(student_logits / temperature, dim=-1)  # (n, V)
    at_top = log_student.gather(1, ids)  # (n, k)
    others = log_student.exp().scatter_(1, ids, 0.0)
    student_rest = others.sum(-1, keepdim=True).clamp(min=torch.finfo(others.dtype).tiny)  # (n, 1)
    teacher_rest = (1 - teacher.sum(-1, keepdim=True)).clamp(min=0)
    top = torch.xlogy(teacher, teacher) - teacher * at_top
    rest = torch.xlogy(teacher_rest, teacher_rest / student_rest)
    # The teacher's target: its own at the top, elsewhere the student's, scaled to the rest mass.
    target = others.mul_(teacher_rest / student_rest).scatter_(1, ids, teacher)
    gradient = log_student.exp_().sub_(target).mul_(temperature)
    return (top.sum() + rest.sum()) * temperature**2, gradient

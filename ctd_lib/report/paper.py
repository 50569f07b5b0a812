"""What the paper says, as far as it is known: Brown et al. 2023, arXiv 2311.13657.

The paper's full text could not be had, so that no cell of its tables is known. The values here are
all that may be quoted; everything else is `NOT_AVAILABLE`.
"""

from dataclasses import dataclass

NOT_AVAILABLE = "not available"

MARKS = {
    "V": "read in a primary source",
    "S": "second-hand summary",
    "I": "inferred",
}
LEGEND = "; ".join(f"{mark}: {words}" for mark, words in MARKS.items()) + "."


@dataclass(frozen=True)
class Claim:
    """One number that may be quoted."""

    quantity: str
    value: float
    """Percent; a change is negative where the student needs less."""
    statistic: str
    """"best" or "mean", over the paper's models."""
    column: str
    """Start of the heading in the headline table that answers it."""
    mark: str
    """One of `MARKS`."""
    source: str


CLAIMS = (
    Claim("score kept, short text, up to", 98.6, "best", "short text", "V", "abstract"),
    Claim("score kept, long QA, up to", 94.6, "best", "long QA", "V", "abstract"),
    Claim("score kept, long NER, up to", 98.8, "best", "long NER", "V", "abstract"),
    Claim("score kept, long NER, about; apparently a mean", 97.4, "mean", "long NER", "S",
          "summary"),
    Claim("inference time, best", -57.8, "best", "time", "V", "abstract"),
    Claim("inference time at 4096 tokens, mean", -45.2, "mean", "time", "S", "summary"),
    Claim("peak memory at 4096 tokens, mean over students, about", -2.6, "mean", "memory", "S",
          "summary"),
)  # fmt: skip
"""One more number is known, but is neither a mean nor a best: the loss of up to about 15 % on some
tasks of question answering (S). `book/paper.md` has it."""


def claimed(column: str, statistic: str) -> float | str:
    """What the paper says of one column of the headline table; `NOT_AVAILABLE` if it is unknown."""
    found = [c.value for c in CLAIMS if (c.column, c.statistic) == (column, statistic)]
    return found[0] if found else NOT_AVAILABLE


@dataclass(frozen=True)
class Statement:
    """One sentence that may be quoted, or a question that the paper leaves open."""

    text: str
    mark: str
    """One of `MARKS`; empty: the paper does not say it."""


STATEMENTS = {
    "short": Statement("Distilled efficient students keep nearly all on short tasks", "S"),
    "long-qa": Statement("On long question answering they keep most", "S"),
    "long-qa-more": Statement("Long question answering loses more than short tasks", "S"),
    "long-ner": Statement("On long entity recognition they keep nearly all", "I"),
    "time": Statement("Distillation cuts inference time on long inputs a lot", "S"),
    "memory": Statement("It cuts peak memory only a little", "S"),
    "layers": Statement("Every other layer is the best half of the layers to start from", ""),
    "text": Statement("A mix of long and short text is the best text to distill on", "S"),
    "additive": Statement("The effects of conversion and of distillation add up", "S"),
    "together": Statement("Together they harm long QA more than long NER", "S"),
    "lsg": Statement("LSG loses the most under this recipe", "S"),
    "lsg-recipe": Statement("Another loss than the recipe's helps LSG", ""),
    "order": Statement("Convert-Then-Distill is better than Distill-Then-Convert", ""),
    "distillation": Statement("Distillation adds to copied layers and masked LM alone", ""),
    "terms": Statement("All three terms of the loss are of use", ""),
    "globals": Statement("Tagging is best without global attention, as published", ""),
    "nystromformer": Statement("Nystromformer, trained with its landmarks, scores alike with them "
                               "and with the full attention that transformers runs", ""),
    "bigbird": Statement("Big Bird scores alike with its random blocks and without, as "
                         "transformers evaluates it", ""),
}  # fmt: skip
"""The paper's findings as far as they are known, and what it leaves open."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of a published pair, in millions."""

    teacher: float
    student: float


PARAMETERS = {
    "full": Parameters(124.70, 82.17),
    "longformer": Parameters(148.71, 95.55),
    "bigbird": Parameters(128.11, 85.59),
    "lsg": Parameters(127.4, 84.9),
    "nystromformer": Parameters(111.88, 69.34),
}
"""Counted from the published configurations (I), which reproduce the published file sizes."""

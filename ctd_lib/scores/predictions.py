"""What a finetuned model predicted, kept small: enough to compute every score of the task again."""

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ctd_lib.errors import CtdError


@dataclass(frozen=True)
class Predictions:
    """The test part of one finetuning, example by example."""

    task: str
    family: str
    main_metric: str
    rules: str
    """Official rules of question answering, as in `official.answer_scores`; empty elsewhere."""
    examples: list[dict]
    """`gold` and `predicted` of each test example, in their order, and what `tasks` knows of where
    it stands: `tokens` of its whole input, `kind`, `position` of the answer, number of the
    `document` that a question is on. Of tagging, gold and predicted are entities [type, first word,
    last word + 1, position of its first token]."""


def write(predictions: Predictions, path: Path) -> None:
    """Keep them as packed JSON; the same predictions give the same bytes."""
    text = json.dumps(asdict(predictions), separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read(path: Path) -> Predictions:
    """Those that `write` kept.

    Raises:
        CtdError: the file holds none.
    """
    try:
        return Predictions(**json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise CtdError(f"{path} holds no predictions; finetune again: {error}.") from error

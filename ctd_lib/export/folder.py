"""A saved model as a folder that can be put on a hub as it is."""

from pathlib import Path

from ctd_lib import models
from ctd_lib.errors import CtdError

HEADS = {
    "ForMaskedLM": "masked-lm",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "Model": "base",
}
"""Endings of the class names in transformers -> names of `models.HEADS`."""
CARD = "README.md"


def head_of(path: Path | str) -> str:
    """The head that a saved model has, one of `models.HEADS`.

    Raises:
        CtdError: its configuration names none that is known here.
    """
    classes = models.read_config(path).architectures or []
    for ending, head in HEADS.items():
        if any(name.endswith(ending) for name in classes):
            return head
    raise CtdError(
        f"model {str(path)!r} is of class {', '.join(classes) or 'unknown'}; one that ends in "
        f"{', '.join(HEADS)} can be exported."
    )


def write(path: Path | str, folder: Path) -> None:
    """Weights (safetensors), configuration and tokenizer of a saved model.

    Args:
        path: folder of the model, e.g. an artifact of distillation or of finetuning.
        folder: where they go; made if it is not there.

    Raises:
        CtdError: no model or tokenizer there, or of a class that is not known here.
    """
    models.save(models.load(path, head_of(path)), models.load_tokenizer(path), folder)

"""Checkpoints on this machine and on the hub: where to look, and one sentence where that fails."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers.utils import logging

from ctd_lib import runtime
from ctd_lib.errors import CtdError

FILES = {
    "configuration": ("config.json",),
    "tokenizer": ("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),
    "weights": ("model*.safetensors",),
}
"""What may be read of a checkpoint, and the files of a folder that can hold it."""


@contextlib.contextmanager
def opening(path: str | Path, what: str) -> Iterator[bool]:
    """Read one of FILES of a checkpoint folder or hub id inside; transformers is silent meanwhile.

    Yields:
        Whether to look on this machine alone: the path is a folder, or no hub answers.

    Raises:
        CtdError: no such folder or hub id, none of the files in it, or none that can be read.
    """
    local = _local_only(path)
    folder, patterns = Path(path), FILES[what]
    # Without a vocabulary transformers would make an empty tokenizer that fits the model type.
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in patterns):
        raise CtdError(
            f"folder {str(path)!r} holds no {what}: there is no {' or '.join(patterns)}."
        )
    try:
        with quiet():
            yield local
    except (OSError, ValueError, SafetensorError) as error:
        raise CtdError(_explanation(path, what, error)) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars, and its table of missing weights: we check those."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _local_only(path: str | Path) -> bool:
    if Path(path).is_dir():
        return True
    if isinstance(path, Path) or path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise CtdError(f"there is no folder {str(path)!r}; give a checkpoint folder or a hub id.")
    return not runtime.hub_answers()


def _explanation(path: str | Path, what: str, error: Exception) -> str:
    """What transformers says of a file that is not there or broken, in one sentence."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if Path(path).is_dir():
        return f"folder {str(path)!r} holds no {what} that can be read: {reason}"
    if not runtime.hub_answers():
        return (
            f"{str(path)!r} is no folder, no hub answers, and the local cache has no {what}"
            f" that can be read: {reason}"
        )
    if _is_unknown_to_the_hub(error):
        return f"{str(path)!r} is no folder, and the hub does not have it."
    return f"the {what} of {str(path)!r} cannot be had from the hub: {reason}"


def _is_unknown_to_the_hub(error: BaseException | None) -> bool:
    """Whether what transformers says goes back to the hub's answer that there is no such model."""
    while error is not None:
        if isinstance(error, RepositoryNotFoundError):
            return not isinstance(error, GatedRepoError)
        error = error.__cause__
    return False

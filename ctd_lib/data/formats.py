"""File formats: CoNLL columns, SQuAD JSON, JSON Lines, tables, text, gzip of each; Parquet.

Every complaint about content names the file and the line.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctd_lib.data import schemes
from ctd_lib.errors import CtdError

GZIP_MAGIC = b"\x1f\x8b"
DOCUMENT_START = "-DOCSTART-"
MISMATCH_LIMIT = 0.02
"""Share of answers that may stand elsewhere than their file says; they are left out."""


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
    """Whose official rules score the answer, as in `metrics.answer_scores`."""
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
    if {".tsv", ".csv"} & set(path.suffixes):
        return read_table(path)
    if ".json" not in path.suffixes:
        return read_jsonl(path)
    try:
        records = json.loads(read_text(path))
    except ValueError as error:
        raise CtdError(f"{path} is not JSON: {error}.") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise CtdError(f"{path} is no JSON list of objects.")
    return records


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file.

    Raises:
        CtdError: as `read_text`; or a line is not a JSON object.
    """
    records = []
    for number, line in enumerate(lines(read_bytes(path), path), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise CtdError(f"{path} line {number} is not JSON: {error}.") from error
            if not isinstance(record, dict):
                raise CtdError(f"{path} line {number} is not a JSON object.")
            records.append(record)
    return records


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
    path = Path(path)
    # In a TSV a quote is a character like any other (so in GLUE's own files).
    quoted = ".csv" in path.suffixes
    options = {} if quoted else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    ended = (line + "\n" for line in lines(read_bytes(path), path))
    reader = csv.reader(ended, strict=True, **options)
    rows: list[dict[str, str]] = []
    try:
        header = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise CtdError(
                    f"{path} line {reader.line_num} has {len(cells)} cells, "
                    f"its first line {len(header)}."
                )
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise CtdError(f"{path} line {reader.line_num} is no table row: {error}.") from error
    return rows


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
        CtdError: a line with one column, or tags of no scheme (`schemes.to_iob2`).
    """
    documents = [TaggedDocument("document-0")]
    places: list[list[int]] = []
    opens_sentence = True
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
        else:
            if opens_sentence:
                documents[-1].sentences.append([])
                places.append([])
                opens_sentence = False
            documents[-1].sentences[-1].append((columns[0], columns[-1]))
            places[-1].append(number)
    sentences = [sentence for document in documents for sentence in document.sentences]
    tags = schemes.to_iob2([[tag for _, tag in s] for s in sentences], places, name)
    for sentence, converted in zip(sentences, tags, strict=True):
        sentence[:] = [(word, tag) for (word, _), tag in zip(sentence, converted, strict=True)]
    return [document for document in documents if document.sentences]


def read_squad(path: Path) -> list[Question]:
    """The questions of a SQuAD 1.1 file, in order.

    Raises:
        CtdError: as `read_text`; not JSON, not SQuAD's layout, a question without an answer, or an
            answer that is not in its context at the place given.
    """
    try:
        articles = json.loads(read_text(path))["data"]
    except (KeyError, TypeError) as error:
        raise CtdError(f"{path} is not in SQuAD's layout: no list 'data'.") from error
    except ValueError as error:
        raise CtdError(f"{path} is not JSON: {error}.") from error
    questions = []
    for article in articles:
        try:
            questions += _article_questions(article)
        except (KeyError, TypeError) as error:
            title = article.get("title", "?") if isinstance(article, dict) else "?"
            raise CtdError(f"{path}, article {title!r}: not in SQuAD's layout: {error}.") from error
    for question in questions:
        if not question.answers:
            raise CtdError(
                f"{path}, question {question.id}: no answer; SQuAD 1.1 gives one or more."
            )
        if not question.context.strip():
            raise CtdError(f"{path}, question {question.id}: its context is empty.")
    return _without_mismatches(questions, path)


def _without_mismatches(questions: list[Question], path: Path) -> list[Question]:
    """All answers that stand where they should; a note lists the others, too many of which raise.

    A question none of whose answers does is left out.
    """
    kept, wrong, total = [], [], 0
    for question in questions:
        matching = []
        for text, start in question.answers:
            total += 1
            if text and question.context[start : start + len(text)] == text:
                matching.append((text, start))
            else:
                wrong.append(f"question {question.id}: answer {text!r} is not at character {start}")
        if len(matching) < len(question.answers):
            question = replace(question, answers=tuple(matching))
        if matching:
            kept.append(question)
    if not wrong:
        return questions
    said = f"{len(wrong)} of {total} answers do not match their context; {'; '.join(wrong[:3])}"
    if len(wrong) > MISMATCH_LIMIT * total:
        raise CtdError(f"{path}: {said}.")
    print(f"[ctd] {path}: left out {said}", flush=True)
    return kept


def _article_questions(article: dict) -> list[Question]:
    return [
        Question(
            id=str(entry["id"]),
            title=article.get("title", ""),
            context=paragraph["context"],
            question=entry["question"],
            answers=tuple((a["text"], a["answer_start"]) for a in entry["answers"]),
        )
        for paragraph in article["paragraphs"]
        for entry in paragraph["qas"]
    ]

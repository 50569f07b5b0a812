"""Tagging: files in CoNLL columns, rows of words and tags, generated press releases."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from ctd_lib.data import contents, formats, schemes, synthetic
from ctd_lib.data.formats import TaggedDocument
from ctd_lib.errors import CtdError
from ctd_lib.tasks.loaders import common
from ctd_lib.tasks.loaders.common import Loaded, Request
from ctd_lib.tasks.tagging import OUTSIDE, TaggedText

JSON = {".jsonl", ".json"}
CONLL2003_FILES = ("train.txt", "test.txt")
PART_FILES = ("{}.train.iob2.conll", "{}.test.iob2.conll")
GONERD_FILES = ("train.jsonl", "train.conll", "test.jsonl", "test.conll")
TRAIN_DOCUMENTS = {"wikigold": 100, "litbank": 80}
"""The first so many of data without an official split train, the others test."""


def conll2003_packaged(request: Request) -> Loaded:
    """CoNLL-2003, train and test part."""
    parts = [contents.conll2003(part) for part in ("train", "test")]
    return _tagged(*_examples(parts, request), request)


def conll2003_local(request: Request) -> Loaded:
    """Files train.txt and test.txt in a folder."""
    files = [common.need(request.source.path, name) for name in CONLL2003_FILES]
    return _of_files(files, request)


def conll_parts(request: Request) -> Loaded:
    """Files TASK.train.iob2.conll and TASK.test.iob2.conll in a folder."""
    files = [common.need(request.source.path, name.format(request.task)) for name in PART_FILES]
    return _of_files(files, request)


def documents_of_one_file(request: Request) -> Loaded:
    """A file whose first documents train and whose others test, as `TRAIN_DOCUMENTS` has it."""
    found = formats.read_conll(request.source.path)
    count = TRAIN_DOCUMENTS[request.task]
    parts = _examples([found[:count], found[count:]], request)
    return _tagged(*parts, request)


def rows_hub(request: Request) -> Loaded:
    """A data set of words and tags in rows, of whatever column names."""
    if request.context == "document" and request.task == "conll2003":
        raise CtdError(f"{request.source.spec} marks no documents; local and packaged data do.")
    found = common.hub(request)
    parts = [common.split(found, name, request) for name in ("train", "test")]
    return _tagged(*(rows(part, request.source.spec, part.features) for part in parts), request)


def gonerd_local(request: Request) -> Loaded:
    """Files train and test in a folder: JSON Lines as on the hub, or CoNLL columns."""
    names_of_parts = GONERD_FILES[:2], GONERD_FILES[2:]
    files = [common.need(request.source.path, *names) for names in names_of_parts]
    return _of_files(files, request)


def press_ner(request: Request) -> Loaded:
    """Generated press releases with their entities."""
    train, test = (
        [TaggedText(r.name, *zip(*itertools.chain(*r.sentences), strict=True)) for r in part]
        for part in common.generated(request, synthetic.press)
    )
    return _tagged(train, test, request)


def user_tagging(request: Request) -> Loaded:
    """Two files, in CoNLL columns or JSON Lines with a list of words and one of tags.

    An example is a document where either CoNLL file marks several, else a sentence.
    """
    return _of_files([request.source.path, request.test_file], request)


def _of_files(files: list[Path], request: Request) -> Loaded:
    """A training and a test file."""
    columns = [path for path in files if not JSON & set(path.suffixes)]
    parts = dict(zip(columns, _examples(map(formats.read_conll, columns), request), strict=True))
    for path in files:
        if path not in parts:
            parts[path] = rows(formats.read_records(path), path)
    return _tagged(*(parts[path] for path in files), request, files[1])


def _examples(parts: Iterable[list[TaggedDocument]], request: Request) -> list[list[TaggedText]]:
    """Of each part, by documents where one of the parts has several, unless a context is given."""
    parts = list(parts)
    several = any(len(part) > 1 for part in parts)
    whole = request.context == "document" or (request.context is None and several)
    return [documents(part) if whole else sentences(part) for part in parts]


def documents(found: list[TaggedDocument]) -> list[TaggedText]:
    """One example a document."""
    return [
        TaggedText(document.name, *zip(*itertools.chain(*document.sentences), strict=True))
        for document in found
    ]


def sentences(found: list[TaggedDocument]) -> list[TaggedText]:
    """One example a sentence."""
    return [
        TaggedText(f"{document.name}/{number}", *zip(*sentence, strict=True))
        for document in found
        for number, sentence in enumerate(document.sentences)
    ]


def rows(records: Iterable[dict], where: Path | str, features: dict | None = None) -> list:
    """Examples from rows with a list of words and a list of tags as long, found by their content.

    Tags are texts like B-PER, or numbers where `features` (of a hub's data set) names them.

    Raises:
        CtdError: no such two columns, lists of different length, or tags of no scheme.
    """
    filled = {number: record for number, record in enumerate(records, 1) if any(record.values())}
    if not filled:
        return []
    names = {name: _class_names(feature) for name, feature in (features or {}).items()}
    tags_name, words_name = _columns(list(filled.values()), names, where)
    names_of = names.get(tags_name)
    words, tags = [], []
    for number, record in filled.items():
        for name in (words_name, tags_name):
            if not isinstance(record.get(name), list):
                raise CtdError(f"{formats.place(where, number)} has no list {name!r}.")
        found = record[tags_name]
        if len(found) != len(record[words_name]):
            raise CtdError(
                f"{formats.place(where, number)} has {len(record[words_name])} words in "
                f"{words_name!r} and {len(found)} tags in {tags_name!r}."
            )
        words.append(tuple(record[words_name]))
        tags.append([names_of[tag] for tag in found] if names_of else list(found))
    numbers = list(filled)
    converted = schemes.to_iob2(
        tags, [[number] * len(found) for number, found in zip(numbers, tags, strict=True)],
        lambda number: formats.place(where, number), where,
    )  # fmt: skip
    if empty := [number for number, found in zip(numbers, words, strict=True) if not found]:
        first = formats.place(where, empty[0])
        print(f"[ctd] {where}: documents without words left out: {len(empty)}, {first} first")
    return [
        TaggedText(str(record.get("id", position)), words[position], tuple(converted[position]))
        for position, record in enumerate(filled.values())
        if words[position]
    ]


def _columns(records: list[dict], names: dict, where: Path | str) -> tuple[str, str]:
    """The names of the columns with tags and with words."""
    lists = {n: [r.get(n) for r in records] for n, v in records[0].items() if isinstance(v, list)}
    flat = {n: [v for row in c if isinstance(row, list) for v in row] for n, c in lists.items()}
    texts = [n for n, values in flat.items() if values and all(isinstance(v, str) for v in values)]
    tags = [n for n in flat if names.get(n)]
    tags = [n for n in tags if {"O"} & set(names[n])] or tags
    # Most, not all: `schemes.to_iob2` then names the line of the tag that is none.
    tags = tags or [n for n in texts if 2 * sum(map(_is_tag, flat[n])) > len(flat[n])]
    words = [n for n in texts if n not in tags]
    preferred = [n for n in tags if "ner" in n.lower()] or tags
    if not preferred or not words:
        has = ", ".join(f"{name} ({type(value).__name__})" for name, value in records[0].items())
        raise CtdError(
            f"{where} has {has}; a list of words and a list of tags are wanted, the tags as texts "
            "such as B-PER or as class labels with names."
        )
    return preferred[0], next((n for n in ("tokens", "words") if n in words), words[0])


def _is_tag(value: str) -> bool:
    return bool(schemes.TAG.fullmatch(value))


def _class_names(feature) -> Sequence[str] | None:
    """The names of a list of class labels."""
    return getattr(getattr(feature, "feature", None), "names", None)


def _tagged(
    train: list[TaggedText], test: list[TaggedText], request: Request, test_file: Path | None = None
) -> Loaded:
    """With B- and I- of every type in the training part, after O."""
    types = {tag[2:] for example in train for tag in example.tags if tag != OUTSIDE}
    for example in test if train else ():
        for tag in example.tags:
            if tag != OUTSIDE and tag[2:] not in types:
                where = _place_of(tag, test_file) if test_file else request.source.spec
                raise CtdError(
                    f"{where}, {example.name}: tag {tag!r} is of no type in the training part, "
                    f"which has {', '.join(sorted(types)) or 'none'}."
                )
    labels = (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(types) for prefix in "BI"))
    return Loaded(train, test, labels)


def _place_of(tag: str, path: Path) -> str:
    """Where a type of tag first stands in a file; its prefix may be that of another scheme."""
    ending = tag[1:]
    if JSON & set(path.suffixes):
        for number, record in enumerate(formats.read_records(path), 1):
            lists = [value for value in record.values() if isinstance(value, list)]
            if any(str(value)[1:] == ending for value in itertools.chain(*lists)):
                return formats.place(path, number)
    for number, line in enumerate(formats.lines(formats.read_bytes(path), path), 1):
        if line.split()[-1:] and line.split()[-1][1:] == ending:
            return f"{path} line {number}"
    return str(path)

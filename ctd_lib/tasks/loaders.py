"""From each kind of source to the examples of a task, split into train and test."""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ctd_lib.data import contents, formats, synthetic
from ctd_lib.data.formats import Question, TaggedDocument
from ctd_lib.data.sources import Source
from ctd_lib.errors import CtdError
from ctd_lib.tasks.classification import Text
from ctd_lib.tasks.tagging import OUTSIDE, TaggedText

SYNTHETIC_TRAIN, SYNTHETIC_TEST = 200, 100
TEST_FRACTION = 0.2
SQUAD_TRAIN_ARTICLES = 38
WIKIGOLD_TRAIN_DOCUMENTS = 100
HUB_PARQUET = "refs/convert/parquet"


class Glue(NamedTuple):
    """The layout of a GLUE task: its text columns, and its classes in the order of their ids."""

    first: str
    second: str | None
    labels: tuple[str, ...]


GLUE = {
    "cola": Glue("sentence", None, ("unacceptable", "acceptable")),
    "sst2": Glue("sentence", None, ("negative", "positive")),
    "mrpc": Glue("sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "rte": Glue("sentence1", "sentence2", ("entailment", "not_entailment")),
    "stsb": Glue("sentence1", "sentence2", ()),
    "wnli": Glue("sentence1", "sentence2", ("not_entailment", "entailment")),
}


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


class Loaded(NamedTuple):
    """Examples to train and to test on, and the names of classes or tags."""

    train: list
    test: list
    labels: tuple[str, ...] = ()


def glue_local(request: Request) -> Loaded:
    """JSON Lines files TASK.train and TASK.dev in a folder."""
    files = [
        _file(request.source.path, f"{request.task}.{part}.jsonl") for part in ("train", "dev")
    ]
    train, test = (_glue_texts(formats.read_jsonl(path), request.task, path) for path in files)
    return Loaded(train, test, GLUE[request.task].labels)


def glue_hub(request: Request) -> Loaded:
    """A data set in the layout of nyu-mll/glue."""
    import datasets

    found = datasets.load_dataset(request.source.name, request.task)
    train, test = (
        _glue_texts(found[part], request.task, request.source.spec)
        for part in ("train", "validation")
    )
    return Loaded(train, test, GLUE[request.task].labels)


def _glue_texts(records: Iterable[dict], task: str, where: Path | str) -> list[Text]:
    first, second, labels = GLUE[task]
    texts = []
    for number, record in enumerate(records, 1):
        try:
            pair = record[second] if second else None
            label = int(record["label"]) if labels else float(record["label"])
            texts.append(Text(record[first], pair, label))
        except (KeyError, TypeError, ValueError) as error:
            wanted = ", ".join(name for name in (first, second, "label") if name)
            raise CtdError(
                f"{where} record {number} is no {task} record; it needs {wanted}."
            ) from error
        if labels and not 0 <= label < len(labels):
            raise CtdError(
                f"{where} record {number} has label {label}; {task} knows 0 to {len(labels) - 1}."
            )
    return texts


def stsb_packaged(request: Request) -> Loaded:
    """STS-B's train and dev part; the test part stays for a last measurement."""
    train, dev = (
        [Text(p.first, p.second, p.score) for p in contents.stsb(part)] for part in ("train", "dev")
    )
    return Loaded(train, dev)


def movie_sentences(request: Request) -> Loaded:
    """Rated sentences; a fifth of them, chosen by their text alone, is the test part."""
    train, test = [], []
    for sentence in contents.movie_sentences():
        digest = hashlib.blake2b(sentence.text.encode(), digest_size=8).digest()
        is_test = int.from_bytes(digest, "big") / 2**64 < TEST_FRACTION
        (test if is_test else train).append(Text(sentence.text, None, sentence.label))
    return Loaded(train, test, ("negative", "positive"))


def conll2003_packaged(request: Request) -> Loaded:
    """CoNLL-2003's sentences, train and test part."""
    train, test = (sentences(contents.conll2003(part)) for part in ("train", "test"))
    return _tagged(train, test, request)


def conll2003_local(request: Request) -> Loaded:
    """Files train.txt and test.txt in a folder."""
    files = [_file(request.source.path, f"{part}.txt") for part in ("train", "test")]
    train, test = (sentences(formats.read_conll(path)) for path in files)
    return _tagged(train, test, request)


def conll2003_hub(request: Request) -> Loaded:
    """A data set in the layout of eriktks/conll2003."""
    import datasets

    found = datasets.load_dataset(request.source.name, revision=HUB_PARQUET)
    names = found["train"].features["ner_tags"].feature.names
    train, test = (
        [
            TaggedText(
                str(row["id"]), tuple(row["tokens"]), tuple(names[tag] for tag in row["ner_tags"])
            )
            for row in found[part]
        ]
        for part in ("train", "test")
    )
    return _tagged(train, test, request)


def wikigold(request: Request) -> Loaded:
    """WikiGold's documents: the first 100 to train, the rest to test."""
    every = documents(formats.read_conll(request.source.path))
    return _tagged(every[:WIKIGOLD_TRAIN_DOCUMENTS], every[WIKIGOLD_TRAIN_DOCUMENTS:], request)


def press_ner(request: Request) -> Loaded:
    """Generated press releases with their entities."""
    train, test = (
        [TaggedText(r.name, *zip(*itertools.chain(*r.sentences), strict=True)) for r in part]
        for part in _generated(request, synthetic.press)
    )
    return _tagged(train, test, request)


def user_tagging(request: Request) -> Loaded:
    """Two CoNLL files: their documents where the first marks several, else their sentences."""
    train, test = (formats.read_conll(path) for path in (request.source.path, request.test_file))
    examples_of = documents if len(train) > 1 else sentences
    return _tagged(examples_of(train), examples_of(test), request)


def _tagged(train: list[TaggedText], test: list[TaggedText], request: Request) -> Loaded:
    """With B- and I- of every type in the training part, after O."""
    types = {tag[2:] for example in train for tag in example.tags if tag != OUTSIDE}
    for example in test:
        for tag in example.tags:
            if tag != OUTSIDE and tag[2:] not in types:
                raise CtdError(
                    f"{request.test_file or request.source.spec}, {example.name}: tag {tag!r} is "
                    f"of no type in the training part, which has {', '.join(sorted(types))}."
                )
    labels = (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(types) for prefix in "BI"))
    return Loaded(train, test, labels)


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


def squad_local(request: Request) -> Loaded:
    """A folder with SQuAD 1.1: train and dev, or dev alone, whose first 38 articles then train."""
    folder = request.source.path
    dev = formats.read_squad(_file(folder, "dev-v1.1.json"))
    if train_file := _find(folder, "train-v1.1.json"):
        return Loaded(formats.read_squad(train_file), dev)
    articles = [
        list(group) for _, group in itertools.groupby(dev, key=lambda question: question.title)
    ]
    train, test = articles[:SQUAD_TRAIN_ARTICLES], articles[SQUAD_TRAIN_ARTICLES:]
    return Loaded(list(itertools.chain(*train)), list(itertools.chain(*test)))


def squad_hub(request: Request) -> Loaded:
    """A data set in the layout of rajpurkar/squad."""
    import datasets

    found = datasets.load_dataset(request.source.name)
    return Loaded(
        *([_hub_question(row) for row in found[part]] for part in ("train", "validation"))
    )


def _hub_question(row: dict) -> Question:
    answers = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
    return Question(row["id"], row["title"], row["context"], row["question"], tuple(answers))


def press_qa(request: Request) -> Loaded:
    """Generated press releases with a question about each."""
    return Loaded(*_generated(request, synthetic.press_questions))


def _generated(request: Request, generate) -> tuple[list, list]:
    # The test part is the same for every seed.
    return (
        generate(request.train_examples or SYNTHETIC_TRAIN, seed=request.seed, part="train"),
        generate(request.test_examples or SYNTHETIC_TEST, seed=0, part="test"),
    )


def user_span_qa(request: Request) -> Loaded:
    """Two files in SQuAD's layout."""
    return Loaded(*(formats.read_squad(path) for path in (request.source.path, request.test_file)))


def user_classification(request: Request) -> Loaded:
    """Two JSON Lines files with text, label and maybe text_pair; fractional labels are scores."""
    train, test = (_user_texts(path) for path in (request.source.path, request.test_file))
    if all(isinstance(example.label, float) for example in train):
        return Loaded(train, test)
    labels = tuple(sorted({str(example.label) for example in train}))
    try:
        return Loaded(*(_indexed(part, labels) for part in (train, test)), labels)
    except ValueError as error:
        raise CtdError(
            f"{request.test_file}: {error}; the training file has {', '.join(labels)}."
        ) from error


def _user_texts(path: Path) -> list[Text]:
    records = formats.read_jsonl(path)
    wanted = {"text": str, "label": str | int | float}
    if records and "text_pair" in records[0]:
        wanted["text_pair"] = str
    for number, record in enumerate(records, 1):
        for name, kind in wanted.items():
            if not isinstance(record.get(name), kind):
                raise CtdError(f"{path} record {number} has no proper field {name!r}.")
    return [
        Text(
            record["text"], record["text_pair"] if "text_pair" in wanted else None, record["label"]
        )
        for record in records
    ]


def _indexed(texts: list[Text], labels: tuple[str, ...]) -> list[Text]:
    index_of = {label: index for index, label in enumerate(labels)}
    if unknown := {str(text.label) for text in texts} - set(labels):
        raise ValueError(f"label {min(unknown)!r} is unknown")
    return [replace(text, label=index_of[str(text.label)]) for text in texts]


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _file(folder: Path, name: str) -> Path:
    found = _find(folder, name)
    if found is None:
        raise CtdError(f"{folder} has no {name} or {name}.gz.")
    return found

"""Classification: GLUE, movie reviews, a user's own texts."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ctd_lib.data import contents, formats
from ctd_lib.errors import CtdError
from ctd_lib.tasks.classification import Text
from ctd_lib.tasks.loaders import common
from ctd_lib.tasks.loaders.common import Loaded, Request

SENTIMENTS = ("negative", "positive")
INTEGER = re.compile(r"\s*[+-]?\d+\s*")


class Glue(NamedTuple):
    """The layout of a GLUE task: its text columns, and its classes in the order of their ids."""

    first: str
    second: str | None
    labels: tuple[str, ...]
    kinds: tuple[str, ...] = ("",)
    """Parts of its dev set."""


GLUE = {
    "cola": Glue("sentence", None, ("unacceptable", "acceptable")),
    "sst2": Glue("sentence", None, SENTIMENTS),
    "mrpc": Glue("sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "qqp": Glue("question1", "question2", ("not_duplicate", "duplicate")),
    "stsb": Glue("sentence1", "sentence2", ()),
    "mnli": Glue(
        "premise",
        "hypothesis",
        ("entailment", "neutral", "contradiction"),
        ("matched", "mismatched"),
    ),
    "qnli": Glue("question", "sentence", ("entailment", "not_entailment")),
    "rte": Glue("sentence1", "sentence2", ("entailment", "not_entailment")),
    "wnli": Glue("sentence1", "sentence2", ("not_entailment", "entailment")),
}
"""As `nyu-mll/glue` has them. Test labels are not public: the dev part is the test here."""
ENDINGS = ("jsonl", "tsv", "json")
PARTS = ("train", "dev", "dev_matched", "dev_mismatched", "train-sample", "pool")
GLUE_FILES = tuple(f"{{}}.{part}.{ending}" for part in PARTS for ending in ENDINGS)


def glue_local(request: Request) -> Loaded:
    """Files TASK.train and TASK.dev (of MNLI dev_matched and dev_mismatched) in a folder.

    Where parts are missing, TASK.train-sample trains, and a fifth of TASK.pool, or of the sample,
    is the test; the source's name says so.
    """
    folder, task = request.source.path, request.task
    layout = GLUE[task]

    def texts(*parts: str, kind: str = "") -> list[Text]:
        found = common.find(folder, *(f"{task}.{p}.{ending}" for p in parts for ending in ENDINGS))
        if found is None:
            return []
        return _glue_texts(formats.read_records(found), task, found, kind)

    train, test = texts("train"), []
    for kind in layout.kinds:
        test += texts(f"dev_{kind}" if kind else "dev", kind=kind)
    if train and test:
        return Loaded(train, test, layout.labels)
    sample, pool = texts("train-sample"), texts("pool")
    if test and sample:
        return Loaded(sample, test, layout.labels, "train sample")
    if not (rest := pool or sample):
        common.need(folder, f"{task}.dev.jsonl" if train else f"{task}.train.jsonl")
    train, test = common.split_by_text(rest, lambda text: f"{text.text}\n{text.pair}")
    part = "pool of train pairs, not the official dev" if pool else "fixture, not the official dev"
    return Loaded(train, test, layout.labels, part)


def glue_hub(request: Request) -> Loaded:
    """A data set in the layout of nyu-mll/glue."""
    found = common.hub(request, request.task)
    layout, where = GLUE[request.task], request.source.spec
    train = _glue_texts(common.split(found, "train", request), request.task, where)
    test = []
    for kind in layout.kinds:
        part = common.split(found, f"validation_{kind}" if kind else "validation", request)
        test += _glue_texts(part, request.task, where, kind)
    return Loaded(train, test, layout.labels)


def _glue_texts(
    records: Iterable[dict], task: str, where: Path | str, kind: str = ""
) -> list[Text]:
    first, second, labels, _ = GLUE[task]
    texts = []
    for number, record in enumerate(records, 1):
        try:
            text, pair = _string(record[first]), _string(record[second]) if second else None
            label = record["label"]
            if labels and label in labels:
                label = labels.index(label)
            label = int(label) if labels else float(label)
            texts.append(Text(text, pair, label, kind))
        except (KeyError, TypeError, ValueError) as error:
            wanted = ", ".join(name for name in (first, second, "label") if name)
            raise CtdError(
                f"{formats.place(where, number)} is no {task} record; it needs {wanted}."
            ) from error
        if labels and not 0 <= label < len(labels):
            raise CtdError(
                f"{formats.place(where, number)} has label {label}; {task} knows 0 to "
                f"{len(labels) - 1}."
            )
    return texts


def _string(value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def stsb_packaged(request: Request) -> Loaded:
    """STS-B's train and dev part; the test part stays for a last measurement."""
    train, dev = (
        [Text(p.first, p.second, p.score) for p in contents.stsb(part)] for part in ("train", "dev")
    )
    return Loaded(train, dev)


def movie_sentences(request: Request) -> Loaded:
    """Rated sentences; a fifth of them, chosen by their text alone, is the test part."""
    every = [Text(found.text, None, found.label) for found in contents.movie_sentences()]
    return Loaded(*common.split_by_text(every, lambda text: text.text), SENTIMENTS)


def movie_reviews(request: Request) -> Loaded:
    """Whole reviews in one file of records with text and label (0 or 1); a fifth is the test."""
    path = request.source.path
    every = user_texts(path)
    for number, text in enumerate(every, 1):
        if text.label not in (0, 1):
            raise CtdError(f"{formats.place(path, number)}: label {text.label!r} is not 0 or 1.")
    return Loaded(*common.split_by_text(every, lambda text: text.text), SENTIMENTS)


def user_classification(request: Request) -> Loaded:
    """Two files of records with text, label and maybe text_pair; of fractional labels, scores."""
    train, test = (user_texts(path) for path in (request.source.path, request.test_file))
    if not train:  # without its labels nothing can be said of the test part
        return Loaded(train, test)
    of_train, of_test = ({example.pair is not None for example in p} for p in (train, test))
    if len(of_train | of_test) > 1:
        files = request.source.path, request.test_file
        having, lacking = files if True in of_train else reversed(files)
        raise CtdError(f"{having} has a field 'text_pair', {lacking} has none; both need it.")
    if _are_scores([example.label for example in train], request.source.path):
        parts = ((request.source.path, train), (request.test_file, test))
        return Loaded(*([_scored(e, path, n) for n, e in enumerate(p, 1)] for path, p in parts))
    labels = tuple(sorted({str(example.label) for example in train}))
    if len(labels) == 1:
        raise CtdError(
            f"{request.source.path} has one label, {labels[0]!r}; a classifier needs two or more."
        )
    index_of = {label: index for index, label in enumerate(labels)}
    for number, example in enumerate(test, 1):
        if str(example.label) not in index_of:
            raise CtdError(
                f"{formats.place(request.test_file, number)}: label {str(example.label)!r} is "
                f"unknown; the training file has {', '.join(labels)}."
            )
    indexed = ([replace(e, label=index_of[str(e.label)]) for e in part] for part in (train, test))
    return Loaded(*indexed, labels)


def _are_scores(labels: Sequence[str | int | float], path: Path) -> bool:
    """Whether one is a fractional number; in a table, where all is text, if all are numbers."""
    if not formats.is_table(path):
        return any(isinstance(label, float) for label in labels)
    return None not in map(_number, labels) and not all(map(INTEGER.fullmatch, labels))


def _scored(example: Text, path: Path, number: int) -> Text:
    score = _number(example.label)
    if score is None:
        raise CtdError(
            f"{formats.place(path, number)}: label {example.label!r} is no number, but the "
            "training file has scores."
        )
    return replace(example, label=score)


def _number(label: str | int | float) -> float | None:
    try:
        return float(label) if math.isfinite(float(label)) else None
    except ValueError:
        return None


def user_texts(path: Path) -> list[Text]:
    """The records of a file with text, label and maybe text_pair.

    Raises:
        CtdError: a record lacks a field, or has an empty text or label.
    """
    records = formats.read_records(path)
    wanted = {"text": str, "label": str | int | float}
    if any("text_pair" in record for record in records):
        wanted["text_pair"] = str
    for number, record in enumerate(records, 1):
        for name, kind in wanted.items():
            if not isinstance(record.get(name), kind):
                raise CtdError(
                    f"{formats.place(path, number)} has no proper field {name!r}; it has "
                    f"{', '.join(map(str, record)) or 'none'}."
                )
        for name in ("text", "label"):
            if not str(record[name]).strip():
                raise CtdError(f"{formats.place(path, number)}: its {name} is empty.")
    return [
        Text(
            record["text"], record["text_pair"] if "text_pair" in wanted else None, record["label"]
        )
        for record in records
    ]

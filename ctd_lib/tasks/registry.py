"""The tasks by name: where their examples come from, their labels, their official score."""

import functools
import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ctd_lib import paths, runtime
from ctd_lib.data import sources
from ctd_lib.errors import CtdError
from ctd_lib.tasks import classification, loaders, span_qa, tagging
from ctd_lib.tasks.loaders import common, ner, qa, texts

FAMILIES = {"classification": classification, "tagging": tagging, "span-qa": span_qa}
SHORT, LONG = 128, 4096
MOSTLY_SHORT = ("wikigold",)
"""Tasks of short texts that are cut late, for a few are long: a document of WikiGold has 168 tokens
at the median, and 2,099 at most."""
CONTEXTS = ("sentence", "document")
ELSEWHERE = ("local", "hub")
"""Kinds of sources that may name another place than a task's own."""
Loader = Callable[[loaders.Request], loaders.Loaded]


@dataclass(frozen=True)
class Task:
    """What is known of a task before its data is read."""

    family: str
    main_metric: str
    max_length: int
    """Tokens at which an example is cut."""
    sources: dict[str, Loader]
    """Loader by source; the first source that is there is the default. `local:PATH` is below
    CTD_DATA, and `local:` alone stands for the user's own two files."""
    context: str | None = None
    """An example of tagging unless the caller says otherwise: a sentence or a document."""
    licence: str = ""
    """Under which its publishers give the data, where a local copy does not say it."""
    files: tuple[str, ...] = ()
    """What a local folder has one or more of, {} being the task; a message names the first."""


@dataclass(frozen=True)
class TaskData:
    """The examples of a task and what a reader must know of them."""

    name: str
    family: str
    labels: tuple[str, ...]
    """Class names or tags; empty for regression and span question answering."""
    train: list[Any]
    test: list[Any]
    source: str
    """Spec of the source, e.g. packaged:conll2003; in brackets what part or stand-in it is."""
    synthetic: bool
    main_metric: str
    """The key among the scores that stands for the task."""
    max_length: int
    """Tokens at which an example is cut, unless the caller says otherwise."""
    licence: str
    notice: str = ""

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the examples themselves."""
        content = hashlib.sha256(repr(self.labels).encode())
        for example in itertools.chain(self.train, ("test",), self.test):
            content.update(repr(example).encode("utf-8", "surrogatepass"))
        return content.hexdigest()


def _glue(main_metric: str, max_length: int = SHORT, **packaged: Loader) -> Task:
    known = {"local:glue": texts.glue_local}
    known |= {f"packaged:{name}": loader for name, loader in packaged.items()}
    known["hub:nyu-mll/glue"] = texts.glue_hub
    return Task(
        "classification", main_metric, max_length, known, licence="that of the task",
        files=texts.GLUE_FILES,
    )  # fmt: skip


TASKS = {
    "movie-sentences": Task(
        "classification", "accuracy", SHORT,
        {"packaged:movie-sentences": texts.movie_sentences},
    ),
    "movie-reviews": Task(
        "classification", "accuracy", LONG,
        {"local:text/movie_reviews_polarity2.jsonl.gz": texts.movie_reviews},
        licence="CC BY 4.0",
    ),
    "cola": _glue("matthews_correlation"),
    "sst2": _glue("accuracy"),
    "mrpc": _glue("f1"),
    "qqp": _glue("f1"),
    "stsb": _glue("spearman", stsb=texts.stsb_packaged),
    "mnli": _glue("accuracy"),
    "qnli": _glue("accuracy", max_length=256),
    "rte": _glue("accuracy", max_length=256),
    "wnli": _glue("accuracy"),
    "conll2003": Task(
        "tagging", "entity_f1", SHORT,
        {
            "local:conll2003": ner.conll2003_local,
            "packaged:conll2003": ner.conll2003_packaged,
            "hub:eriktks/conll2003": ner.rows_hub,
        },
        "sentence", files=ner.CONLL2003_FILES,
    ),
    "wnut17": Task(
        "tagging", "entity_f1", SHORT,
        {"local:ner": ner.conll_parts, "hub:leondz/wnut_17": ner.rows_hub},
        "sentence", "CC BY 4.0", ner.PART_FILES,
    ),
    "wikigold": Task(
        "tagging", "entity_f1", LONG,
        {"local:ner/wikigold.iob2.conll.gz": ner.documents_of_one_file}, "document", "CC BY 4.0",
    ),
    "litbank": Task(
        "tagging", "entity_f1", LONG,
        {"local:ner/litbank.names.iob2.conll.gz": ner.documents_of_one_file}, "document",
        "CC BY 4.0",
    ),
    "sec-filings": Task(
        "tagging", "entity_f1", LONG, {"local:ner": ner.conll_parts}, "document", "CC BY 3.0",
        ner.PART_FILES,
    ),
    "gonerd": Task(
        "tagging", "entity_f1", LONG,
        {"local:gonerd": ner.gonerd_local, "hub:giant-oak/GONERD": ner.rows_hub}, "document",
        files=ner.GONERD_FILES,
    ),
    "press-ner": Task(
        "tagging", "entity_f1", LONG, {"synthetic:press-ner": ner.press_ner}, "document"
    ),
    "squad": Task(
        "span-qa", "f1", 384,
        {"local:squad1.1": qa.squad_local, "hub:rajpurkar/squad": qa.squad_hub},
        licence="CC BY-SA 4.0", files=qa.SQUAD_FILES,
    ),
    "squad-long": Task(
        "span-qa", "f1", LONG,
        {"local:squad1.1": qa.squad_long_local, "hub:rajpurkar/squad": qa.squad_long_hub},
        licence="CC BY-SA 4.0", files=qa.SQUAD_FILES,
    ),
    "hotpotqa": Task(
        "span-qa", "f1", LONG,
        {"local:hotpotqa": qa.hotpotqa_local, "hub:hotpotqa/hotpot_qa": qa.hotpotqa_hub},
        licence="CC BY-SA 4.0", files=qa.HOTPOTQA_FILES,
    ),
    "triviaqa": Task(
        "span-qa", "f1", LONG,
        {"local:triviaqa": qa.triviaqa_local, "hub:mandarjoshi/trivia_qa": qa.triviaqa_hub},
        files=(*qa.official_files("triviaqa"), qa.TRIVIAQA_FIXTURE),
    ),
    "triviaqa-web": Task(
        "span-qa", "f1", LONG,
        {"local:triviaqa": qa.triviaqa_local, "hub:mandarjoshi/trivia_qa": qa.triviaqa_hub},
        files=qa.official_files("triviaqa-web"),
    ),
    "press-qa": Task("span-qa", "f1", LONG, {"synthetic:press-qa": qa.press_qa}),
    # A user's own two files, by family.
    "classification": Task(
        "classification", "accuracy", 512, {"local:": texts.user_classification}
    ),
    "tagging": Task("tagging", "entity_f1", LONG, {"local:": ner.user_tagging}),
    "span-qa": Task("span-qa", "f1", LONG, {"local:": qa.user_span_qa}),
}  # fmt: skip


def family(of: str | TaskData) -> ModuleType:
    """The module of a family, by its name or by a task's data.

    Raises:
        CtdError: no such family.
    """
    name = of if isinstance(of, str) else of.family
    if name not in FAMILIES:
        raise CtdError(f"family {name!r} is unknown; there are {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def load(
    name: str,
    source: str | None = None,
    train_examples: int | None = None,
    test_examples: int | None = None,
    seed: int = 0,
    train_file: str | None = None,
    test_file: str | None = None,
    context: str | None = None,
) -> TaskData:
    """The examples of a task.

    Args:
        name: a key of `TASKS`.
        source: where from, as in `data.sources`: one of the task's own, or another file, folder or
            hub id; None: the first of the task's own that is there.
        train_examples: draw so many by `seed`; None: all.
        test_examples: draw so many, the same ones for every seed; None: all.
        seed: of the drawing.
        train_file: the user's file, for the tasks classification (JSON Lines or a table with text,
            label and maybe text_pair), tagging (CoNLL, or JSON Lines with words and tags) and
            span-qa (SQuAD JSON).
        test_file: the same, to test on.
        context: what an example of a tagging task is: sentence or document; None: as published,
            or in the user's file a document where several are marked.

    Raises:
        CtdError: unknown task; a source that it cannot come from; no source of it is there; or as
            the source's loader.
    """
    if name not in TASKS:
        raise CtdError(f"task {name!r} is unknown; there are {', '.join(TASKS)}.")
    task = TASKS[name]
    if context is not None and (task.family != "tagging" or context not in CONTEXTS):
        raise CtdError(
            f"context {context!r} does not fit task {name}; a tagging task takes sentence or "
            "document, the others none."
        )
    if "local:" in task.sources:
        if not (train_file and test_file):
            raise CtdError(f"task {name} reads your own files; give train_file and test_file.")
        source, test_file = (f"local:{file}" for file in (train_file, test_file))
    elif train_file or test_file:
        doors = [key for key, known in TASKS.items() if "local:" in known.sources]
        raise CtdError(f"task {name} takes no train_file or test_file; {', '.join(doors)} do.")
    chosen = sources.resolve(source) if source else _default_source(name, task)
    loader = _loader(name, task, chosen)
    test_path = sources.resolve(test_file).path if test_file else None
    request = loaders.Request(
        name, chosen, train_examples, test_examples, seed, test_path, context or task.context
    )
    loaded = loader(request)
    for part, examples in (("train", loaded.train), ("test", loaded.test)):
        if not examples:
            where = test_path if test_path and part == "test" else chosen.spec
            raise CtdError(f"task {name} from {where}: the {part} part is empty.")
    is_regression = task.family == "classification" and not loaded.labels
    return TaskData(
        name=name,
        family=task.family,
        labels=loaded.labels,
        train=_draw(loaded.train, train_examples, seed),
        test=_draw(loaded.test, test_examples, 0),
        source=chosen.spec + (f" ({loaded.part})" if loaded.part else ""),
        synthetic=chosen.synthetic,
        main_metric="spearman" if is_regression else task.main_metric,
        max_length=LONG if context == "document" else task.max_length,
        licence=licence(name, chosen.licence),
        notice=chosen.notice,
    )


def licence(task: str, found: str) -> str:
    """That of a task's data: the one found with it or, where it was but a file, its publishers'."""
    known = TASKS[task].licence if task in TASKS else ""
    return known if known and found == sources.OWN else found


def _loader(name: str, task: Task, source: sources.Source) -> Loader:
    """What reads the source. What is packaged or generated is one task's own and no other's."""
    if source.spec in task.sources:
        return task.sources[source.spec]
    alike = [loader for spec, loader in task.sources.items() if spec.startswith(f"{source.kind}:")]
    if not alike or source.kind not in ELSEWHERE:
        raise CtdError(
            f"task {name} cannot come from {source.spec}; it comes from {', '.join(task.sources)}."
        )
    return alike[0]


def _default_source(name: str, task: Task) -> sources.Source:
    """The first of the task's own sources that is there."""
    for spec in task.sources:
        kind, _, where = spec.partition(":")
        if kind == "local":
            if path := _own_data(name, task, where):
                return sources.Source(kind, where, sources.OWN, path=path)
        elif kind != "hub" or runtime.hub_answers():
            return sources.resolve(spec)
    wanted = [spec.removeprefix("local:") for spec in task.sources if spec.startswith("local:")]
    wanted = [f"{where}/{task.files[0].format(name)}" if task.files else where for where in wanted]
    no_hub = any(spec.startswith("hub:") for spec in task.sources)
    raise CtdError(
        f"task {name} has no data here: {'no model hub answers, and ' if no_hub else ''}"
        f"CTD_DATA ({paths.data_dir() or 'not set'}) is no folder with {' or '.join(wanted)} in it."
    )


def _own_data(name: str, task: Task, where: str) -> Path | None:
    """A file below CTD_DATA, or a folder there that holds a file of the task."""
    below = paths.data_dir()
    path = below / where if below else None
    if path is None or not path.exists():
        return None
    names = [file.format(name) for file in task.files]
    return path.resolve() if not names or common.find(path, *names) else None


def _draw(examples: list, count: int | None, seed: int) -> list:
    if count is None or count >= len(examples):
        return examples
    return random.Random(seed).sample(examples, count)

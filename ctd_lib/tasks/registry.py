"""The tasks by name: where their examples come from, their labels, their official score."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ctd_lib import paths, runtime
from ctd_lib.data import sources
from ctd_lib.errors import CtdError
from ctd_lib.tasks import classification, loaders, span_qa, tagging

FAMILIES = {"classification": classification, "tagging": tagging, "span-qa": span_qa}
SHORT, LONG = 128, 4096


@dataclass(frozen=True)
class Task:
    """What is known of a task before its data is read."""

    family: str
    main_metric: str
    max_length: int
    """Tokens at which an example is cut."""
    sources: dict[str, Callable[[loaders.Request], loaders.Loaded]]
    """Loader by source; the first source that is there is the default. `local:PATH` is below
    CTD_DATA, and `local:` alone stands for the user's own two files."""


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
    """Spec of the source, e.g. packaged:conll2003."""
    synthetic: bool
    main_metric: str
    """The key among the scores that stands for the task."""
    max_length: int
    """Tokens at which an example is cut, unless the caller says otherwise."""
    licence: str
    notice: str = ""

    @property
    def digest(self) -> str:
        """sha256 of the examples themselves."""
        content = repr((self.labels, self.train, self.test))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _glue(main_metric: str, max_length: int = SHORT) -> Task:
    known = {"local:glue": loaders.glue_local, "hub:nyu-mll/glue": loaders.glue_hub}
    return Task("classification", main_metric, max_length, known)


TASKS = {
    "movie-sentences": Task(
        "classification", "accuracy", SHORT,
        {"packaged:movie-sentences": loaders.movie_sentences},
    ),
    "sst2": _glue("accuracy"),
    "cola": _glue("matthews_correlation"),
    "mrpc": _glue("f1"),
    "rte": _glue("accuracy", max_length=256),
    "wnli": _glue("accuracy"),
    "stsb": Task(
        "classification", "spearman", SHORT,
        {
            "local:glue": loaders.glue_local,
            "packaged:stsb": loaders.stsb_packaged,
            "hub:nyu-mll/glue": loaders.glue_hub,
        },
    ),
    "conll2003": Task(
        "tagging", "entity_f1", SHORT,
        {
            "local:conll2003": loaders.conll2003_local,
            "packaged:conll2003": loaders.conll2003_packaged,
            "hub:eriktks/conll2003": loaders.conll2003_hub,
        },
    ),
    "wikigold": Task(
        "tagging", "entity_f1", LONG, {"local:ner/wikigold.iob2.conll.gz": loaders.wikigold}
    ),
    "press-ner": Task(
        "tagging", "entity_f1", LONG, {"synthetic:press-ner": loaders.press_ner}
    ),
    "squad": Task(
        "span-qa", "f1", 384,
        {"local:squad1.1": loaders.squad_local, "hub:rajpurkar/squad": loaders.squad_hub},
    ),
    "press-qa": Task("span-qa", "f1", LONG, {"synthetic:press-qa": loaders.press_qa}),
    # A user's own two files, by family.
    "classification": Task(
        "classification", "accuracy", 512, {"local:": loaders.user_classification}
    ),
    "tagging": Task("tagging", "entity_f1", LONG, {"local:": loaders.user_tagging}),
    "span-qa": Task("span-qa", "f1", LONG, {"local:": loaders.user_span_qa}),
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
) -> TaskData:
    """The examples of a task.

    Args:
        name: a key of `TASKS`.
        source: where from, as in `data.sources`; None: the first of the task's own that is there.
        train_examples: draw so many by `seed`; None: all.
        test_examples: draw so many, the same ones for every seed; None: all.
        seed: of the drawing.
        train_file: the user's file, for the tasks classification (JSON Lines with text, label and
            maybe text_pair), tagging (CoNLL) and span-qa (SQuAD JSON).
        test_file: the same, to test on.

    Raises:
        CtdError: unknown task; no source of it is there; or as the source's loader.
    """
    if name not in TASKS:
        raise CtdError(f"task {name!r} is unknown; there are {', '.join(TASKS)}.")
    task = TASKS[name]
    if "local:" in task.sources:
        if not (train_file and test_file):
            raise CtdError(f"task {name} reads your own files; give train_file and test_file.")
        source, test_file = (f"local:{file}" for file in (train_file, test_file))
    elif train_file or test_file:
        doors = [key for key, known in TASKS.items() if "local:" in known.sources]
        raise CtdError(f"task {name} takes no train_file or test_file; {', '.join(doors)} do.")
    chosen = sources.resolve(source) if source else _default_source(name, task)
    loader = next(
        (f for spec, f in task.sources.items() if spec.split(":")[0] == chosen.kind), None
    )
    if loader is None:
        raise CtdError(
            f"task {name} cannot come from {chosen.spec}; it comes from {', '.join(task.sources)}."
        )
    test_path = sources.resolve(test_file).path if test_file else None
    request = loaders.Request(name, chosen, train_examples, test_examples, seed, test_path)
    loaded = loader(request)
    for part, examples in (("train", loaded.train), ("test", loaded.test)):
        if not examples:
            raise CtdError(f"task {name} from {chosen.spec}: the {part} part is empty.")
    is_regression = task.family == "classification" and not loaded.labels
    return TaskData(
        name=name,
        family=task.family,
        labels=loaded.labels,
        train=_draw(loaded.train, train_examples, seed),
        test=_draw(loaded.test, test_examples, 0),
        source=chosen.spec,
        synthetic=chosen.synthetic,
        main_metric="spearman" if is_regression else task.main_metric,
        max_length=task.max_length,
        licence=chosen.licence,
        notice=chosen.notice,
    )


def _default_source(name: str, task: Task) -> sources.Source:
    for spec in task.sources:
        kind, _, where = spec.partition(":")
        below = paths.data_dir()
        if kind == "local" and not (below and (below / where).exists()):
            continue
        if kind == "hub" and not runtime.hub_answers():
            continue
        return sources.resolve(spec)
    wanted = [spec.removeprefix("local:") for spec in task.sources if spec.startswith("local:")]
    raise CtdError(
        f"task {name} has no data here: no model hub answers, and CTD_DATA is not a folder with "
        f"{' or '.join(wanted)} in it."
    )


def _draw(examples: list, count: int | None, seed: int) -> list:
    if count is None or count >= len(examples):
        return examples
    return random.Random(seed).sample(examples, count)

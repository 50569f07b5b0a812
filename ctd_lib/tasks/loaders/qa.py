"""Question answering: SQuAD, whole articles of SQuAD, HotpotQA, TriviaQA, generated releases."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ctd_lib.data import formats, squad, synthetic
from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.tasks.loaders import common
from ctd_lib.tasks.loaders.common import Loaded, Request

SQUAD_FILES = ("dev-v1.1.json", "train-v1.1.json")
SQUAD_TRAIN_ARTICLES = 38
HOTPOTQA_OFFICIAL = ("hotpot_train_v1.1.json", "hotpot_dev_distractor_v1.json")
HOTPOTQA_SAMPLES = ("train_sample.jsonl", "dev_distractor_sample.jsonl")
HOTPOTQA_FILES = HOTPOTQA_OFFICIAL + HOTPOTQA_SAMPLES
YES_NO = "yes no\n"
MAX_OCCURRENCES = 16
"""Places of an answer that are kept: the first ones, since a cut takes the last."""

TRIVIAQA = {"triviaqa": "wikipedia", "triviaqa-web": "web"}
"""Domain by task: of pages of Wikipedia alone, or of those and of pages found by a search."""
TRIVIAQA_FIXTURE = "rc_fixture.jsonl"
"""Of the Wikipedia domain."""


def squad_local(request: Request) -> Loaded:
    """A folder with SQuAD 1.1: train and dev, or dev alone, whose first 38 articles then train."""
    dev_name, train_name = SQUAD_FILES
    dev = squad.read(common.need(request.source.path, dev_name))
    if train_file := common.find(request.source.path, train_name):
        return Loaded(squad.read(train_file), dev)
    articles = list(_articles(dev))
    train, test = articles[:SQUAD_TRAIN_ARTICLES], articles[SQUAD_TRAIN_ARTICLES:]
    return Loaded(
        list(itertools.chain(*train)), list(itertools.chain(*test)), part="dev split by article"
    )


def squad_hub(request: Request) -> Loaded:
    """A data set in the layout of rajpurkar/squad."""
    return Loaded(*_hub_parts(request, None, _hub_question, "SQuAD"))


def _hub_parts(
    request: Request, config: str | None, make: Callable[[dict], Question], layout: str
) -> Iterator[list[Question]]:
    found, spec = common.hub(request, config), request.source.spec
    for name in ("train", "validation"):
        part = common.split(found, name, request)
        yield common.each(part, f"{spec} {name}", make, layout)


def _hub_question(row: dict) -> Question:
    answers = tuple(zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True))
    if not answers:
        raise ValueError("no answer; SQuAD 1.1 gives one or more")
    return Question(row["id"], row["title"], row["context"], row["question"], answers)


def _articles(questions: Iterable[Question]) -> Iterator[list[Question]]:
    for _, group in itertools.groupby(questions, key=lambda question: question.title):
        yield list(group)


def squad_long_local(request: Request) -> Loaded:
    """SQuAD's articles with all their paragraphs as one context, cut where the model ends."""
    return _whole_articles(squad_local(request))


def squad_long_hub(request: Request) -> Loaded:
    """As `squad_long_local`."""
    return _whole_articles(squad_hub(request))


def _whole_articles(loaded: Loaded) -> Loaded:
    parts = ([q for a in _articles(part) for q in _whole_article(a)] for part in loaded[:2])
    return Loaded(*parts, part=loaded.part)


def _whole_article(questions: list[Question]) -> list[Question]:
    starts, length = {}, 0
    for context in dict.fromkeys(question.context for question in questions):
        starts[context] = length
        length += len(context) + 1
    whole = "\n".join(starts)
    return [
        replace(
            question,
            context=whole,
            answers=tuple((t, starts[question.context] + s) for t, s in question.answers),
            windows=False,
        )
        for question in questions
    ]


def hotpotqa_local(request: Request) -> Loaded:
    """A folder with the official files of the distractor setting, or with samples of them."""
    names_of_parts = zip(HOTPOTQA_OFFICIAL, HOTPOTQA_SAMPLES, strict=True)
    files = [common.need(request.source.path, *names) for names in names_of_parts]
    is_sample = any("_sample" in path.name for path in files)
    parts = (common.each(formats.read_records(path), path, hotpotqa, "HotpotQA") for path in files)
    return Loaded(*parts, part="sample" if is_sample else "")


def hotpotqa_hub(request: Request) -> Loaded:
    """A data set in the layout of hotpotqa/hotpot_qa, distractor setting."""
    return Loaded(*_hub_parts(request, "distractor", hotpotqa, "HotpotQA"))


def hotpotqa(record: dict) -> Question:
    """A question over ten paragraphs, titles and all, that are joined in their order.

    The context opens with the words "yes no", so that these answers are spans like any other. A
    span to train on stands in a supporting sentence, or anywhere where none of them has it.

    Args:
        record: in the official layout or in the hub's.
    """
    paragraphs, facts = record["context"], record["supporting_facts"]
    if isinstance(paragraphs, dict):
        paragraphs = zip(paragraphs["title"], paragraphs["sentences"], strict=True)
        facts = zip(facts["title"], facts["sent_id"], strict=True)
    supporting = {(title, sentence) for title, sentence in facts}
    answer, kind = record["answer"], record["type"]
    number, question = record.get("_id", record.get("id")), record["question"]
    context, spans = YES_NO, []
    for title, sentences in paragraphs:
        context += f"{title}\n"
        for index, sentence in enumerate(sentences):
            if (title, index) in supporting:
                spans.append((len(context), len(context) + len(sentence)))
            context += sentence
        context += "\n"
    if answer in YES_NO.split():
        answers = [(answer, YES_NO.index(answer))]
    else:
        every = occurrences([answer], context, len(YES_NO))
        inside = [a for a in every if any(s <= a[1] and a[1] + len(a[0]) <= e for s, e in spans)]
        answers = (inside or every)[:MAX_OCCURRENCES]
    return Question(
        str(number), "", context, question, tuple(answers), accepted=(answer,), kind=kind,
        rules="hotpotqa", windows=False,
    )  # fmt: skip


def occurrences(texts: Iterable[str], context: str, start: int = 0) -> list[tuple[str, int]]:
    """Where any of some texts stands as whole words, whatever the case, as the context has it."""
    longest_first = sorted({text for text in texts if text.strip()}, key=len, reverse=True)
    if not longest_first:
        return []
    pattern = "|".join(map(re.escape, longest_first))
    found = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE).finditer(context, start)
    return [(match.group(), match.start()) for match in found]


def triviaqa_local(request: Request) -> Loaded:
    """A folder with the official rc layout (qa/, evidence/), or with the fixture.

    Of the official data, the domain of the task.
    """
    folder, domain = request.source.path, TRIVIAQA[request.task]
    fixture = common.find(folder, TRIVIAQA_FIXTURE)
    if fixture and domain == "wikipedia":
        rows = formats.read_records(fixture)
        made = common.each(rows, fixture, _fixture_trivia, "the fixture")
        train, dev = (
            [question for question, row in zip(made, rows, strict=True) if part in row["split"]]
            for part in ("train", "dev")
        )
        return Loaded(train, dev, part="fixture")
    files = [common.need(folder, name) for name in official_files(request.task)]
    return Loaded(*(_official_trivia(path, folder, domain == "web") for path in files))


def official_files(task: str) -> tuple[str, str]:
    """Train and dev part of TriviaQA in the domain of a task."""
    return f"qa/{TRIVIAQA[task]}-train.json", f"qa/{TRIVIAQA[task]}-dev.json"


def _fixture_trivia(row: dict) -> Question:
    row["split"]  # every row is of a part
    documents = [(document["title"], document["text"]) for document in row["documents"]]
    return triviaqa(
        row["question_id"], row["question"], [row["answer"], *row["aliases"]], documents
    )


def _official_trivia(path: Path, folder: Path, with_web: bool) -> list[Question]:
    content = formats.parse_json(formats.read_text(path), path)
    entries = content.get("Data") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise CtdError(f"{path} is not in TriviaQA's layout: no list 'Data'.")
    make = partial(_official_question, evidence=folder / "evidence", with_web=with_web)
    return common.each(entries, f"{path} Data", make, "TriviaQA")


def _official_question(entry: dict, evidence: Path, with_web: bool) -> Question:
    pages = [("wikipedia", found) for found in entry["EntityPages"]]
    results = [("web", found) for found in entry["SearchResults"]] if with_web else []
    documents = [
        (found["Title"], formats.read_text(evidence / domain / found["Filename"]))
        for domain, found in (*pages, *results)
    ]
    answer = entry["Answer"]
    return triviaqa(
        entry["QuestionId"], entry["Question"], answer["Aliases"], documents,
        answer["NormalizedAliases"],
    )  # fmt: skip


def triviaqa_hub(request: Request) -> Loaded:
    """A data set in the layout of mandarjoshi/trivia_qa, reading comprehension."""
    domain = TRIVIAQA[request.task]
    make = partial(_hub_trivia, with_web=domain == "web")
    return Loaded(*_hub_parts(request, f"rc.{domain}", make, "TriviaQA"))


def _hub_trivia(row: dict, with_web: bool) -> Question:
    pages, results, answer = row["entity_pages"], row["search_results"], row["answer"]
    documents = list(zip(pages["title"], pages["wiki_context"], strict=True))
    if with_web:
        documents += zip(results["title"], results["search_context"], strict=True)
    return triviaqa(
        row["question_id"], row["question"], answer["aliases"], documents,
        answer["normalized_aliases"],
    )  # fmt: skip


def triviaqa(
    number: str,
    question: str,
    aliases: Iterable[str],
    documents: Iterable[tuple[str, str]],
    normalized: Iterable[str] = (),
) -> Question:
    """A question over its evidence documents, joined in their order, titles and all.

    Its answers are the first places where an alias stands in them; none may be there.
    """
    aliases = list(aliases)
    context = "\n\n".join(f"{title}\n{text}" for title, text in documents)
    return Question(
        number, "", context, question, tuple(occurrences(aliases, context)[:MAX_OCCURRENCES]),
        accepted=tuple(normalized) or tuple(dict.fromkeys(aliases)), rules="triviaqa",
        windows=False,
    )  # fmt: skip


def press_qa(request: Request) -> Loaded:
    """Generated press releases with a question about each."""
    return Loaded(*common.generated(request, synthetic.press_questions))


def user_span_qa(request: Request) -> Loaded:
    """Two files in SQuAD's layout."""
    return Loaded(*(squad.read(path) for path in (request.source.path, request.test_file)))

"""Files in SQuAD's layout."""

import json
from dataclasses import replace
from pathlib import Path

from ctd_lib.data import formats
from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError

MISMATCH_LIMIT = 0.02
"""Share of answers that may stand elsewhere than their file says; they are left out."""


def read(path: Path) -> list[Question]:
    """The questions of a SQuAD 1.1 file, in order.

    Raises:
        CtdError: as `formats.read_text`; not JSON, not SQuAD's layout, a question without an
            answer, a context without text, or too many answers that are not in their context at the
            place given.
    """
    text = formats.read_text(path)
    content = formats.parse_json(text, path)
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list):
        raise CtdError(f"{path} is not in SQuAD's layout: no list 'data'.")
    questions = []
    for article in articles:
        try:
            questions += _questions(article)
        except (KeyError, TypeError, AttributeError) as error:
            title = article.get("title", "?") if isinstance(article, dict) else "?"
            raise CtdError(
                f"{path}{_line_of(title, text)}, article {title!r}: not in SQuAD's layout: "
                f"{error!r}."
            ) from error
    for question in questions:
        lacks = None if question.answers else "no answer; SQuAD 1.1 gives one or more"
        lacks = lacks if question.context.strip() else "its context is empty"
        if lacks:
            where = f"{path}{_line_of(question.id, text)}, question {question.id}"
            raise CtdError(f"{where}: {lacks}.")
    return _without_mismatches(questions, path, text)


def _questions(article: dict) -> list[Question]:
    return [
        Question(
            id=str(entry["id"]),
            title=_of(str, article.get("title", "")),
            context=_of(str, paragraph["context"]),
            question=_of(str, entry["question"]),
            answers=tuple(
                (_of(str, answer["text"]), _of(int, answer["answer_start"]))
                for answer in entry["answers"]
            ),
        )
        for paragraph in article["paragraphs"]
        for entry in paragraph["qas"]
    ]


def _of(kind: type, value):
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


def _without_mismatches(questions: list[Question], path: Path, content: str) -> list[Question]:
    """All answers that stand where they should; a note lists the others, too many of which raise.

    A question none of whose answers does is left out.
    """
    kept, wrong, total = [], [], 0
    for question in questions:
        matching = []
        for text, start in question.answers:
            total += 1
            if text and start >= 0 and question.context[start : start + len(text)] == text:
                matching.append((text, start))
            else:
                wrong.append((question.id, text, start))
        if len(matching) < len(question.answers):
            question = replace(question, answers=tuple(matching))
        if matching:
            kept.append(question)
    if not wrong:
        return questions
    listed = "; ".join(
        f"question {number}{_line_of(number, content, ' in line')}: answer {text!r} is not at "
        f"character {start}"
        for number, text, start in wrong[:3]
    )
    said = f"{len(wrong)} of {total} answers do not match their context; {listed}"
    if len(wrong) > MISMATCH_LIMIT * total:
        raise CtdError(f"{path}: {said}.")
    print(f"[ctd] {path}: left out {said}", flush=True)
    return kept


def _line_of(value: str, text: str, before: str = " line") -> str:
    """The line of a JSON text where a value first stands; nothing if it is written otherwise."""
    here = text.find(json.dumps(value))
    line = text.count("\n", 0, here) + 1
    return "" if here < 0 else f"{before} {line}"

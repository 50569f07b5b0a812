"""Extractive question answering: the answer is a span of the context.

Answers yes and no, as HotpotQA has them, are spans too: their data puts the words "yes no" in front
of the context (`tasks.loaders.hotpotqa`), so that one head decides between them and a span.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ctd_lib.data.formats import Question
from ctd_lib.errors import CtdError
from ctd_lib.scores import official
from ctd_lib.tasks import features as shared

HEAD = "question-answering"
GLOBAL_ATTENTION = "question"
MAX_ANSWER_TOKENS = 30
MAX_STRIDE = 128
NOT_THERE = -1


def encode(
    examples: Sequence[Question], tokenizer, max_length: int, labels: Sequence[str] = ()
) -> list[dict]:
    """Question and context in one feature, or in several windows where the context is longer.

    Neighbouring windows share 128 tokens, or a quarter of `max_length` if that is less; of a
    question that is not read in windows there is the first alone. The targets are the first and
    last token of the first accepted answer that is whole in the window; in a window without any
    both point at the first token. A question may fill half of `max_length` and is cut there. An
    answer that is whole in no window is counted as lost and not trained on. `position` tells where
    the first accepted answer starts in the whole input, before any cut; -1 if it is not there.
    """
    features = []
    # At least one token of the context is read; every window but the first brings a new one.
    room = max_length - max_length // 2 - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 1:
        raise CtdError(f"task_max_length is {max_length}: no room for a question and its context.")
    stride = min(MAX_STRIDE, max_length // 4, room - 1)
    for start, chunk in shared.in_chunks(examples):
        encoded = tokenizer(
            _cut([example.question for example in chunk], tokenizer, max_length // 2),
            [example.context for example in chunk],
            truncation="only_second", max_length=max_length, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True,
            split_special_tokens=True,
        )  # fmt: skip
        rows_of: list[list[int]] = [[] for _ in chunk]
        for row, number in enumerate(encoded["overflow_to_sample_mapping"]):
            rows_of[number].append(row)
        for number, rows in enumerate(rows_of):
            windows = [_window(encoded, row, chunk[number]) for row in rows]
            features += _of_one_example(windows, chunk[number], start + number, stride)
    return features


def _cut(questions: list[str], tokenizer, limit: int) -> list[str]:
    found = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True,
                      split_special_tokens=True)  # fmt: skip
    return [
        question if len(offsets) <= limit else question[: offsets[limit - 1][1]]
        for question, offsets in zip(questions, found["offset_mapping"], strict=True)
    ]


def _window(encoded, row: int, example: Question) -> dict:
    """The feature of one window, but for what depends on the others."""
    parts = encoded.sequence_ids(row)
    in_context = np.array([part == 1 for part in parts])
    first = int(in_context.argmax())
    offsets = np.array(encoded["offset_mapping"][row], dtype=np.int32)[in_context]
    span = None
    for text, character in example.answers:
        span = span or token_span(offsets, character, character + len(text))
    return shared.inputs(encoded, row) | {
        "start_positions": first + span[0] if span else 0,
        "end_positions": first + span[1] if span else 0,
        "question_tokens": 1 + parts.count(0),
        "context_start": first,
        "offsets": offsets,
    }


def _of_one_example(windows: list[dict], example: Question, number: int, stride: int) -> list[dict]:
    cut = len(windows) > 1 and not example.windows
    step = len(windows[0]["offsets"]) - stride
    tokens = len(windows[-1]["input_ids"]) + (len(windows) - 1) * step
    position = next(
        (w["start_positions"] + i * step for i, w in enumerate(windows) if w["end_positions"]),
        NOT_THERE,
    )
    read = windows if example.windows else windows[:1]
    lost = not any(window["end_positions"] for window in read)
    return [
        window
        | {
            "example": number,
            "tokens": tokens,
            "position": position,
            "truncated": cut or (lost and example.windows),
            "lost_labels": int(lost and index == 0),
            "trainable": not lost,
        }
        for index, window in enumerate(read)
    ]


def token_span(offsets: np.ndarray, first: int, last: int) -> tuple[int, int] | None:
    """The first and last token that cover a stretch of characters, None if the window lacks some.

    Args:
        offsets: (T, 2) first and last + 1 character of each token of a window, ascending.
        first: first character.
        last: last character + 1.
    """
    start = int(np.searchsorted(offsets[:, 1], first, side="right"))
    end = int(np.searchsorted(offsets[:, 0], last, side="left")) - 1
    if len(offsets) == 0 or start > end or offsets[0, 0] > first or offsets[-1, 1] < last:
        return None
    return start, end


def collate(
    features: list[dict], pad_token_id: int, global_attention: str | None = None
) -> dict[str, torch.Tensor]:
    """Model inputs (B, T) and the positions of the answer's first and last token (B,)."""
    batch = shared.collate(features, pad_token_id, global_attention)
    for name in ("start_positions", "end_positions"):
        batch[name] = torch.tensor([feature[name] for feature in features])
    return batch


def decode(
    features: list[dict],
    outputs: Iterable,
    examples: Sequence[Question],
    labels: Sequence[str] = (),
) -> list[str]:
    """The text of the best span of each example over all its windows, as it is in the context."""
    best = [(-np.inf, "")] * len(examples)
    for feature, (start_logits, end_logits) in shared.pair(features, outputs, _logits):
        first, offsets = feature["context_start"], feature["offsets"]
        if not len(offsets):
            continue
        window = slice(first, first + len(offsets))
        total, start, end = best_span(start_logits[window], end_logits[window])
        number = feature["example"]
        if total > best[number][0]:
            characters = slice(int(offsets[start, 0]), int(offsets[end, 1]))
            best[number] = (total, examples[number].context[characters])
    return [text for _, text in best]


def _logits(output) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    return zip(
        *(x.float().cpu().numpy() for x in (output.start_logits, output.end_logits)), strict=True
    )


def best_span(start_logits: np.ndarray, end_logits: np.ndarray) -> tuple[float, int, int]:
    """The span of at most MAX_ANSWER_TOKENS tokens with the highest sum of start and end logit.

    Args:
        start_logits: (T,) of the context's tokens.
        end_logits: (T,).

    Returns:
        The sum, the first and the last token.
    """
    filled = np.pad(end_logits, (0, MAX_ANSWER_TOKENS - 1), constant_values=-np.inf)
    ends = np.lib.stride_tricks.sliding_window_view(filled, MAX_ANSWER_TOKENS)
    totals = start_logits + ends.max(1)
    start = int(totals.argmax())
    return float(totals[start]), start, start + int(ends[start].argmax())


def score(predictions: Sequence[str], examples: Sequence[Question]) -> dict[str, float]:
    """Exact match and F1 by the rules of the examples' data set, also by kind, as `f1_bridge`."""
    from ctd_lib.scores import metrics

    rules, references = examples[0].rules, [example.golds for example in examples]
    metric = metrics.AnswerScore(rules)
    scores = metric.compute(predictions=predictions, references=[list(r) for r in references])
    each = official.answer_scores(predictions, references, rules)
    kinds = np.array([example.kind for example in examples])
    for kind in sorted(set(kinds) - {""}):
        exact, f1 = each[kinds == kind].mean(0)
        scores |= {f"exact_match_{kind}": float(exact), f"f1_{kind}": float(f1)}
    return scores


def survival(features: list[dict], examples: Sequence[Question]) -> shared.Survival:
    """Questions of which an answer is whole in some window, and what the others can reach at most.

    A lost answer may stand elsewhere in what is read, and part of it earns a part of F1: the bounds
    hold for the best span of the text that is read.
    """
    read: dict[int, list[str]] = {}
    lost = set()
    for feature in features:
        number, offsets = feature["example"], feature["offsets"]
        if not feature["trainable"]:
            lost.add(number)
            context = examples[number].context
            text = context[offsets[0, 0] : offsets[-1, 1]] if len(offsets) else ""
            read.setdefault(number, []).append(text)
    counts = {"answers": len(examples), "read_answers": len(examples) - len(lost)}
    if not lost:
        return shared.Survival(counts, {})
    best = np.ones((len(examples), 2))
    for number, texts in read.items():
        best[number] = np.max([_best_possible(examples[number], text) for text in texts], axis=0)
    exact, f1 = best.mean(0)
    return shared.Survival(counts, {"exact_match": float(exact), "f1": float(f1)})


def _best_possible(example: Question, text: str) -> tuple[float, float]:
    """Bounds of exact match and F1 of any span of a text."""
    normalize, _ = official.ANSWER_RULES[example.rules]
    text = normalize(text)
    exact = f1 = 0.0
    for gold in set(map(normalize, example.golds)):
        exact = max(exact, float(gold in text))
        shared_words = sum(word in text for word in gold.split())
        if shared_words:
            f1 = max(f1, 2 * shared_words / (shared_words + len(gold.split())))
    return exact, f1


def details(
    features: list[dict], predictions: Sequence[str], examples: Sequence[Question]
) -> list[dict]:
    """Of each example: `gold` texts, `predicted`, `kind`, `position` of the answer, `tokens`, and
    the number of its `document`, which other examples may be of too."""
    first = {feature["example"]: feature for feature in features}
    documents: dict[str, int] = {}
    return [
        {
            "id": example.id, "gold": list(example.golds), "predicted": predicted,
            "document": documents.setdefault(example.title or example.context, len(documents)),
            "kind": example.kind or question_word(example.question),
            "position": first[number]["position"], "tokens": first[number]["tokens"],
        }
        for number, (example, predicted) in enumerate(zip(examples, predictions, strict=True))
    ]  # fmt: skip


QUESTION_WORDS = ("what", "who", "when", "where", "which", "why", "how", "whose", "whom")


def question_word(question: str) -> str:
    """The first question word of a question, or other: its type where the data set has none."""
    words = official.normalize_answer(question).split()
    return next((word for word in words if word in QUESTION_WORDS), "other")

"""Extractive question answering: the answer is a span of the context."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ctd_lib import metrics
from ctd_lib.data.formats import Question
from ctd_lib.tasks import features as shared

HEAD = "question-answering"
MAX_ANSWER_TOKENS = 30
MAX_STRIDE = 128


def encode(
    examples: Sequence[Question], tokenizer, max_length: int, labels: Sequence[str] = ()
) -> list[dict]:
    """Question and context in one feature, or in several windows where the context is longer.

    Neighbouring windows share 128 tokens, or a quarter of `max_length` if that is less. The targets
    are the first and last token of the first accepted answer; in a window without it both point at
    the first token. A question may fill half of `max_length` and is cut there. An answer that is
    whole in no window is counted as lost.
    """
    features = []
    for start, chunk in shared.in_chunks(examples):
        questions = [_cut(example.question, tokenizer, max_length // 2) for example in chunk]
        encoded = tokenizer(
            questions, [example.context for example in chunk],
            truncation="only_second", max_length=max_length,
            stride=min(MAX_STRIDE, max_length // 4),
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        for row, number in enumerate(encoded["overflow_to_sample_mapping"]):
            in_context = np.array([s == 1 for s in encoded.sequence_ids(row)])
            first = int(in_context.argmax())
            offsets = np.array(encoded["offset_mapping"][row])[in_context]
            text, character = chunk[number].answers[0]
            span = token_span(offsets, character, character + len(text))
            start_position, end_position = (first + span[0], first + span[1]) if span else (0, 0)
            features.append(
                shared.inputs(encoded, row)
                | {
                    "start_positions": start_position,
                    "end_positions": end_position,
                    "example": start + number,
                    "global_tokens": 1 + encoded.sequence_ids(row).count(0),
                    "context": slice(first, first + len(offsets)),
                    "offsets": offsets,
                    "truncated": False,
                    "lost_labels": 0,
                }
            )
    _count_lost(features)
    return features


def _cut(question: str, tokenizer, limit: int) -> str:
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    return question if len(offsets) <= limit else question[: offsets[limit - 1][1]]


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


def _count_lost(features: list[dict]) -> None:
    found = {feature["example"] for feature in features if feature["end_positions"]}
    for feature in features:
        if feature["example"] not in found:
            feature["truncated"] = True
            feature["lost_labels"] = 1
            found.add(feature["example"])


def collate(
    features: list[dict], pad_token_id: int, global_attention: bool = False
) -> dict[str, torch.Tensor]:
    """Model inputs (B, T) and the positions of the answer's first and last token (B,).

    The first token and the question have global attention, if any.
    """
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
        window = feature["context"]
        if not len(feature["offsets"]):
            continue
        total, start, end = best_span(start_logits[window], end_logits[window])
        number = feature["example"]
        if total > best[number][0]:
            characters = slice(feature["offsets"][start, 0], feature["offsets"][end, 1])
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
    """Exact match and F1 by SQuAD's rules."""
    references = [[text for text, _ in example.answers] for example in examples]
    return metrics.SquadScore().compute(predictions=predictions, references=references)

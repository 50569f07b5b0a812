"""The official rules of scoring: which entities tags mark, how far an answer is right."""

import collections
import re
import string
from collections.abc import Sequence

import numpy as np


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """The entities that strict IOB2 tags mark, as (type, first word, last word + 1)."""
    found = set()
    kind, start = None, 0
    for position, tag in enumerate([*tags, "O"]):
        if kind is not None and tag != f"I-{kind}":
            found.add((kind, start, position))
            kind = None
        if tag.startswith("B-"):
            kind, start = tag[2:], position
    return found


def ratio(part: int, whole: int) -> float:
    """0 of nothing."""
    return part / whole if whole else 0.0


def answer_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], rules: str = "squad"
) -> np.ndarray:
    """Exact match and F1 of each answer, (N, 2).

    Args:
        predictions: (N,) texts.
        references: (N,) lists of accepted texts, of which the best counts.
        rules: of `squad` (version 1.1), `hotpotqa` or `triviaqa`, as their official scripts have
            them. HotpotQA's answers yes, no and noanswer share no word with any other answer;
            TriviaQA's punctuation parts words.
    """
    normalize, overlap = ANSWER_RULES[rules]
    rows = []
    for text, golds in zip(predictions, references, strict=True):
        found = normalize(text)
        accepted = set(map(normalize, golds))
        rows.append((found in accepted, max(overlap(found, gold) for gold in accepted)))
    return np.array(rows, dtype=float).reshape(-1, 2)


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, the words a, an, the, and extra blanks (SQuAD 1.1)."""
    return _without_articles(text.lower().translate(_NO_PUNCTUATION))


def normalize_trivia(text: str) -> str:
    """As SQuAD's, but a blank in place of punctuation, underscores and typographic quotes."""
    return _without_articles(text.lower().translate(_BLANK_PUNCTUATION))


def _without_articles(text: str) -> str:
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def word_f1(prediction: str, gold: str) -> float:
    """F1 of the words that two normalised answers share."""
    predicted, expected = prediction.split(), gold.split()
    shared = (collections.Counter(predicted) & collections.Counter(expected)).total()
    # Two answers without a word score 0 here, though they match exactly: so the official scripts.
    return ratio(2 * shared, len(predicted) + len(expected))


def _hotpot_f1(prediction: str, gold: str) -> float:
    if prediction != gold and not CLOSED_ANSWERS.isdisjoint((prediction, gold)):
        return 0.0
    return word_f1(prediction, gold)


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BLANK_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation + "\u2018\u2019\u00b4`"), " ")
CLOSED_ANSWERS = {"yes", "no", "noanswer"}
ANSWER_RULES = {
    "squad": (normalize_answer, word_f1),
    "hotpotqa": (normalize_answer, _hotpot_f1),
    "triviaqa": (normalize_trivia, word_f1),
}

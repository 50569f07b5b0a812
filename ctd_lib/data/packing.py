"""Documents of token ids become sequences, and sequences batches.

A sequence is a first special token, a stretch of text and a last special token. Where documents may
be crossed, the text is the stream of all documents with a separator after each, so that short ones
fill long sequences too; where not, it is one document or a piece of one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ctd_lib.errors import CtdError

Position = Any
"""Where a document stands in its corpus, JSON-able; None: before the first."""
Documents = Callable[[Position], Iterator[tuple[Position, np.ndarray]]]
"""From a position to the documents from there on, each with its own; it must repeat."""


class Sequences:
    """Sequences of at most `max_length` tokens, and where in the documents the next one begins.

    Args:
        documents: gives the documents, as token ids without special tokens, from any position on.
        tokenizer: gives the first, the separator and the last special token.
        max_length: tokens a sequence, special tokens included.
        cross_documents: whether a sequence may go on with the next document.

    Raises:
        CtdError: the length leaves no room for text, or the tokenizer lacks special tokens.
    """

    def __init__(
        self, documents: Documents, tokenizer, max_length: int, cross_documents: bool = True
    ):
        if max_length < 3:
            raise CtdError(f"max_length {max_length} leaves no room for text; 3 or more is needed.")
        self.documents = documents
        self.first, self.separator = special_tokens(tokenizer)
        self.body = max_length - 2
        self.cross_documents = cross_documents
        self.place: list = [None, 0]
        """The document in which the next sequence begins, and its tokens that are used up."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Sequences from `place` on; with crossing, only the very last may be short."""
        bodies = self._crossing() if self.cross_documents else self._apart()
        for body in bodies:
            yield np.concatenate([[self.first], body, [self.separator]]).astype(np.int64)

    def _crossing(self) -> Iterator[np.ndarray]:
        begin, used = self.place
        waiting: deque = deque()  # documents, each with its position and its tokens used up
        count = 0
        for position, document in self.documents(begin):
            waiting.append((position, used, np.append(document, self.separator)))
            count += len(document) + 1 - used
            used = 0
            # One token more than needed: a separator at the very end belongs to no sequence.
            while count > self.body:
                body = _take(waiting, self.body)
                count -= self.body
                self.place = list(waiting[0][:2])
                yield body
        if count > 1:
            yield _take(waiting, count - 1)

    def _apart(self) -> Iterator[np.ndarray]:
        begin, used = self.place
        for position, document in self.documents(begin):
            for start in range(used, len(document), self.body):
                self.place = [position, start + self.body]
                yield document[start : start + self.body]
            used = 0


def _take(waiting: deque, size: int) -> np.ndarray:
    """The first `size` tokens of the waiting documents, which are then used up."""
    taken = []
    while size:
        position, used, document = waiting.popleft()
        taken.append(document[used : used + size])
        size -= len(taken[-1])
        if used + len(taken[-1]) < len(document):
            waiting.appendleft((position, used + len(taken[-1]), document))
    return np.concatenate(taken)


def once(documents: Iterable[np.ndarray]) -> Documents:
    """The documents in their order, once, from the beginning only."""
    return lambda position: enumerate(documents)


def passes(documents: Sequence[np.ndarray], seed: list[int]) -> Documents:
    """The documents for ever, in another random order at each pass.

    The order is a function of the seed and the number of the pass, so that any position is reached
    at once.
    """

    def read(position: Position) -> Iterator[tuple[Position, np.ndarray]]:
        number, index = position or (0, 0)
        while True:
            order = np.random.default_rng([*seed, number]).permutation(len(documents))
            for place in range(index, len(order)):
                yield [number, place], documents[order[place]]
            number, index = number + 1, 0

    return read


def by_length(sequences: Iterable[np.ndarray], tokens: int) -> list[list[np.ndarray]]:
    """Batches of sequences of like length, of at most so many tokens when padded."""
    batches: list[list[np.ndarray]] = [[]]
    for sequence in sorted(sequences, key=len):
        if batches[-1] and (len(batches[-1]) + 1) * len(sequence) > tokens:
            batches.append([])
        batches[-1].append(sequence)
    return batches


def batch_of(sequences: list[np.ndarray], tokenizer) -> dict[str, torch.Tensor]:
    """input_ids, attention_mask, special_tokens_mask, each (B, T) int64, T of the longest."""
    length = max(map(len, sequences))
    pad = tokenizer.pad_token_id or 0
    ids = torch.full((len(sequences), length), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
        mask[row, : len(sequence)] = 1
    special = torch.tensor([*special_tokens(tokenizer), pad])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "special_tokens_mask": torch.isin(ids, special).long(),
    }


def special_tokens(tokenizer) -> tuple[int, int]:
    """The ids of the first token and of the separator, which is the last too."""
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise CtdError(
            "the tokenizer has no CLS or SEP token; one of the RoBERTa or BERT family is wanted."
        )
    return tokenizer.cls_token_id, tokenizer.sep_token_id

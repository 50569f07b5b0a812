"""Corpora and mixes of them, as batches of token ids to train and to evaluate on.

A corpus is tokenised once, or streamed where that would take too long (`texts.is_streamed`).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ctd_lib.data import packing, streams, texts
from ctd_lib.errors import CtdError

BUCKET = 32  # batches whose sequences are sorted by length: the more, the less padding
Batch = dict[str, torch.Tensor]
Corpus = dict[str, np.ndarray]
"""tokens (n_tokens,) int32, without special tokens; offsets (n_documents + 1,) int64, document i is
tokens[offsets[i] : offsets[i + 1]]; held_out (n_documents,) bool."""
Opener = Callable[[str], Corpus | streams.Stream]


def open_corpus(spec: str, tokenizer) -> Corpus | streams.Stream:
    """A corpus ready to be read from.

    Raises:
        CtdError: as `tokenize_corpus` and `streams.Stream`.
    """
    corpus = texts.parse(spec)
    if texts.is_streamed(corpus):
        return streams.Stream(corpus, tokenizer)
    return tokenize_corpus(spec, tokenizer)


def tokenize_corpus(spec: str, tokenizer) -> Corpus:
    """All documents of a corpus as one array of token ids.

    Which documents are held out depends on their text alone: on no seed, tokenizer or order.

    Args:
        spec: the corpus, as in `texts.parse`.
        tokenizer: a fast tokenizer.

    Raises:
        CtdError: as `texts.texts`; or the corpus has no text.
    """
    shares: list[float] = []

    def documents() -> Iterator[str]:
        for text in texts.texts(spec):
            shares.append(texts.share(text))
            yield text

    pieces = list(texts.token_ids(documents(), tokenizer))
    if not sum(map(len, pieces)):
        raise CtdError(f"corpus {spec} has no text in it.")
    return {
        "tokens": np.concatenate(pieces),
        "offsets": np.cumsum([0, *map(len, pieces)], dtype=np.int64),
        "held_out": _held_out(np.array(shares)),
    }


def _held_out(shares: np.ndarray) -> np.ndarray:
    """The documents with the smallest shares; at least one, but never the only one."""
    chosen = shares < texts.HELD_OUT_FRACTION
    if not chosen.any() or chosen.all():
        chosen = shares == (shares.min() if len(np.unique(shares)) > 1 else -1)
    return chosen


class Part(Sequence[np.ndarray]):
    """Some documents of a corpus, as views of its tokens."""

    def __init__(self, corpus: Corpus, chosen: np.ndarray):
        self.tokens = corpus["tokens"]
        self.starts, self.ends = corpus["offsets"][:-1][chosen], corpus["offsets"][1:][chosen]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.tokens[self.starts[index] : self.ends[index]]


def split(corpus: Corpus, part: str) -> Part:
    """The documents of one part of a corpus, `train` or `held_out`, but for empty ones.

    Raises:
        CtdError: that part has no documents.
    """
    wanted = corpus["held_out"] == (part == "held_out")
    chosen = np.flatnonzero(wanted & (np.diff(corpus["offsets"]) > 0))
    if not len(chosen):
        raise CtdError(
            "the corpus has a single document; two are needed, one of them to be held out."
        )
    return Part(corpus, chosen)


class PackedBatches:
    """Endless batches from the training parts of a mix of corpora, which can be left and taken up.

    Documents come in a new random order at each pass. The corpora take turns so that at any moment
    each has given its weight's share of the tokens, as nearly as whole sequences allow.

    Where documents are not crossed, a sequence is one document or a piece of one, and attention
    cannot reach another. Sequences of like length then share a batch, which has as many of them as
    make the tokens of `batch_size` full sequences, padding included.

    One iteration at a time: each goes on where `state_dict` says, which is after the last batch
    given.

    Args:
        mix: weight of each corpus, by its spec.
        tokenizer: a fast tokenizer.
        max_length: tokens a sequence.
        batch_size: full sequences a batch.
        seed: of the order of documents.
        open_corpus: from spec to corpus; for callers that keep tokenised corpora.
        cross_documents: whether a sequence may go on with the next document.

    Yields:
        input_ids, attention_mask, special_tokens_mask, each (B, T) int64; with crossing
        (batch_size, max_length).

    Raises:
        CtdError: no weight above zero, or as `open_corpus` and `packing.Sequences`.
    """

    def __init__(
        self,
        mix: dict[str, float],
        tokenizer,
        max_length: int,
        batch_size: int,
        seed: int = 0,
        open_corpus: Opener | None = None,
        cross_documents: bool = True,
    ):
        weights = weighed(mix)
        opened = _opened(weights, tokenizer, open_corpus)
        self.specs, self.shares = list(weights), _shares(weights)
        self.tokenizer, self.max_length, self.seed = tokenizer, max_length, seed
        self.batch_tokens = batch_size * max_length
        self.bucket_tokens = self.batch_tokens * (1 if cross_documents else BUCKET)
        self.sources = [
            packing.Sequences(_training(corpus, [seed, number]), tokenizer, max_length,
                              cross_documents)
            for number, corpus in enumerate(opened)
        ]  # fmt: skip
        self._state = self._here(bucket=0, given=[0] * len(self.specs))

    def __iter__(self) -> Iterator[Batch]:
        for source, place in zip(self.sources, self._state["places"], strict=True):
            source.place = list(place)
        sequences = [iter(source) for source in self.sources]
        while True:
            state = self._state
            chosen, given = self._bucket(sequences, state["given"])
            batches = packing.by_length(chosen, self.batch_tokens)
            order = np.random.default_rng([self.seed, state["bucket"]]).permutation(len(batches))
            for number in range(state["batch"], len(batches)):
                self._state = state | {"batch": number + 1}
                yield packing.batch_of(batches[order[number]], self.tokenizer)
            self._state = self._here(state["bucket"] + 1, given)

    def state_dict(self) -> dict:
        """Where the next batch begins; JSON-able and small."""
        return self._state

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state of batches of the same parameters.

        Raises:
            CtdError: the state is of other corpora.
        """
        if state["corpora"] != self.specs:
            raise CtdError(f"the state is of corpora {state['corpora']}, not {self.specs}.")
        self._state = state

    def _here(self, bucket: int, given: list[int]) -> dict:
        places = [source.place for source in self.sources]
        return {"corpora": self.specs, "bucket": bucket, "batch": 0, "given": given,
                "places": places}  # fmt: skip

    def _bucket(
        self, sequences: list[Iterator[np.ndarray]], given: list[int]
    ) -> tuple[list[np.ndarray], list[int]]:
        """The next sequences of all corpora, and the tokens that each has given after them."""
        chosen, size, given = [], 0, list(given)
        while size < self.bucket_tokens:
            turn = _turn(self.shares, given, self.max_length)
            chosen.append(next(sequences[turn]))
            given[turn] += len(chosen[-1])
            size += len(chosen[-1])
        return chosen, given


def held_out_batches(
    mix: dict[str, float],
    tokenizer,
    max_length: int,
    batch_size: int,
    max_sequences: int | None = None,
    open_corpus: Opener | None = None,
) -> list[Batch]:
    """The held-out parts of a mix of corpora, packed, as batches: always the same ones.

    They are packed across documents in every case, so that losses on them can be compared.

    Args:
        mix, tokenizer, max_length, batch_size, open_corpus: as in `PackedBatches`.
        max_sequences: stop after so many; None: when the first of the corpora has no more.
    """
    weights = weighed(mix)
    opened = _opened(weights, tokenizer, open_corpus)
    parts = [_held_out_documents(corpus) for corpus in opened]
    sequences = [
        iter(packing.Sequences(packing.once(part), tokenizer, max_length)) for part in parts
    ]
    chosen: list[np.ndarray] = []
    given = [0] * len(parts)
    while max_sequences is None or len(chosen) < max_sequences:
        turn = _turn(_shares(weights), given, 1)
        sequence = next(sequences[turn], None)
        if sequence is None:
            break
        chosen.append(sequence)
        given[turn] += 1
    starts = range(0, len(chosen), batch_size)
    return [packing.batch_of(chosen[start : start + batch_size], tokenizer) for start in starts]


def _opened(weights: dict[str, float], tokenizer, opener: Opener | None) -> list:
    opener = opener or (lambda spec: open_corpus(spec, tokenizer))
    return [opener(spec) for spec in weights]


def _training(corpus: Corpus | streams.Stream, seed: list[int]) -> packing.Documents:
    if isinstance(corpus, streams.Stream):
        return corpus.training(seed)
    return packing.passes(split(corpus, "train"), seed)


def _held_out_documents(corpus: Corpus | streams.Stream) -> Iterator[np.ndarray]:
    if isinstance(corpus, streams.Stream):
        return corpus.held_out()
    return iter(split(corpus, "held_out"))


def weighed(mix: dict[str, float]) -> dict[str, float]:
    """The corpora of a mix with a weight.

    Raises:
        CtdError: there are none.
    """
    weights = {spec: float(weight) for spec, weight in mix.items() if weight > 0}
    if not weights:
        raise CtdError(f"the corpora mix {mix} is empty; give one corpus or more a weight above 0.")
    return weights


def _shares(weights: dict[str, float]) -> np.ndarray:
    return np.array(list(weights.values())) / sum(weights.values())


def _turn(shares: np.ndarray, given: list[int], unit: int) -> int:
    """Whose turn it is: that of the one furthest behind its share, were `unit` more given."""
    return int(np.argmax(shares * (sum(given) + unit) - given))

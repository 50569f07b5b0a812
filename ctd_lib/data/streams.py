"""Corpora too big to be tokenised at once: hub data sets and large local files, as streams.

`datasets` reads them bit by bit. Shards (files, as a rule) come in a random order, and within a
shard the documents of one block after another are shuffled. A position is the block, by the state
of `datasets` where it begins, and a place in it: to go on from there takes one block to be read
again, and of a shard what `datasets` cannot skip.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from ctd_lib.data import packing, texts
from ctd_lib.data.texts import HELD_OUT_FRACTION, share, token_ids
from ctd_lib.errors import CtdError

BLOCK_DOCUMENTS = 4096
BLOCK_CHARACTERS = 2**25


class Stream:
    """A corpus that is read and tokenised as it is needed.

    A document is held out if its share, which depends on its text alone, is below
    `HELD_OUT_FRACTION`.

    Raises:
        CtdError: `datasets` cannot open it.
    """

    def __init__(self, corpus: texts.CorpusSpec, tokenizer):
        self.corpus, self.tokenizer = corpus, tokenizer
        self.rows = _open(corpus)

    def training(self, seed: list[int]) -> packing.Documents:
        """The training part for ever, shuffled; see `packing.Documents`.

        A position is the number of the pass, of the shard in it and of the block in that, the state
        of `datasets` at the block's beginning and the place in the shuffled block.
        """

        def read(position: packing.Position) -> Iterator[tuple[packing.Position, np.ndarray]]:
            first_pass, shard, block, state, place = position or (0, 0, 0, None, 0)
            empty = position is None
            for number in itertools.count(first_pass):
                order = np.random.default_rng([*seed, number]).permutation(self.rows.num_shards)
                for turn in range(shard, len(order)):
                    for count, here, documents in self._blocks(order[turn], block, state):
                        kept = [text for text in documents if share(text) >= HELD_OUT_FRACTION]
                        shuffle = np.random.default_rng([*seed, number, turn + 1, count])
                        shuffled = [kept[index] for index in shuffle.permutation(len(kept))]
                        for ids in token_ids(shuffled[place:], self.tokenizer):
                            if len(ids):
                                empty = False
                                yield [number, turn, count, here, place], ids
                            place += 1
                        place = 0
                    block, state = 0, None
                shard = 0
                if empty:
                    raise CtdError(f"corpus {self.corpus.source.spec} has no text in it.")

        return read

    def held_out(self) -> Iterator[np.ndarray]:
        """The held-out part once, in its own order."""
        for shard in range(self.rows.num_shards):
            for _, _, documents in self._blocks(shard, 0, None):
                kept = [text for text in documents if share(text) < HELD_OUT_FRACTION]
                yield from token_ids(kept, self.tokenizer)

    def _blocks(self, shard: int, block: int, state: dict | None) -> Iterator[tuple]:
        """Blocks of a shard from one on: number, state at the beginning, wanted documents."""
        part = self.rows.shard(self.rows.num_shards, int(shard))
        if state is not None:
            part.load_state_dict(state)
        documents = self.corpus.documents(part)
        for number in itertools.count(block):
            found, size = [], 0
            for text in itertools.islice(documents, BLOCK_DOCUMENTS):
                found.append(text)
                size += len(text)
                if size > BLOCK_CHARACTERS:
                    break
            if not found:
                return
            yield number, state, [text for text in found if self.corpus.wants(text)]
            state = part.state_dict()


def _open(corpus: texts.CorpusSpec):
    import datasets

    source = corpus.source
    options: dict = {
        "path": source.name, "name": corpus.config, "data_dir": corpus.data_dir,
        "revision": corpus.revision,
    }  # fmt: skip
    if source.kind == "local":
        paths = texts.files(source.path)
        kinds = {texts.kind_of(path) for path in paths}
        if len(kinds) > 1:
            raise CtdError(
                f"{source.path} is streamed, for it is large, and then may hold files of one kind,"
                f" not {', '.join(sorted(kinds))}."
            )
        options = {"path": kinds.pop(), "data_files": [str(path) for path in paths]}
        if options["path"] == "text":
            options["sample_by"] = "document"
    try:
        return datasets.load_dataset(**options, split=corpus.split, streaming=True)
    except (ValueError, OSError, RuntimeError) as error:
        raise CtdError(
            f"corpus {source.spec} cannot be opened: {str(error).splitlines()[0]}"
        ) from error

"""The text of a stage: corpora tokenised once through the store or streamed, as batches."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from ctd_lib import pretrain as pretraining
from ctd_lib.data import corpora, streams, texts
from ctd_lib.pipeline.common import get_or_make

HELD_OUT_TOKENS = 8192


class Text:
    """A mix of corpora, opened once, as batches of sequences."""

    def __init__(self, mix: dict[str, float], tokenizer, length: int):
        self.mix, self.tokenizer, self.length = mix, tokenizer, length
        self.open = functools.cache(lambda spec: _corpus(spec, tokenizer))
        self._held_out: list[dict[str, torch.Tensor]] = []

    def batches(
        self, batch_size: int, seed: int, cross_documents: bool = True
    ) -> corpora.PackedBatches:
        """Endless batches of the training part, which can be taken up where they were left."""
        return corpora.PackedBatches(
            self.mix, self.tokenizer, self.length, batch_size, seed, self.open, cross_documents
        )

    def held_out(self) -> list[dict[str, torch.Tensor]]:
        """Always the same few sequences of the held-out part."""
        if not self._held_out:
            sequences = max(1, HELD_OUT_TOKENS // self.length)
            self._held_out = corpora.held_out_batches(
                self.mix, self.tokenizer, self.length, 1, sequences, self.open
            )
        return self._held_out

    def evaluate(self, model, precision: str) -> float:
        return pretraining.evaluate_mlm(model, self.held_out(), self.tokenizer, precision=precision)


def _corpus(spec: str, tokenizer) -> corpora.Corpus | streams.Stream:
    """A tokenised corpus, memory-mapped from its artifact; a stream where it is too big for one."""
    corpus = texts.parse(spec)
    if texts.is_streamed(corpus):
        return streams.Stream(corpus, tokenizer)
    settings = {"text": contents({spec: 1.0}), "tokenizer": tokenizer_digest(tokenizer)}

    def make(folder: Path) -> dict:
        made = corpora.tokenize_corpus(spec, tokenizer)
        for name, array in made.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        return {"tokens": len(made["tokens"]), "documents": len(made["held_out"])}

    label = corpus.source.name.split("/")[-1]
    artifact = get_or_make("corpus", label, settings, [], None, make)
    return {
        name: np.load(artifact.path / f"{name}.npy", mmap_mode="r")
        for name in ("tokens", "offsets", "held_out")
    }


def tokenizer_digest(tokenizer) -> str:
    """Of all but truncation and padding, which change with use and are not used here."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": 0, "padding": 0}
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()


def contents(mix: dict[str, float]) -> list[tuple[str, str]]:
    """What each corpus is: of the user's own files, which may change under one name, a digest.

    Their order counts: it decides whose turn is first, and in which order documents are drawn.
    """
    return [(spec, texts.identity(spec)) for spec in mix]


def check(*mixes: dict[str, float] | None) -> None:
    """Refuse mixes without text before anything is trained; None: there is no such mix.

    Raises:
        CtdError: a corpus that is not there, or no weight above 0.
    """
    for mix in mixes:
        if mix is not None:
            corpora.weighed(mix)
            contents(mix)

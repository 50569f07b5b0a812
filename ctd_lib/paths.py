"""Where things live, the same from any working directory.

Everything the project makes lies under one home folder: `CTD_HOME`, else the checkout.
"""

import os
from pathlib import Path

from ctd_lib.errors import CtdError

CHECKOUT = Path(__file__).resolve().parents[1]


def home() -> Path:
    """The folder that holds artifacts, results and the built book."""
    if chosen := os.environ.get("CTD_HOME"):
        return Path(chosen).expanduser().resolve()
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT
    return Path.home() / ".cache" / "ctd"


def data_dir() -> Path | None:
    """The user's own folder of data sets and corpora (`CTD_DATA`), if one is set.

    Raises:
        CtdError: `CTD_DATA` names no folder.
    """
    chosen = os.environ.get("CTD_DATA")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().resolve()
    if not folder.is_dir():
        raise CtdError(f"CTD_DATA is {chosen!r}, which is no folder; set it to your data folder.")
    return folder


def notebooks() -> Path:
    """The source notebooks and their matrix; they lie in the checkout only."""
    return CHECKOUT / "notebooks"


def downloads() -> Path:
    """Archives of packaged models and text, fetched once."""
    return home() / "downloads"


def artifacts() -> Path:
    """Models and packed data by content key."""
    return home() / "artifacts"


def results(profile: str) -> Path:
    """Records of one profile."""
    return home() / "results" / profile


def book_runs() -> Path:
    """Executed notebooks, generated."""
    return home() / "book" / "runs"


def book_generated() -> Path:
    """Tables and figures of the book, generated from records."""
    return home() / "book" / "generated"

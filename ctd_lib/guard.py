"""Keeps papermill from writing over a source notebook.

`papermill notebooks/03_distill.ipynb` with one path and a pipe on standard input takes that path
for the output. Papermill loads this module through its `papermill.io` entry point, before it opens
any file.
"""

from pathlib import Path

from papermill.iorw import LocalHandler

from ctd_lib import paths
from ctd_lib.errors import CtdError

_write = LocalHandler.write


def write(self: LocalHandler, buf: str, path: str) -> None:
    """Write a notebook anywhere but among the sources.

    Raises:
        CtdError: the output path lies in the folder of source notebooks.
    """
    if Path(path).resolve().parent == paths.notebooks():
        raise CtdError(
            f"{path} is a source notebook; give an output path after it, "
            f"for example book/runs/{Path(path).name}."
        )
    _write(self, buf, path)


LocalHandler.write = write
handler = LocalHandler()

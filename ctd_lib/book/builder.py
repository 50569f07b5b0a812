"""Calls of Jupyter Book: the book's own settings, and what an edition changes in them."""

import subprocess
import sys
from pathlib import Path

import yaml

from ctd_lib import paths
from ctd_lib.errors import CtdError

COMMAND = (sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build")


def html() -> Path:
    """The book as HTML, in `_build/html`; returns that folder.

    Raises:
        CtdError: as `_run`.
    """
    root = _sources()
    built = root / "_build"
    built.mkdir(exist_ok=True)
    _run(root, *([] if _has_runs() else _without_runs(built)))
    return built / "html"


def edition(version: str, folder: Path) -> Path:
    """A version of the book as HTML that knows its version; returns the folder of the pages.

    Raises:
        CtdError: as `_run`.
    """
    config = _config()
    settings = config["sphinx"]["config"]
    settings["html_js_files"].append(["versions.js", {"data-version": version}])
    settings |= {"version": version, "release": version}
    _run(
        _sources(),
        *("--config", _save(config, folder / "_config.yml")),
        *([] if _has_runs() else _without_runs(folder)),
        *("--path-output", folder),
    )
    return folder / "_build" / "html"


def single(folder: Path) -> Path:
    """The book on one page, without the executed notebooks; returns that page.

    Raises:
        CtdError: as `_run`.
    """
    _run(
        _sources(),
        *("--config", _save(_config(), folder / "_config.yml")),
        *_without_runs(folder),
        *("--path-output", folder),
        *("--builder", "singlehtml"),
    )
    built = folder / "_build" / "singlehtml"
    # Its links and images are relative to the top, wherever the first page lies.
    return (built / "book" / "index.html").rename(built / "report.html")


def _sources() -> Path:
    root = paths.home()
    if not (root / "_config.yml").is_file():
        raise CtdError(f"{root} holds no _config.yml; build the book in a checkout of the project.")
    return root


def _config() -> dict:
    """The book's settings, valid in another folder too."""
    root = _sources()
    config = yaml.safe_load((root / "_config.yml").read_text())
    extensions = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {k: str(root / v) for k, v in extensions.items()}
    return config


def _has_runs() -> bool:
    return any(paths.book_runs().glob("*.ipynb"))


def _without_runs(folder: Path) -> tuple[str, Path]:
    """The option for a table of contents without the chapter of executed notebooks."""
    toc = yaml.safe_load((_sources() / "_toc.yml").read_text())
    for part in toc["parts"]:
        part["chapters"] = [one for one in part["chapters"] if not _executed(one)]
    return "--toc", _save(toc, folder / "_toc.yml")


def _executed(chapter: dict) -> bool:
    return any("glob" in section for section in chapter.get("sections", []))


def _save(content: dict, path: Path) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def _run(root: Path, *options: str | Path) -> None:
    """Build with warnings as errors.

    Raises:
        CtdError: the builder found a fault.
    """
    command = [*COMMAND, str(root), "-n", "-W", "--keep-going", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise CtdError("the book was not built cleanly; the warnings above name page and line.")

"""`python -m ctd_lib.book check`, `build`, `pdf`, `publish --version 1.0` or `readme`."""

import argparse
import sys

from ctd_lib import book, paths
from ctd_lib.book import pdf, readme, versions
from ctd_lib.errors import CtdError


def main(arguments: list[str] | None = None) -> int:
    """The command line; errors of the user are one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m ctd_lib.book", description=__doc__)
    parser.add_argument("verb", choices=["check", "build", "pdf", "publish", "readme"])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--version", default="", help="of the edition; `publish` needs one")
    parser.add_argument("--force", action="store_true", help="publish over a published version")
    given = parser.parse_args(arguments)
    try:
        print(_done(given))
    except CtdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _done(given: argparse.Namespace) -> str:
    if given.verb == "check":
        book.check(given.profile)
        return "The report may be published."
    if given.verb == "readme":
        return f"Brought up to date: {readme.write()}"
    if given.verb == "build":
        return f"The report: {book.build(given.profile)}"
    if given.verb == "pdf":
        target = paths.home() / "_build" / "pdf" / "convert-then-distill.pdf"
        return f"The report: {pdf.write(target, given.profile, given.version)}"
    return f"Published: {versions.publish(given.version, given.profile, given.force)}"


if __name__ == "__main__":
    sys.exit(main())

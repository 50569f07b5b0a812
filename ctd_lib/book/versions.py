"""Published versions of the book: each in a folder of `site/` of its own, never touched again.

`site/versions.js` and `site/index.html` list them, from the `version.json` that each has.
"""

import html
import json
import os
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml

from ctd_lib import paths, records, runtime
from ctd_lib.book import browser, builder, checks, pdf
from ctd_lib.errors import CtdError

ABOUT = "version.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}: versions</title>
<link rel="icon" href="data:,">
<style>
:root {{ background: Canvas; color: CanvasText; color-scheme: light dark; }}
body {{ font: 1rem/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; }}
body {{ padding: 0 1rem; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid gray; padding: 0.3rem 1rem 0.3rem 0; text-align: left; }}
</style>
</head>
<body>
<main>
<h1>{title}: versions of the report</h1>
<p>Read the newest: <a href="{newest}/index.html">{newest}</a>.</p>
<div tabindex="0" role="region" aria-label="Versions">
<table>
<thead><tr><th>version</th><th>date</th><th>commit</th><th>profile</th><th>records</th>
<th>files</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</main>
</body>
</html>
"""


def site() -> Path:
    """Where published versions lie."""
    return paths.home() / "site"


def publish(version: str, profile: str = "quick", force: bool = False) -> Path:
    """Build a version of the book into `site/<version>`; return its first page.

    It is built aside and moved into place when it is whole. Where a Chromium is found, its PDF is
    in its folder; beside the folder lies a ZIP archive of it.

    Raises:
        CtdError: `version` is no name for a folder; it exists and `force` is not given; the book
            was not built cleanly, or may not be published.
    """
    if not _NAME.fullmatch(version):
        raise CtdError(
            f"version {version!r} cannot be a folder's name; use letters, digits, '.', '_' and '-'."
        )
    final = site() / version
    if final.exists() and not force:
        raise CtdError(
            f"version {version} is published already and stays as it is; "
            "choose another, or replace it by --force (make publish ARGS=--force)."
        )
    checks.prepare(profile)
    site().mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site(), prefix=".publish-") as scratch:
        built = builder.edition(version, Path(scratch))
        about = _about(version, profile, built)
        if browser.find():
            about["pdf"] = f"convert-then-distill-{version}.pdf"
            pdf.write(built / about["pdf"], profile, version)
        (built / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
        named = built.rename(built.with_name(version))
        archive = shutil.make_archive(
            str(Path(scratch) / "archive"), "zip", named.parent, named.name
        )
        if final.exists():
            final.rename(Path(scratch) / "replaced")
        os.replace(named, final)
        os.replace(archive, site() / f"{version}.zip")
    list_versions()
    return final / "index.html"


def published() -> list[dict]:
    """What is known of every published version, the newest first."""
    found = [json.loads(path.read_text()) for path in site().glob(f"*/{ABOUT}")]
    return sorted(found, key=lambda about: about["date"], reverse=True)


def list_versions() -> None:
    """Write the lists of versions: the site's first page, and what the books' own menus read."""
    found = published()
    title = yaml.safe_load((paths.home() / "_config.yml").read_text())["title"]
    menu = [{name: about[name] for name in ("version", "pdf", "pages")} for about in found]
    page = _PAGE.format(
        title=html.escape(title),
        newest=found[0]["version"],
        rows="\n".join(_row(about) for about in found),
    )
    _replace(site() / "versions.js", f"window.ctdVersions = {json.dumps(menu)};\n")
    _replace(site() / "index.html", page)


def _about(version: str, profile: str, built: Path) -> dict:
    made = runtime.provenance(0)
    pages = (page.relative_to(built).as_posix() for page in built.rglob("*.html"))
    return {
        "version": version,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": made["commit"],
        "dirty": made["dirty"],
        "profile": profile,
        "records": len(records.load(profile)),
        "pdf": None,
        "pages": sorted(page for page in pages if not page.startswith("_")),
    }


def _row(about: dict) -> str:
    version = about["version"]
    files = [(f"{version}/index.html", "read"), (f"{version}.zip", "ZIP")]
    if about["pdf"]:
        files.insert(1, (f"{version}/{about['pdf']}", "PDF"))
    commit = (about["commit"] or "none")[:8] + (" + changes" if about["dirty"] else "")
    values = [version, about["date"][:10], commit, about["profile"], str(about["records"])]
    cells = [html.escape(value) for value in values]
    cells.append(
        " ".join(
            f'<a href="{href}" aria-label="{text}, version {version}">{text}</a>'
            for href, text in files
        )
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)

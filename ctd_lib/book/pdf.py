"""The report as one PDF: the book on one page, printed by a headless Chromium."""

import base64
import html
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml

from ctd_lib import paths, records, runtime
from ctd_lib.book import browser, builder, checks
from ctd_lib.errors import CtdError

INCH = 25.4
PAPER = (210, 297)
"""A4, in millimetres."""
MARGIN = 16
"""In millimetres, on all sides."""

# What differs on paper: a title page, links that stay inside, nothing wider than the paper.
_PREPARE = """
(async (cover) => {
  const article = document.querySelector(".bd-article");
  for (const button of article.querySelectorAll("th button"))
    button.replaceWith(...button.childNodes);
  for (const file of article.querySelectorAll("a.download"))
    file.replaceWith(...file.childNodes);
  for (const entry of article.querySelectorAll(".citation"))
    entry.id = `reference-${entry.id}`;
  for (const link of article.querySelectorAll(".bibtex-citation a"))
    link.hash = `reference-${link.hash.slice(1)}`;
  for (const link of article.querySelectorAll("a.internal"))
    link.setAttribute("href", link.hash || "#");
  const page = document.createElement("section");
  page.className = "cover";
  page.innerHTML = cover;
  article.prepend(page);
  await document.fonts.ready;
  for (const wide of article.querySelectorAll("table")) {
    const right = wide.parentElement.getBoundingClientRect().right;
    const fits = () => wide.getBoundingClientRect().right <= right;
    // A narrower table breaks its words elsewhere, so that one division is not enough.
    for (let zoom = 1; !fits() && zoom > 0.3; ) wide.style.zoom = zoom *= 0.97;
  }
})
"""
_FOOTER = (
    '<div style="width: 100%; text-align: center; font: 8px sans-serif; color: #555">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)


def write(target: Path, profile: str = "quick", version: str = "") -> Path:
    """Print the report into `target`: title page, all pages but the executed notebooks.

    Raises:
        CtdError: there is no Chromium, the check failed, or the book was not built cleanly.
    """
    if browser.find() is None:
        raise CtdError(
            "the PDF edition needs Chromium, and none is found; "
            "install one, or name it by CTD_CHROMIUM."
        )
    checks.prepare(profile)
    with tempfile.TemporaryDirectory(prefix="ctd-pdf-") as scratch:
        page = builder.single(Path(scratch))
        content = print_page(page, cover(profile, version))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".tmp")
    partial.write_bytes(content)
    os.replace(partial, target)
    return target


def print_page(page: Path, cover: str) -> bytes:
    """A page of the book as PDF, with `cover` (HTML) as its title page."""
    with browser.Browser() as chromium:
        lay_out(chromium, page, cover)
        printed = chromium.call(
            "Page.printToPDF",
            paperWidth=PAPER[0] / INCH,
            paperHeight=PAPER[1] / INCH,
            **{f"margin{side}": MARGIN / INCH for side in ("Top", "Bottom", "Left", "Right")},
            displayHeaderFooter=True,
            headerTemplate="<span></span>",
            footerTemplate=_FOOTER,
            printBackground=True,
            generateTaggedPDF=True,
            generateDocumentOutline=True,
        )
    return base64.b64decode(printed["data"])


def lay_out(chromium: browser.Browser, page: Path, cover: str) -> None:
    """Open a page as it will be on paper."""
    pixels = round((PAPER[0] - 2 * MARGIN) / INCH * 96)
    chromium.resize(pixels, 1000)
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    chromium.call("Emulation.setEmulatedMedia", media="print", features=light)
    chromium.open(page.as_uri())
    chromium.evaluate(f"{_PREPARE}({json.dumps(cover)})")


def cover(profile: str, version: str = "") -> str:
    """The title page, as HTML: what it is, which version, of which records."""
    config = yaml.safe_load((paths.home() / "_config.yml").read_text())
    made = runtime.provenance(0)
    commit = (made["commit"] or "none")[:8] + (" + changes" if made["dirty"] else "")
    lines = [
        f"Version {version}" if version else "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}",
        f"{len(records.load(profile))} records of the profile {profile}",
        "The executed notebooks are in the HTML edition.",
    ]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
    title, author = (html.escape(config[name]) for name in ("title", "author"))
    return f'<p class="cover-title">{title}</p><p>{author}</p>{text}'

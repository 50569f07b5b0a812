"""The built pages as files: every link inside ends somewhere, nothing comes from elsewhere."""

import functools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

REMOTE = re.compile(r"^(https?:)?//")


@functools.cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(tag["id"] for tag in parsed(path).select("[id]"))


@pytest.fixture(scope="module")
def pages(site):
    found = sorted(site.rglob("*.html"))
    assert len(found) > 30
    return found


def test_every_internal_link_ends_somewhere(pages):
    lost = []
    for page in pages:
        for tag in parsed(page).select("a[href]"):
            link = urlsplit(tag["href"])
            if link.scheme or link.netloc:
                continue
            goal = (page.parent / unquote(link.path)).resolve() if link.path else page
            if not goal.is_file():
                lost.append(f"{page}: {tag['href']}")
            elif link.fragment and goal.suffix == ".html":
                if unquote(link.fragment) not in anchors(goal):
                    lost.append(f"{page}: {tag['href']}")
    assert not lost


def test_every_citation_leads_to_its_entry(pages):
    cited = [
        (page, link)
        for page in pages
        for link in parsed(page).select(".bibtex-citation a, a.bibtex")
    ]
    assert len(cited) > 10
    for page, link in cited:
        target, _, fragment = link["href"].partition("#")
        goal = (page.parent / target).resolve() if target else page
        assert "citation" in parsed(goal).find(id=fragment)["class"], (page, link)


def test_nothing_is_loaded_from_elsewhere(pages):
    for page in pages:
        for tag in parsed(page).select("script[src], img[src], link[href], iframe[src]"):
            if tag.get("rel") != ["canonical"]:
                assert not REMOTE.match(tag.get("src") or tag.get("href")), (page, tag)


def test_every_image_has_words(pages):
    images = [(page, image) for page in pages for image in parsed(page).select("img")]
    assert len(images) > 8
    for page, image in images:
        assert image.get("alt", "").strip(), (page, image)


def test_every_table_and_figure_has_file_records_and_notebook(site):
    origins = parsed(site / "1.0" / "book" / "results.html").select(".origin")
    assert len(origins) > 8
    for origin in origins:
        names = [Path(link["href"].split("#")[0]).suffix for link in origin.select("a")]
        assert sorted(names) in ([".csv", ".html", ".ipynb"], [".html", ".ipynb", ".png"])

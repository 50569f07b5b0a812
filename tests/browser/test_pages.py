"""The built book: what a reader does with it in a real browser, its pages as files, and on paper.

One module, so that what it is built from is made once however many processes run the tests.
"""

import functools
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import toy_book
from bs4 import BeautifulSoup

from ctd_lib.book import builder, checks, pdf, versions

DESKTOP, PHONE = (1280, 900), (390, 844)
CHECKED = ("book/index.html", "book/results.html", "book/method.html", "book/provenance.html")
IMPACTS = ("serious", "critical")
REMOTE = re.compile(r"^(https?:)?//")


def set_up(chromium, size=DESKTOP, theme="light"):
    chromium.resize(*size, phone=size == PHONE)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    chromium.call("Emulation.setEmulatedMedia", media="", features=features)


def faults(events):
    """Errors in the console, failed loads among them."""
    for event in events:
        parameters = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            yield parameters["exceptionDetails"]
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            yield parameters["args"]
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            yield parameters["entry"].get("url"), parameters["entry"]["text"]


def requested(events):
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.slow
def test_pages_load_cleanly_and_fit_a_phone(chromium, address, site):
    set_up(chromium, PHONE)
    pages = json.loads((site / "1.0" / versions.ABOUT).read_text())["pages"]
    pages.remove("index.html")  # nothing but the way to book/index.html
    assert len(pages) > 15
    for page in ["index.html", *(f"1.0/{page}" for page in pages)]:
        chromium.open(f"{address}/{page}")
        assert not list(faults(chromium.events)), page
        loaded = requested(chromium.events)
        assert loaded and all(url.startswith((address, "data:")) for url in loaded), page
        width = chromium.evaluate("document.scrollingElement.scrollWidth")
        assert width <= PHONE[0], f"{page} is {width} pixels wide"


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_no_serious_fault_of_accessibility(chromium, address, axe, size, theme):
    set_up(chromium, size, theme)
    for page in (*(f"1.0/{name}" for name in CHECKED), "index.html"):
        chromium.open(f"{address}/{page}")
        chromium.evaluate(f"{axe}; undefined")
        violations = chromium.evaluate(
            "axe.run({resultTypes: ['violations']}).then((found) => found.violations.map("
            "(one) => [one.id, one.impact, one.nodes.map((node) => node.html.slice(0, 200))]))"
        )
        assert not [one for one in violations if one[1] in IMPACTS], page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_reader(chromium, address, theme):
    set_up(chromium, theme=theme)
    chromium.open(f"{address}/1.0/book/index.html")
    assert chromium.evaluate("document.documentElement.dataset.theme") == theme
    colour = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in colour.strip("rgb()").split(",")]
    assert (min(levels) > 200) if theme == "light" else (max(levels) < 60)


def test_search_finds_a_word(chromium, address):
    set_up(chromium)
    chromium.open(f"{address}/1.0/search.html?q=bootstrap")
    # Pages are listed one by one, while the search goes on.
    found = chromium.evaluate(
        "new Promise((done) => { let tries = 0; const look = () => {"
        " const links = [...document.querySelectorAll('#search-results li a')]"
        ".map((link) => link.textContent);"
        " links.includes('Results') || ++tries > 200 ? done(links) : setTimeout(look, 50);"
        "}; look(); })"
    )
    assert "Results" in found


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_versions_lead_to_the_same_page_of_each_other(chromium, address, site, scheme):
    set_up(chromium)
    root = address if scheme == "http" else site.as_uri()
    chromium.open(f"{root}/1.0/book/results.html")
    summary = "document.querySelector('.versions summary').textContent"
    assert chromium.evaluate(summary) == "Version 1.0 (newest: 2.0)"
    chromium.events.clear()
    chromium.evaluate(
        "document.querySelector('.versions summary').click();"
        "[...document.querySelectorAll('.versions a')]"
        ".find((link) => link.textContent === '2.0').click()"
    )
    chromium.wait("Page.loadEventFired")
    assert chromium.evaluate("location.href") == f"{root}/2.0/book/results.html"
    assert chromium.evaluate(summary) == "Version 2.0"


def test_a_page_that_the_other_version_lacks_leads_to_its_first(chromium, address):
    chromium.open(f"{address}/1.0/book/runs/{toy_book.RUN}.html")
    links = chromium.evaluate("[...document.querySelectorAll('.versions a')].map((a) => a.href)")
    assert f"{address}/2.0/index.html" in links
    assert f"{address}/1.0/book/runs/{toy_book.RUN}.html" in links


def column(chromium, number):
    return chromium.evaluate(
        "[...document.querySelectorAll('#table-latency tbody tr')]"
        f".map((row) => row.cells[{number}].textContent)"
    )


def press(chromium, key, code):
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if kind == "keyDown" and key == "Enter" else {}
        chromium.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key,
            windowsVirtualKeyCode=code, **text,
        )  # fmt: skip


def test_tables_sort_numbers_and_words_by_keyboard(chromium, address):
    set_up(chromium)
    chromium.open(f"{address}/1.0/book/results.html")
    headings = "[...document.querySelectorAll('#table-latency th')]"
    names = chromium.evaluate(f"{headings}.map((heading) => heading.textContent)")
    for name, key in (("teacher (ms)", lambda text: float(text.replace(",", ""))), ("arch", str)):
        number = names.index(name)
        heading = f"{headings}[{number}]"
        chromium.evaluate(f"{heading}.querySelector('button').focus()")
        press(chromium, "Enter", 13)
        assert chromium.evaluate(f"{heading}.ariaSort") == "ascending"
        first = column(chromium, number)
        assert first == sorted(first, key=key) and len(set(first)) > 4
        press(chromium, "Enter", 13)
        assert chromium.evaluate(f"{heading}.ariaSort") == "descending"
        assert column(chromium, number) == sorted(first, key=key, reverse=True)


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


@pytest.fixture(scope="module")
def single(chromium, home, tmp_path_factory):
    """The book on one page, and its title page."""
    checks.prepare("quick")
    return builder.single(tmp_path_factory.mktemp("single")), pdf.cover("quick", "1.0")


def test_paper_has_every_page_and_nothing_wider_than_itself(chromium, single):
    pdf.lay_out(chromium, *single)
    text = chromium.evaluate("document.querySelector('.bd-article').innerText")
    assert text.startswith("Convert-Then-Distill") and "Version 1.0" in text.splitlines()
    titles = chromium.evaluate(
        "[...document.querySelectorAll('.bd-article .toctree-wrapper > section > h2')]"
        ".map((title) => title.innerText)"
    )
    assert {"Results", "Provenance", "Method", "Glossary"} <= set(titles)
    right = "element.getBoundingClientRect().right - innerWidth"
    wide = chromium.evaluate(
        "[...document.querySelectorAll('.bd-article table, .bd-article img')]"
        f".map((element) => {right}).filter((beyond) => beyond > 1)"
    )
    assert not wide
    links = chromium.evaluate(
        "[...document.querySelectorAll('.bd-article a')].map((a) => a.getAttribute('href'))"
        ".filter((href) => !/^https?:/.test(href))"
    )
    lost = [
        link
        for link in set(links)
        if not chromium.evaluate(f"Boolean(document.getElementById({link[1:]!r}))")
    ]
    assert not lost


def test_the_printed_file(single):
    content = pdf.print_page(*single)
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") > 10

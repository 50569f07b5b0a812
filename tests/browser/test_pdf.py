"""The PDF edition: title page, every page's text, nothing wider than the paper."""

import pytest
import toy_book

from ctd_lib.book import builder, checks, pdf


@pytest.fixture(scope="module")
def single(chromium, tmp_path_factory):
    """The book on one page, and its title page."""
    home = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_HOME", str(home))
        toy_book.make(home)
        checks.prepare("quick")
        yield builder.single(tmp_path_factory.mktemp("single")), pdf.cover("quick", "1.0")


@pytest.mark.slow
def test_what_is_printed(chromium, single):
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

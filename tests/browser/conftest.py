"""A small published site, served from this process, and one Chromium for all tests."""

import functools
import http.server
import threading

import pytest
import toy_book

from ctd_lib import paths
from ctd_lib.book import browser, versions
from ctd_lib.data import packaged
from ctd_lib.errors import CtdError

AXE = packaged.Asset(
    label="axe-core, rules of accessibility",
    package="axe-playwright-python",
    version="0.1.8",
    archive="axe_playwright_python-0.1.8-py3-none-any.whl",
    sha256="fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8",
    members=("axe_playwright_python/axe.min.js",),
    licence="MPL-2.0",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with all that a build of the book reads, from toy records."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_HOME", str(folder))
        toy_book.make(folder)
        yield folder


@pytest.fixture(scope="module")
def site(home):
    """Versions 1.0 and 2.0 of the book over toy records; 2.0 lacks a page of 1.0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser, "find", lambda: None)  # no PDF here: its own tests print one
        versions.publish("1.0")
        run = paths.book_runs() / f"{toy_book.RUN}.ipynb"
        run.rename(run.with_stem("06_report-again"))
        versions.publish("2.0")
    return home / "site"


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    """A browser; the size of its window and the theme are as the last test left them."""
    if browser.find() is None:
        pytest.skip(f"no Chromium under the names {', '.join(browser.NAMES)}, nor by CTD_CHROMIUM")
    with browser.Browser() as running:
        yield running


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core, from the archive of a package that carries it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(packaged.ASSETS, "axe", AXE)
        try:
            [(_, content)] = packaged.read("axe")
        except CtdError as error:
            pytest.skip(str(error))
    return content.decode()

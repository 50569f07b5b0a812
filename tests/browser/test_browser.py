"""A Chromium that does not work is a clear sentence, and nothing of it is left."""

import subprocess

import pytest

from ctd_lib.book import browser
from ctd_lib.errors import CtdError


@pytest.mark.parametrize(
    ("script", "says"),
    [("exec sleep 60 3<&- 4>&-", "ended unexpectedly"), ("exec sleep 60", "did not answer within")],
)
def test_a_browser_that_does_not_answer_is_ended(script, says, tmp_path, monkeypatch):
    fake = tmp_path / "chromium"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    monkeypatch.setenv("CTD_CHROMIUM", str(fake))
    monkeypatch.setattr(browser, "ENDING", 0.2)
    with pytest.raises(CtdError, match=says):
        browser.Browser(timeout=0.5)
    assert started[0].returncode is not None


def test_no_browser(monkeypatch):
    monkeypatch.setattr(browser, "find", lambda: None)
    with pytest.raises(CtdError, match="no Chromium is found under the names chromium"):
        browser.Browser()

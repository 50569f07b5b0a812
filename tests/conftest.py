"""Fixtures that several test modules share."""

import pytest
import toy_records

from ctd_lib import paths, records


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes toy records into a home of their own and loads them as the report does."""
    monkeypatch.setenv("CTD_HOME", str(tmp_path))

    def write_and_load(made: list[dict], kept: bool = True):
        toy_records.write(made, paths.results("quick"), kept)
        return records.load("quick")

    return write_and_load

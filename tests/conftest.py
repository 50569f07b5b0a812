"""Fixtures that several test modules share."""

import pytest
import toy_records

from ctd_lib import paths, records


def pytest_collection_modifyitems(items):
    """Files with slow tests first: at the end of `make test` no core waits long for the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes toy records into a home of their own and loads them as the report does."""
    monkeypatch.setenv("CTD_HOME", str(tmp_path))

    def write_and_load(made: list[dict], kept: bool = True):
        toy_records.write(made, paths.results("quick"), kept)
        return records.load("quick")

    return write_and_load

"""What tests of findings share: records of the study in a home of their own."""

import pytest
import toy_study

from ctd_lib import paths, records


@pytest.fixture
def load_study(tmp_path, monkeypatch):
    """Writes toy records of the study into a home of their own and loads them."""
    monkeypatch.setenv("CTD_HOME", str(tmp_path))

    def write_and_load(made):
        toy_study.write(made, paths.results("study"))
        return records.load("study")

    return write_and_load

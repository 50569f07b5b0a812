"""The descriptions of the environment agree: pyproject.toml, environment.yml, lock, Makefile."""

import itertools
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ctd_lib import paths

CONDA_NAMES = {"pytorch": "torch"}


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    lines = [*project["dependencies"], *extras]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def test_environment_agrees_with_pyproject():
    entries = yaml.safe_load((paths.CHECKOUT / "environment.yml").read_text())["dependencies"]
    conda = [Requirement(line) for line in entries if isinstance(line, str)]
    named = {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r.specifier for r in conda}
    assert named.pop("python") == ">=3.11"
    named.pop("pip")
    # conda writes these lines into a requirements file, which takes fewer options than pip.
    assert [entry for entry in entries if isinstance(entry, dict)] == [{"pip": ["-e ."]}]
    assert named == {name: r.specifier for name, r in requirements().items()}


def test_lock_satisfies_pyproject():
    lines = (paths.CHECKOUT / "requirements" / "cpu.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name, requirement in requirements().items():
        assert requirement.specifier.contains(pins[name]), name


def test_makefile_has_at_most_nine_verbs():
    text = (paths.CHECKOUT / "Makefile").read_text()
    verbs = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert {"report", "test", "run"} <= set(verbs)
    assert len(verbs) <= 9


@pytest.mark.parametrize("name", ["_config.yml", "_toc.yml", ".pre-commit-config.yaml"])
def test_settings_parse(name):
    assert yaml.safe_load((paths.CHECKOUT / name).read_text())

"""The descriptions of the environment agree: pyproject.toml, environment.yml, lock, Makefile."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ctd_lib import paths

CONDA_NAMES = {"pytorch": "torch"}
OPTIONAL = {"codecarbon", "lsg_converter", "tensorboard"}
"""Modules without which something less is done."""
PROJECT = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(*extras: str) -> dict[str, Requirement]:
    """Those at run time and of some extras."""
    lines = [*PROJECT["dependencies"], *(line for name in extras for line in EXTRAS[name])]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def imported(folder: str) -> set[str]:
    """Packages of others that the modules of a folder import, anywhere in them."""
    files = list((paths.CHECKOUT / folder).rglob("*.py"))
    found: set[str] = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    known = importlib.metadata.packages_distributions()
    ours = {"ctd_lib", *(path.stem for path in files if path.stem not in known)}
    modules = {name.split(".")[0] for name in found} - sys.stdlib_module_names - ours - OPTIONAL
    return {canonicalize_name(known.get(module, [module])[0]) for module in modules}


def test_what_is_imported_is_declared_and_nothing_else_at_run_time():
    assert imported("ctd_lib") <= requirements("export").keys()
    assert imported("tests") <= requirements("export", "test").keys()
    assert requirements().keys() <= imported("ctd_lib")


def test_environment_agrees_with_pyproject():
    entries = yaml.safe_load((paths.CHECKOUT / "environment.yml").read_text())["dependencies"]
    conda = [Requirement(line) for line in entries if isinstance(line, str)]
    named = {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r.specifier for r in conda}
    assert named.pop("python") == ">=3.11"
    named.pop("pip")
    # conda writes these lines into a requirements file, which takes fewer options than pip.
    assert [entry for entry in entries if isinstance(entry, dict)] == [{"pip": ["-e ."]}]
    assert named == {name: r.specifier for name, r in requirements(*EXTRAS).items()}


def test_lock_satisfies_pyproject():
    lines = (paths.CHECKOUT / "requirements" / "cpu.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name, requirement in requirements(*EXTRAS).items():
        assert requirement.specifier.contains(pins[name]), name


def test_makefile_has_at_most_nine_verbs():
    text = (paths.CHECKOUT / "Makefile").read_text()
    verbs = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert {"report", "test", "run"} <= set(verbs)
    assert len(verbs) <= 9


def test_what_make_runs_may_write_bytecode():
    """Which the packages come without: else each process compiles all that it imports."""
    asked = f"include {paths.CHECKOUT / 'Makefile'}\nasked:\n\t@env\n"
    done = subprocess.run(
        ["make", "--silent", "--file", "-", "asked"], input=asked, capture_output=True, text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert "PATH=" in done.stdout and "PYTHONDONTWRITEBYTECODE" not in done.stdout


@pytest.mark.parametrize("name", ["_config.yml", "_toc.yml", ".pre-commit-config.yaml"])
def test_settings_parse(name):
    assert yaml.safe_load((paths.CHECKOUT / name).read_text())

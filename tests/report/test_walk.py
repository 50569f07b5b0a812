"""The walk-through: every command on its page left a record, of which the table tells."""

import argparse
import re
import shlex
import textwrap
from pathlib import Path

import pytest
import yaml

from ctd_lib import ARCHS, cli, paths, records
from ctd_lib.report import tables
from ctd_lib.report.tables import scale as estimates
from ctd_lib.report.tables import walk as steps

PAGE = (paths.CHECKOUT / "book" / "own-model.md").read_text()
NOTEBOOKS = {"01_convert": "convert", "05_measure": "measure"}


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(paths.CHECKOUT))
    return records.load(steps.RECORDS)


def commands():
    """(stage, options) of every command of the numbered steps of the page."""
    papermill = argparse.ArgumentParser()
    papermill.add_argument("-p", nargs=2, action="append")
    papermill.add_argument("-y", type=yaml.safe_load, default={})
    for block in re.findall(r"^ {3}```sh\n(.*?)^ {3}```", PAGE, re.MULTILINE | re.DOTALL):
        for line in textwrap.dedent(block).replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line)
            if program == "papermill":
                found = papermill.parse_args(words[2:])
                options = {name: yaml.safe_load(value) for name, value in found.p} | found.y
                yield NOTEBOOKS[Path(words[0]).stem], options
            else:
                stage = words[1].removeprefix("ctd_lib.")
                found = vars(cli._parser(stage).parse_args(words[2:]))
                yield stage, {n: yaml.safe_load(v) for n, v in found.items() if v is not None}


def test_every_command_left_a_record(kept):
    found = list(commands())
    stages = [stage for stage, _ in found]
    assert stages == [
        "convert", "pretrain", "distill", "finetune", "finetune", "measure", "export",
    ]  # fmt: skip
    assert len(kept) == len(found)
    for stage, options in found:
        rows = kept[kept.kind == stage]
        given = {name: _as_kept(name, value) for name, value in options.items()}
        assert any(given.items() <= row.items() for row in map(_hashable, rows.params)), stage


def _as_kept(name, value):
    mixed = {value: 1.0} if name == "corpora" else value
    return str(mixed) if isinstance(mixed, dict | list) else mixed


def _hashable(params):
    return {n: str(v) if isinstance(v, dict | list) else v for n, v in params.items()}


def test_no_record_names_a_folder_of_the_machine(kept):
    folder = re.compile(r'"[^"]*/(home|tmp|root)/')
    assert not [path for path in kept.path if folder.search(path.read_text())]


def test_table_of_steps(kept):
    table = tables.walk_through(kept).set_index("step")
    times = [provenance["seconds"] for provenance in kept.provenance]
    assert table["run time (s)"]["all"] == pytest.approx(sum(times))
    assert list(table.index) == [
        "convert", "pretrain", "distill", "finetune, teacher", "finetune, student", "measure",
        "export", "all",
    ]  # fmt: skip
    (teacher,) = kept[(kept.kind == "finetune") & (kept.role == "teacher")]["values"]
    said = table["what came of it"]["finetune, teacher"]
    assert f"{teacher['score']:.3f} {tables.SYNTHETIC_MARK}" in said
    assert list(tables.walk_through(kept[:0]).iloc[0]) == [tables.NOT_RUN] * 4


def test_work_of_the_papers_profile(kept):
    table = tables.paper_scale(kept)
    assert list(table.arch.unique()) == list(ARCHS) and len(table) == 10
    row = table[(table.arch == "longformer") & (table.stage == "distill")].iloc[0]
    (values,) = kept[kept.kind == "distill"]["values"]
    # 30,000 steps of 16 sequences of 4,096 tokens.
    tokens = 30_000 * 16 * 4096
    base = estimates.flop_per_token(
        "distill", estimates.SHAPES["FacebookAI/roberta-base"], "longformer", 4096
    )
    small = estimates.flop_per_token(
        "distill", estimates.SHAPES["packaged:minilm-l6"], "longformer", 1024
    )
    seconds = tokens * base / (values["tokens"] / values["seconds"] * small)
    assert row["at that speed (days)"] == pytest.approx(seconds / 86400, rel=0.06)
    assert row["work (EFLOP)"] == pytest.approx(tokens * base / 1e18, rel=0.06)
    assert set(table[table.arch == "full"]["machine"]) == {tables.NOT_RUN}


def test_work_is_that_of_a_brute_count():
    """Full attention: 12 layers of 4 C^2 + 8 C^2 weights, T x T products, logits over V."""
    width, vocabulary, length = 768, 50265, 4096
    layer = 2 * 12 * width**2 + 4 * length * width
    head = 2 * width * (width + vocabulary)
    shape = estimates.SHAPES["FacebookAI/roberta-base"]
    found = estimates.flop_per_token("distill", shape, "full", length)
    assert found == pytest.approx(12 * layer + head + 3 * (6 * layer + head), rel=0.01)

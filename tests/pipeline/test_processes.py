"""Two processes make what one does: the same loss curves, weights, artifacts and records."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from ctd_lib import params, pipeline, records

CONLL = "\n".join(f"{name}\tB-PER\nspoke\tO\n" for name in ("Ada", "Tom", "king", "queen"))


@pytest.fixture
def chosen(tmp_path, toy, make):
    """Everything from the backbone to a finetuned LSG student, without dropout."""
    backbone = shutil.copytree(toy["backbone"], tmp_path / "backbone")
    config = json.loads((backbone / "config.json").read_text()) | {"hidden_dropout_prob": 0.0}
    (backbone / "config.json").write_text(json.dumps(config))
    (tmp_path / "a.conll").write_text(CONLL)
    return make(
        params.FinetuneParams, arch="lsg", backbone=str(backbone), pretrain_steps=4,
        batch_size=1, accumulation=2, distill_steps=4, task="tagging", epochs=2,
        train_file=str(tmp_path / "a.conll"), test_file=str(tmp_path / "a.conll"),
        finetune_batch_size=3, save_model=True,
    )  # fmt: skip


def in_two_processes(stage, chosen, home, how="--multi_gpu"):
    """What a stage's command says in two processes, with a home of their own."""
    command = home.with_suffix(".py")
    command.write_text(
        "import sys; from ctd_lib import cli, processes\n"
        f"print(f'one of {{processes.count()}}', flush=True); sys.exit(cli.run({stage!r}))"
    )
    given = {n: v for n, v in params.as_dict(chosen).items() if v is not None}
    options = [f"--{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in given.items()]
    launch = [sys.executable, "-m", "accelerate.commands.launch", how]
    launch += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run(
        [*launch, str(command), *options], capture_output=True, text=True,
        env=os.environ | {"CTD_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("one of 2") == 2
    return done.stdout


def same_artifact(stage, homes):
    """Weights and loss curve of the artifact of a stage in two homes agree."""
    one, two = (next(home.glob(f"artifacts/{stage}/*/manifest.json")).parent for home in homes)
    assert one.name == two.name
    expected, ours = (load_file(path / "model.safetensors") for path in (one, two))
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, atol=2e-5, rtol=0)
    curves = []
    for path in (one, two):
        with open(path / pipeline.STEP_LOG, newline="") as file:
            rows = list(csv.DictReader(file))
        names = [n for n in rows[0] if n not in ("seconds", "tokens_per_second")]
        curves.append([[float(row[name]) for name in names] for row in rows])
    for row, same in zip(*curves, strict=True):
        assert row == pytest.approx(same, rel=1e-4, abs=1e-7)
    return rows


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, chosen, monkeypatch):
    homes = tmp_path / "one", tmp_path / "two"
    said = in_two_processes("finetune", chosen, homes[1])
    assert said.count("finetune lsg-student-tagging: done") == 1  # one of them says it
    monkeypatch.setenv("CTD_HOME", str(homes[0]))
    pipeline.finetune(chosen)
    for stage in ("pretrain", "distill", "finetune"):
        assert len(same_artifact(stage, homes)) == 4
    found = records.load("quick")
    monkeypatch.setenv("CTD_HOME", str(homes[1]))
    assert set(found.key) == set(records.load("quick").key)
    assert not list(homes[1].glob("artifacts/*/.*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "term", "how"),
    [
        ({"relation_weight": 1.0, "relation_layer": 1}, "relation", "--multi_gpu"),
        ({"teacher_top_k": 4}, "soft_target", "--multi_gpu"),
        ({"hidden_layers": "all", "gradient_checkpointing": True}, "cosine", "--use_fsdp"),
    ],
    ids=["relations", "outputs on disk", "sharded"],
)
def test_a_recipe_in_two_processes_equals_one(tmp_path, chosen, monkeypatch, recipe, term, how):
    names = set(params.names(params.DistillParams))
    known = {n: v for n, v in params.as_dict(chosen).items() if n in names and v is not None}
    # One batch an update, which the processes share by its sequences.
    known |= {"accumulation": 1, "batch_size": 3, "pretrain_steps": 1, "distill_steps": 3}
    recipe = params.make(params.DistillParams, **known | recipe)
    homes = tmp_path / "one", tmp_path / "two"
    said = in_two_processes("distill", recipe, homes[1], how)
    monkeypatch.setenv("CTD_HOME", str(homes[0]))
    pipeline.distill(recipe)
    # A student of this size begins so like its teacher that the first soft targets are rounding.
    assert all(float(row[term]) > 0 for row in same_artifact("distill", homes)[1:])
    if recipe.teacher_top_k:
        assert said.count("teacher lsg: done") == 1
        files = [sorted(home.glob("artifacts/teacher/*/*.safetensors")) for home in homes]
        assert [path.name for path in files[0]] == [path.name for path in files[1]] != []

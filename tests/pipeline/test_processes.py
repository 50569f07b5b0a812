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


def test_two_processes_equal_one(tmp_path, chosen, monkeypatch):
    command = tmp_path / "command.py"
    command.write_text(
        "import sys; from ctd_lib import cli, processes\n"
        "print(f'one of {processes.count()}', flush=True); sys.exit(cli.run('finetune'))"
    )
    given = {n: v for n, v in params.as_dict(chosen).items() if v is not None}
    options = [f"--{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in given.items()]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run(
        [*launch, str(command), *options], capture_output=True, text=True,
        env=os.environ | {"CTD_HOME": str(tmp_path / "two"), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("one of 2") == 2
    assert done.stdout.count("finetune lsg-student-tagging: done") == 1  # one of them says it

    monkeypatch.setenv("CTD_HOME", str(tmp_path / "one"))
    pipeline.finetune(chosen)
    for stage in ("pretrain", "distill", "finetune"):
        one, two = (
            next(tmp_path.glob(f"{home}/artifacts/{stage}/*/manifest.json")).parent
            for home in ("one", "two")
        )
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
        assert len(curves[0]) == 4
        for row, same in zip(*curves, strict=True):
            assert row == pytest.approx(same, rel=1e-4, abs=1e-7)
    found = records.load("quick")
    monkeypatch.setenv("CTD_HOME", str(tmp_path / "two"))
    assert set(found.key) == set(records.load("quick").key)
    assert not list((tmp_path / "two").glob("artifacts/*/.*.partial"))

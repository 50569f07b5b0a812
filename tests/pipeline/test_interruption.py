"""Training that is killed and started again ends where the uninterrupted one does."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from ctd_lib import params, pipeline

STAGES = {
    "pretrain": (params.PretrainParams, {"pretrain_steps": 12, "evaluate_every": 3}),
    "distill": (
        params.DistillParams, {"pretrain_steps": 1, "distill_steps": 12, "accumulation": 2}
    ),
    "finetune": (
        params.FinetuneParams,
        {"role": "teacher", "pretrain_steps": 1, "task": "tagging", "epochs": 6,
         "finetune_batch_size": 1, "save_model": True},
    ),
}  # fmt: skip
CONLL = "\n".join(f"{name}\tB-PER\nspoke\tO\n" for name in ("Ada", "Tom", "king", "queen"))


def steps_done(home, stage: str) -> int:
    found = home.glob(f"artifacts/{stage}/.*.partial/checkpoints/step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def start(stage: str, chosen, home) -> subprocess.Popen:
    """The command of the stage, in a process of its own."""
    given = {n: v for n, v in params.as_dict(chosen).items() if v is not None}
    options = [f"--{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in given.items()]
    return subprocess.Popen(
        [sys.executable, "-m", f"ctd_lib.{stage}", *options], text=True,
        env=os.environ | {"CTD_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def kill_in_midst(run: subprocess.Popen, stage: str, home) -> None:
    """Kills it once it has left two checkpoints or more."""
    while run.poll() is None and steps_done(home, stage) < 2:
        time.sleep(0.001)
    run.kill()
    assert run.wait() == -signal.SIGKILL, run.stdout.read()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_ends_where_the_uninterrupted_one_does(
    tmp_path, make, stage, monkeypatch, capfd
):
    for home in ("whole", "killed"):
        (tmp_path / home).mkdir()
    cls, given = STAGES[stage]
    if stage == "finetune":
        (tmp_path / "a.conll").write_text(CONLL)
        given = given | dict.fromkeys(("train_file", "test_file"), str(tmp_path / "a.conll"))
    chosen = make(cls, arch="longformer", checkpoint_minutes=0, **given | {"batch_size": 1})
    monkeypatch.setenv("CTD_HOME", str(tmp_path / "whole"))
    whole = getattr(pipeline, stage)(chosen)
    home = tmp_path / "killed"
    kill_in_midst(start(stage, chosen, home), stage, home)
    monkeypatch.setenv("CTD_HOME", str(home))
    capfd.readouterr()
    killed = getattr(pipeline, stage)(chosen)
    assert "going on after an interruption" in "".join(capfd.readouterr())

    assert killed.key == whole.key and killed.path != whole.path
    ours, expected = (load_file(a.path / "model.safetensors") for a in (killed, whole))
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=0)
    logs = []
    for artifact in (killed, whole):
        with open(artifact.path / pipeline.STEP_LOG, newline="") as file:
            logs.append([float(row["loss"]) for row in csv.DictReader(file)])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5) and len(logs[0]) >= 12

"""Two processes with weights, gradients and moments in shards train as one that has them whole."""

import os
import socket
from datetime import timedelta

import pytest
import torch
import toy_models
from torch import multiprocessing, nn
from torch.distributed.tensor import DTensor

from ctd_lib import pretrain, processes
from ctd_lib.errors import CtdError
from ctd_lib.training import loop as train
from ctd_lib.training.engine import Engine

STEPS, ACCUMULATION = 5, 3  # one process has two micro-batches of an update, the other one
TOKENIZER = toy_models.tokenizer("bert")


class Interruption(Exception):
    pass


def text(end: int | None = None):
    """Batches of unequal numbers of labels; the training breaks off before batch `end`."""
    generator = torch.Generator().manual_seed(0)
    for number in range(STEPS * ACCUMULATION - 1):  # the last update has one for each process
        if number == end:
            raise Interruption
        ids = torch.randint(5, len(TOKENIZER), (3, 32), generator=generator)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def backbone() -> nn.Module:
    model = toy_models.backbone("bert")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # processes draw it apart
    return model


def training(folder, end: int | None = None):
    """Weights and log of a training that evaluates, and leaves a checkpoint after every step."""
    model = backbone()

    @torch.no_grad()
    def evaluate() -> float:
        ids = torch.arange(5, 31)[None]
        return float(model(ids, labels=ids).loss)

    log = pretrain.pretrain(
        model, text(end), TOKENIZER, steps=STEPS, lr=1e-3, accumulation=ACCUMULATION,
        gradient_checkpointing=True, evaluation=train.Evaluation(evaluate, 1),
        checkpoints=train.Checkpoints(folder, seconds=0),
    )  # fmt: skip
    return model.state_dict(), log


def one_of_two(rank: int, folder, port: int) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port),
        "MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    processes._use_fsdp = True
    processes.PATIENCE = timedelta(seconds=60)  # a process out of step fails instead of waiting
    assert processes.sharded()
    with pytest.raises(Interruption):
        training(folder / "checkpoints", end=10)
    weights, log = training(folder / "checkpoints")
    torch.save({"weights": weights, "log": list(log)}, folder / f"{rank}.pt")
    shares = Engine(backbone(), None, None, "float32", 1.0, 0.0).trained.parameters()
    assert all(isinstance(share, DTensor) for share in shares)
    with pytest.raises(CtdError, match="'float16' is not for FSDP; use 'bfloat16'"):
        train.fit(backbone(), None, [], steps=1, lr=0.1, precision="float16")
    processes.end()


@pytest.mark.slow
def test_two_sharded_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (tmp_path, port), nprocs=2)
    expected, log = training(tmp_path / "whole")
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in expected.items():
            # Softmax takes no notice of a key's bias: its gradient is rounding, scaled up by AdamW.
            atol = 1e-3 if name.endswith("key.bias") else 2e-5
            torch.testing.assert_close(found["weights"][name], value, atol=atol, rtol=0)
        for ours, theirs in zip(found["log"], log, strict=True):
            for name in ("loss", "evaluation", "gradient_norm", "tokens"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    assert len(found["log"]) == STEPS

"""FSDP: each process keeps its part of gradients, optimizer and, between layers, weights.

Asked for by `accelerate launch --use_fsdp`. What is sharded is a copy of the model, with PyTorch's
`fully_shard` (FSDP2); the model itself stays whole for evaluation, checkpoints and artifacts, and
its weights are brought up to date when one of these is due. So a checkpoint does not tell in how
many shards it was made.
"""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from ctd_lib import processes


def shard(module: nn.Module) -> None:
    """Shard the parameters of a module in place: each of its layers by itself, then the rest."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (processes.count(),))
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    for part in (*layers, module):
        fully_shard(part, mesh=mesh)


@torch.no_grad()
def gather(source: nn.Module, target: nn.Module) -> None:
    """Give a whole module the weights of its sharded twin; every process must take part."""
    theirs = weights(target)
    for name, value in weights(source).items():
        theirs[name].copy_(whole(value))


@torch.no_grad()
def scatter(source: nn.Module, target: nn.Module) -> None:
    """Give a sharded module the weights of its whole twin."""
    theirs = weights(target)
    for name, value in weights(source).items():
        theirs[name].copy_(part(value, theirs[name]))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those that share memory once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def whole(value: Tensor) -> Tensor:
    """A tensor of all shards; of one that is not sharded, itself. Every process must take part."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in the shards of another, if that has the same shape and any."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)

"""The systems of one arch, measured in turn: rows, ratios and the machine, for a record."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from ctd_lib.errors import CtdError
from ctd_lib.measure import contenders, flops, foreign, memory, systems
from ctd_lib.measure.systems import LSG_CONVERTER, System

NO_LSG_CONVERTER = (
    "not measured: lsg-converter needs an environment of its own, whose Python lsg_python names"
)


def measure(
    chosen: Sequence[System],
    lengths: Sequence[int],
    batch_size: int = 1,
    repeats: int = 5,
    workload: str = "fixed",
    device: torch.device | None = None,
    lsg_python: str | None = None,
) -> dict:
    """Measure systems with random weights: first the memory of each, then the time of all in turn.

    A system that fails costs its own rows alone.

    Args:
        chosen: e.g. `systems.of_arch(arch)`.
        lengths: in tokens.
        repeats: rounds that count.
        lsg_python: Python of an environment with lsg-converter.

    Returns:
        As `contenders.compare`. Rows have system, arch, role, implementation, layers, weights and
        `extended` besides: whether the length is over the published positions and the system had
        more of them for it. `machine` has the versions that lsg-converter ran with, if it did.
    """
    device = device or torch.device("cpu")
    peaks, taking_part, processes = [], [], []
    for system in chosen:
        held, broken = _memory(system, lengths, batch_size, workload, device, lsg_python)
        peaks.append(held)
        prepare = _opener(system, max(lengths), device)
        if system.implementation == LSG_CONVERTER and lsg_python:
            prepare = foreign.Opened(lsg_python, system, max(lengths), device)
            processes.append(prepare)
        taking_part.append(_contender(system, device, prepare, broken))
    try:
        found = contenders.compare(
            taking_part, systems.pairs(list(chosen)), lengths, batch_size, repeats,
            workload=workload, memory=peaks,
        )  # fmt: skip
        versions = [process.versions for process in processes if process.versions]
    finally:
        for process in processes:
            process.close()
    found["machine"] |= {"lsg_converter": versions[0]} if versions else {}
    return found


def _memory(
    system: System, lengths: Sequence[int], batch_size: int, workload: str, device: torch.device,
    lsg_python: str | None,
) -> tuple[memory.Peaks, str | None]:  # fmt: skip
    """By length, and why there is none at all, if so."""
    found: memory.Peaks = {
        length: dict.fromkeys(("peak_bytes", "baseline_bytes")) for length in lengths
    }
    if system.implementation == LSG_CONVERTER and lsg_python is None:
        return found, NO_LSG_CONVERTER
    able = [length for length in lengths if system.refusal(length) is None]
    # Rows of the published positions should not hold the others in memory.
    published = [length for length in able if not system.extended(length)]
    extended = [length for length in able if system.extended(length)]
    try:
        for group in filter(None, (published, extended)):
            if system.implementation == LSG_CONVERTER:
                found |= foreign.peaks(lsg_python, system, group, batch_size, workload, device)
            else:
                opened = {"system": asdict(system)}
                found |= memory.in_a_child(
                    opened, group, batch_size, system.dtype, device.type, workload
                )
    except CtdError as error:
        return found, str(error)
    return found, None


def _opener(system: System, length: int, device: torch.device) -> Callable:
    """`Contender.prepare`, which builds the system when it is first asked and keeps it."""

    @functools.cache
    def model():
        return systems.build(system, length).to(device)

    return lambda documents: systems.prepare(system, model(), documents)


def _contender(
    system: System, device: torch.device, prepare: Callable, broken: str | None
) -> contenders.Contender:
    return contenders.Contender(
        name={
            "system": system.name, "arch": system.arch, "role": system.role,
            "implementation": system.implementation,
        },
        device=device, dtype=system.dtype, prepare=prepare,
        refusal=lambda length: system.refusal(length) or broken,
        facts=lambda length: {
            "weights": "random", "layers": system.config().num_hidden_layers,
            "parameters": systems.parameters(system, length), "extended": system.extended(length),
        },
        flops=lambda length: flops.flops(system.config(), length),
    )  # fmt: skip

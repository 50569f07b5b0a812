"""Contenders: whatever takes part in one measurement, and the rows and ratios that come of it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import nn
from transformers import PreTrainedModel

from ctd_lib.errors import CtdError
from ctd_lib.measure import failures, figures, flops, forwards, machine, rounds
from ctd_lib.measure.memory import Peaks
from ctd_lib.models import max_length


@dataclass(frozen=True)
class Contender:
    """One model or system, as it runs at any length."""

    name: dict
    """The fields that tell its rows from others."""
    device: torch.device
    dtype: str
    prepare: Callable[[list[int]], Callable[[], float]]
    """From the tokens of each document to a forward, each call of which returns its seconds."""
    refusal: Callable[[int], str | None]
    """Why a length is not possible, in one sentence."""
    facts: Callable[[int], dict]
    """Fields of the row of a length besides those that are measured."""
    flops: Callable[[int], int]
    """Of a forward of one document of so many tokens."""


def parameters(model: nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(p.numel() for p in model.parameters())


def latency(
    models: dict[str, PreTrainedModel],
    lengths: Sequence[int],
    batch_size: int = 1,
    repeats: int = 5,
    burn_in: int = 1,
    dtype: str = "float32",
    workload: str = "fixed",
) -> list[dict]:
    """Seconds of a forward of each model at each length, on the device where the model is.

    Args:
        models: by the name that the rows will call `role`.
        lengths: in tokens.
        repeats: rounds that count.
        burn_in: rounds before them that do not.
        dtype: of weights and activations, one of `DTYPES`.
        workload: one of `WORKLOADS`.

    Returns:
        A row per length and model, see `compare`.

    Raises:
        CtdError: every length is over a model's positions; dtype or workload is unknown.
    """
    contenders = of_models(models, dtype)
    check_lengths(contenders, lengths)
    return compare(contenders, [], lengths, batch_size, repeats, burn_in, workload)["rows"]


def of_models(models: dict[str, PreTrainedModel], dtype: str) -> list[Contender]:
    """Contenders of copies of these models, whose rows are told apart by `role`.

    Raises:
        CtdError: the dtype is unknown.
    """
    chosen = forwards.torch_dtype(dtype)
    return [
        of_model({"role": name}, copy.deepcopy(model).to(chosen).eval(), dtype)
        for name, model in models.items()
    ]


def of_model(name: dict, model: PreTrainedModel, dtype: str) -> Contender:
    """The contender that is this very model, already of that dtype."""
    positions = max_length(model.config)
    return Contender(
        name=name, device=model.device, dtype=dtype,
        prepare=lambda documents: forwards.forward(model, documents),
        refusal=lambda length: not_possible(positions) if length > positions else None,
        facts=lambda length: {"parameters": parameters(model)},
        flops=lambda length: flops.flops(model.config, length),
    )  # fmt: skip


def not_possible(positions: int) -> str:
    """The sentence of a row whose length is over the model's positions."""
    return f"not possible: {positions} positions"


def check_lengths(contenders: Sequence[Contender], lengths: Sequence[int]) -> None:
    """Of one's own models some length has to be possible.

    Raises:
        CtdError: none is.
    """
    for contender in contenders:
        refusals = [contender.refusal(length) for length in lengths]
        if all(refusals):
            who = " ".join(map(str, contender.name.values()))
            raise CtdError(
                f"length {min(lengths)} of {who} is {refusals[0]};"
                " give shorter lengths or convert with a larger max_length."
            )


def compare(
    contenders: Sequence[Contender],
    pairs: Sequence[tuple[int, int]],
    lengths: Sequence[int],
    batch_size: int = 1,
    repeats: int = 5,
    burn_in: int = 1,
    workload: str = "fixed",
    memory: Sequence[Peaks] | None = None,
) -> dict:
    """Measure contenders in turn.

    Args:
        pairs: (of, to), numbers of contenders whose ratio is asked for.
        memory: of each contender, what `peak_memory` found. A forward that found no memory there
            is not tried again: it might take this process down, and the other rows with it.

    Returns:
        rows: for each length and contender its name, dtype, length, batch_size, workload, repeats,
            what `figures.summary` has, parameters and other facts, peak_bytes and baseline_bytes
            if `memory` is given, flops of a forward, peak_share (of the machine's fastest matrix
            product in this dtype, 0 to 1) and error (None, or why the figures are).
        ratios: for each length and pair `of` and `to` (name, dtype, length, batch_size, workload)
            with `ratio`, `low` and `high` of `figures.ratio`; none where one of them failed.
        machine: matmul_gflops by dtype, calibration, energy (None where it cannot be measured).
    """
    device = contenders[0].device
    gflops = machine.matmul_gflops(device, sorted({c.dtype for c in contenders}))
    calibration = machine.Calibration(device)
    rows, ratios = [], []
    with machine.energy(device) as energy:
        for length in lengths:
            documents = forwards.documents(workload, length, batch_size)
            held = [each[length] for each in memory] if memory else [{} for _ in contenders]
            seconds = _seconds(contenders, length, documents, held, repeats, burn_in, calibration)
            batch = {"length": length, "batch_size": batch_size, "workload": workload}
            names = [c.name | {"dtype": c.dtype} | batch for c in contenders]
            for i, contender in enumerate(contenders):
                facts = {"repeats": repeats} | contender.facts(length) | held[i]
                summary = figures.summary(seconds[i], sum(documents), batch_size)
                work = _work(contender, documents, summary, gflops[contender.dtype])
                rows.append(names[i] | facts | summary | work)
            for of, to in pairs:
                if isinstance(seconds[of], list) and isinstance(seconds[to], list):
                    found = figures.ratio(seconds[of], seconds[to])
                    ratios.append({"of": names[of], "to": names[to]} | found)
    return {
        "rows": rows,
        "ratios": ratios,
        "machine": {
            "matmul_gflops": gflops,
            "calibration": calibration.values(),
            "energy": energy or None,
        },
    }


def _seconds(contenders, length, documents, held, repeats, burn_in, calibration):
    """Of each contender at one length, by its number: seconds, or why there are none."""
    refused = {
        i: contender.refusal(length) or _no_room(held[i], contender.device)
        for i, contender in enumerate(contenders)
    }
    able = {i: _first_prepared(contenders[i], documents) for i in refused if refused[i] is None}
    return refused | rounds.interleave(able, repeats, burn_in, calibration)


def _work(contender: Contender, documents: list[int], summary: dict, gflops: float) -> dict:
    """FLOP of a forward, and the share of the machine's speed that they reach."""
    if summary["error"] is not None:
        return {"flops": None, "peak_share": None}
    count = sum(map(contender.flops, documents))
    return {"flops": count, "peak_share": count / summary["seconds_median"] / 1e9 / gflops}


def _first_prepared(contender: Contender, documents: list[int]) -> Callable[[], float]:
    """A forward that is prepared when it runs first, so that a failure there is its own too."""
    prepared: list[Callable[[], float]] = []

    def run() -> float:
        if not prepared:
            prepared.append(contender.prepare(documents))
        return prepared[0]()

    return run


def _no_room(held: dict[str, int | None], device: torch.device) -> str | None:
    """Whether a forward found no memory in a process of its own, or would find none in this one."""
    if not held:
        return None
    if held["peak_bytes"] is None:
        return failures.OUT_OF_MEMORY
    needed = held["peak_bytes"] - held["baseline_bytes"]
    short = device.type == "cpu" and needed > psutil.virtual_memory().available
    return failures.OUT_OF_MEMORY if short else None

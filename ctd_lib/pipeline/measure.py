"""Models in turn on this machine: teacher and student, a folder, or the paper's systems."""

from dataclasses import replace
from pathlib import Path

import torch

from ctd_lib import attention, models, params, runtime
from ctd_lib import measure as measurement
from ctd_lib.data import sources
from ctd_lib.measure import contenders, paper, systems
from ctd_lib.pipeline.common import get_or_make, record
from ctd_lib.pipeline.distill import check_student, model_of
from ctd_lib.store import Artifact

NOT_MEASURED = ("price_per_hour", "lsg_python", "model")
"""Parameters that change no number here, or stand in the key by another value."""


def measure(p: params.MeasureParams) -> Artifact:
    """Time, memory, FLOP and ratios over lengths; a record `measure`, or `systems` (not own).

    Raises:
        CtdError: no length is possible for a model of one's own; the folder is no model.
    """
    if p.model is not None:
        return _folder(p)
    return _own(p) if p.systems == "own" else _paper(p)


def _own(p: params.MeasureParams) -> Artifact:
    """Teacher and student of this arch."""
    check_student(p)  # first: the teacher alone takes hours
    found = {role: model_of(p, role) for role in ("teacher", "student")}
    device = runtime.device(p.device)

    def make(folder: Path) -> dict:
        loaded = {role: models.load(a.path, "base").to(device) for role, a in found.items()}
        taking_part = contenders.of_models(loaded, p.dtype)
        contenders.check_lengths(taking_part, p.lengths)
        memory = [
            _memory(p, a.path, one) for a, one in zip(found.values(), taking_part, strict=True)
        ]
        return _compare(p, taking_part, [(1, 0)], memory) | {"dtype": p.dtype}

    artifact = get_or_make("measure", p.arch, _settings(p), list(found.values()), p.seed, make)
    record("measure", p, artifact)
    return artifact


def _folder(p: params.MeasureParams) -> Artifact:
    """A saved model: with our attention and, in float32, as transformers has it."""
    source, device = sources.backbone(p.model), runtime.device(p.device)
    config = models.read_config(source.path)
    p = replace(p, arch=models.arch_of(config))
    name = p.model.rstrip("/").rpartition("/")[2]
    kinds = [systems.OURS]
    if p.dtype == "float32" and p.arch != "lsg":
        kinds.append(systems.PUBLIC)

    def make(folder: Path) -> dict:
        taking_part = []
        for kind in kinds:
            model = models.load(source.path, "base").to(device)
            if kind == systems.PUBLIC:
                attention.uninstall(model)
            (one,) = contenders.of_models({name: model}, p.dtype)
            label = {"system": name, "arch": p.arch, "role": "reference", "implementation": kind}
            facts = {
                "weights": "trained", "layers": config.num_hidden_layers,
                "parameters": measurement.parameters(model), "extended": False,
            }  # fmt: skip
            taking_part.append(replace(one, name=label, facts=lambda length, facts=facts: facts))
        contenders.check_lengths(taking_part, p.lengths)
        memory = [_memory(p, source.path, one) for one in taking_part]
        return _compare(p, taking_part, [(0, 1)] if len(kinds) > 1 else [], memory)

    settings = _settings(p) | {"content": source.digest, "name": name}
    artifact = get_or_make("measure", f"{p.arch}-folder", settings, [], p.seed, make)
    record("systems", replace(p, model=name), artifact)
    return artifact


def _paper(p: params.MeasureParams) -> Artifact:
    """The paper's systems of this arch; `full` has the references too."""
    chosen = systems.of_arch(p.arch)

    def make(folder: Path) -> dict:
        values = paper.measure(
            chosen, p.lengths, p.measure_batch_size, p.repeats, p.workload,
            runtime.device(p.device), p.lsg_python,
        )  # fmt: skip
        return values | _surroundings(p)

    settings = _settings(p) | {"lsg_converter": p.lsg_python is not None and p.arch == "lsg"}
    artifact = get_or_make("measure", f"{p.arch}-systems", settings, [], p.seed, make)
    record("systems", replace(p, lsg_python=None), artifact)
    return artifact


def _memory(p: params.MeasureParams, path: Path | str, one: contenders.Contender) -> dict:
    possible = [length for length in p.lengths if one.refusal(length) is None]
    nothing = dict.fromkeys(("peak_bytes", "baseline_bytes"))
    return dict.fromkeys(p.lengths, nothing) | measurement.peak_memory(
        path, possible, p.measure_batch_size, p.dtype, one.device.type, "base", p.workload,
        one.name.get("implementation", systems.OURS),
    )  # fmt: skip


def _compare(p: params.MeasureParams, taking_part, pairs, memory) -> dict:
    found = contenders.compare(
        taking_part, pairs, p.lengths, p.measure_batch_size, p.repeats, workload=p.workload,
        memory=memory,
    )  # fmt: skip
    return found | _surroundings(p)


def _surroundings(p: params.MeasureParams) -> dict:
    return {"device": runtime.device(p.device).type, "threads": torch.get_num_threads()}


def _settings(p: params.MeasureParams) -> dict:
    own = params.own(p, params.MeasureParams)
    return {name: value for name, value in own.items() if name not in NOT_MEASURED} | {
        "device": str(runtime.device(p.device)), "host": runtime.host(),
        "threads": torch.get_num_threads(),
    }  # fmt: skip

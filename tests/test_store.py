import errno
import multiprocessing
import os
import time

import pytest
import torch
from safetensors import SafetensorError

from ctd_lib import processes, runtime, store
from ctd_lib.errors import CtdError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    return tmp_path


def write_note(folder):
    (folder / "note.txt").write_text("done")
    return {"answer": 42}


def never(folder):
    raise AssertionError("made again")


def test_made_once_then_reused():
    made = store.get_or_make("stage", "toy", {"a": 1}, [], 1, write_note)
    again = store.get_or_make("stage", "toy", {"a": 1}, [], 1, never)
    assert again.path == made.path
    assert again.values == {"answer": 42}
    assert again.provenance["stage_revision"] == 1


def test_key_depends_on_stage_parameters_upstream_and_revision():
    base = store.key_of("stage", {"a": 1, "b": 2}, ["x"], 1)
    assert base == store.key_of("stage", {"b": 2, "a": 1}, ["x"], 1)
    others = [
        store.key_of("other", {"a": 1, "b": 2}, ["x"], 1),
        store.key_of("stage", {"a": 1, "b": 3}, ["x"], 1),
        store.key_of("stage", {"a": 1, "b": 2}, ["y"], 1),
        store.key_of("stage", {"a": 1, "b": 2}, ["x"], 2),
    ]
    assert len({base, *others}) == 5


def test_the_order_of_upstream_says_which_is_what():
    teacher_and_student = store.key_of("stage", {}, ["b", "a"], 1)
    assert teacher_and_student != store.key_of("stage", {}, ["a", "b"], 1)


def test_interruption_leaves_nothing_that_counts_as_finished():
    def interrupted(folder):
        (folder / "half.txt").write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get_or_make("stage", "toy", {}, [], 1, interrupted)
    made = store.get_or_make("stage", "toy", {}, [], 1, write_note)
    assert sorted(path.name for path in made.path.iterdir()) == ["manifest.json", "note.txt"]


@pytest.mark.parametrize("damage", ["change", "delete", "manifest"])
def test_corrupt_artifact_is_noticed(damage):
    made = store.get_or_make("stage", "toy", {}, [], 1, write_note)
    note = made.path / "note.txt"
    if damage == "change":
        note.write_text("d0ne")
    elif damage == "delete":
        note.unlink()
    else:
        (made.path / store.MANIFEST).write_text("{")
    with pytest.raises(CtdError, match=r"corrupt: .* delete the folder"):
        store.get_or_make("stage", "toy", {}, [], 1, never)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "could not be written to .*No space"),
        (SafetensorError("File too large"), "could not be written to .*too large"),
        (ConnectionError("the hub is gone"), "could not be made: the hub is gone"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "could not be made: .*refused"),
    ],
)
def test_what_stops_the_making_is_said_for_what_it_is(home, error, says):
    def make(folder):
        raise error

    with pytest.raises(CtdError, match=says):
        store.get_or_make("stage", "toy", {}, [], 1, make)
    assert not list(home.glob("artifacts/stage/toy-*"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee above."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("is_main", [True, False])
def test_memory_that_does_not_suffice_is_one_sentence(home, monkeypatch, error, is_main):
    def make(folder):
        raise error

    monkeypatch.setattr(processes, "is_main", lambda: is_main)
    monkeypatch.setattr(processes, "from_main", lambda value=None: store.MAKING)
    with pytest.raises(CtdError) as caught:
        store.get_or_make("stage", "toy", {}, [], 1, make, together=True)
    assert str(caught.value) == (
        "stage toy could not be made: out of memory; set gradient_checkpointing, or a smaller "
        "batch_size with more accumulation, or a smaller finetune_batch_size."
    )
    assert not list(home.glob("artifacts/stage/toy-*"))


def test_what_is_wrong_in_the_code_is_not_explained_away():
    def make(folder):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        store.get_or_make("stage", "toy", {}, [], 1, make)


def test_a_folder_without_a_manifest_is_named_before_work_is_done():
    made = store.get_or_make("stage", "toy", {}, [], 1, write_note)
    (made.path / store.MANIFEST).unlink()
    with pytest.raises(CtdError, match=r"has no manifest.json; delete the folder"):
        store.get_or_make("stage", "toy", {}, [], 1, never)


@pytest.mark.parametrize("step", ["write", "sync", "rename"])
def test_without_a_manifest_on_the_disk_nothing_is_published(home, monkeypatch, step):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    def make(folder):
        if step == "write":
            (folder / store.MANIFEST).mkdir()
        return write_note(folder)

    with monkeypatch.context() as broken:
        if step != "write":
            broken.setattr(os, {"sync": "fsync", "rename": "replace"}[step], refuse)
        with pytest.raises(CtdError, match="stage toy could not be written"):
            store.get_or_make("stage", "toy", {}, [], 1, make)
    assert not list(home.glob("artifacts/stage/toy-*"))
    made = store.get_or_make("stage", "toy", {}, [], 1, write_note)
    assert store.load(made.path).values == {"answer": 42}


def test_a_home_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CTD_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CtdError, match=r"cannot be made: .*set CTD_HOME"):
        store.get_or_make("stage", "toy", {}, [], 1, never)


def test_full_disk_is_one_sentence_and_loses_nothing():
    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(CtdError, match="No space left"):
        store.get_or_make("stage", "toy", {}, [], 1, full)
    assert store.get_or_make("stage", "toy", {}, [], 1, write_note).values == {"answer": 42}


def slow_make(folder):
    time.sleep(1.0)
    (folder / "pid.txt").write_text(str(multiprocessing.current_process().pid))
    return {"pid": multiprocessing.current_process().pid}


def make_in_child(queue):
    queue.put(store.get_or_make("stage", "toy", {}, [], 1, slow_make).values["pid"])


def test_two_runs_at_once_one_makes_the_other_takes_its_result():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=make_in_child, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    results = [queue.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert results[0] == results[1]


def test_checkpoints_of_an_interrupted_run_are_there_for_the_next(capsys):
    def interrupted(folder):
        (folder / "half.txt").write_text("ha")
        (folder / "sub").mkdir()
        (folder / store.CHECKPOINTS).mkdir()
        (folder / store.CHECKPOINTS / "state").write_text("so far")
        raise CtdError("the loss is not finite")

    def go_on(folder):
        assert [path.name for path in folder.iterdir()] == [store.CHECKPOINTS]
        return {"found": (folder / store.CHECKPOINTS / "state").read_text()}

    with pytest.raises(CtdError, match="not finite"):
        store.get_or_make("stage", "toy", {}, [], 1, interrupted)
    made = store.get_or_make("stage", "toy", {}, [], 1, go_on)
    assert made.values == {"found": "so far"}
    assert [path.name for path in made.path.iterdir()] == ["manifest.json"]
    assert "going on after an interruption" in capsys.readouterr().out


def test_what_fails_after_the_training_leaves_its_checkpoints(home, monkeypatch):
    def trained(folder):
        (folder / store.CHECKPOINTS).mkdir(exist_ok=True)
        (folder / store.CHECKPOINTS / "state").write_text("all of it")

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_json", full)
        with pytest.raises(CtdError, match="no space left"):
            store.get_or_make("stage", "toy", {}, [], 1, trained)
    assert [path.name for path in home.glob("artifacts/stage/.*.partial/*/*")] == ["state"]
    made = store.get_or_make("stage", "toy", {}, [], 1, trained)
    assert [path.name for path in made.path.iterdir()] == ["manifest.json"]


def test_a_stage_that_cannot_be_locked_is_named(home, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(store.FileLock, "acquire", refused)
    with pytest.raises(CtdError, match=r"stage toy could not be made: .*permission denied"):
        store.get_or_make("stage", "toy", {}, [], 1, never)


def test_without_git_an_artifact_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(runtime, "code", runtime.code.__wrapped__)
    made = store.get_or_make("stage", "toy", {}, [], 1, write_note)
    assert made.provenance["commit"] is None


def test_another_key_sees_no_checkpoints():
    def interrupted(folder):
        (folder / store.CHECKPOINTS).mkdir()
        raise KeyboardInterrupt

    def fresh(folder):
        assert not list(folder.iterdir())

    with pytest.raises(KeyboardInterrupt):
        store.get_or_make("stage", "toy", {"a": 1}, [], 1, interrupted)
    store.get_or_make("stage", "toy", {"a": 2}, [], 1, fresh)

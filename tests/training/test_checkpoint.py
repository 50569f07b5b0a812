"""Checkpoints: what survives a kill, a full disk, a damaged file."""

import json
import random
import resource
import warnings

import numpy as np
import pytest
import torch

from ctd_lib.training import checkpoint


def tensors(value: float, size: int = 10):
    return {"a": torch.full((size,), value), "b": torch.arange(6).view(2, 3).t()}


def steps(folder):
    return [path.name for path in sorted(folder.iterdir())]


def test_the_last_of_two_is_loaded_and_no_more_are_kept(tmp_path):
    for step in (1, 2, 10):
        assert checkpoint.save(tmp_path, step, tensors(step), {"note": [step, None, 0.1 + 0.2]})
    assert steps(tmp_path) == ["step-000000002", "step-000000010"]
    found, state = checkpoint.load(tmp_path)
    torch.testing.assert_close(found, tensors(10), atol=0, rtol=0)
    assert state == {"note": [10, None, 0.1 + 0.2]}


def test_unreadable_ones_of_later_steps_do_not_outlive_a_new_start(tmp_path):
    for step in (800, 900):
        checkpoint.save(tmp_path, step, tensors(step), {})
        (tmp_path / f"step-{step:09d}" / checkpoint.STATE).write_text("")
    for step in (50, 100):
        assert checkpoint.save(tmp_path, step, tensors(step), {"step": step})
    assert steps(tmp_path) == ["step-000000050", "step-000000100"]
    assert checkpoint.load(tmp_path)[1] == {"step": 100}


def test_nothing_there(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["tensor", "cut", "state", "digit", "gone", "empty"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path, damage):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tensors(step), {"step": step})
    folder = tmp_path / "step-000000002"
    file, state = folder / checkpoint.TENSORS, folder / checkpoint.STATE
    content = file.read_bytes()
    if damage == "tensor":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "state":
        state.write_text(state.read_text()[:-5])
    elif damage == "digit":
        state.write_text(state.read_text().replace('"state": {"step": 2}', '"state": {"step": 3}'))
    elif damage == "gone":
        file.unlink()
    else:
        state.write_text("")
    with pytest.warns(UserWarning, match="step-000000002 is unreadable"):
        found, state = checkpoint.load(tmp_path)
    assert state == {"step": 1} and found["a"][0] == 1


def test_a_half_written_one_is_never_taken_for_whole(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, tensors(1), {})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, tensors(2), {})
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.load(tmp_path)[0]["a"][0] == 1
    assert checkpoint.save(tmp_path, 2, tensors(2), {})
    assert steps(tmp_path) == ["step-000000001", "step-000000002"]


@pytest.mark.parametrize("limit", [4_000, 100])
def test_a_full_disk_is_a_warning_and_the_one_before_stays(tmp_path, limit):
    checkpoint.save(tmp_path, 1, tensors(1, 5_000), {})
    none = resource.RLIM_INFINITY
    with pytest.warns(UserWarning, match="step 2 could not be written.*training goes on"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, none))
        try:
            assert not checkpoint.save(tmp_path, 2, tensors(2, 5_000), {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (none, none))
    assert steps(tmp_path) == ["step-000000001"]
    assert checkpoint.load(tmp_path)[0]["a"][0] == 1


def test_random_states_return():
    def draw():
        return random.random(), np.random.rand(), torch.rand(2).tolist(), random.gauss(0, 1)

    np.random.standard_normal()  # leaves half of a pair behind
    state = json.loads(json.dumps(checkpoint.random_state()))
    first = draw()
    assert draw() != first
    checkpoint.set_random_state(state)
    assert draw() == first

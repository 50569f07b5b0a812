"""What the seed of finetuning changes, as a table."""

import copy

import pytest
import toy_records

from ctd_lib.report import tables


def test_how_far_a_seed_moves_a_score(load):
    made = [one for one in toy_records.make() if one["kind"] == "finetune"]
    [first] = [
        one
        for one in made
        if (one["params"]["arch"], one["params"]["role"], one["params"]["task"])
        == ("lsg", "student", "conll2003")
    ]
    first["values"]["score"] = 0.3
    for seed, score in ((1, 0.2), (2, 0.45)):
        another = copy.deepcopy(first)
        another["params"]["seed"] = seed
        another["artifact"] += f"-seed{seed}"
        another["values"]["score"] = score
        made.append(another)
    [row] = tables.training_noise(load(made)).to_dict("records")
    assert row == {
        "task": "conll2003", "model": "student", "arch": "lsg", "seeds": 3,
        "lowest (score)": 0.2, "highest (score)": 0.45, "apart (score)": pytest.approx(0.25),
    }  # fmt: skip

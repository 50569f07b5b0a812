"""The stage of finetuning: shared features, kept predictions, task distillation."""

import copy
import json
from dataclasses import replace

import pytest

from ctd_lib import models, params, pipeline, records
from ctd_lib.errors import CtdError
from ctd_lib.pipeline.finetune import features_of, task_data
from ctd_lib.scores import bootstrap, predictions, where

PEOPLE = [("Ada", "Paris"), ("Tom", "Rome"), ("Ada", "Rome"), ("Tom", "Paris")]
CONLL = "\n".join(f"{name}\tB-PER\nspoke\tO\nin\tO\n{city}\tB-LOC\n" for name, city in PEOPLE)


def squad_file() -> dict:
    context = "Ada spoke in Paris"
    answers = [{"text": "Paris", "answer_start": context.index("Paris")}]
    question = {"id": "1", "question": "Where ?", "answers": answers}
    return {"data": [{"title": "a", "paragraphs": [{"context": context, "qas": [question]}]}]}


def kept(artifact):
    return predictions.read(artifact.path / pipeline.PREDICTIONS)


def test_teacher_and_student_share_features_and_keep_their_predictions(home, make, tagging, capsys):
    made = {}
    for role in ("teacher", "student"):
        made[role] = pipeline.finetune(make(params.FinetuneParams, role=role, **tagging))
    said = capsys.readouterr().out
    assert said.count("features tagging: making") == 1
    assert said.count("features tagging: found, reused") == 1
    for artifact in made.values():
        found = kept(artifact)
        for name, score in artifact.values["scores"].items():
            whole = bootstrap.scorer(found, name)([[1.0] * 4])
            assert whole == pytest.approx([score]), name
    comparison = bootstrap.compare([kept(made["teacher"])], [kept(made["student"])])
    assert comparison.teacher.value == made["teacher"].values["score"]
    assert len(where.items(kept(made["teacher"]))) >= 8
    written = records.load("quick").query("kind == 'finetune'")
    beside = {
        r.role: records.check_predictions(r.path, r.predictions) for r in written.itertuples()
    }
    for role, artifact in made.items():
        assert predictions.read(beside[role]) == kept(artifact)
    values = written["values"]
    assert {v["global_attention"] for v in values} == {"none"}
    assert all(v["upper_bound"] == 1 and v["entities"] == v["read_entities"] == 8 for v in values)


def test_tokenizers_that_give_other_inputs_share_no_features(home, make, tagging):
    chosen = make(params.FinetuneParams, **tagging)
    tokenizer = models.load_tokenizer(chosen.backbone)
    for inputs in (["input_ids"], ["input_ids", "token_type_ids"]):
        tokenizer.model_input_names = inputs
        made = features_of(task_data(chosen), tokenizer, 32)
        assert ("token_type_ids" in made.test[0]) == ("token_type_ids" in inputs)


def test_a_cut_bounds_the_score_in_the_record(home, make, tagging):
    # A document of 16 words in 12 tokens: the first word, 10 others, the last token.
    (home / "a.conll").write_text(CONLL)
    files = {"train_file": str(home / "a.conll"), "test_file": str(home / "a.conll")}
    given = tagging | files | {"task_context": "document", "task_max_length": 12}
    values = pipeline.finetune(make(params.FinetuneParams, arch="full", **given)).values
    assert (values["entities"], values["truncated_examples"], values["lost_labels"]) == (8, 1, 6)
    assert values["read_entities"] == 5
    assert values["upper_bound"] == values["upper_bounds"]["entity_f1"] == pytest.approx(10 / 13)
    assert values["score"] <= values["upper_bound"]


def test_the_key_is_of_what_the_files_hold_not_of_where_they_lie(home, make, monkeypatch):
    names = ("train.conll", "test.conll")
    files = dict(zip(("train_file", "test_file"), names, strict=True))
    chosen = make(params.FinetuneParams, arch="full", role="teacher", task="tagging", epochs=1,
                  finetune_batch_size=2, **files)  # fmt: skip

    def key(folder: str, changed: str = "") -> str:
        (home / folder).mkdir()
        monkeypatch.chdir(home / folder)
        for name in names:
            path = home / folder / name
            path.write_text(CONLL.replace("Ada", "Eve") if name == changed else CONLL)
        return pipeline.finetune(chosen).key

    first = key("a")
    assert key("b") == first
    assert len({first, *(key(f"other {name}", name) for name in names)}) == 3


def test_task_distillation_takes_the_finetuned_teacher(home, make, tagging):
    chosen = make(params.FinetuneParams, role="student", task_distill_weight=1.0, **tagging)
    artifact = pipeline.finetune(chosen)
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    roles = records.load("quick").query("kind == 'finetune'")
    assert sorted(roles.role) == ["student", "teacher"]
    assert set(roles[roles.role == "teacher"].key) < set(manifest["upstream"])
    assert "task_distill" in (artifact.path / pipeline.STEP_LOG).read_text().splitlines()[0]


def test_a_first_task_is_finetuned_with_its_own_sizes_and_its_head_goes_on(home, make, monkeypatch):
    profiles = copy.deepcopy(params.profiles())
    sizes = profiles["quick"]["tasks"]["press-qa"]
    sizes |= {"train_examples": 2, "test_examples": 3}  # each is read in dozens of windows
    monkeypatch.setattr(params, "profiles", lambda: profiles)
    files = dict.fromkeys(("train_file", "test_file"), str(home / "a.json"))
    (home / "a.json").write_text(json.dumps(squad_file()))
    chosen = make(
        params.FinetuneParams, arch="full", task="span-qa", first_task="press-qa", **files,
        epochs=1, finetune_batch_size=2,
    )  # fmt: skip
    artifact = pipeline.finetune(chosen)
    made = records.load("quick").query("kind == 'finetune'").set_index("task")
    first = made.loc["press-qa"]
    assert {name: first.params[name] for name in sizes} == sizes
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert manifest["upstream"] == [first.key]
    alone = pipeline.finetune(replace(chosen, first_task=None))
    assert alone.key != artifact.key


@pytest.mark.parametrize("variant", ["public-attention", "task-distillation"])
def test_what_is_not_of_the_recipe_is_no_part_of_the_first_task(variant):
    # The weights that are scored, and the teacher of a student, are finetuned in the common way.
    chosen = params.make(params.FinetuneParams, profile="study", variant=variant, task="hotpotqa")
    common = replace(chosen, role="teacher", test_attention="ours", task_distill_weight=0.0)
    first = params.of_first_task(common)
    assert (first.task, first.role, first.first_task) == ("squad", "teacher", None)
    assert (first.test_attention, first.task_distill_weight) == ("ours", 0.0)


def test_a_first_task_with_other_answers_is_refused_before_training(home, make, tagging):
    chosen = make(params.FinetuneParams, first_task="press-ner", **tagging)
    with pytest.raises(CtdError, match="first_task press-ner has other answers"):
        pipeline.finetune(chosen)
    assert records.load("quick").empty


def test_global_attention_is_recorded(home, make, tagging):
    chosen = make(params.FinetuneParams, global_attention="every-4", **tagging)
    assert pipeline.finetune(chosen).values["global_attention"] == "every-4"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arch": "bigbird", "global_attention": "first"}, "cannot be chosen for arch bigbird"),
        ({"global_attention": "question"}, "the examples of this task have none"),
        ({"role": "teacher", "task_distill_weight": 1.0}, "only a student learns"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_made(
    home, make, tagging, given, message
):
    with pytest.raises(CtdError, match=message):
        pipeline.finetune(make(params.FinetuneParams, **given, **tagging))
    assert not list(home.glob("artifacts/*"))


def test_scores_as_transformers_computes_are_of_the_same_weights(home, make, tagging):
    chosen = make(
        params.FinetuneParams,
        arch="bigbird",
        role="teacher",
        test_attention="public",
        **tagging,
    )
    artifact = pipeline.finetune(chosen)
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    made = records.load("quick").query("kind == 'finetune'")
    (ours,) = (row for row in made.itertuples() if row.params["test_attention"] == "ours")
    assert manifest["upstream"] == [ours.key]
    assert artifact.values["seconds"] == ours.values["seconds"]
    [trained] = artifact.path.parent.glob(f"*{ours.key}")
    logs = [(path / pipeline.STEP_LOG).read_text() for path in (trained, artifact.path)]
    assert logs[0] == logs[1]  # which the notebook shows

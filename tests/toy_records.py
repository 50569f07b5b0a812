"""Toy records for the tests of tables, figures and book: round numbers that no model ever gave."""

import hashlib
import json
from pathlib import Path

from ctd_lib import ARCHS, params, records
from ctd_lib.scores import predictions

PROVENANCE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "date": "2000-01-01T00:00:00+00:00",
    "seconds": 12.5,
    "host": {"cpu": "toy processor", "cores": 2, "memory_gib": 8, "gpu": None},
    "versions": {"torch": "1.0", "transformers": "1.0"},
    "stage_revision": 1,
}
TASKS = {
    "movie-sentences": ("classification", "accuracy", 128, "packaged:movie-sentences", False),
    "conll2003": ("tagging", "entity_f1", 128, "packaged:conll2003", False),
    "press-ner": ("tagging", "entity_f1", 4096, "synthetic:press", True),
    "press-qa": ("span-qa", "f1", 4096, "synthetic:press", True),
}
LENGTHS = (512, 4096)


TEST_EXAMPLES = 50


def make() -> list[dict]:
    """A whole quick profile: the students keep 90, 89, ... 86 % and take half the time."""
    made = []
    for number, arch in enumerate(ARCHS):
        made += [
            record("convert", params.ConvertParams, arch, {
                "copied": 100, "tiled": 1, "new": number, "dropped": 2, "parameters": 20_000_000,
                "mlm_loss_before": 6.0, "mlm_loss_after": 6.5,
                "parity_length": 128, "parity_max_abs_diff": 1e-6,
            }),
            record("pretrain", params.PretrainParams, arch, {
                "mlm_loss_before": 6.5, "mlm_loss_after": 6.0, "steps": 6, "tokens": 24_576,
                "seconds": 10.0, "tokens_per_second": 2457.6,
            }),
            record("distill", params.DistillParams, arch, {
                "student_layers": 3, "teacher_layers": 6, "layer_map": [0, 2, 4],
                "parameters_teacher": 20_000_000, "parameters_student": 15_000_000,
                "mlm_loss_teacher": 6.0, "mlm_loss_before": 9.0, "mlm_loss_after": 7.0,
                "steps": 8, "tokens": 32_768, "seconds": 20.0,
            }),
            record("measure", params.MeasureParams, arch, {
                "rows": [timing(role, length, number) for length in LENGTHS
                         for role in ("teacher", "student")],
                "dtype": "float32", "device": "cpu", "threads": 2,
            }),
        ]  # fmt: skip
        for task, (family, metric, max_length, source, synthetic) in TASKS.items():
            for role in ("teacher", "student"):
                score = 0.8 if role == "teacher" else 0.8 * (0.90 - 0.01 * number)
                made.append(
                    record("finetune", params.FinetuneParams, arch, {
                        "main_metric": metric, "score": score, "scores": {metric: score},
                        "train_examples": 100, "test_examples": TEST_EXAMPLES,
                        "truncated_examples": 0, "lost_labels": 0, "family": family,
                        "max_length": max_length,
                        "seconds": 30.0, "upper_bound": 1.0, "upper_bounds": {},
                    }, {"name": source, "licence": "toy licence", "synthetic": synthetic},
                    role=role, task=task)
                )  # fmt: skip
    return made


def timing(role: str, length: int, number: int) -> dict:
    """One row of a `measure` record: 1 ms a token for the teacher of the first arch."""
    seconds = length / 1000 * (1 + number / 4) * (1.0 if role == "teacher" else 0.5)
    return {
        "role": role, "length": length, "batch_size": 1, "seconds_median": seconds,
        "seconds_iqr": [0.9 * seconds, 1.1 * seconds], "repeats": 3,
        "tokens_per_second": length / seconds,
        "peak_bytes": (100 + (length // 8 if role == "teacher" else 0)) * 2**20,
        "parameters": 20_000_000 if role == "teacher" else 15_000_000,
    }  # fmt: skip


def record(kind: str, stage: type, arch: str, values: dict, source=None, **named) -> dict:
    """A record with the quick profile's own parameters."""
    chosen = params.make(stage, profile="quick", arch=arch, **named)
    return {
        "schema": 1,
        "kind": kind,
        "profile": "quick",
        "params": params.as_dict(chosen),
        "values": values,
        "source": source,
        "artifact": "-".join([kind, *named.values()]),
        "provenance": PROVENANCE,
    }


def predicted(task: str, role: str) -> predictions.Predictions:
    """Of 50 examples, half of them beyond token 512, where the student errs in 4 of 5."""
    family, metric, max_length, *_ = TASKS[task]
    examples = []
    for number in range(TEST_EXAMPLES):
        late = max_length > 512 and number % 2 == 1
        right = number % 5 == 0 if role == "student" and late else number % 10 > 0
        where = {"tokens": 900 if late else 100, "kind": ""}
        if family == "classification":
            given = {"gold": number % 2, "predicted": number % 2 if right else 1 - number % 2}
        elif family == "tagging":
            entity = ["PER" if number % 4 < 2 else "LOC", number, number + 1, 700 if late else 9]
            given = {"gold": [entity], "predicted": [entity] if right else []}
        else:
            given = {"id": str(number), "gold": ["Ada"], "predicted": "Ada" if right else "Tom"}
            where |= {"kind": "who" if number % 4 < 2 else "what", "position": 700 if late else 9}
        examples.append(given | where)
    rules = "squad" if family == "span-qa" else ""
    return predictions.Predictions(task, family, metric, rules, examples)


def write(made: list[dict], folder: Path, kept: bool = True) -> None:
    """Write them as `records.load` expects them; `kept`: with predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions").mkdir(exist_ok=True)
    for one in made:
        path = folder / f"{one['kind']}-{one['params']['arch']}-{one['artifact']}.json"
        if kept and one["kind"] == "finetune":
            file = records.predictions_of(path)
            predictions.write(predicted(one["params"]["task"], one["params"]["role"]), file)
            one = one | {"predictions": hashlib.sha256(file.read_bytes()).hexdigest()}
        path.write_text(json.dumps(one))

"""Toy records for the tests of tables, figures and book: round numbers that no model ever gave."""

import json
from pathlib import Path

from ctd_lib import ARCHS, params

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


def make() -> list[dict]:
    """A whole quick profile: the students keep 90, 89, ... 86 % and take half the time."""
    records = []
    for number, arch in enumerate(ARCHS):
        records += [
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
                records.append(
                    record("finetune", params.FinetuneParams, arch, {
                        "main_metric": metric, "score": score, "scores": {metric: score},
                        "train_examples": 100, "test_examples": 50, "truncated_examples": 0,
                        "lost_labels": 0, "family": family, "max_length": max_length,
                        "seconds": 30.0,
                    }, {"name": source, "licence": "toy licence", "synthetic": synthetic},
                    role=role, task=task)
                )  # fmt: skip
    return records


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


def write(records: list[dict], folder: Path) -> None:
    """Write them as `records.load` expects them."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in records:
        name = f"{one['kind']}-{one['params']['arch']}-{one['artifact']}.json"
        (folder / name).write_text(json.dumps(one))
